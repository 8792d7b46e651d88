//! One form for every URL, and nothing accepted that is special.

use std::net::IpAddr;

use capsa_egress::{Destination, Host, MAX_URL_BYTES, Rules, special};
use proptest::prelude::*;
use serde_json::json;

use crate::world::{public, rules};

#[test]
fn a_url_is_brought_to_one_form() {
    for (written, canonical) in [
        ("https://API.Example.COM", "https://api.example.com/"),
        ("HTTPS://api.example.com.:443/a/../b?x=1#part", "https://api.example.com/b?x=1"),
        ("http://api.example.com:80/", "http://api.example.com/"),
        ("http://api.example.com:443/", "http://api.example.com:443/"),
        ("http://api.example.com:/", "http://api.example.com/"),
        ("http://api.example.com:00080/", "http://api.example.com/"),
        ("https://bücher.example/ü?ü#ü", "https://xn--bcher-kva.example/%C3%BC?%C3%BC"),
        ("https://BÜCHER.example", "https://xn--bcher-kva.example/"),
        ("https://ex%61mple.com/", "https://example.com/"),
        ("https://example。com/", "https://example.com/"),
        ("http://0x08.0x8.2056/", "http://8.8.8.8/"),
        ("http://[::ffff:8.8.8.8]/", "http://8.8.8.8/"),
        ("http://[2606:4700::0:1111]:8080/", "http://[2606:4700::1111]:8080/"),
        ("https://a_b.example.com/", "https://a_b.example.com/"),
        ("https://example.com?q", "https://example.com/?q"),
        ("https://example.com/a%2Fb%5c?%00", "https://example.com/a%2Fb%5c?%00"),
    ] {
        let destination = Destination::parse(written).unwrap();
        assert_eq!(destination.as_str(), canonical, "{written}");
        assert_eq!(Destination::parse(canonical).unwrap(), destination);
    }
}

#[test]
fn a_url_has_a_length() {
    let url = |bytes: usize| format!("https://example.com/{}", "a".repeat(bytes - "https://example.com/".len()));
    assert!(Destination::parse(&url(MAX_URL_BYTES)).is_ok());
    assert_eq!(Destination::parse(&url(MAX_URL_BYTES + 1)).unwrap_err().rule, "url-form");
    // In canonical form each of these takes six bytes.
    let long = format!("https://example.com/{}", "ü".repeat(MAX_URL_BYTES / 4));
    assert_eq!(Destination::parse(&long).unwrap_err().rule, "url-form");
    let long = format!("https://{}.example.com/", "a".repeat(64));
    assert_eq!(Destination::parse(&long).unwrap_err().rule, "host-form");
    let long = format!("https://{}example.com/", "a.".repeat(130));
    assert_eq!(Destination::parse(&long).unwrap_err().rule, "host-form");
}

#[test]
fn a_denial_repeats_little_of_what_came_in() {
    let denied = Destination::parse(&format!("x{}\u{1b}[2J", "y".repeat(5000))).unwrap_err();
    assert!(denied.detail.len() < 300 && !denied.detail.contains('\u{1b}'), "{denied}");
}

/// URLs that are nearly right, from the pieces that parsers disagree about.
fn nearly_urls() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("http://"),
        Just("https://"),
        Just("HTTP://"),
        Just("//"),
        Just("/"),
        Just("?"),
        Just("#"),
        Just(":"),
        Just("@"),
        Just("["),
        Just("]"),
        Just("%"),
        Just("%2e"),
        Just("%00"),
        Just("%5c"),
        Just("."),
        Just(".."),
        Just("0x"),
        Just("127.0.0.1"),
        Just("0177"),
        Just("2130706433"),
        Just("::1"),
        Just("::ffff:"),
        Just("64:ff9b::"),
        Just("example.com"),
        Just("EXAMPLE"),
        Just("xn--bcher-kva"),
        Just("xn--"),
        Just("ü"),
        Just("ß"),
        Just("。"),
        Just("１"),
        Just("\u{ad}"),
        Just("\u{200d}"),
        Just("-"),
        Just("_"),
        Just("80"),
        Just("443"),
        Just("{"),
        Just("|"),
        Just("^"),
        Just("`"),
        Just("\""),
        Just("'"),
        Just("<"),
        Just("&"),
        Just("="),
        Just("+"),
        Just("\u{1f4a9}"),
    ];
    let scheme = prop_oneof![4 => Just("http://"), 4 => Just("https://"), 1 => Just("")];
    (scheme, prop::collection::vec(piece, 0..8)).prop_map(|(scheme, pieces)| format!("{scheme}{}", pieces.concat()))
}

fn address_urls() -> impl Strategy<Value = String> {
    let v4 = any::<u32>().prop_flat_map(|bits| {
        let [a, b, c, d] = bits.to_be_bytes();
        prop_oneof![
            Just(format!("{a}.{b}.{c}.{d}")),
            Just(format!("{bits}")),
            Just(format!("0x{bits:x}")),
            Just(format!("0{bits:o}")),
            Just(format!("{a}.{}", bits & 0xff_ffff)),
            Just(format!("[::ffff:{a}.{b}.{c}.{d}]")),
            Just(format!("[64:ff9b::{a}.{b}.{c}.{d}]")),
            Just(format!("[2002:{:x}:{:x}::1]", bits >> 16, bits & 0xffff)),
        ]
    });
    let v6 = any::<u128>().prop_map(|bits| format!("[{}]", std::net::Ipv6Addr::from_bits(bits)));
    prop_oneof![v4, v6].prop_map(|host| format!("http://{host}/"))
}

fn whatever() -> Rules {
    public(&[80, 443])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What is accepted is in a form that is accepted as it is.
    #[test]
    fn the_canonical_form_is_a_fixed_point(url in prop_oneof![nearly_urls(), any::<String>(), address_urls()]) {
        if let Ok(destination) = Destination::parse(&url) {
            let again = Destination::parse(destination.as_str());
            prop_assert_eq!(again.as_ref(), Ok(&destination), "{}", destination);
            prop_assert!(destination.as_str().bytes().all(|byte| matches!(byte, b'!'..=b'~')), "{}", destination);
            prop_assert!(!destination.as_str().contains(['#', '\\', '@']) || url.contains('@'));
        }
    }

    /// Without a private grant no written address passes the rules that is special.
    #[test]
    fn no_special_address_is_accepted(url in prop_oneof![address_urls(), nearly_urls()]) {
        if let Ok(destination) = Destination::parse(&url)
            && whatever().check("GET", &destination).is_ok()
            && let Host::Address(address) = destination.host()
        {
            prop_assert_eq!(special(*address), None, "{}", url);
        }
    }

    /// An address is special or not, however it is written.
    #[test]
    fn a_mapped_address_is_its_ipv4_address(bits in any::<u32>()) {
        let address = IpAddr::from(bits.to_be_bytes());
        let plain = Destination::parse(&format!("http://{address}/")).unwrap();
        let mapped = Destination::parse(&format!("http://[::ffff:{address}]/")).unwrap();
        prop_assert_eq!(&plain, &mapped);
        let granted = rules(json!({"hosts": ["*"], "schemes": ["http"]})).check("GET", &mapped).is_ok();
        prop_assert_eq!(granted, special(address).is_none());
    }
}
