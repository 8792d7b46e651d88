//! HTTP servers on loopback that answer with whatever bytes a test wants.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A running site. Its threads end with the process.
pub struct Site {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
}

type Handler = dyn Fn(&[u8], &mut dyn Write) -> io::Result<()> + Send + Sync;

impl Site {
    /// Answers every request with these bytes and closes.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Site {
        let answer = answer.into();
        Site::serving(move |_, out| out.write_all(&answer))
    }

    /// Hands each request (head and body) to `handler` and closes the connection after it.
    pub fn serving(handler: impl Fn(&[u8], &mut dyn Write) -> io::Result<()> + Send + Sync + 'static) -> Site {
        Site::start(None, Arc::new(handler))
    }

    /// The same over TLS, with a certificate for `name` from `authority`.
    pub fn secure(
        authority: &Authority,
        name: &str,
        handler: impl Fn(&[u8], &mut dyn Write) -> io::Result<()> + Send + Sync + 'static,
    ) -> Site {
        Site::start(Some(authority.server(name)), Arc::new(handler))
    }

    /// Reads a few thousand bytes every 20 ms and never answers.
    pub fn reading_slowly() -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                thread::sleep(Duration::from_millis(20));
            }
        });
        Site { address, connections: Arc::default(), requests: Arc::default() }
    }

    fn start(tls: Option<Arc<ServerConfig>>, handler: Arc<Handler>) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (counted, logged) = (Arc::clone(&connections), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                let (tls, handler, logged) = (tls.clone(), Arc::clone(&handler), Arc::clone(&logged));
                thread::spawn(move || {
                    // The client may go at any time: that is what many tests are about.
                    let _ = match tls {
                        None => serve(stream, &handler, &logged),
                        Some(tls) => {
                            let connection = ServerConnection::new(tls).unwrap();
                            let mut stream = StreamOwned::new(connection, stream);
                            serve(&mut stream, &handler, &logged).map(|()| {
                                stream.conn.send_close_notify();
                                let _ = stream.flush();
                            })
                        }
                    };
                });
            }
        });
        Site { address, connections, requests }
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        // A connection is counted by another thread, a moment after it was made.
        thread::sleep(Duration::from_millis(20));
        self.connections.load(Ordering::SeqCst)
    }

    /// The requests that it has read, as text.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|bytes| String::from_utf8(bytes.clone()).unwrap()).collect()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

fn serve(mut stream: impl Read + Write, handler: &Arc<Handler>, log: &Mutex<Vec<Vec<u8>>>) -> io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
        if request.len() >= whole(&request) {
            break;
        }
    }
    log.lock().unwrap().push(request.clone());
    handler(&request, &mut stream)?;
    stream.flush()
}

/// How long the request will be, as far as its head says so.
fn whole(request: &[u8]) -> usize {
    let text = String::from_utf8_lossy(request);
    let Some(head) = text.find("\r\n\r\n") else { return usize::MAX };
    let body = text[..head]
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
    head + 4 + body.unwrap_or(0)
}

/// An answer with status 200 and this body.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A certificate authority of a test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn named(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn server(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }
}
