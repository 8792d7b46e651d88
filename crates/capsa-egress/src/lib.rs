//! The one guard for every outbound path.
//!
//! A request goes out through [`Guard::send`] or not at all: its URL is brought to one form
//! ([`Destination`]), judged by what the capsule wants and what its policy allows ([`Rules`]), its name is
//! resolved once, every address of the answer is checked ([`special`]), and the connection goes to one of the
//! checked addresses. Nothing follows a redirect, reads a proxy setting or keeps a connection.
//!
//! Invariants:
//! * what needs no look-up is refused before any packet leaves;
//! * a special-purpose address is reached only where the policy names its `host:port`;
//! * a secret is put into header values only, for its own hosts only, and is taken out of every answer.
//!
//! The crate knows no wasmtime and no journal; it is synchronous, and must not be called from inside an
//! asynchronous runtime.

mod address;
mod denied;
mod destination;
mod guard;
mod head;
mod pattern;
mod redact;
mod resolve;
mod rules;
mod secrets;
mod tls;
mod wire;

pub use address::special;
pub use denied::{Denied, Failure, Invalid};
pub use destination::{Destination, Host, MAX_URL_BYTES, Scheme};
pub use guard::{Exchange, Guard, GuardSettings, Limits, MAX_ANSWER_HEAD_BYTES, MAX_ANSWER_HEADERS, Request, Response};
pub use head::{MAX_REQUEST_HEADER_BYTES, MAX_REQUEST_HEADERS};
pub use pattern::{HostPattern, SecretHosts};
pub use rules::{HttpRule, METHODS, Match, Rules};
pub use secrets::Substitution;
