//! What the tests on a real control plane share.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use malha_peer::{ControlPlane, Host, Joiner};

/// The program under test.
pub fn malha() -> Joiner {
    let directory = std::env::var_os("MALHA_BINARIES").expect(
        "MALHA_BINARIES is not set: it is the directory of the program malha (make e2e-kubernetes sets it)",
    );
    let program = PathBuf::from(directory).join("malha");
    assert!(program.is_file(), "{} is missing", program.display());
    Joiner::Malha(program)
}

pub fn control_plane() -> ControlPlane {
    ControlPlane::start().expect("a control plane made by kubeadm")
}

/// A host with a container runtime; its kubelet starts as soon as it is configured, or when the program starts it.
pub fn host(control_plane: &ControlPlane, number: u8, supervised: bool) -> Host {
    let host = control_plane.host(number).expect("a host");
    host.start_containerd().expect("a container runtime");
    if supervised {
        host.watch_kubelet().expect("a supervisor");
    }
    host
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub success: bool,
    pub took: Duration,
    pub out: String,
    pub err: String,
}

impl Outcome {
    pub fn of(mut command: Command) -> Self {
        let begun = Instant::now();
        let output = command.output().expect("it can be started");
        Self {
            success: output.status.success(),
            took: begun.elapsed(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What it printed; it has to have succeeded.
    pub fn ok(self) -> String {
        assert!(self.success, "{}\n{}", self.out, self.err);
        self.out
    }

    /// The line that says why it failed: the only one that is no warning.
    pub fn reason(&self) -> &str {
        assert!(!self.success, "it succeeded: {}", self.out);
        let lines: Vec<&str> = self.err.lines().filter(|l| !l.starts_with('[')).collect();
        let [line] = lines.as_slice() else {
            panic!("not one line: {}", self.err)
        };
        line.strip_prefix("malha: ").expect("it says who speaks")
    }
}

/// Joins with `malha` or `kubeadm`. What kubeadm 1.20 wants of a host that these do not have is ignored: crictl, systemd.
pub fn join(control_plane: &ControlPlane, host: &Host, joiner: &Joiner, more: &[&str]) -> String {
    let mut more = more.to_vec();
    if *joiner == Joiner::Kubeadm {
        more.push("--ignore-preflight-errors=all");
    }
    Outcome::of(control_plane.join(host, joiner, &more)).ok()
}

/// A command of `malha` or `kubeadm`, with words of the test's own.
pub fn say(host: &Host, joiner: &Joiner, words: &[&str]) -> Outcome {
    let mut command = host.command(joiner.program());
    command.args(words);
    Outcome::of(command)
}
