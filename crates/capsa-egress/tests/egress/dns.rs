//! A name server on loopback whose answers are a function of the name and of how often it was asked.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// What the server says about a name.
pub enum Answer {
    /// These addresses, of either family.
    Addresses(Vec<IpAddr>),
    /// The name is another name for this one, which has these addresses.
    Alias(&'static str, Vec<IpAddr>),
    /// There is no such name.
    Unknown,
    /// Nothing at all.
    Silence,
}

impl Answer {
    pub fn of(addresses: &[&str]) -> Answer {
        Answer::Addresses(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }
}

/// A running server. Its thread ends with the process.
pub struct NameServer {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
}

impl NameServer {
    /// Serves what `zone` says of a name (in lower case, no last dot) on the n-th question for the same record
    /// type, counted from 0.
    pub fn start(zone: impl Fn(&str, usize) -> Answer + Send + 'static) -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            let mut packet = [0; 4096];
            while let Ok((length, client)) = socket.recv_from(&mut packet) {
                let Ok(question) = Message::from_vec(&packet[..length]) else { continue };
                let query = question.queries[0].clone();
                let name = query.name().to_ascii().to_ascii_lowercase().trim_end_matches('.').to_owned();
                let key = (name.clone(), query.query_type());
                let before = {
                    let mut log = log.lock().unwrap();
                    log.push(key.clone());
                    log.iter().filter(|entry| **entry == key).count() - 1
                };
                let mut answer = Message::response(question.metadata.id, OpCode::Query);
                answer.metadata.recursion_desired = true;
                answer.metadata.recursion_available = true;
                answer.add_query(query.clone());
                let records = match zone(&name, before) {
                    Answer::Addresses(addresses) => records(query.name(), query.query_type(), &addresses),
                    Answer::Alias(target, addresses) => {
                        let target = Name::from_ascii(target).unwrap();
                        let alias = RData::CNAME(CNAME(target.clone()));
                        let mut all = vec![Record::from_rdata(query.name().clone(), 0, alias)];
                        all.extend(records(&target, query.query_type(), &addresses));
                        all
                    }
                    Answer::Unknown => {
                        answer.metadata.response_code = ResponseCode::NXDomain;
                        Vec::new()
                    }
                    Answer::Silence => continue,
                };
                answer.add_answers(records);
                socket.send_to(&answer.to_vec().unwrap(), client).unwrap();
            }
        });
        NameServer { address, asked }
    }

    /// Names that were asked for, as often as they were.
    pub fn asked(&self) -> Vec<(String, RecordType)> {
        self.asked.lock().unwrap().clone()
    }
}

fn records(name: &Name, kind: RecordType, addresses: &[IpAddr]) -> Vec<Record> {
    let data = addresses.iter().filter_map(|address| match (address, kind) {
        (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(*address))),
        (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(*address))),
        _ => None,
    });
    data.map(|data| Record::from_rdata(name.clone(), 0, data)).collect()
}
