//! What a capsule wants to reach and what its policy allows: a request needs one rule of each.

use serde::Deserialize;

use crate::address::special;
use crate::denied::{Denied, Invalid};
use crate::destination::{Destination, Host, Scheme, quoted};
use crate::pattern::HostPattern;

/// The methods that can be granted; no other is ever sent.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The rules of one capsule. Built from JSON: `{"wanted":[RULE…],"allowed":[RULE…]}`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// What the capsule's definition wants at most.
    pub wanted: Vec<HttpRule>,
    /// What its policy allows at most.
    pub allowed: Vec<HttpRule>,
}

/// Which rules let a request pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Index of the rule in [`Rules::wanted`].
    pub wanted: usize,
    /// Index of the rule in [`Rules::allowed`].
    pub allowed: usize,
    /// Whether the allowed rule names this host and port in `private`, so that any address may be behind it.
    pub private: bool,
}

/// One rule: hosts, schemes, ports and methods that go together.
///
/// Built from JSON with all five keys: `{"hosts":[],"schemes":[],"ports":[],"methods":[],"private":[]}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct HttpRule {
    hosts: Vec<HostPattern>,
    schemes: Vec<Scheme>,
    ports: Vec<u16>,
    methods: Vec<String>,
    private: Vec<(Host, u16)>,
}

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    hosts: Vec<String>,
    schemes: Vec<String>,
    ports: Vec<u16>,
    methods: Vec<String>,
    private: Vec<String>,
}

impl TryFrom<Written> for HttpRule {
    type Error = Invalid;

    fn try_from(written: Written) -> Result<HttpRule, Invalid> {
        HttpRule::new(&written.hosts, &written.schemes, &written.ports, &written.methods, &written.private)
    }
}

/// How far a rule and a request agree; the later, the nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Agreement {
    Nothing,
    Host,
    HostAndScheme,
    AllButMethod,
    Whole { private: bool },
}

impl HttpRule {
    /// Checks and reads the parts of a rule. No ports mean the default port of each scheme.
    ///
    /// # Errors
    ///
    /// [`Invalid`] with the field (`hosts[2]`) if a part cannot be used or the rule could never match.
    pub fn new(
        hosts: &[String],
        schemes: &[String],
        ports: &[u16],
        methods: &[String],
        private: &[String],
    ) -> Result<HttpRule, Invalid> {
        if hosts.is_empty() && private.is_empty() {
            return Err(Invalid::new("hosts", "[]", "name a host, or a destination in `private`"));
        }
        Ok(HttpRule {
            hosts: each("hosts", hosts, |host| HostPattern::parse(host))?,
            schemes: some("schemes", schemes, |scheme| {
                Scheme::named(scheme).ok_or_else(|| Invalid::new("", scheme, "http or https"))
            })?,
            ports: each("ports", ports, |&port| match port {
                0 => Err(Invalid::new("", "0", "a port is 1 to 65535")),
                port => Ok(port),
            })?,
            methods: some("methods", methods, |method| {
                if METHODS.contains(&method.as_str()) {
                    return Ok(method.clone());
                }
                Err(Invalid::new("", method, format!("one of {}", METHODS.join(", "))))
            })?,
            private: each("private", private, |pair| host_and_port(pair))?,
        })
    }

    fn agreement(&self, method: &str, destination: &Destination) -> Agreement {
        let private = self.private.iter().any(|(host, port)| host == destination.host() && *port == destination.port());
        if !private && !self.hosts.iter().any(|host| host.matches(destination.host())) {
            return Agreement::Nothing;
        }
        if !self.schemes.contains(&destination.scheme()) {
            return Agreement::Host;
        }
        let port = match self.ports.as_slice() {
            _ if private => true,
            [] => destination.port() == destination.scheme().default_port(),
            ports => ports.contains(&destination.port()),
        };
        if !port {
            return Agreement::HostAndScheme;
        }
        if !self.methods.iter().any(|granted| granted == method) {
            return Agreement::AllButMethod;
        }
        Agreement::Whole { private }
    }
}

impl Rules {
    /// Judges a request by all that can be known without a look-up.
    ///
    /// # Errors
    ///
    /// [`Denied`] `method`, `private` (a special-purpose address that no allowed rule names), `host`, `scheme` or
    /// `port`: of the rule that came nearest.
    pub fn check(&self, method: &str, destination: &Destination) -> Result<Match, Denied> {
        if !METHODS.contains(&method) {
            return Err(Denied::new("method", format!("{} is not one of {}", quoted(method), METHODS.join(", "))));
        }
        let (nearest, allowed) = best(&self.allowed, method, destination);
        let (host, port) = (destination.host(), destination.port());
        if let Host::Address(address) = host
            && let Some(range) = special(*address)
            && !self.allowed.iter().any(|rule| rule.private.contains(&(host.clone(), port)))
        {
            return Err(Denied::new(
                "private",
                format!("{host} is {range}, and no rule of the policy names {host}:{port} in `private`"),
            ));
        }
        let Agreement::Whole { private } = nearest else {
            return Err(disagreement(nearest, method, destination, "granted by the policy"));
        };
        match best(&self.wanted, method, destination) {
            (Agreement::Whole { .. }, wanted) => Ok(Match { wanted, allowed, private }),
            (nearest, _) => Err(disagreement(nearest, method, destination, "among what the capsule wants")),
        }
    }
}

/// The rule that agrees most, and where it stands. A rule that names the destination in `private` comes before
/// one that only matches its host.
fn best(rules: &[HttpRule], method: &str, destination: &Destination) -> (Agreement, usize) {
    let mut best = (Agreement::Nothing, 0);
    for (index, rule) in rules.iter().enumerate() {
        let agreement = rule.agreement(method, destination);
        // Strict: of equals the first is reported.
        if agreement > best.0 {
            best = (agreement, index);
        }
    }
    best
}

fn disagreement(nearest: Agreement, method: &str, destination: &Destination, by: &str) -> Denied {
    let host = destination.host();
    match nearest {
        Agreement::Nothing => Denied::new("host", format!("{host} is not {by}")),
        Agreement::Host => Denied::new("scheme", format!("{} to {host} is not {by}", destination.scheme().as_str())),
        Agreement::HostAndScheme => Denied::new("port", format!("port {} of {host} is not {by}", destination.port())),
        Agreement::AllButMethod | Agreement::Whole { .. } => {
            Denied::new("method", format!("{method} to {host} is not {by}"))
        }
    }
}

fn host_and_port(pair: &str) -> Result<(Host, u16), Invalid> {
    let refused = || Invalid::new("", pair, "a destination is written host:port, as 10.0.0.5:8080 or [fd00::1]:443");
    let (host, port) = pair.rsplit_once(':').ok_or_else(refused)?;
    // Without its brackets the end of an IPv6 address would be taken for a port.
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(refused());
    }
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused());
    }
    let port = port.parse::<u16>().ok().filter(|&port| port != 0).ok_or_else(refused)?;
    Ok((Host::parse(host).map_err(|_| refused())?, port))
}

fn some<T, U>(field: &str, parts: &[T], read: impl Fn(&T) -> Result<U, Invalid>) -> Result<Vec<U>, Invalid> {
    if parts.is_empty() {
        return Err(Invalid::new(field, "[]", "at least one: a rule without matches nothing"));
    }
    each(field, parts, read)
}

fn each<T, U>(field: &str, parts: &[T], read: impl Fn(&T) -> Result<U, Invalid>) -> Result<Vec<U>, Invalid> {
    parts
        .iter()
        .enumerate()
        .map(|(index, part)| read(part).map_err(|invalid| Invalid { field: format!("{field}[{index}]"), ..invalid }))
        .collect()
}
