//! URLs: [`Destination::parse`] and what [`Rules`] let pass.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use capsa_egress::{Destination, Host, METHODS, Rules, special};

use crate::grants;

/// Every public host over either scheme at any of a few ports.
static OPEN: LazyLock<Rules> = LazyLock::new(|| {
    let rule = r#"{"hosts": ["*"], "schemes": ["http", "https"], "ports": [], "methods": ["GET"], "private": []}"#;
    serde_json::from_str(&format!(r#"{{"wanted": [{rule}], "allowed": [{rule}]}}"#)).expect("the rules hold")
});

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Whatever a host is read from, it reads back from how it is shown.
    if let Ok(host) = Host::parse(text) {
        assert_eq!(Host::parse(&host.to_string()).as_ref(), Ok(&host), "of {text:?}");
    }
    let destination = match Destination::parse(text) {
        Ok(destination) => destination,
        Err(denied) => {
            assert!(["url-form", "scheme", "userinfo", "host-form", "port"].contains(&denied.rule), "{denied}");
            assert!(!denied.detail.chars().any(char::is_control), "{denied:?}");
            assert!(denied.detail.len() < 2048, "{denied:?}");
            return;
        }
    };
    let canonical = destination.as_str();
    assert_eq!(Destination::parse(canonical).as_ref(), Ok(&destination), "of {text:?}");
    assert!(canonical.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'\\'), "{canonical:?}");
    check_host(text, &destination);
    match OPEN.check("GET", &destination) {
        Ok(_) => {
            if let Host::Address(address) = destination.host() {
                assert_eq!(special(*address), None, "{canonical}");
                assert!(!is_inside(*address), "{canonical}");
            }
        }
        Err(denied) => assert!(["private", "port"].contains(&denied.rule), "{canonical}: {denied}"),
    }
    for method in METHODS {
        grants::check_rules(method, &destination);
    }
}

/// The host is the one that the `url` crate reads, of what was sent and of the canonical form alike.
fn check_host(text: &str, destination: &Destination) {
    for text in [text, destination.as_str()] {
        let url = ::url::Url::parse(text).expect("it was parsed");
        match (url.host().expect("it has a host"), destination.host()) {
            (::url::Host::Domain(theirs), Host::Name(ours)) => {
                assert_eq!(theirs.strip_suffix('.').unwrap_or(theirs), ours)
            }
            (::url::Host::Ipv4(theirs), Host::Address(ours)) => assert_eq!(IpAddr::V4(theirs), *ours),
            (::url::Host::Ipv6(theirs), Host::Address(ours)) => assert_eq!(theirs.to_canonical(), *ours),
            (theirs, ours) => panic!("{theirs:?} is {ours:?}"),
        }
        assert_eq!(url.port_or_known_default(), Some(destination.port()));
        assert_eq!((url.username(), url.password()), ("", None));
    }
    if let Host::Name(name) = destination.host() {
        // `getaddrinfo` would take such a name for an address, and ask no one.
        let last = name.rsplit('.').next().unwrap_or(name);
        assert!(!last.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
        assert!(!last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())), "{name}");
        assert!(name.len() <= 253 && name.split('.').all(|label| (1..=63).contains(&label.len())), "{name}");
    }
}

/// What the standard library knows of addresses that are nobody's business, in any of the forms that embed one.
fn is_inside(address: IpAddr) -> bool {
    let v4 = |address: Ipv4Addr| {
        let [a, b, c, _] = address.octets();
        address.is_private()
            || address.is_loopback()
            || address.is_link_local()
            || address.is_documentation()
            || (a == 0 || a >= 224)
            || (a == 100 && (64..128).contains(&b))
            || (a == 198 && (18..20).contains(&b))
            || (a, b, c) == (192, 0, 0)
    };
    match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || address.to_ipv4().is_some_and(v4)
                || [0x2002, 0x3fff, 0x5f00].contains(&address.segments()[0])
                || address.segments()[..2] == [0x64, 0xff9b]
                || (address.segments()[0] == 0x2001 && address.segments()[1] < 0x200)
        }
    }
}
