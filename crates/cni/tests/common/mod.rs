//! Namespaces that exist only as descriptors of this process, and plugins that are shell scripts.
#![allow(dead_code)]

use std::{
    fs::{self, File},
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use malha_cni::{
    runtime::{Attachment, Options, Runtime},
    types::{Args, AttachmentId, NetworkList},
    wire::{Answer, Request, Server},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};
use serde_json::{Map, Value};
use tempfile::TempDir;

/// A network namespace. When it is dropped it is gone, with everything in it.
pub struct Namespace {
    file: File,
}

impl Namespace {
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("these tests need root: cannot make a network namespace");
            File::open("/proc/thread-self/ns/net").expect("the namespace")
        };
        Self {
            file: std::thread::spawn(make).join().expect("a thread"),
        }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// A path that names the namespace to other processes.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs a closure, and the programs it starts, inside, with a `/run` of its own.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            unshare(CloneFlags::CLONE_NEWNS).expect("own mounts");
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("own mounts");
            mount(
                Some("run"),
                "/run",
                Some("tmpfs"),
                MsFlags::empty(),
                None::<&str>,
            )
            .expect("an own /run");
            act()
        };
        std::thread::scope(|scope| {
            let panicked = |panic| std::panic::resume_unwind(panic);
            scope.spawn(inside).join().unwrap_or_else(panicked)
        })
    }

    /// Runs a shell script inside; it has to succeed.
    pub fn sh(&self, script: &str) -> String {
        self.enter(|| sh(script))
    }
}

/// Runs a shell script; it has to succeed.
pub fn sh(script: &str) -> String {
    let output = Command::new("sh")
        .args(["-ec", script])
        .output()
        .expect("sh");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{script}\n{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Waits for a condition.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A directory with plugins, a cache and a log of calls.
pub struct Bench {
    pub dir: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("bin")).expect("a directory");
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A plugin that notes each call (`verb plugin container ifname netns args` and its input) and then does `body`.
    pub fn plugin(&self, name: &str, body: &str) {
        let log = self.path("log");
        let text = format!(
            "#!/bin/sh\nDIR={dir}\nIN=$(cat)\n\
             echo \"$CNI_COMMAND {name} $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS $CNI_ARGS\" >> {log}\n\
             printf '%s\\n' \"$IN\" >> {log}.$CNI_COMMAND.{name}\n{body}\n",
            log = log.display(),
            dir = self.dir.path().display(),
        );
        self.binary(name, &text);
    }

    /// A plugin that is just this text.
    pub fn binary(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, text).expect("a plugin");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    pub fn runtime(&self, limit: Duration) -> Runtime {
        Runtime::new(Options {
            bin_dirs: vec![self.path("nothing-here"), self.path("bin")],
            cache_dir: self.path("cache"),
            limit,
        })
    }

    /// The calls so far, verb and plugin, and forgets them.
    pub fn calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let _ = fs::remove_file(self.path("log"));
        log.lines()
            .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
            .collect()
    }

    /// The last input of a call.
    pub fn input(&self, verb: &str, plugin: &str) -> Value {
        let all =
            fs::read_to_string(self.path(&format!("log.{verb}.{plugin}"))).expect("it was called");
        serde_json::from_str(all.lines().last().expect("a line")).expect("JSON")
    }

    /// The names of the records.
    pub fn records(&self) -> Vec<String> {
        names(&self.path("cache"))
    }
}

/// The sorted names in a directory.
pub fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

pub fn id(container: &str) -> AttachmentId {
    AttachmentId {
        container_id: container.into(),
        ifname: "eth0".into(),
    }
}

pub fn attachment(container: &str, netns: Option<PathBuf>) -> Attachment {
    Attachment {
        id: id(container),
        netns,
        args: Args::default(),
        capabilities: Map::new(),
    }
}

/// A list of the network `net` with these plugins.
pub fn list(version: &str, plugins: &Value) -> NetworkList {
    let text = format!(r#"{{"cniVersion":"{version}","name":"net","plugins":{plugins}}}"#);
    NetworkList::parse(text.as_bytes()).expect("a list")
}

/// An agent on `socket` while `act` runs.
pub fn serving<T>(
    socket: &Path,
    handle: impl Fn(Request) -> Answer + Send + Sync,
    act: impl FnOnce() -> T,
) -> T {
    let server = Server::bind(socket).expect("a socket");
    let stopper = server.stopper();
    std::thread::scope(|scope| {
        let served = scope.spawn(|| server.serve(handle));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        stopper.stop();
        served.join().expect("a thread").expect("served");
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
