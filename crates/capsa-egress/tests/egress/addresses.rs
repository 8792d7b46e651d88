//! Special addresses, compared with Python's `ipaddress` over a table that it has made (`is_global.txt`).

use std::net::IpAddr;

use capsa_egress::special;
use ipnet::IpNet;

/// Where Python says `is_global` and we say special, and why.
const STRICTER: &[(&str, &str)] = &[
    ("168.63.129.16/32", "not special to IANA, but Azure's own services"),
    ("192.0.0.0/24", "parts of it are global to Python"),
    ("192.31.196.0/24", "globally reachable, in the special-purpose registry"),
    ("192.52.193.0/24", "globally reachable, in the special-purpose registry"),
    ("192.88.99.0/24", "deprecated, in the special-purpose registry"),
    ("192.175.48.0/24", "globally reachable, in the special-purpose registry"),
    ("224.0.0.0/4", "multicast"),
    ("ff00::/8", "multicast"),
    ("::/96", "IPv4-compatible: judged by what it embeds, and deprecated"),
    ("64:ff9b::/96", "NAT64: leads to the IPv4 address that it embeds"),
    ("2002::/16", "6to4: leads to the IPv4 address that it embeds"),
    ("2620:4f:8000::/48", "globally reachable, in the special-purpose registry"),
    ("3fff::/20", "documentation since RFC 9637, later than this Python"),
    ("5f00::/16", "segment routing since RFC 9602, later than this Python"),
    ("100:0:0:1::/64", "dummy prefix since RFC 9780, later than this Python"),
    ("::/3", "not assigned to global unicast"),
    ("4000::/2", "not assigned to global unicast"),
    ("8000::/1", "not assigned to global unicast"),
];

#[test]
fn what_python_calls_not_global_is_special() {
    let table = include_str!("is_global.txt");
    let stricter: Vec<(IpNet, bool)> = STRICTER.iter().map(|(range, _)| (range.parse().unwrap(), false)).collect();
    let mut used = stricter.clone();
    let mut rows = 0;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let (address, is_global) = line.split_once(' ').unwrap();
        let address: IpAddr = address.parse().unwrap();
        let ours = special(address);
        rows += 1;
        if is_global == "0" {
            assert!(ours.is_some(), "{address} is not global to Python, but public to us");
        } else if let Some(range) = ours {
            let known: Vec<_> = used.iter_mut().filter(|(net, _)| net.contains(&address)).collect();
            assert!(!known.is_empty(), "{address} is global to Python, but {range} to us");
            known.into_iter().for_each(|(_, used)| *used = true);
        }
    }
    assert!(rows > 1000, "{rows}");
    let unused: Vec<_> = used.iter().filter(|(_, used)| !used).map(|(net, _)| net.to_string()).collect();
    assert_eq!(unused, Vec::<String>::new(), "listed as a difference, but there is none");
}

#[test]
fn addresses_that_must_work_are_public() {
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "93.184.215.14",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:4860:4860::8888",
        "2606:4700:4700::1111",
        "2a00:1450::1",
        "2003::1",
        "2001:db7::1",
        "2001:db9::1",
    ] {
        assert_eq!(special(address.parse().unwrap()), None, "{address}");
    }
}

#[test]
fn a_range_is_called_by_its_narrowest_name() {
    for (address, name) in [
        ("169.254.169.254", "link-local (169.254.0.0/16)"),
        ("255.255.255.255", "broadcast (255.255.255.255/32)"),
        ("::1", "loopback (::1/128)"),
        ("::7f00:1", "IPv4-compatible (::/96)"),
        ("::ffff:8.8.8.8", "IPv4-mapped (::ffff:0:0/96)"),
        ("64:ff9b::808:808", "NAT64 (64:ff9b::/96)"),
        ("64:ff9b:1::1", "local NAT64 (64:ff9b:1::/48)"),
        ("2001:0:808:808::1", "Teredo (2001::/32)"),
        ("2001:1::1", "IETF protocols (2001::/23)"),
        ("2002:808:808::1", "6to4 (2002::/16)"),
        ("fd00:ec2::254", "unique local (fc00::/7)"),
        ("4000::1", "unassigned (outside 2000::/3)"),
    ] {
        assert_eq!(special(address.parse().unwrap()), Some(name), "{address}");
    }
}
