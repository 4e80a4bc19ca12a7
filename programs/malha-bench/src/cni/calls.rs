//! Calling plugins as a container runtime does, with a clock.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use malha_cni::{
    conflist::PLUGIN,
    runtime::{Attachment, Options, Runtime, load},
    types::{Args, AttachmentId, NetworkList},
};
use malha_kernel::NetNs;

use crate::stats::Series;

/// What containerd's users had before: a bridge with masquerade, addresses from files, port mappings.
pub const REFERENCE: &str = r#"{
    "cniVersion": "1.0.0", "name": "reference",
    "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": {
            "type": "host-local", "ranges": [[{"subnet": "10.98.0.0/20"}]], "dataDir": "/run/bench-host-local",
            "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": true}}
    ]
}"#;
const LIMIT: Duration = Duration::from_secs(60);
const IFNAME: &str = "eth0";

/// Times of ADD and DEL.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// Microseconds.
    pub add: Series,
    /// Microseconds.
    pub del: Series,
}

impl Times {
    /// Adds another's times.
    pub fn merge(&mut self, other: Self) {
        self.add.extend(other.add);
        self.del.extend(other.del);
    }
}

/// A network and the runtime that calls its plugins.
pub struct Network {
    runtime: Runtime,
    list: NetworkList,
}

/// A container without anything in it.
struct Sandbox {
    path: PathBuf,
    attachment: Attachment,
}

impl Network {
    /// The one that the node's agent installed.
    pub fn ours() -> Result<Self> {
        Ok(Self::new(
            "ours",
            "/opt/cni/bin",
            load(Path::new("/etc/cni/net.d"))?,
        ))
    }

    /// The reference plugins, as Debian packages them.
    pub fn reference() -> Result<Self> {
        let list = NetworkList::parse(REFERENCE.as_bytes())?;
        Ok(Self::new("reference", "/usr/lib/cni", list))
    }

    fn new(name: &str, bin_dir: &str, list: NetworkList) -> Self {
        let options = Options {
            bin_dirs: vec![bin_dir.into()],
            cache_dir: Path::new("/run/bench-cache").join(name),
            limit: LIMIT,
        };
        Self {
            runtime: Runtime::new(options),
            list,
        }
    }

    /// One ADD and one DEL.
    pub fn once(&self, name: &str) -> Result<Times> {
        let sandbox = Sandbox::new(name)?;
        let mut times = Times::default();
        times.add.push_time(self.add(&sandbox)?);
        times.del.push_time(self.del(&sandbox)?);
        Ok(times)
    }

    /// Several workers at a time, each with its share of the calls.
    pub fn parallel(&self, workers: usize, calls: usize) -> Result<Times> {
        let work = |worker: usize| -> Result<Times> {
            let mut times = Times::default();
            for call in 0..calls / workers {
                times.merge(self.once(&format!("p{worker}-{call}"))?);
            }
            Ok(times)
        };
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..workers)
                .map(|worker| scope.spawn(move || work(worker)))
                .collect();
            let mut times = Times::default();
            for thread in running {
                times.merge(
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
                );
            }
            Ok(times)
        })
    }

    /// Many pods that exist at once, added and deleted one after the other.
    pub fn many(&self, pods: usize) -> Result<Times> {
        let sandboxes: Vec<Sandbox> = (0..pods)
            .map(|n| Sandbox::new(&format!("m{n}")))
            .collect::<Result<_>>()?;
        let mut times = Times::default();
        for sandbox in &sandboxes {
            times.add.push_time(self.add(sandbox)?);
        }
        for sandbox in &sandboxes {
            times.del.push_time(self.del(sandbox)?);
        }
        Ok(times)
    }

    /// STATUS, and starting the plugin.
    pub fn status(&self, calls: usize) -> Result<(Series, Series)> {
        let (mut status, mut start) = (Series::default(), Series::default());
        for _ in 0..calls {
            status.push_time(timed(|| self.runtime.status(&self.list))?);
            start.push_time(timed(|| self.runtime.versions(PLUGIN).map(drop))?);
        }
        Ok((status, start))
    }

    fn add(&self, sandbox: &Sandbox) -> Result<Duration> {
        timed(|| self.runtime.add(&self.list, &sandbox.attachment).map(drop))
    }

    fn del(&self, sandbox: &Sandbox) -> Result<Duration> {
        timed(|| self.runtime.del(&self.list, &sandbox.attachment))
    }
}

fn timed<E: Into<anyhow::Error>>(call: impl FnOnce() -> Result<(), E>) -> Result<Duration> {
    let begun = Instant::now();
    call().map_err(Into::into).context("a call failed")?;
    Ok(begun.elapsed())
}

impl Sandbox {
    fn new(name: &str) -> Result<Self> {
        let path = Path::new("/run/netns").join(format!("bench-{name}"));
        NetNs::create_persistent(&path)?;
        let id = AttachmentId {
            container_id: format!("bench-{name}"),
            ifname: IFNAME.to_owned(),
        };
        let attachment = Attachment {
            id,
            netns: Some(path.clone()),
            args: Args::default(),
            capabilities: Default::default(),
        };
        Ok(Self { path, attachment })
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Err(error) = NetNs::delete_persistent(&self.path) {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}
