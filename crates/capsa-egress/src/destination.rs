//! Where a request goes, in the one form that is judged, resolved and sent.
//!
//! Parsers differ, and every difference between the one that judges and the one that connects is a hole. So a URL
//! is parsed once, by the WHATWG rules; what those would silently mend is refused before; and what is sent is
//! [`Destination::as_str`], not what the guest wrote.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;
use url::{ParseError, Url};

use crate::denied::Denied;

/// Bytes of a URL, as it was written and in canonical form.
pub const MAX_URL_BYTES: usize = 8192;

/// Of a text from outside, at most this much is repeated in a denial.
const QUOTED_CHARS: usize = 120;

/// How a request travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The scheme of this name, in lower case.
    pub fn named(name: &str) -> Option<Scheme> {
        match name {
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            _ => None,
        }
    }

    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// 80 or 443.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// A host in canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name: ASCII, lower case, no trailing dot.
    Name(String),
    /// An address; an IPv4-mapped IPv6 address is the IPv4 address.
    Address(IpAddr),
}

impl Host {
    /// Reads a host as it stands in a URL: a name (IDNA), an IPv4 address in any of its spellings, or an IPv6
    /// address, here with or without brackets.
    ///
    /// # Errors
    ///
    /// [`Denied`] `host-form` if it is none of these.
    pub fn parse(text: &str) -> Result<Host, Denied> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Host::Address(address.to_canonical()));
        }
        let parsed = url::Host::parse(text).map_err(|error| host_form(text, &error.to_string()))?;
        Host::from_whatwg(parsed)
    }

    fn from_whatwg(host: url::Host<impl AsRef<str>>) -> Result<Host, Denied> {
        match host {
            url::Host::Ipv4(address) => Ok(Host::Address(address.into())),
            url::Host::Ipv6(address) => Ok(Host::Address(IpAddr::V6(address).to_canonical())),
            url::Host::Domain(name) => {
                let name = name.as_ref();
                let name = name.strip_suffix('.').unwrap_or(name);
                if name.len() > 253 {
                    return Err(host_form(name, "it is longer than 253 bytes"));
                }
                for label in name.split('.') {
                    if label.is_empty() || label.len() > 63 {
                        return Err(host_form(name, "a label has 1 to 63 bytes"));
                    }
                    // WHATWG lets more through than any name server serves.
                    if !label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')) {
                        return Err(host_form(name, "a label holds letters, digits, `-` and `_`"));
                    }
                }
                Ok(Host::Name(name.to_owned()))
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A URL that may be judged: absolute, `http` or `https`, without user name, password and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    scheme: Scheme,
    host: Host,
    port: u16,
    /// Length of `scheme://host[:port]` in `text`.
    origin: usize,
    text: String,
}

impl Destination {
    /// Brings a URL to canonical form.
    ///
    /// # Errors
    ///
    /// [`Denied`] `url-form` (too long, not absolute, blanks, control characters, backslashes), `scheme`,
    /// `userinfo`, `host-form` (empty, zone, no IDNA form, overlong) or `port`.
    pub fn parse(url: &str) -> Result<Destination, Denied> {
        if url.len() > MAX_URL_BYTES {
            return Err(Denied::new("url-form", format!("a URL has at most {MAX_URL_BYTES} bytes, not {}", url.len())));
        }
        // The parser would drop some of these without a word, and read a backslash as a slash.
        if let Some(strange) = url.chars().find(|&c| c == '\\' || c == ' ' || c.is_control()) {
            return Err(Denied::new("url-form", format!("{} holds {strange:?}: percent-encode it", quoted(url))));
        }
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(Denied::new("url-form", format!("{} is not an absolute URL", quoted(url))));
        };
        let Some(scheme) = Scheme::named(&scheme.to_ascii_lowercase()) else {
            return Err(Denied::new("scheme", format!("{} is neither http nor https", quoted(scheme))));
        };
        // The parser takes `https:host` and `https:///host` for `https://host`.
        let Some(rest) = rest.strip_prefix("//").filter(|rest| !rest.starts_with('/')) else {
            return Err(Denied::new("url-form", format!("{} does not go on with //HOST", quoted(url))));
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(Denied::new("userinfo", "a URL holds no user name and no password"));
        }
        if authority.starts_with('[') && authority.contains('%') {
            return Err(host_form(authority, "an address has no zone"));
        }
        let parsed = Url::parse(url).map_err(|error| match error {
            ParseError::InvalidPort => Denied::new("port", format!("{} has no valid port", quoted(authority))),
            ParseError::EmptyHost
            | ParseError::IdnaError
            | ParseError::InvalidIpv4Address
            | ParseError::InvalidIpv6Address
            | ParseError::InvalidDomainCharacter => host_form(authority, &error.to_string()),
            _ => Denied::new("url-form", format!("{}: {error}", quoted(url))),
        })?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(Denied::new("userinfo", "a URL holds no user name and no password"));
        }
        let host = Host::from_whatwg(parsed.host().ok_or_else(|| host_form(authority, "it is empty"))?)?;
        let port = parsed.port().unwrap_or(scheme.default_port());
        if port == 0 {
            return Err(Denied::new("port", format!("{} has no valid port", quoted(authority))));
        }
        let mut text = format!("{}://{host}", scheme.as_str());
        if port != scheme.default_port() {
            text.push_str(&format!(":{port}"));
        }
        let origin = text.len();
        text.push_str(parsed.path());
        if let Some(query) = parsed.query() {
            text.push('?');
            text.push_str(query);
        }
        if text.len() > MAX_URL_BYTES {
            return Err(Denied::new("url-form", format!("a URL has at most {MAX_URL_BYTES} bytes in canonical form")));
        }
        let destination = Destination { scheme, host, port, origin, text };
        destination.uri()?;
        Ok(destination)
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, 1 to 65,535, also where it is the scheme's default.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The canonical URL: what is sent. [`Destination::parse`] of it gives the same.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Path and query: what follows the method in the request.
    pub(crate) fn target(&self) -> &str {
        &self.text[self.origin..]
    }

    /// The value of the header `Host`: the port only where it is not the scheme's default.
    pub(crate) fn authority(&self) -> &str {
        &self.text[self.scheme.as_str().len() + "://".len()..self.origin]
    }

    /// The same as the HTTP client reads it.
    ///
    /// # Errors
    ///
    /// [`Denied`] `url-form` if the client cannot read it or reads something else.
    pub(crate) fn uri(&self) -> Result<Uri, Denied> {
        self.text
            .parse::<Uri>()
            .ok()
            .filter(|uri| {
                uri.scheme_str() == Some(self.scheme.as_str())
                    && uri.authority().is_some_and(|authority| authority.as_str() == self.authority())
                    && uri.path_and_query().is_some_and(|target| target.as_str() == self.target())
            })
            .ok_or_else(|| Denied::new("url-form", format!("{} cannot be sent as it is", quoted(&self.text))))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn host_form(host: &str, why: &str) -> Denied {
    Denied::new("host-form", format!("{} is not a host: {why}", quoted(host)))
}

/// A text from outside, cut and with its control characters escaped.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
