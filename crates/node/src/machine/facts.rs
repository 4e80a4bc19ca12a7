//! What the machine is, read from the kernel.

use std::{fs, net::IpAddr, path::Path};

use super::object::{Facts, Pressure};
use crate::Config;

/// Below this much available memory the node is under pressure (kubelet's eviction threshold), in bytes.
const MIN_MEMORY: u64 = 100 << 20;
/// Below a tenth of the disk, but not above this many bytes: nothing here pulls images.
const MIN_DISK: u64 = 1 << 30;
/// Process numbers left below which the node is under pressure.
const MIN_PIDS: u64 = 1_000;

/// Reads it.
pub fn read(config: &Config) -> Facts {
    let text = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let uname = nix::sys::utsname::uname().ok();
    let uname = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        uname
            .as_ref()
            .map(|u| part(u).to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let (disk, _) = disk(&config.root_dir);
    let (processors, memory) = capacity();
    Facts {
        name: config.node_name.clone(),
        hostname: uname(|u| u.nodename()),
        addresses: addresses(&config.node_ips),
        port: config.port,
        architecture: architecture(&uname(|u| u.machine())),
        kernel: uname(|u| u.release()),
        os_image: os_image(&text("/etc/os-release")),
        machine_id: text("/etc/machine-id"),
        system_uuid: text("/sys/class/dmi/id/product_uuid"),
        boot_id: text("/proc/sys/kernel/random/boot_id"),
        processors,
        memory,
        disk,
    }
}

/// Processors, and bytes of memory.
pub fn capacity() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    (processors as u64, meminfo(&text, "MemTotal"))
}

/// What is scarce.
pub fn pressure(root: &Path) -> Pressure {
    let available = meminfo(
        &fs::read_to_string("/proc/meminfo").unwrap_or_default(),
        "MemAvailable",
    );
    let (total, free) = disk(root);
    let loadavg = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let max = fs::read_to_string("/proc/sys/kernel/pid_max")
        .ok()
        .and_then(|t| t.trim().parse().ok());
    Pressure {
        memory: available < MIN_MEMORY,
        disk: free < MIN_DISK.min(total / 10),
        pids: max.is_some_and(|max: u64| max.saturating_sub(threads(&loadavg)) < MIN_PIDS),
    }
}

/// The first address of each family, in the order given.
fn addresses(given: &[IpAddr]) -> Vec<IpAddr> {
    let mut kept: Vec<IpAddr> = Vec::new();
    for ip in given {
        if !kept.iter().any(|k| k.is_ipv4() == ip.is_ipv4()) {
            kept.push(*ip);
        }
    }
    kept
}

/// Go's names, which Kubernetes uses.
fn architecture(machine: &str) -> String {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i686" | "i586" | "i386" => "386",
        other if other.starts_with("arm") => "arm",
        other => other,
    }
    .to_owned()
}

fn os_image(os_release: &str) -> String {
    let line = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or("Linux", |name| name.trim_matches('"'))
        .to_owned()
}

/// Bytes.
fn meminfo(text: &str, key: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Total and available bytes.
fn disk(path: &Path) -> (u64, u64) {
    match rustix::fs::statvfs(path) {
        Ok(stat) => (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize),
        Err(_) => (0, u64::MAX),
    }
}

/// `0.20 0.18 0.12 1/80 11206`: 80 threads.
fn threads(loadavg: &str) -> u64 {
    let field = loadavg
        .split_whitespace()
        .nth(3)
        .and_then(|f| f.split_once('/'));
    field.and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_understood() {
        assert_eq!(
            meminfo("MemTotal:  10 kB\nMemAvailable: 4 kB\n", "MemAvailable"),
            4096
        );
        assert_eq!(meminfo("", "MemTotal"), 0);
        assert_eq!(threads("0.20 0.18 0.12 1/80 11206"), 80);
        assert_eq!(
            os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(architecture("x86_64"), "amd64");
        let ips: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2", "fd00::1"]
            .map(|t| t.parse().unwrap())
            .to_vec();
        assert_eq!(addresses(&ips), [ips[0], ips[2]]);
    }
}
