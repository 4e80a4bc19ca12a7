//! Cgroups of both versions, wherever they are mounted.
//!
//! A cgroup is named by a path, `malha/NODE/podUID/CONTAINER`, and made in every hierarchy that matters: that of version
//! 2, and those of version 1 with a controller for a limit that version 2 does not have. A service manager's own
//! hierarchy is left alone: pods stay in the agent's unit there, which is to be ended with `KillMode=process`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    launch::process,
    mounts::{MountEntry, MountTable},
};

const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// The kernel frees a cgroup a moment after its last process has ended.
const REMOVAL_LIMIT: Duration = Duration::from_secs(5);

/// What a container may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths of a processor that it may use at most.
    pub cpu: Option<u64>,
    /// Thousandths of a processor that it gets when processors are scarce.
    pub cpu_request: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// One mounted hierarchy, and which controllers are taken from it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    point: PathBuf,
    version: Version,
    controllers: BTreeSet<&'static str>,
}

/// The cgroups of one node.
#[derive(Clone, Debug)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    base: String,
}

impl Cgroups {
    /// Looks the mounts up.
    ///
    /// # Errors
    /// When the mount table cannot be read.
    pub fn of_node(node: &str) -> io::Result<Self> {
        let available =
            |point: &Path| fs::read_to_string(point.join("cgroup.controllers")).unwrap_or_default();
        let hierarchies = hierarchies(&MountTable::read()?, available);
        Ok(Self {
            hierarchies,
            base: format!("malha/{node}"),
        })
    }

    /// The name of a container's cgroup.
    pub fn container(&self, pod_uid: &str, container: &str) -> String {
        format!("{}/pod{pod_uid}/{container}", self.base)
    }

    /// The name of a pod's.
    pub fn pod(&self, pod_uid: &str) -> String {
        format!("{}/pod{pod_uid}", self.base)
    }

    /// The name of the one that shims are in.
    pub fn shims(&self) -> String {
        format!("{}/shims", self.base)
    }

    /// The name of all of it.
    pub fn node(&self) -> &str {
        &self.base
    }

    /// Its directories, whether they exist or not.
    pub fn directories(&self, name: &str) -> Vec<PathBuf> {
        self.hierarchies
            .iter()
            .map(|h| h.point.join(name))
            .collect()
    }

    /// Makes a cgroup; gives its directories and, in words, the limits that no controller can keep.
    ///
    /// # Errors
    /// When a directory cannot be made, or a limit is refused.
    pub fn create(&self, name: &str, limits: &Limits) -> io::Result<(Vec<PathBuf>, Vec<String>)> {
        let mut unkept: Vec<String> = limits
            .files(Version::V2)
            .iter()
            .filter(|(controller, ..)| {
                !self
                    .hierarchies
                    .iter()
                    .any(|h| h.controllers.contains(controller))
            })
            .map(|(controller, ..)| {
                format!("{controller} (no cgroup controller {controller} is available)")
            })
            .collect();
        unkept.dedup();
        for hierarchy in &self.hierarchies {
            hierarchy.make(name)?;
            let directory = hierarchy.point.join(name);
            for (controller, file, value) in limits.files(hierarchy.version) {
                if hierarchy.controllers.contains(controller) {
                    let path = directory.join(file);
                    fs::write(&path, &value).map_err(|e| {
                        io::Error::new(
                            e.kind(),
                            format!("cannot write {value:?} to {}: {e}", path.display()),
                        )
                    })?;
                }
            }
        }
        Ok((self.directories(name), unkept))
    }

    /// Kills what is in a cgroup and below it, and removes it; what does not exist is removed.
    ///
    /// # Errors
    /// When processes do not end.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let mut outcome = Ok(());
        for directory in self.directories(name) {
            outcome = remove_tree(&directory, Instant::now() + REMOVAL_LIMIT).and(outcome);
        }
        outcome
    }

    /// Removes the directory above the nodes' cgroups if this was the last node.
    pub fn remove_base(&self) {
        for directory in self.directories("malha") {
            let _ = fs::remove_dir(directory);
        }
    }
}

impl Hierarchy {
    /// Makes the directories; version 2 hands controllers on from each to the next.
    fn make(&self, name: &str) -> io::Result<()> {
        let mut directory = self.point.clone();
        for part in Path::new(name) {
            if self.version == Version::V2 {
                for controller in &self.controllers {
                    // Refused where processes live; then writing the limit says so.
                    let _ = fs::write(
                        directory.join("cgroup.subtree_control"),
                        format!("+{controller}"),
                    );
                }
            }
            directory.push(part);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    let text = format!("cannot make the cgroup {}: {error}", directory.display());
                    return Err(io::Error::new(error.kind(), text));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn hierarchies(table: &MountTable, available: impl Fn(&Path) -> String) -> Vec<Hierarchy> {
    let mut taken: BTreeSet<&'static str> = BTreeSet::new();
    let mut found: Vec<Hierarchy> = Vec::new();
    let mut add = |mount: &MountEntry, version, offered: &dyn Fn(&str) -> bool| {
        if found.iter().any(|h| h.point == mount.point) {
            return;
        }
        let mut controllers: BTreeSet<&'static str> =
            CONTROLLERS.into_iter().filter(|c| offered(c)).collect();
        controllers.retain(|c| taken.insert(c));
        if version == Version::V2 || !controllers.is_empty() {
            found.push(Hierarchy {
                point: mount.point.clone(),
                version,
                controllers,
            });
        }
    };
    for mount in table.iter().filter(|m| m.kind == "cgroup2") {
        let offered = available(&mount.point);
        add(mount, Version::V2, &|c| {
            offered.split_whitespace().any(|o| o == c)
        });
    }
    for mount in table.iter().filter(|m| m.kind == "cgroup") {
        let options: Vec<&str> = mount.super_options.split(',').collect();
        add(mount, Version::V1, &|c| options.contains(&c));
    }
    found
}

/// The kernel's period for processor quotas, in microseconds.
const PERIOD: u64 = 100_000;
/// Below this it refuses.
const MIN_QUOTA: u64 = 1_000;

impl Limits {
    /// Controller, file, text.
    fn files(&self, version: Version) -> Vec<(&'static str, &'static str, String)> {
        let v2 = version == Version::V2;
        let mut files = Vec::new();
        if let Some(bytes) = self.memory {
            files.push((
                "memory",
                if v2 {
                    "memory.max"
                } else {
                    "memory.limit_in_bytes"
                },
                bytes.to_string(),
            ));
        }
        if let Some(milli) = self.cpu {
            let quota = (milli * PERIOD / 1000).max(MIN_QUOTA);
            match version {
                Version::V2 => files.push(("cpu", "cpu.max", format!("{quota} {PERIOD}"))),
                Version::V1 => files.push(("cpu", "cpu.cfs_quota_us", quota.to_string())),
            }
        }
        if let Some(milli) = self.cpu_request {
            let shares = (milli * 1024 / 1000).clamp(2, 262_144);
            match version {
                // The mapping that every runtime uses: 2 … 262144 to 1 … 10000.
                Version::V2 => files.push((
                    "cpu",
                    "cpu.weight",
                    (1 + (shares - 2) * 9999 / 262_142).to_string(),
                )),
                Version::V1 => files.push(("cpu", "cpu.shares", shares.to_string())),
            }
        }
        if let Some(count) = self.pids {
            files.push(("pids", "pids.max", count.to_string()));
        }
        files
    }
}

fn remove_tree(directory: &Path, deadline: Instant) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path(), deadline)?;
        }
    }
    loop {
        process::kill_cgroup(std::slice::from_ref(&directory.to_owned()));
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                let text = format!("cannot remove the cgroup {}: {error}", directory.display());
                return Err(io::Error::new(error.kind(), text));
            }
            Err(_) => thread::sleep(Duration::from_millis(2)),
            Ok(()) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mounts: &str, v2: &str) -> Vec<(String, Vec<&'static str>)> {
        let text: String = mounts
            .lines()
            .map(|line| {
                let (point, kind, options) = {
                    let mut f = line.split_whitespace();
                    (f.next().unwrap(), f.next().unwrap(), f.next().unwrap())
                };
                format!("30 21 0:26 / {point} rw shared:9 - {kind} {kind} {options}\n")
            })
            .collect();
        hierarchies(&MountTable::parse(text.as_bytes()), |_| v2.to_owned())
            .into_iter()
            .map(|h| {
                (
                    h.point.display().to_string(),
                    h.controllers.into_iter().collect(),
                )
            })
            .collect()
    }

    #[test]
    fn controllers_are_taken_where_they_are() {
        let hybrid = "/c/cpu cgroup rw,cpu,cpuacct\n/c/memory cgroup rw,memory\n/c/pids cgroup rw,pids\n\
                      /c/freezer cgroup rw,freezer\n/c/systemd cgroup rw,name=systemd\n/c/unified cgroup2 rw";
        let point = |p: &str, c: &[&'static str]| (p.to_owned(), c.to_vec());
        assert_eq!(
            found(hybrid, ""),
            [
                point("/c/unified", &[]),
                point("/c/cpu", &["cpu"]),
                point("/c/memory", &["memory"]),
                point("/c/pids", &["pids"]),
            ]
        );
        assert_eq!(
            found("/c cgroup2 rw", "cpuset cpu memory pids"),
            [point("/c", &["cpu", "memory", "pids"])]
        );
        assert_eq!(found("", ""), []);
    }

    #[test]
    fn limits_become_files() {
        let limits = Limits {
            memory: Some(1 << 20),
            cpu: Some(250),
            cpu_request: Some(100),
            pids: Some(10),
        };
        let texts = |version| -> Vec<String> {
            limits
                .files(version)
                .iter()
                .map(|(_, file, text)| format!("{file} {text}"))
                .collect()
        };
        assert_eq!(
            texts(Version::V1),
            [
                "memory.limit_in_bytes 1048576",
                "cpu.cfs_quota_us 25000",
                "cpu.shares 102",
                "pids.max 10"
            ]
        );
        assert_eq!(
            texts(Version::V2),
            [
                "memory.max 1048576",
                "cpu.max 25000 100000",
                "cpu.weight 4",
                "pids.max 10"
            ]
        );
    }

    #[test]
    fn limits_without_a_controller_are_named() {
        let cgroups = Cgroups {
            hierarchies: Vec::new(),
            base: "malha/n".into(),
        };
        let limits = Limits {
            memory: Some(1),
            ..Limits::default()
        };
        let (directories, unkept) = cgroups.create("malha/n/podx/c", &limits).unwrap();
        assert!(directories.is_empty());
        assert_eq!(
            unkept,
            ["memory (no cgroup controller memory is available)"]
        );
    }
}
