//! A host: namespaces over an overlay of this machine's root.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{binaries, janitor::Janitor, network::Switch};

/// Makes control groups of its own, namespaces, and a root.
const START: &str = include_str!("start.sh");
const LIMIT: Duration = Duration::from_secs(60);
/// The containers' directory of `PATH` in a host.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A host. Everything on it ends when it is dropped, and its files go.
pub struct Host {
    /// What it is called.
    pub name: String,
    /// Its address.
    pub address: String,
    holder: Child,
    /// PID 1 of the host, as this machine counts.
    pid: u32,
    /// Dropped last, and so at work when nothing runs here any more.
    _janitor: Janitor,
}

/// A program that takes the arguments of `kubeadm join`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joiner {
    /// The real one.
    Kubeadm,
    /// `malha` at this path.
    Malha(PathBuf),
}

impl Joiner {
    /// The program.
    pub fn program(&self) -> &Path {
        match self {
            Joiner::Kubeadm => Path::new("kubeadm"),
            Joiner::Malha(program) => program,
        }
    }
}

impl Host {
    /// Starts a host.
    ///
    /// # Errors
    /// When this machine does not allow it: it takes root and util-linux.
    pub fn start(switch: &Switch, name: &str, address: &str) -> Result<Self> {
        // Not in /tmp, which may be memory: containers' images go here.
        let directory = tempfile::Builder::new()
            .prefix(&format!("malha-peer-{}-", std::process::id()))
            .tempdir_in("/var/tmp")
            .context("cannot make a directory in /var/tmp")?
            .keep();
        let group = format!("malha-peer-{}-{name}", std::process::id());
        let janitor = Janitor::new(&group, &directory)?;
        let mut holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "sh", "-c", START, "start"])
            .args([directory.as_os_str(), group.as_ref(), name.as_ref()])
            .env("HOSTS", format!("127.0.0.1 localhost\n{address} {name}\n"))
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run setpriv (util-linux)")?;
        let told = wait_for_line(&mut holder, name);
        let pid = told.and_then(|_| child_of(holder.id()));
        let host = Self {
            name: name.to_owned(),
            address: address.to_owned(),
            pid: *pid.as_ref().unwrap_or(&0),
            holder,
            _janitor: janitor,
        };
        switch.connect(pid?, address)?;
        Ok(host)
    }

    /// A file of the host, seen from outside. Only for what is on its overlay: not for `/run`.
    pub fn path(&self, absolute: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{absolute}", self.pid))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, absolute: &str) -> Result<String> {
        fs::read_to_string(self.path(absolute))
            .with_context(|| format!("{}: {absolute}", self.name))
    }

    /// Writes a file and makes its directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, absolute: &str, text: &str) -> Result<()> {
        let path = self.path(absolute);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text).with_context(|| format!("{}: {absolute}", self.name))
    }

    /// A command on the host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let binaries = binaries().unwrap_or_default();
        command
            .args(["--target", &self.pid.to_string(), "--all", "--"])
            .args(["env", "-i", "-C", "/", "HOME=/root"])
            .arg(format!("PATH={}:{PATH}", binaries.display()));
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// Runs a script on the host; returns what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn shell(&self, script: &str) -> Result<String> {
        let output = self.output("sh", &["-ec", script])?;
        ensure!(
            output.status.success(),
            "{}: {script} failed: {}{}",
            self.name,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command on the host.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output(
        &self,
        program: impl AsRef<std::ffi::OsStr>,
        arguments: &[&str],
    ) -> Result<Output> {
        let mut command = self.command(program);
        command.args(arguments);
        command
            .output()
            .with_context(|| format!("cannot run {command:?}"))
    }

    /// Starts something that runs until the host ends, with its log in `/var/log/NAME.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn background(&self, name: &str, command_line: &[String]) -> Result<()> {
        let script = format!("exec setsid \"$@\" >/var/log/{name}.log 2>&1 </dev/null & echo");
        let mut command = self.command("sh");
        command.args(["-c", &script, "sh"]).args(command_line);
        crate::network::run(&mut command).with_context(|| format!("cannot start {name}"))
    }

    /// Starts containerd, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_containerd(&self) -> Result<()> {
        self.write("/etc/containerd/config.toml", CONTAINERD)?;
        let line = ["containerd", "-c", "/etc/containerd/config.toml"].map(str::to_owned);
        self.background("containerd", &line)?;
        self.until("containerd answers", || {
            Ok(self.output("ctr", &["version"])?.status.success())
        })
    }

    /// Stands in for systemd: the kubelet starts as soon as its configuration is there, and `/run/kubelet-started` says
    /// when, in seconds since 1970.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn watch_kubelet(&self) -> Result<()> {
        let script = "until [ -s /var/lib/kubelet/config.yaml ] && [ -s /var/lib/kubelet/kubeadm-flags.env ] && \
            { [ -s /etc/kubernetes/kubelet.conf ] || [ -s /etc/kubernetes/bootstrap-kubelet.conf ]; }; do sleep .05; done; \
            . /var/lib/kubelet/kubeadm-flags.env; . /etc/default/kubelet; date +%s.%N >/run/kubelet-started; \
            exec kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
            --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml \
            $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS";
        self.background("kubelet", &["sh", "-c", script].map(str::to_owned))
    }

    /// Ends the kubelet and takes away all that a join left, so that the host can join again.
    ///
    /// # Errors
    /// When something stays.
    pub fn forget(&self) -> Result<()> {
        self.shell(
            "pkill -x kubelet || :; pkill -f '[k]ubelet/config.yaml' || :; while pgrep -x kubelet >/dev/null; do sleep .05; done; \
             for m in $(awk '$5 ~ \"^/var/lib/kubelet/\" {print $5}' /proc/self/mountinfo); do umount -l $m; done; \
             rm -rf /etc/kubernetes /var/lib/kubelet/* /run/malha /var/log/malha /run/kubelet-started",
        )?;
        Ok(())
    }

    /// Waits until something holds.
    ///
    /// # Errors
    /// When it does not within a minute, or cannot be found out.
    pub fn until(&self, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !holds()? {
            ensure!(
                Instant::now() < deadline,
                "{}: not within {} s: {what}",
                self.name,
                LIMIT.as_secs()
            );
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // PID 1 of the host: the kernel ends all others with it.
        if self.pid != 0 {
            let _ = Command::new("kill")
                .args(["-KILL", &self.pid.to_string()])
                .status();
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// containerd as Debian has it, on an overlay (so without one of its own), where root may lack `CAP_SYS_RESOURCE`.
const CONTAINERD: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
"#;

/// Waits for the first line of a process that tells when it is ready.
pub fn wait_for_line(child: &mut Child, what: &str) -> Result<String> {
    let stdout = child.stdout.take().context("no standard output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim() != "ready" {
        bail!("{what} did not start: see above (this takes root)");
    }
    Ok(line)
}

fn child_of(pid: u32) -> Result<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let first = children
        .split_whitespace()
        .next()
        .context("the host has no process")?;
    Ok(first.parse()?)
}
