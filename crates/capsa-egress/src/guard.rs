//! The guard itself: every check in its order, then the request, then the answer without secrets.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;
use ureq::Agent;
use ureq::http::HeaderMap;

use crate::address::special;
use crate::denied::{Denied, Failure, Invalid};
use crate::destination::{Destination, Host};
use crate::head;
use crate::redact::Redactor;
use crate::resolve::Resolver;
use crate::rules::Rules;
use crate::secrets::{Substitution, refuse_tokens, substitute};
use crate::tls;
use crate::wire::{Checked, INPUT_BUFFER_BYTES, Line, MAX_ADDRESSES, Meter, OUTPUT_BUFFER_BYTES};

/// Bytes of an answer's first line and headers.
pub const MAX_ANSWER_HEAD_BYTES: usize = 64 * 1024;
/// Headers of an answer.
pub const MAX_ANSWER_HEADERS: usize = 100;

/// How a guard is made.
#[derive(Debug, Clone, Default)]
pub struct GuardSettings {
    /// The name servers to ask; `None` = those of the system, and its `/etc/hosts`.
    pub dns: Option<Vec<SocketAddr>>,
    /// Certificates of authorities (PEM) that are trusted besides Mozilla's.
    pub extra_roots_pem: Option<String>,
}

/// A request as a guest makes it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// One of [`METHODS`](crate::METHODS).
    pub method: &'a str,
    /// Absolute.
    pub url: &'a str,
    /// Names and values, in order; a name may occur more than once.
    pub headers: &'a [(String, String)],
    /// Empty = none.
    pub body: &'a [u8],
}

/// What one request may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// When everything ends: look-up, connection, TLS, answer.
    pub deadline: Instant,
    /// Bytes of HTTP sent, head and body. Known before anything is sent.
    pub max_sent_bytes: u64,
    /// Bytes of HTTP received, heads and body.
    pub max_received_bytes: u64,
}

/// An answer, whatever its status: redirects and errors too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 101 to 999.
    pub status: u16,
    /// Names in lower case; values with replacement characters where they were no UTF-8.
    pub headers: Vec<(String, String)>,
    /// As it came: no content coding is undone.
    pub body: Vec<u8>,
}

/// What became of a request, and what it cost, which is also told of a request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Bytes of HTTP sent, head and body; inside TLS, without its own. A name that was looked up counts, too.
    pub sent_bytes: u64,
    /// Bytes of HTTP received, counted the same way.
    pub received_bytes: u64,
    /// The answer, or why there is none.
    pub outcome: Result<Response, Failure>,
}

/// The one door to the network. Cheap to share; it holds no connection and no cache.
#[derive(Debug)]
pub struct Guard {
    resolver: Resolver,
    tls: Arc<ClientConfig>,
}

impl Guard {
    /// A guard that resolves and trusts as the settings say.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if the extra certificates cannot be read.
    pub fn new(settings: GuardSettings) -> Result<Guard, Invalid> {
        let resolver = settings.dns.map_or(Resolver::System, Resolver::Servers);
        Ok(Guard { resolver, tls: tls::client_config(settings.extra_roots_pem.as_deref())? })
    }

    /// Sends one request, if `rules` let it pass, and waits for the whole answer.
    ///
    /// Tokens of `secrets` in header values are replaced by the secrets on the way out, and secrets by their tokens
    /// in the answer. Towards a host that a secret is for, the answer is asked for in plain and whole: a request
    /// with `Range` is denied, and a compressed answer fails.
    ///
    /// Blocks until [`Limits::deadline`] at most. Panics inside an asynchronous runtime.
    pub fn send(&self, rules: &Rules, request: &Request<'_>, limits: &Limits, secrets: &[Substitution]) -> Exchange {
        let meter = Arc::new(Meter::new(limits.max_received_bytes));
        let outcome = self.exchange(rules, request, limits, secrets, &meter);
        Exchange { sent_bytes: meter.sent(), received_bytes: meter.received(), outcome }
    }

    fn exchange(
        &self,
        rules: &Rules,
        request: &Request<'_>,
        limits: &Limits,
        secrets: &[Substitution],
        meter: &Arc<Meter>,
    ) -> Result<Response, Failure> {
        // Before any packet leaves.
        let destination = Destination::parse(request.url)?;
        let matched = rules.check(request.method, &destination)?;
        refuse_tokens("the URL", request.url.as_bytes(), secrets)?;
        refuse_tokens("the body", request.body, secrets)?;
        let exposed = secrets.iter().any(|secret| secret.is_for(&destination));
        let headers = guest_headers(request.headers, secrets, &destination, matched.private, exposed)?;
        let (message, bytes) = head::request(request.method, &destination, &headers, request.body)?;
        let asked = asked_bytes(&destination);
        if bytes + asked > limits.max_sent_bytes {
            return Err(Failure::TooLarge { limit: "sent bytes", bound: limits.max_sent_bytes });
        }
        if Instant::now() >= limits.deadline {
            return Err(Failure::TimedOut);
        }

        // A look-up tells the servers of a name what was asked: it leaves, whatever becomes of the request.
        meter.asked(asked);
        let addresses = self.addresses(&destination, matched.private, limits.deadline)?;
        let line = Line { tls: Arc::clone(&self.tls), deadline: limits.deadline, meter: Arc::clone(meter) };
        let agent = Agent::with_parts(client_config(limits), line, Checked(addresses));
        // A method that has no body by itself gets one only if there is one.
        let answer = if message.body().is_empty() && !message.headers().contains_key("content-length") {
            agent.run(message.map(|_| ()))
        } else {
            agent.run(message)
        };
        let told = |error| failure(&error, limits, meter);
        let (parts, mut body) = answer.map_err(told)?.into_parts();
        if parts.headers.len() > MAX_ANSWER_HEADERS {
            return Err(too_many_headers());
        }
        if exposed && is_encoded(&parts.headers) {
            return Err(Failure::Failed("the answer is encoded, and secrets could not be found in it"));
        }
        let mut content = Vec::new();
        body.as_reader().read_to_end(&mut content).map_err(|error| told(error.into()))?;
        without_secrets(parts.status.as_u16(), &parts.headers, content, secrets, limits.deadline)
    }

    /// Where to connect: every address that the host has, all of them checked.
    fn addresses(
        &self,
        destination: &Destination,
        private: bool,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let addresses: Vec<IpAddr> = match destination.host() {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.resolver.addresses(name, deadline)?,
        };
        // One bad address spoils all: a name that has both is up to something.
        if !private && let Some(range) = addresses.iter().find_map(|&address| special(address)) {
            let detail = format!("{} resolves to an address that is {range}", destination.host());
            return Err(Denied::new("address", detail).into());
        }
        Ok(addresses.iter().take(MAX_ADDRESSES).map(|&address| SocketAddr::new(address, destination.port())).collect())
    }
}

/// What a look-up of the destination tells.
fn asked_bytes(destination: &Destination) -> u64 {
    match destination.host() {
        Host::Address(_) => 0,
        Host::Name(name) => name.len() as u64,
    }
}

fn guest_headers(
    headers: &[(String, String)],
    secrets: &[Substitution],
    destination: &Destination,
    private: bool,
    exposed: bool,
) -> Result<Vec<(String, String)>, Denied> {
    for (name, _) in headers {
        refuse_tokens("the name of a header", name.as_bytes(), secrets)?;
    }
    let mut headers = head::checked(headers)?;
    for (name, value) in &mut headers {
        *value = substitute(value, secrets, destination, private)?;
        if exposed && matches!(name.as_str(), "range" | "if-range") {
            let detail = format!("{name} could cut a secret in two: not to a host that a secret is for");
            return Err(Denied::new("header", detail));
        }
    }
    if exposed {
        headers.retain(|(name, _)| name != "accept-encoding");
        headers.push(("accept-encoding".to_owned(), "identity".to_owned()));
    }
    head::bounded(&headers)?;
    Ok(headers)
}

/// The client with everything off that it would do by itself.
fn client_config(limits: &Limits) -> ureq::config::Config {
    Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .max_idle_connections(0)
        .max_idle_connections_per_host(0)
        // These are in the head already.
        .user_agent("")
        .accept("")
        .accept_encoding("")
        .max_response_header_size(MAX_ANSWER_HEAD_BYTES)
        .input_buffer_size(INPUT_BUFFER_BYTES)
        .output_buffer_size(OUTPUT_BUFFER_BYTES)
        .timeout_global(Some(limits.deadline.saturating_duration_since(Instant::now())))
        .build()
}

fn is_encoded(headers: &HeaderMap) -> bool {
    let names = ["content-encoding", "transfer-encoding"];
    names.iter().flat_map(|name| headers.get_all(*name)).any(|value| {
        let codings = value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        codings.into_iter().any(|coding| {
            !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity") && !coding.eq_ignore_ascii_case(b"chunked")
        })
    })
}

fn without_secrets(
    status: u16,
    headers: &HeaderMap,
    body: Vec<u8>,
    secrets: &[Substitution],
    deadline: Instant,
) -> Result<Response, Failure> {
    let redactor = Redactor::new(secrets);
    let redacted = redactor.redact(&body, deadline)?;
    let headers: Result<_, Failure> = headers
        .iter()
        .filter(|(name, _)| !redactor.is_told_by(name.as_str()))
        // It would no longer be true.
        .filter(|(name, _)| redacted.is_none() || *name != "content-length")
        .map(|(name, value)| {
            let value = redactor.redact(value.as_bytes(), deadline)?.unwrap_or_else(|| value.as_bytes().to_vec());
            Ok((name.as_str().to_owned(), String::from_utf8_lossy(&value).into_owned()))
        })
        .collect();
    Ok(Response { status, headers: headers?, body: redacted.unwrap_or(body) })
}

fn too_many_headers() -> Failure {
    Failure::TooLarge { limit: "headers of answer", bound: MAX_ANSWER_HEADERS as u64 }
}

/// What an error of the client means. None of the sentences has anything of the other side in it.
fn failure(error: &ureq::Error, limits: &Limits, meter: &Meter) -> Failure {
    if meter.passed() {
        return Failure::TooLarge { limit: "received bytes", bound: limits.max_received_bytes };
    }
    if Instant::now() >= limits.deadline {
        return Failure::TimedOut;
    }
    match error {
        ureq::Error::Timeout(_) => Failure::TimedOut,
        ureq::Error::LargeResponseHeader(..) => {
            Failure::TooLarge { limit: "bytes of answer head", bound: MAX_ANSWER_HEAD_BYTES as u64 }
        }
        // The client counts headers itself, a few more than are taken here; it has no other name for it.
        ureq::Error::Protocol(error) if error.to_string().contains("too many headers") => too_many_headers(),
        ureq::Error::Tls(reason) => Failure::Failed(reason),
        ureq::Error::Io(error) => Failure::Failed(match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "the connection was refused",
            std::io::ErrorKind::TimedOut => "the host does not answer",
            std::io::ErrorKind::UnexpectedEof
            | std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::BrokenPipe => "the connection was closed before the answer was whole",
            std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => {
                "the host cannot be reached"
            }
            _ => "the connection failed",
        }),
        _ => Failure::Failed("the answer is not HTTP/1.1"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, dead_code, reason = "tests/egress uses the rest")]
#[path = "../tests/egress/dns.rs"]
mod dns;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::dns::{Answer, NameServer};
    use super::*;

    /// Without a connection, which would go out to the world.
    #[test]
    fn a_public_answer_passes_and_an_inner_one_after_it_does_not() {
        let names = NameServer::start(|_, asked| match asked {
            0 => Answer::of(&["93.184.215.14", "2606:2800:220:1::1"]),
            _ => Answer::of(&["127.0.0.1"]),
        });
        let guard = Guard::new(GuardSettings { dns: Some(vec![names.address]), ..GuardSettings::default() }).unwrap();
        let destination = Destination::parse("https://api.example.com/").unwrap();
        let addresses = || guard.addresses(&destination, false, Instant::now() + Duration::from_secs(20));
        let public = ["93.184.215.14:443", "[2606:2800:220:1::1]:443"].map(|address| address.parse().unwrap());
        assert_eq!(addresses(), Ok(public.to_vec()));
        let Err(Failure::Denied(denied)) = addresses() else { panic!("not denied") };
        assert_eq!(denied.rule, "address");
    }
}
