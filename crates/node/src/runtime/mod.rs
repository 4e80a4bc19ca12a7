//! Sandboxes and containers on this machine, with what the agent remembers of them. Knows nothing of the API server.
//!
//! A sandbox is what the containers of a pod share: network, IPC and host name. Its namespaces are kept by bind mounts,
//! not by a process. Everything is written down before it is made, so that after a crash [`Runtime::inventory`] tells
//! what there may be, and removing it is always in order. All blocks, but for [`Runtime::wait`].

mod cgroup;
mod container;
mod network;
mod record;
mod sandbox;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

pub use cgroup::{Cgroups, Limits};
pub use container::{StartError, State};
pub use network::{Network, NetworkError, PodNetwork};
pub use record::{ContainerRecord, Inventory, NetworkRecord, SandboxRecord};
pub use sandbox::{SandboxError, SandboxRequest};

/// Where a runtime keeps things, and what it runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Records, namespaces and container bundles; best a tmpfs.
    pub run_dir: PathBuf,
    /// Where network namespaces are files: others look for them in /run/netns.
    pub netns_dir: PathBuf,
    /// The program that has [`crate::launch::main`] as its `node` command.
    pub launcher: PathBuf,
    /// Names the cgroups, so that several agents on one kernel do not meet.
    pub node_name: String,
}

/// Sandboxes and containers.
#[derive(Debug)]
pub struct Runtime {
    options: Options,
    cgroups: Cgroups,
    network: Network,
}

impl Runtime {
    /// A runtime, with its directories.
    ///
    /// # Errors
    /// When a directory cannot be made, or the mount table cannot be read.
    pub fn new(options: Options, network: Network) -> io::Result<Self> {
        for directory in [
            record::sandboxes(&options.run_dir),
            record::containers(&options.run_dir),
            options.netns_dir.clone(),
        ] {
            fs::create_dir_all(directory)?;
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&options.run_dir, mode)?;
        let cgroups = Cgroups::of_node(&options.node_name)?;
        Ok(Self {
            options,
            cgroups,
            network,
        })
    }

    /// The pods' network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The cgroups of this node.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// All that is recorded.
    ///
    /// # Errors
    /// When the run directory cannot be read. A record that cannot be understood is left out and logged.
    pub fn inventory(&self) -> io::Result<Inventory> {
        Inventory::read(&self.options.run_dir)
    }

    /// A command of the launcher.
    fn launcher(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.options.launcher);
        command.arg("node").args(arguments).env_clear();
        command
    }

    fn run_dir(&self) -> &Path {
        &self.options.run_dir
    }
}

/// A new name for a sandbox or container: 64 hexadecimal digits, as other runtimes have them.
pub fn new_id() -> String {
    let half = || uuid::Uuid::new_v4().simple().to_string();
    half() + &half()
}
