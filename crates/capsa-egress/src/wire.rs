//! The connection: to a checked address, until one deadline, with every byte of HTTP counted.
//!
//! The HTTP client gets its transport from here, so that nothing of what it could do by itself (look a name up,
//! go through a proxy, keep a connection, begin its timeout anew) is in the way from the check to the socket.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};

use crate::tls;

/// Addresses of one name that are tried; as many as the HTTP client hands on.
pub(crate) const MAX_ADDRESSES: usize = 16;
/// Holds the largest head of an answer whole.
pub(crate) const INPUT_BUFFER_BYTES: usize = 128 * 1024;
/// Holds the longest line of a request's head.
pub(crate) const OUTPUT_BUFFER_BYTES: usize = 128 * 1024;

/// Bytes of HTTP, heads and bodies, that went over a connection; inside TLS where there is one.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
    max_received: u64,
    passed: AtomicBool,
}

impl Meter {
    pub(crate) fn new(max_received: u64) -> Meter {
        Meter { max_received, ..Meter::default() }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether more came than may come.
    pub(crate) fn passed(&self) -> bool {
        self.passed.load(Ordering::Relaxed)
    }

    /// Counts what a look-up told.
    pub(crate) fn asked(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    fn count_received(&self, bytes: usize) -> io::Result<()> {
        if self.received.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64 > self.max_received {
            self.passed.store(true, Ordering::Relaxed);
            return Err(io::Error::other("more than may be received"));
        }
        Ok(())
    }
}

/// The resolver that the HTTP client is given: it knows the checked addresses and nothing else.
#[derive(Debug)]
pub(crate) struct Checked(pub(crate) Vec<SocketAddr>);

impl Resolver for Checked {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        for &address in self.0.iter().take(MAX_ADDRESSES) {
            addresses.push(address);
        }
        Ok(addresses)
    }
}

/// Makes the one connection of a request.
pub(crate) struct Line {
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) deadline: Instant,
    pub(crate) meter: Arc<Meter>,
}

impl Connector<()> for Line {
    type Out = Wire;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Wire>, ureq::Error> {
        let socket = Socket::connect(&details.addrs, self.deadline)?;
        let stream = if details.needs_tls() {
            let host = details.uri.host().unwrap_or_default();
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let name = ServerName::try_from(host.to_owned())
                .map_err(|_| ureq::Error::Tls("the host has no form that a certificate could be for"))?;
            let connection =
                ClientConnection::new(Arc::clone(&self.tls), name).map_err(|_| ureq::Error::Tls("TLS failed"))?;
            let mut stream = StreamOwned::new(connection, socket);
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock).map_err(told)?;
            }
            Stream::Tls(Box::new(stream))
        } else {
            Stream::Plain(socket)
        };
        let buffers = LazyBuffers::new(INPUT_BUFFER_BYTES, OUTPUT_BUFFER_BYTES);
        Ok(Some(Wire { stream, buffers, meter: Arc::clone(&self.meter) }))
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

/// A connection as the HTTP client sees it.
pub(crate) struct Wire {
    stream: Stream,
    buffers: LazyBuffers,
    meter: Arc<Meter>,
}

enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let output = &self.buffers.output()[..amount];
        match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(output).map_err(told)?,
            Stream::Tls(stream) => stream.write_all(output).and_then(|()| stream.flush()).map_err(told)?,
        }
        self.meter.sent.fetch_add(amount as u64, Ordering::Relaxed);
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let input = self.buffers.input_append_buf();
        let amount = match &mut self.stream {
            Stream::Plain(socket) => socket.read(input).map_err(told)?,
            Stream::Tls(stream) => stream.read(input).map_err(|error| match error.kind() {
                // The client would take it for the end of a body that has no length. Whoever sits on the way could
                // make it so; the server says good-bye.
                io::ErrorKind::UnexpectedEof => ureq::Error::Tls("the connection was cut"),
                _ => told(error),
            })?,
        };
        self.buffers.input_appended(amount);
        self.meter.count_received(amount)?;
        Ok(amount > 0)
    }

    /// Never again: a connection serves one request.
    fn is_open(&mut self) -> bool {
        false
    }

    fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

fn told(error: io::Error) -> ureq::Error {
    match tls::reason(&error) {
        Some(reason) => ureq::Error::Tls(reason),
        None => ureq::Error::Io(error),
    }
}

/// A TCP socket whose every operation ends at one instant, however slowly the other side reads or writes.
struct Socket {
    stream: TcpStream,
    deadline: Instant,
}

impl Socket {
    /// Connects to the first address that answers. Each gets its share of the time that is left.
    fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<Socket> {
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for (tried, address) in addresses.iter().enumerate() {
            let share = left(deadline)? / (addresses.len() - tried) as u32;
            match TcpStream::connect_timeout(address, share.max(Duration::from_micros(1))) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Socket { stream, deadline });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Repeats what only its own timeout, or a signal, has ended.
    fn until_deadline(
        &mut self,
        set_timeout: fn(&TcpStream, Option<Duration>) -> io::Result<()>,
        mut operation: impl FnMut(&mut TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            set_timeout(&self.stream, Some(left(self.deadline)?))?;
            match operation(&mut self.stream) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                    ) => {}
                other => return other,
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.until_deadline(TcpStream::set_read_timeout, |stream| stream.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until_deadline(TcpStream::set_write_timeout, |stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
