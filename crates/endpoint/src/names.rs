//! What is derived rather than chosen: names, MAC addresses, gateways.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use malha_kernel::Mac;

use crate::attachment::Key;

/// Every pod's IPv4 gateway: on its link, a permanent neighbour, nobody's address.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Every pod's IPv6 gateway.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// MAC address of the node's end of every link: that of [`GATEWAY_V4`]. The same for all, so it never changes.
pub(crate) const HOST_MAC: Mac = [0x0a, 0x58, 169, 254, 1, 1];

const PREFIX: &str = "mlh";
const HASH_DIGITS: usize = 12;

/// The gateway of a pod with this address.
#[must_use]
pub fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => GATEWAY_V4.into(),
        IpAddr::V6(_) => GATEWAY_V6.into(),
    }
}

pub(crate) fn everything(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => Ipv4Net::default().into(),
        IpAddr::V6(_) => Ipv6Net::default().into(),
    }
}

/// The name of the node's end of an attachment's link: `mlh` and 12 hexadecimal digits, of a hash that no version may
/// change. Who finds such a link and no record of it may delete it.
#[must_use]
pub fn link_name(key: &Key) -> String {
    let hash = fnv(key
        .container_id
        .bytes()
        .chain([0])
        .chain(key.ifname.bytes()));
    format!("{PREFIX}{:012x}", hash >> (64 - 4 * HASH_DIGITS))
}

/// Whether a name is one that [`link_name`] gives.
#[must_use]
pub fn is_link_name(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|digits| {
        digits.len() == HASH_DIGITS
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The MAC address of a pod with these addresses: `0a:58` and the IPv4 address, or the last four bytes of the IPv6
/// address. An address that is used again brings its MAC address along, so no neighbour's memory of it is wrong.
#[must_use]
pub fn pod_mac(addresses: &[IpAddr]) -> Mac {
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    let [a, b, c, d] = match v4.or(addresses.first()) {
        Some(IpAddr::V4(address)) => address.octets(),
        Some(IpAddr::V6(address)) => {
            let [.., a, b, c, d] = address.octets();
            [a, b, c, d]
        }
        None => [0; 4],
    };
    [0x0a, 0x58, a, b, c, d]
}

/// FNV-1a, and a last mix so that its high bits are as good as its low ones. No two texts of one length that differ in
/// a single byte have the same.
pub(crate) fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fixed_fit_and_are_recognised() {
        let name = link_name(&Key::new("4f6c1d", "eth0"));
        assert_eq!(name, link_name(&Key::new("4f6c1d", "eth0")));
        assert!(name.len() == 15 && is_link_name(&name), "{name}");
        // The boundary between the two parts counts.
        assert_ne!(link_name(&Key::new("4f6c1de", "th0")), name);
        for other in [
            "mlh",
            "mlh12345678901",
            "mlhX23456789012",
            "eth0",
            "mlh1234567890123",
        ] {
            assert!(!is_link_name(other), "{other}");
        }
    }

    #[test]
    fn the_mac_address_follows_the_address() {
        let [four, six]: [IpAddr; 2] = [
            "10.244.1.7".parse().unwrap(),
            "fd00:244:1::1:2".parse().unwrap(),
        ];
        assert_eq!(pod_mac(&[six, four]), [0x0a, 0x58, 10, 244, 1, 7]);
        assert_eq!(pod_mac(&[six]), [0x0a, 0x58, 0, 1, 0, 2]);
    }
}
