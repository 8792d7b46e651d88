//! Host patterns: which hosts a rule, or a secret, is for.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use crate::address::{overlapped, special};
use crate::denied::Invalid;
use crate::destination::Host;

/// Which hosts are meant. Patterns compare what stands in the URL: a name never matches an address, for whoever
/// owns a name can let it point anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// `*`: any name, and any public address.
    Any,
    /// One name.
    Name(String),
    /// `*.suffix`: any name below the suffix, at any depth, but not the suffix itself.
    Suffix(String),
    /// One address.
    Address(IpAddr),
    /// The addresses of a network.
    Network(IpNet),
}

impl HostPattern {
    /// Reads a pattern of an HTTP rule.
    ///
    /// # Errors
    ///
    /// [`Invalid`] (with an empty field) if it is no pattern, is not in canonical form, or has a special-purpose
    /// address in it.
    pub fn parse(text: &str) -> Result<HostPattern, Invalid> {
        let pattern = HostPattern::read(text)?;
        let special = match &pattern {
            HostPattern::Address(address) => special(*address),
            HostPattern::Network(network) => overlapped(network),
            HostPattern::Any | HostPattern::Name(_) | HostPattern::Suffix(_) => None,
        };
        match special {
            None => Ok(pattern),
            Some(range) => Err(refused(
                text,
                &format!("that reaches into {range}: name such a destination in `private`, as host:port"),
            )),
        }
    }

    fn read(text: &str) -> Result<HostPattern, Invalid> {
        if text == "*" {
            return Ok(HostPattern::Any);
        }
        if let Some(suffix) = text.strip_prefix("*.") {
            return match Host::parse(suffix) {
                Ok(Host::Name(name)) if name.contains('.') => Ok(HostPattern::Suffix(name)),
                Ok(Host::Name(_)) => Err(refused(text, "too wide: a suffix has two labels at least, as *.example.com")),
                Ok(Host::Address(_)) => Err(refused(text, "an address has no names below it")),
                Err(_) => Err(refused(text, "what follows `*.` has to be a name, as *.example.com")),
            };
        }
        if text.contains('/') {
            let network: IpNet = text.parse().map_err(|_| refused(text, "a network is written 198.51.0.0/16"))?;
            if network.trunc() != network {
                return Err(refused(text, &format!("the network's own address is {}", network.trunc())));
            }
            return Ok(HostPattern::Network(network));
        }
        match Host::parse(text) {
            Ok(Host::Name(name)) => Ok(HostPattern::Name(name)),
            Ok(Host::Address(address)) => Ok(HostPattern::Address(address)),
            Err(_) => Err(refused(text, "a host is a name, an address, a network, *.suffix, or * alone")),
        }
    }

    /// Whether it means `host`.
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (HostPattern::Any, Host::Name(_)) => true,
            (HostPattern::Any, Host::Address(address)) => special(*address).is_none(),
            (HostPattern::Name(wanted), Host::Name(name)) => wanted == name,
            (HostPattern::Suffix(suffix), Host::Name(name)) => {
                name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (HostPattern::Address(wanted), Host::Address(address)) => wanted == address,
            (HostPattern::Network(network), Host::Address(address)) => network.contains(address),
            (HostPattern::Name(_) | HostPattern::Suffix(_), Host::Address(_))
            | (HostPattern::Address(_) | HostPattern::Network(_), Host::Name(_)) => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Any => f.write_str("*"),
            HostPattern::Name(name) => f.write_str(name),
            HostPattern::Suffix(suffix) => write!(f, "*.{suffix}"),
            HostPattern::Address(address) => write!(f, "{address}"),
            HostPattern::Network(network) => write!(f, "{network}"),
        }
    }
}

/// The hosts that a secret may be sent to.
///
/// Other than in an HTTP rule, `*` is refused and a special-purpose address accepted: whether that can be reached
/// at all is for the HTTP rules to say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct SecretHosts(Vec<HostPattern>);

impl SecretHosts {
    /// Whether one of the patterns means `host`.
    pub fn matches(&self, host: &Host) -> bool {
        self.0.iter().any(|pattern| pattern.matches(host))
    }
}

impl TryFrom<Vec<String>> for SecretHosts {
    type Error = Invalid;

    fn try_from(texts: Vec<String>) -> Result<SecretHosts, Invalid> {
        let patterns = texts.iter().enumerate().map(|(index, text)| {
            match HostPattern::read(text) {
                Ok(HostPattern::Any) => Err(refused(text, "a secret names the hosts that it may be sent to")),
                other => other,
            }
            .map_err(|invalid| Invalid { field: format!("hosts[{index}]"), ..invalid })
        });
        Ok(SecretHosts(patterns.collect::<Result<_, _>>()?))
    }
}

fn refused(text: &str, remedy: &str) -> Invalid {
    Invalid::new(String::new(), text, remedy)
}
