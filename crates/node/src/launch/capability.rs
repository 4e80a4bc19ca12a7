//! Capabilities by the names that Kubernetes uses (`NET_ADMIN`, without `CAP_`).

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

/// In the kernel's order: a name's place is its bit.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container may do unless told otherwise: containerd's set without `MKNOD`. Nothing but that capability keeps a
/// root user from the machine's disks here, because there is no device cgroup.
const DEFAULT: [&str; 13] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Every capability there is.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// The default with `add` added and `drop` dropped; `ALL` stands for all of them, and what is named wins over it.
///
/// # Errors
/// A name that is no capability.
pub fn resolve(add: &[String], drop: &[String]) -> Result<u64, String> {
    let default = DEFAULT
        .iter()
        .filter_map(|name| bit(name))
        .fold(0, |all, bit| all | bit);
    let is_all = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case("ALL"));
    let mut set = match (is_all(drop), is_all(add)) {
        (_, true) => ALL,
        (true, false) => 0,
        (false, false) => default,
    };
    let named = |names: &[String]| -> Result<u64, String> {
        let named = names.iter().filter(|n| !n.eq_ignore_ascii_case("ALL"));
        named
            .map(|name| bit(name).ok_or_else(|| format!("unknown capability {name:?}")))
            .try_fold(0, |all, bit| bit.map(|bit| all | bit))
    };
    set |= named(add)?;
    set &= !named(drop)?;
    Ok(set)
}

fn bit(name: &str) -> Option<u64> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    NAMES
        .iter()
        .position(|n| *n == name)
        .map(|place| 1 << place)
}

/// Gives up every capability that is not in `set`, for this process and all it starts.
///
/// # Errors
/// Without the right to change them.
pub fn bound(set: u64) -> io::Result<()> {
    for place in 0..NAMES.len() {
        let one = CapabilitySet::from_bits_retain(1 << place);
        if set & one.bits() == 0 {
            match rustix::thread::remove_capability_from_bounding_set(one) {
                // The kernel is older than the capability.
                Err(rustix::io::Errno::INVAL) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// Sets the capabilities of this thread. For a user that is not root they end with the next program, as everywhere.
///
/// # Errors
/// When `set` has more than the thread has.
pub fn apply(set: u64) -> io::Result<()> {
    let set = CapabilitySet::from_bits_retain(set) & rustix::thread::capabilities(None)?.permitted;
    let sets = CapabilitySets {
        effective: set,
        permitted: set,
        inheritable: CapabilitySet::empty(),
    };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn names_resolve_to_bits() {
        let resolve = |add: &[&str], drop: &[&str]| resolve(&names(add), &names(drop));
        assert_eq!(resolve(&["NET_ADMIN"], &["ALL"]), Ok(1 << 12));
        assert_eq!(resolve(&["cap_net_admin"], &["all"]), Ok(1 << 12));
        assert_eq!(resolve(&["ALL"], &[]), Ok(ALL));
        assert_eq!(resolve(&["ALL"], &["CHOWN"]), Ok(ALL & !1));
        let default = resolve(&[], &[]).unwrap();
        assert_eq!(default & (1 << 27), 0, "MKNOD is not a default");
        assert_ne!(default & (1 << 13), 0, "NET_RAW is");
        assert_eq!(resolve(&[], &["NET_RAW"]), Ok(default & !(1 << 13)));
        assert_eq!(
            resolve(&["FLY"], &[]),
            Err("unknown capability \"FLY\"".to_owned())
        );
    }
}
