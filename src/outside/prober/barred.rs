//! Addresses that a probe must not ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses at which clouds give credentials and other data to their machines. No flag allows them.
const METADATA: [IpAddr; 9] = [
    // Most clouds.
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    // Amazon: the credentials of tasks and of Pods.
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    // Google, Alibaba, Azure, Oracle.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// True if a probe must not ask `address`. If `lenient`, it may ask loopback and link-local addresses.
pub(super) fn is_barred(address: IpAddr, lenient: bool) -> bool {
    let address = embedded(address);
    let (leads_nowhere, is_near) = match address {
        IpAddr::V4(v4) => {
            (v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast(), v4.is_loopback() || v4.is_link_local())
        }
        IpAddr::V6(v6) => (v6.is_unspecified() || v6.is_multicast(), v6.is_loopback() || v6.is_unicast_link_local()),
    };
    METADATA.contains(&address) || leads_nowhere || is_near && !lenient
}

/// The IPv4 address that an IPv6 address leads to. Other addresses are left as they are.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let of = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        // The unspecified address and the loopback address are of IPv6 itself.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        // IPv4-compatible, IPv4-mapped, IPv4-translated, NAT64.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => of(high, low),
        // 6to4.
        [0x2002, high, low, ..] => of(high, low),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barred(address: &str, lenient: bool) -> bool {
        is_barred(address.parse().unwrap(), lenient)
    }

    #[test]
    fn near_addresses_are_asked_with_the_flag_alone() {
        for address in [
            "127.0.0.1",
            "127.255.255.254",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "2002:7f00:1::",
            "169.254.0.1",
            "::ffff:169.254.0.1",
            "fe80::1",
            "febf::1",
        ] {
            assert!(barred(address, false), "{address}");
            assert!(!barred(address, true), "{address} with the flag");
        }
    }

    #[test]
    fn metadata_and_addresses_of_no_single_machine_are_never_asked() {
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "::ffff:100.100.100.200",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::ffff:0.0.0.0",
            "224.0.0.1",
            "239.255.255.255",
            "ff02::1",
            "::ffff:224.0.0.1",
            "255.255.255.255",
            "::ffff:255.255.255.255",
        ] {
            assert!(barred(address, false), "{address}");
            assert!(barred(address, true), "{address} with the flag");
        }
    }

    #[test]
    fn other_addresses_are_asked() {
        for address in [
            "192.0.2.1",
            "10.96.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.100.100.201",
            "169.253.255.255",
            "2001:db8::1",
            "fd00::1",
            "fec0::1",
            "64:ff9b::192.0.2.1",
        ] {
            assert!(!barred(address, false), "{address}");
        }
    }
}
