//! What tests say most: a guard with a name server of its own, rules from JSON, one request.

use std::time::{Duration, Instant};

use capsa_egress::{
    Denied, Exchange, Failure, Guard, GuardSettings, HttpRule, Limits, Request, Response, Rules, Substitution,
};
use serde_json::{Value, json};

use crate::dns::{Answer, NameServer};
use crate::sites::Authority;

/// Long enough for any machine; where time is what is tested, tests say their own.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A guard that knows one name server and, besides Mozilla's, one authority.
pub struct World {
    pub guard: Guard,
    pub names: NameServer,
    pub authority: Authority,
}

impl World {
    /// Every name below `.local.example` is at 127.0.0.1; there is no other.
    pub fn new() -> World {
        World::with_names(|name, _| match name.ends_with(".local.example") {
            true => Answer::of(&["127.0.0.1"]),
            false => Answer::Unknown,
        })
    }

    pub fn with_names(zone: impl Fn(&str, usize) -> Answer + Send + 'static) -> World {
        let names = NameServer::start(zone);
        let authority = Authority::named("ours");
        let settings = GuardSettings { dns: Some(vec![names.address]), extra_roots_pem: Some(authority.pem()) };
        World { guard: Guard::new(settings).unwrap(), names, authority }
    }

    pub fn send(&self, rules: &Rules, request: &Request<'_>) -> Exchange {
        self.guard.send(rules, request, &patient(), &[])
    }

    pub fn get(&self, rules: &Rules, url: &str) -> Result<Response, Failure> {
        self.send(rules, &get(url)).outcome
    }

    /// Fetches with secrets in hand.
    pub fn get_with(
        &self,
        rules: &Rules,
        url: &str,
        headers: &[(&str, &str)],
        secrets: &[Substitution],
    ) -> Result<Response, Failure> {
        let headers = headers_of(headers);
        self.guard.send(rules, &Request { headers: &headers, ..get(url) }, &patient(), secrets).outcome
    }

    /// The rule that denies a GET.
    pub fn denied(&self, rules: &Rules, url: &str) -> &'static str {
        denial(self.get(rules, url)).rule
    }
}

pub fn patient() -> Limits {
    Limits { deadline: Instant::now() + PATIENCE, max_sent_bytes: 1 << 20, max_received_bytes: 1 << 20 }
}

pub fn get(url: &str) -> Request<'_> {
    Request { method: "GET", url, headers: &[], body: b"" }
}

pub fn headers_of(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub fn denial(outcome: Result<Response, Failure>) -> Denied {
    match outcome {
        Err(Failure::Denied(denied)) => denied,
        other => panic!("not denied: {other:?}"),
    }
}

/// A rule with what a policy file would fill in; `parts` replaces any of it.
pub fn rule(parts: Value) -> HttpRule {
    serde_json::from_value(whole(parts)).unwrap()
}

pub fn whole(parts: Value) -> Value {
    let mut rule = json!({"hosts": [], "schemes": ["https"], "ports": [], "methods": ["GET", "HEAD"], "private": []});
    rule.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    rule
}

/// Wanted and allowed alike.
pub fn rules(parts: Value) -> Rules {
    Rules { wanted: vec![rule(parts.clone())], allowed: vec![rule(parts)] }
}

/// Everything to these private destinations.
pub fn private(pairs: &[String]) -> Rules {
    rules(json!({"private": pairs, "schemes": ["http", "https"], "methods": capsa_egress::METHODS}))
}

/// Any public host at these ports, by any method.
pub fn public(ports: &[u16]) -> Rules {
    rules(json!({"hosts": ["*"], "schemes": ["http", "https"], "ports": ports, "methods": capsa_egress::METHODS}))
}
