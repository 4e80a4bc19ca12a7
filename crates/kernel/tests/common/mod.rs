//! Namespaces that exist only as descriptors of this process, and other programs' view of them.
#![allow(dead_code)]
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::{Duration, Instant};

use malha_kernel::NetNs;

pub fn new_netns() -> NetNs {
    NetNs::create().expect("these tests need root: cannot make a network namespace")
}

/// A path that names the namespace to other programs.
pub fn path(netns: &NetNs) -> String {
    format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        netns.as_fd().as_raw_fd()
    )
}

/// Run a shell script inside; it has to succeed.
pub fn sh(netns: &NetNs, script: &str) -> String {
    let output = Command::new("nsenter")
        .arg(format!("--net={}", path(netns)))
        .args(["sh", "-ec", script])
        .output()
        .expect("nsenter runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{script}\n{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Every word of a listing, so that white space does not matter.
pub fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Poll until it holds, at most ten seconds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
