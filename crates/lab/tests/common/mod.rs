//! A lab brought up by the program under test, and the tools to look into it.
#![allow(dead_code, reason = "every test uses a part")]

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long anything may take that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A lab, until it is dropped.
pub struct Lab {
    /// What `malha lab up` printed.
    pub story: String,
}

impl Lab {
    /// Brings one up. The lab's own story has to end well.
    pub fn up(arguments: &[&str]) -> Self {
        run(malha().args(["lab", "down"]));
        let story = run(malha().args(["lab", "up"]).args(arguments));
        Self { story }
    }

    /// Runs a command on a machine; it has to succeed.
    pub fn on(&self, machine: &str, command: &[&str]) -> String {
        run(&mut self.command(machine, command))
    }

    /// Runs a shell script on a machine; it has to succeed.
    pub fn sh(&self, machine: &str, script: &str) -> String {
        self.on(machine, &["sh", "-ec", script])
    }

    /// A command on a machine, not run yet.
    pub fn command(&self, machine: &str, command: &[&str]) -> Command {
        let mut exec = malha();
        exec.args(["lab", "exec", machine, "--"]).args(command);
        exec
    }

    /// Runs Debian's kubectl on the host; it has to succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        run(&mut self.kubectl_command(arguments))
    }

    /// Debian's kubectl on the host, not run yet.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut kubectl = Command::new(kubectl());
        kubectl
            .env("KUBECONFIG", "/var/lib/malha-lab/kubeconfig")
            .args(arguments);
        kubectl
    }

    /// Applies a manifest with kubectl.
    pub fn apply(&self, manifest: &str) -> String {
        use std::io::Write;
        let mut child = self
            .kubectl_command(&["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(manifest.as_bytes())
            .unwrap();
        text("kubectl apply", child.wait_with_output().unwrap())
    }

    /// One object as JSON.
    pub fn get(&self, resource: &str, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", resource, name, "-o", "json"])).unwrap()
    }

    /// A pod's address of a family.
    pub fn pod_ip(&self, pod: &str, six: bool) -> String {
        let pod = self.get("pod", pod);
        let addresses = pod["status"]["podIPs"].as_array().unwrap();
        let mut all = addresses.iter().map(|entry| entry["ip"].as_str().unwrap());
        all.find(|ip| ip.contains(':') == six).unwrap().to_owned()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A test that fails leaves its lab's last words; the lab itself has to go.
        if std::thread::panicking() {
            for machine in ["control", "node1", "node2"] {
                let script = "tail -n 25 /var/log/malha/*.log";
                let tail = self.command(machine, &["sh", "-c", script]).output();
                eprintln!(
                    "--- {machine}\n{}",
                    tail.map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
                        .unwrap_or_default()
                );
            }
        }
        let _ = malha().args(["lab", "down"]).output();
    }
}

/// The program under test.
pub fn malha() -> Command {
    let directory = std::env::var("MALHA_BINARIES")
        .expect("MALHA_BINARIES has to name the directory of the release programs: run make tier3");
    Command::new(PathBuf::from(directory).join("malha"))
}

/// Debian's kubectl, unpacked aside.
fn kubectl() -> PathBuf {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/unpack-package");
    let directory = run(Command::new(tool).arg("kubernetes-client"));
    PathBuf::from(directory.trim()).join("usr/bin/kubectl")
}

/// Runs a command that has to succeed; its output.
pub fn run(command: &mut Command) -> String {
    let what = format!("{command:?}");
    text(
        &what,
        command
            .output()
            .unwrap_or_else(|error| panic!("{what}: {error}")),
    )
}

fn text(what: &str, output: Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success(), "{what}\n{out}\n{err}");
    out
}

/// Waits until something is so.
pub fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(
            begun.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
