//! The agent as a process: this test binary once more.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use malha_agent::{Cluster, Config, Paths};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::api;
use super::net::Namespace;

const VARIABLE: &str = "MALHA_TEST_AGENT";

/// What the process is told.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    pub node: String,
    pub directory: PathBuf,
    pub api: PathBuf,
    pub plugin: PathBuf,
    pub routing: String,
    pub mtu: u32,
    pub masquerade: bool,
}

impl Settings {
    pub fn paths(&self) -> Paths {
        let file = |name: &str| self.directory.join(name);
        Paths {
            run: file("run"),
            cni_socket: file("run/cni.sock"),
            api_socket: file("run/agent.sock"),
            state: file("run/state"),
            cni_conf: file("net.d"),
            cni_bin: file("bin"),
            plugin: Some(self.plugin.clone()),
            pins: file("bpf/malha"),
            kubelet_conf: file("kubelet.conf"),
        }
    }
}

/// What `agent_process` does when it was started as an agent; nothing in an ordinary run of the tests.
pub fn run() {
    let Ok(text) = std::env::var(VARIABLE) else {
        return;
    };
    let settings: Settings = serde_json::from_str(&text).unwrap();
    let filter = tracing_subscriber::EnvFilter::new("info,malha_agent=debug");
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let mut config = Config::new(&settings.node);
    config.routing = settings.routing.parse().unwrap();
    config.mtu = settings.mtu;
    config.masquerade = settings.masquerade;
    config.paths = settings.paths();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let result = runtime.block_on(async {
        let mut end = signal(SignalKind::terminate()).unwrap();
        let cluster = Cluster::Client(api::client(settings.api));
        malha_agent::run(config, cluster, async move {
            end.recv().await;
        })
        .await
    });
    if let Err(error) = result {
        eprintln!("malha: {error:#}");
        std::process::exit(1);
    }
}

/// A running agent; killed when dropped.
pub struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    pub fn start(namespace: &Namespace, settings: &Settings) -> Self {
        Self::start_as(namespace, settings, None)
    }

    /// As another user.
    pub fn start_as(namespace: &Namespace, settings: &Settings, user: Option<u32>) -> Self {
        let log = settings.directory.join("agent.log");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let program = std::env::current_exe().unwrap();
        let program = program.to_str().unwrap();
        let mut command: Command = match user {
            None => namespace.command(program),
            Some(user) => {
                let mut command = namespace.command("setpriv");
                command
                    .arg(format!("--reuid={user}"))
                    .arg("--clear-groups")
                    .arg(program);
                command
            }
        };
        command
            .args([
                "--exact",
                "agent_process",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(VARIABLE, serde_json::to_string(settings).unwrap())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        Self {
            child: command.spawn().unwrap(),
            log,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As on a machine that is too busy.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// As a crash.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As its pod's deletion; it has to end well.
    pub fn terminate(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Wait for its end; the exit was no success. What it said.
    pub fn failure(mut self) -> String {
        let status = self.child.wait().unwrap();
        assert!(!status.success(), "{}", self.log());
        self.log()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// The plugin, built if it is not there or older than its sources.
pub fn plugin() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile: &Path = test.parent().and_then(Path::parent).unwrap();
    let plugin = profile.join("malha-cni");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap();
    let sources = [
        "programs/malha-cni/src",
        "crates/cni/src",
        "crates/core/src",
    ];
    let newest = sources
        .iter()
        .filter_map(|directory| newest(&root.join(directory)))
        .max();
    if std::fs::metadata(&plugin)
        .and_then(|built| built.modified())
        .ok()
        < newest
    {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "malha-plugin"])
            .current_dir(root)
            .status()
            .expect("run cargo");
        assert!(
            built.success(),
            "the plugin must build: cargo build -p malha-plugin"
        );
    }
    plugin
}

/// When anything in a directory was last changed.
fn newest(directory: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(directory).ok()?.flatten();
    let times = entries.filter_map(|entry| match entry.file_type().ok()?.is_dir() {
        true => newest(&entry.path()),
        false => entry.metadata().ok()?.modified().ok(),
    });
    times.max()
}
