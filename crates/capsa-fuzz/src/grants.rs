//! Capability policies as native code reads them: [`Grants`] from JSON.

use std::sync::LazyLock;

use capsa_egress::{Destination, Host, special};
use capsa_vm::{Call, CallError, Given, Grants, Interface, Outcome, ToolComponent, ToolLimits};
use serde_json::Value;

use crate::tool::{around, host};

/// Where rules are tried: public and special, names and addresses.
static DESTINATIONS: LazyLock<Vec<Destination>> = LazyLock::new(|| {
    [
        "https://api.example.com/",
        "http://example.org:8080/",
        "https://93.184.216.34/",
        "http://127.0.0.1/",
        "http://10.0.0.5:8080/",
        "http://169.254.169.254/latest",
        "https://[::1]/",
        "https://[::ffff:10.0.0.5]:8080/",
        "https://[fd00::1]:443/",
        "https://[2606:4700::1]/",
        "http://localhost:8080/",
    ]
    .map(|url| Destination::parse(url).expect("it is canonical"))
    .to_vec()
});

/// A rule that names a private destination, as anything might.
static LOOSE: LazyLock<capsa_egress::Rules> = LazyLock::new(|| {
    let rule = r#"{"hosts": ["*"], "schemes": ["http", "https"], "ports": [80, 443, 8080],
        "methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"], "private": ["10.0.0.5:8080", "[fd00::1]:443"]}"#;
    serde_json::from_str(&format!(r#"{{"wanted": [{rule}], "allowed": [{rule}]}}"#)).expect("the rules hold")
});

/// A tool that imports nothing, to be bound to whatever is granted.
static PLAIN: LazyLock<ToolComponent> = LazyLock::new(|| {
    let component = capsa_author::wrap(crate::tool::ECHO.as_bytes(), "tool").expect("it fits the world");
    host().load_tool(&component).expect("it is a tool")
});

/// Whatever a rule lists in `private` is the only way in.
pub(crate) fn check_rules(method: &str, destination: &Destination) {
    let passed = LOOSE.check(method, destination);
    let Host::Address(address) = destination.host() else { return };
    if special(*address).is_some() {
        let named = ["10.0.0.5:8080", "[fd00::1]:443"]
            .contains(&format!("{}:{}", destination.host(), destination.port()).as_str());
        assert_eq!(passed.is_ok(), named, "{destination}");
        assert!(passed.is_err() || passed.is_ok_and(|found| found.private), "{destination}");
    }
}

pub(crate) fn run(data: &[u8]) {
    let Ok(grants) = serde_json::from_slice::<Grants>(data) else { return };
    let json: Value = serde_json::from_slice(data).expect("it is JSON");
    let private = named_in_private(&json);
    for destination in DESTINATIONS.iter() {
        let Ok(found) = grants.http.check("GET", destination) else { continue };
        assert!(Interface::Http.is_granted(&grants), "{json}");
        let Host::Address(address) = destination.host() else { continue };
        if special(*address).is_some() {
            assert!(found.private && private.contains(&(destination.host().clone(), destination.port())), "{json}");
        }
    }
    for (interface, key) in [(Interface::Clock, "clock"), (Interface::Random, "random")] {
        assert_eq!(Value::Bool(interface.is_granted(&grants)), json[key]);
    }
    for (interface, key) in [(Interface::Kv, "kv"), (Interface::Files, "files")] {
        assert_eq!(!interface.is_granted(&grants), json[key].is_null(), "{json}");
    }
    // No pattern of a secret means every host.
    let nobody = Host::parse("nobody.has.this.invalid").expect("it is a name");
    let text = json["secrets"].to_string();
    for secret in &grants.secrets {
        assert!(!secret.allowed.matches(&nobody) || text.to_lowercase().contains("this.invalid"), "{text}");
    }
    if in_range(&grants.limits) {
        call(grants);
    }
}

fn named_in_private(json: &Value) -> Vec<(Host, u16)> {
    let rules = json["http"]["allowed"].as_array().map(Vec::as_slice).unwrap_or_default();
    let pairs = rules.iter().flat_map(|rule| rule["private"].as_array().map(Vec::as_slice).unwrap_or_default());
    (pairs.filter_map(Value::as_str).filter_map(|pair| pair.rsplit_once(':')))
        .map(|(host, port)| (Host::parse(host).expect("it was read"), port.parse().expect("it was read")))
        .collect()
}

/// What the policy's own loader lets through; `capsa.policies` is the only maker of these documents.
fn in_range(limits: &ToolLimits) -> bool {
    (1..=60_000).contains(&limits.cpu_ms)
        && (1..=600_000).contains(&limits.wall_ms)
        && limits.fuel.is_none_or(|fuel| (1..=1_000_000_000_000_000).contains(&fuel))
        && (65_536..=4 << 30).contains(&limits.memory_bytes)
        && (1..=100_000).contains(&limits.table_elements)
        && (1..=64 << 20).contains(&limits.output_bytes)
        && limits.log_lines <= 10_000
        && limits.log_bytes <= 1 << 20
        && limits.host_calls <= 1_000_000
        && limits.egress_requests <= 10_000
        && limits.egress_bytes <= 1 << 30
        && (1..=1000).contains(&limits.concurrency)
}

/// A tool that uses nothing of them answers under any grants, or breaks the limit that is too small for it.
fn call(grants: Grants) {
    let limits = grants.limits.clone();
    let tool = PLAIN.bind(grants, Given::default()).expect("it imports nothing");
    match tool.call(Call::Invoke("[1,2]"), around()).outcome {
        Outcome::Answered(Some(answer)) => assert_eq!(answer, "[1,2]"),
        Outcome::Stopped(CallError::Fuel { .. }) => assert!(limits.fuel.is_some_and(|fuel| fuel < 10_000)),
        Outcome::Stopped(CallError::BadOutput(_)) => assert!(limits.output_bytes < 64),
        // Whether a call of microseconds gets through in one millisecond is for the machine to say.
        Outcome::Stopped(CallError::Deadline { .. } | CallError::Wall { .. }) => {}
        other => panic!("{other:?}"),
    }
}
