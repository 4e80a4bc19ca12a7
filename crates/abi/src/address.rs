//! One address type for both families: 16 bytes in network order, IPv4 mapped into `::ffff:0:0/96`.
use core::net::{IpAddr, Ipv6Addr};

/// An IP address as the maps hold it. Four words, so that the kernel side compares and copies it without loops.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The sixteen bytes, four at a time, in network order as they lie in memory.
    pub words: [u32; 4],
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        let six = match address {
            IpAddr::V4(four) => four.to_ipv6_mapped(),
            IpAddr::V6(six) => six,
        };
        let bytes = six.octets();
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
        Self { words }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        let mut bytes = [0; 16];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(address.words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        Ipv6Addr::from(bytes).to_canonical()
    }
}
