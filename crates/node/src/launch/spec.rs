//! What the launcher is told about a container, and what it says of it: files of the container's bundle directory.
//!
//! | file | written by | holds |
//! |---|---|---|
//! | `spec.json` | agent | [`Spec`] |
//! | `started.json` | shim | [`Started`], once the container's program runs |
//! | `exit.json` | shim | [`Exit`], once it has ended and its output is written |
//! | `attach.sock` | shim | where [`attach`](super::attach) connects |
//! | `shim.log` | shim | what a shim could not tell anybody else |

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// File of the [`Spec`].
pub const SPEC: &str = "spec.json";
/// File of [`Started`].
pub const STARTED: &str = "started.json";
/// File of [`Exit`].
pub const EXIT: &str = "exit.json";
/// Directory on which the container's root is put together.
pub const ROOT: &str = "rootfs";

/// One container in terms of the kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: PathBuf,
    /// What the root consists of.
    pub root: Root,
    /// Whether the root cannot be written to.
    pub read_only_root: bool,
    /// Volumes and files, mounted in this order.
    pub mounts: Vec<Mount>,
    /// Which namespaces it shares.
    pub namespaces: Namespaces,
    /// Who it runs as.
    pub user: User,
    /// What it may do.
    pub privileges: Privileges,
    /// Its cgroup in every hierarchy.
    pub cgroups: Vec<PathBuf>,
    /// The cgroup of shims in every hierarchy: neither the container's limits nor the agent's end reach them there.
    pub shim_cgroups: Vec<PathBuf>,
    /// -1000 … 1000, who goes first when memory runs out.
    pub oom_score_adj: i32,
    /// Standard input and terminal.
    pub stdio: Stdio,
    /// Where its output goes.
    pub log: Log,
}

/// What a container's root consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// Nothing but these programs in /usr/bin and the few files programs expect.
    Programs(Vec<PathBuf>),
    /// The host's root, read-only, without its running state.
    Host {
        /// Directories that appear empty: what is the host's secret.
        hidden: Vec<PathBuf>,
    },
}

/// One volume or file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: PathBuf,
    /// Whether the container cannot write there.
    pub read_only: bool,
    /// Whether mounts made later are seen across.
    pub propagation: Propagation,
}

/// Kubernetes' `mountPropagation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// In neither direction.
    #[default]
    None,
    /// What the host mounts later appears in the container.
    HostToContainer,
    /// And the other way round.
    Bidirectional,
}

/// Namespaces; absent means the host's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Namespaces {
    /// File of the network namespace.
    pub net: Option<PathBuf>,
    /// File of the IPC namespace.
    pub ipc: Option<PathBuf>,
    /// File of the UTS namespace.
    pub uts: Option<PathBuf>,
    /// Process numbers.
    pub pid: PidNamespace,
}

/// Whose processes a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidNamespace {
    /// Its own.
    #[default]
    Own,
    /// The host's.
    Host,
    /// Those of the pod: the namespace in this file.
    Shared(PathBuf),
}

/// Who a container runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Main group.
    pub gid: u32,
    /// Other groups.
    pub groups: Vec<u32>,
}

/// What a container may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privileges {
    /// Everything: devices, /sys and /proc writable.
    pub privileged: bool,
    /// Bits of the capabilities.
    pub capabilities: u64,
    /// Whether programs with the setuid bit give nothing.
    pub no_new_privileges: bool,
}

/// Standard input and terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    /// Whether standard input is kept open for `attach`.
    pub stdin: bool,
    /// Whether it ends with the first `attach`.
    pub stdin_once: bool,
    /// Whether it is a terminal.
    pub tty: bool,
}

/// Where a container's output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The current file; older ones lie beside it.
    pub path: PathBuf,
    /// A file is put aside when it has grown to this many bytes.
    pub max_bytes: u64,
    /// How many files there are at most, the current one included.
    pub max_files: usize,
}

/// A process that cannot be confused with a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// Clock ticks between boot and its start (`/proc/PID/stat`).
    pub start_time: u64,
}

/// A container that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its first process.
    pub container: ProcessId,
    /// The shim.
    pub shim: ProcessId,
    /// When.
    pub at: Timestamp,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + number for a signal.
    pub code: i32,
    /// The signal, if it was one.
    pub signal: Option<i32>,
    /// Whether the kernel killed one of its processes for lack of memory.
    pub oom_killed: bool,
    /// When.
    pub at: Timestamp,
}

/// What a shim answers to its starter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The program runs.
    Started(Started),
    /// It does not.
    Failed(Failure),
}

/// Why a container's program could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What a shell would exit with: 127 not found, 126 not executable, else 128.
    pub code: i32,
    /// What was attempted and why it failed.
    pub message: String,
}

impl Failure {
    /// A failure in preparing the container.
    pub fn setup(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self {
            code: 128,
            message: format!("{what}: {error}"),
        }
    }
}

/// Writes a file as a whole or not at all.
///
/// # Errors
/// When the directory cannot be written to.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&bytes)?;
    drop(file);
    fs::rename(&temporary, path)
}

/// Reads a file that [`write_json`] wrote; `None` when it does not exist.
///
/// # Errors
/// When it cannot be read or understood.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
