//! What `init` has to know of the machine to fill in what the user left out.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

/// Facts about the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name, in lower case.
    pub hostname: String,
    /// The address it speaks from towards the rest of the world.
    pub default_address: Option<IpAddr>,
    /// Whether the kernel has IPv6 and has it switched on.
    pub ipv6: bool,
}

impl Facts {
    /// Looks at this machine.
    pub fn gather() -> Self {
        let hostname = nix::unistd::gethostname().unwrap_or_default();
        Self {
            hostname: hostname.to_string_lossy().to_ascii_lowercase(),
            default_address: default_address(),
            ipv6: has_ipv6(),
        }
    }
}

/// Asks the routing table by connecting a UDP socket, which sends nothing. The addresses are for documentation
/// (RFC 5737, RFC 3849), so that only a default route leads there.
fn default_address() -> Option<IpAddr> {
    let targets: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), [192, 0, 2, 1].into()),
        (
            Ipv6Addr::UNSPECIFIED.into(),
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
        ),
    ];
    targets.iter().find_map(|(any, target)| {
        let socket = UdpSocket::bind(SocketAddr::new(*any, 0)).ok()?;
        socket.connect(SocketAddr::new(*target, 9)).ok()?;
        let own = socket.local_addr().ok()?.ip();
        (!own.is_unspecified() && !own.is_loopback()).then_some(own)
    })
}

fn has_ipv6() -> bool {
    fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6")
        .is_ok_and(|text| text.trim() == "0")
}
