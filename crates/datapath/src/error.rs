//! What can go wrong, said so that the reader knows what to do.
use std::io;
use std::path::PathBuf;

/// An error of the datapath.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no BPF filesystem where the pins should be.
    #[error(
        "{path} is not on a BPF filesystem: mount one there (mount -t bpf bpf {path}): {source}"
    )]
    BpfFs {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it could not be mounted.
        source: io::Error,
    },
    /// A pin could not be made, opened or removed.
    #[error("cannot {what} {path}: {source}")]
    Pin {
        /// What was attempted.
        what: &'static str,
        /// The pin.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process lacks the privilege.
    #[error(
        "cannot {what}: not permitted; the datapath needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    Privilege {
        /// What was attempted.
        what: String,
    },
    /// The kernel lacks something.
    #[error(
        "this kernel ({release}) lacks {feature}, which Linux {since} has; Malha needs Linux 5.15 or newer"
    )]
    Kernel {
        /// Its release, as uname says.
        release: String,
        /// What is missing.
        feature: &'static str,
        /// The first version that has it.
        since: &'static str,
    },
    /// The programs or maps could not be loaded.
    #[error("cannot load the BPF {what}: {source}")]
    Load {
        /// Which part.
        what: String,
        /// The loader's error, with the verifier's words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The pinned maps are of another version.
    #[error(
        "the maps under {path} have layout version {found}, this program needs {wanted}: \
         drain the node, run `malha reset` (or remove {path}), and start again"
    )]
    Layout {
        /// The pin directory.
        path: PathBuf,
        /// Version found; 0 if a map's sizes do not fit any.
        found: u32,
        /// Version needed.
        wanted: u32,
    },
    /// A map takes no more entries.
    #[error("map {map} is full ({max} entries): raise its size in the configuration")]
    Full {
        /// The map.
        map: &'static str,
        /// Its size.
        max: u32,
    },
    /// A map operation failed.
    #[error("cannot {what} map {map}: {source}")]
    Map {
        /// What was attempted.
        what: &'static str,
        /// The map.
        map: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no such interface in this network namespace.
    #[error("there is no interface {name} in this network namespace")]
    NoInterface {
        /// Name or index.
        name: String,
    },
    /// A program could not be attached or detached.
    #[error("cannot {what} at interface {ifindex}: {source}")]
    Attach {
        /// What was attempted.
        what: String,
        /// The interface.
        ifindex: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Several things failed during removal; everything else was removed.
    #[error("not everything could be removed: {}", .0.join("; "))]
    Removal(Vec<String>),
}

/// Result of the datapath.
pub type Result<T> = std::result::Result<T, Error>;
