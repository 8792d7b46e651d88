//! Special-purpose addresses: those that no capsule reaches unless its policy names them.
//!
//! Both IANA special-purpose registries whole (also the few ranges in them that are globally reachable), multicast,
//! what embeds an IPv4 address, and everything of IPv6 outside `2000::/3`, from which alone global unicast
//! addresses are given. Beyond IANA one address: Azure's own services answer at a public one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, d: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

/// The narrower of two nested ranges comes first, so that it gives the name.
const SPECIAL_V4: &[(Ipv4Net, &str)] = &[
    (v4(0, 0, 0, 0, 8), "this network (0.0.0.0/8)"),
    (v4(10, 0, 0, 0, 8), "private (10.0.0.0/8)"),
    (v4(100, 64, 0, 0, 10), "shared by carriers (100.64.0.0/10)"),
    (v4(127, 0, 0, 0, 8), "loopback (127.0.0.0/8)"),
    (v4(168, 63, 129, 16, 32), "Azure platform (168.63.129.16/32)"),
    (v4(169, 254, 0, 0, 16), "link-local (169.254.0.0/16)"),
    (v4(172, 16, 0, 0, 12), "private (172.16.0.0/12)"),
    (v4(192, 0, 0, 0, 24), "IETF protocols (192.0.0.0/24)"),
    (v4(192, 0, 2, 0, 24), "documentation (192.0.2.0/24)"),
    (v4(192, 31, 196, 0, 24), "AS112 (192.31.196.0/24)"),
    (v4(192, 52, 193, 0, 24), "AMT (192.52.193.0/24)"),
    (v4(192, 88, 99, 0, 24), "6to4 relays (192.88.99.0/24)"),
    (v4(192, 168, 0, 0, 16), "private (192.168.0.0/16)"),
    (v4(192, 175, 48, 0, 24), "AS112 (192.175.48.0/24)"),
    (v4(198, 18, 0, 0, 15), "benchmarking (198.18.0.0/15)"),
    (v4(198, 51, 100, 0, 24), "documentation (198.51.100.0/24)"),
    (v4(203, 0, 113, 0, 24), "documentation (203.0.113.0/24)"),
    (v4(224, 0, 0, 0, 4), "multicast (224.0.0.0/4)"),
    (v4(255, 255, 255, 255, 32), "broadcast (255.255.255.255/32)"),
    (v4(240, 0, 0, 0, 4), "reserved (240.0.0.0/4)"),
];

const SPECIAL_V6: &[(Ipv6Net, &str)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), "unspecified (::/128)"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "loopback (::1/128)"),
    (v6(0, 0, 0, 0, 96), "IPv4-compatible (::/96)"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), "IPv4-mapped (::ffff:0:0/96)"),
    (v6(0x64, 0xff9b, 0, 0, 96), "NAT64 (64:ff9b::/96)"),
    (v6(0x64, 0xff9b, 1, 0, 48), "local NAT64 (64:ff9b:1::/48)"),
    (v6(0x100, 0, 0, 0, 64), "discard (100::/64)"),
    (v6(0x100, 0, 0, 1, 64), "dummy (100:0:0:1::/64)"),
    (v6(0x2001, 0, 0, 0, 32), "Teredo (2001::/32)"),
    (v6(0x2001, 0, 0, 0, 23), "IETF protocols (2001::/23)"),
    (v6(0x2001, 0xdb8, 0, 0, 32), "documentation (2001:db8::/32)"),
    (v6(0x2002, 0, 0, 0, 16), "6to4 (2002::/16)"),
    (v6(0x2620, 0x4f, 0x8000, 0, 48), "AS112 (2620:4f:8000::/48)"),
    (v6(0x3fff, 0, 0, 0, 20), "documentation (3fff::/20)"),
    (v6(0x5f00, 0, 0, 0, 16), "segment routing (5f00::/16)"),
    (v6(0xfc00, 0, 0, 0, 7), "unique local (fc00::/7)"),
    (v6(0xfe80, 0, 0, 0, 10), "link-local (fe80::/10)"),
    (v6(0xfec0, 0, 0, 0, 10), "site-local (fec0::/10)"),
    (v6(0xff00, 0, 0, 0, 8), "multicast (ff00::/8)"),
];

const GLOBAL_UNICAST_V6: Ipv6Net = v6(0x2000, 0, 0, 0, 3);

/// The special-purpose range that `address` is in, by name; `None` if it is public.
///
/// An IPv6 address that embeds an IPv4 one (mapped, compatible, NAT64, 6to4, Teredo) is special whatever it embeds.
pub fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => SPECIAL_V4.iter().find(|(range, _)| range.contains(&address)).map(|&(_, name)| name),
        IpAddr::V6(address) => SPECIAL_V6
            .iter()
            .find(|(range, _)| range.contains(&address))
            .map(|&(_, name)| name)
            .or_else(|| (!GLOBAL_UNICAST_V6.contains(&address)).then_some("unassigned (outside 2000::/3)")),
    }
}

/// A special-purpose range that has an address in common with `network`.
pub(crate) fn overlapped(network: &IpNet) -> Option<&'static str> {
    // Two networks overlap only if one holds the other's first address.
    special(network.network()).or_else(|| match network {
        IpNet::V4(network) => {
            SPECIAL_V4.iter().find(|(range, _)| network.contains(&range.network())).map(|&(_, name)| name)
        }
        IpNet::V6(network) => {
            SPECIAL_V6.iter().find(|(range, _)| network.contains(&range.network())).map(|&(_, name)| name)
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_tables_hold_networks_and_name_them() {
        let v4 = SPECIAL_V4.iter().map(|&(range, name)| (IpNet::V4(range), name));
        for (range, name) in v4.chain(SPECIAL_V6.iter().map(|&(range, name)| (IpNet::V6(range), name))) {
            assert_eq!(range.trunc(), range);
            let (_, named) = name.strip_suffix(')').unwrap().split_once(" (").unwrap();
            assert_eq!(named.parse::<IpNet>().unwrap(), range, "{name}");
        }
    }

    #[test]
    fn a_network_that_touches_a_special_range_is_told() {
        for text in ["0.0.0.0/0", "8.0.0.0/6", "10.1.0.0/16", "127.0.0.1/32", "168.0.0.0/8", "::/0", "2000::/3"] {
            assert!(overlapped(&text.parse().unwrap()).is_some(), "{text}");
        }
        for text in ["2001:d00::/24", "4000::/3", "fe80::/64", "2002:808:808::/48"] {
            assert!(overlapped(&text.parse().unwrap()).is_some(), "{text}");
        }
        for text in ["8.8.8.0/24", "11.0.0.0/8", "1.1.1.1/32", "2606:4700::/32", "2001:4860::/32"] {
            assert_eq!(overlapped(&text.parse().unwrap()), None, "{text}");
        }
    }
}
