//! A machine's cgroups: a subtree of its own in every hierarchy that pods need, so that its root looks like a root.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// What pods are limited by; other controllers stay the host's.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// The labs' folder in each hierarchy.
const FOLDER: &str = "malha-lab";
/// A leaf for the machine's own processes: version 2 allows none in a cgroup that hands controllers on.
const LEAF: &str = "init";

/// One mounted hierarchy.
struct Hierarchy {
    point: PathBuf,
    unified: bool,
}

/// Puts this process into the machine's subtree, as its root: the time to unshare the cgroup namespace.
///
/// # Errors
/// When the subtree cannot be made.
pub fn enter(machine: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        if hierarchy.unified {
            hand_on(&hierarchy.point);
            hand_on(&hierarchy.point.join(FOLDER));
        }
        let own = hierarchy.point.join(FOLDER).join(machine);
        fs::create_dir_all(&own).with_context(|| format!("cannot create {}", own.display()))?;
        add_self(&own)?;
    }
    Ok(())
}

/// Moves this process into the machine's leaf, and hands the controllers on to the cgroups beside it.
///
/// # Errors
/// When the leaf cannot be entered.
pub fn enter_leaf(machine: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let own = hierarchy.point.join(FOLDER).join(machine);
        let leaf = own.join(LEAF);
        fs::create_dir_all(&leaf).with_context(|| format!("cannot create {}", leaf.display()))?;
        add_self(&leaf)?;
        if hierarchy.unified {
            hand_on(&own);
        }
    }
    Ok(())
}

/// Each of the machine's subtrees, with the point at which the machine expects its hierarchy.
///
/// # Errors
/// When the mounts cannot be read.
pub fn of_machine(machine: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
    let own = |hierarchy: Hierarchy| {
        let subtree = hierarchy.point.join(FOLDER).join(machine);
        (subtree, hierarchy.point)
    };
    Ok(hierarchies()?.into_iter().map(own).collect())
}

/// Removes every subtree of the labs; no process is left in them.
///
/// # Errors
/// When the mounts cannot be read, or a cgroup is still in use.
pub fn remove_all() -> Result<()> {
    for hierarchy in hierarchies()? {
        let folder = hierarchy.point.join(FOLDER);
        if folder.exists() {
            remove(&folder)?;
        }
    }
    Ok(())
}

fn remove(cgroup: &Path) -> Result<()> {
    let entries =
        fs::read_dir(cgroup).with_context(|| format!("cannot read {}", cgroup.display()))?;
    for entry in entries.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup).with_context(|| format!("cannot remove the cgroup {}", cgroup.display()))
}

fn add_self(cgroup: &Path) -> Result<()> {
    let file = cgroup.join("cgroup.procs");
    fs::write(&file, std::process::id().to_string())
        .with_context(|| format!("cannot enter the cgroup {}", cgroup.display()))
}

/// Best effort: a controller that cannot be handed on is missing for pods, and the node agent says so.
fn hand_on(cgroup: &Path) {
    for controller in CONTROLLERS {
        let _ = fs::write(
            cgroup.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts =
        fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    Ok(parse(&mounts))
}

fn parse(mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, point, kind, options, ..] = fields.as_slice() else {
            continue;
        };
        let wanted = match *kind {
            "cgroup2" => true,
            "cgroup" => options
                .split(',')
                .any(|option| CONTROLLERS.contains(&option)),
            _ => false,
        };
        let point = PathBuf::from(point);
        // `cpu,cpuacct` may be mounted at several names; one is enough.
        if wanted && !found.iter().any(|other| other.point == point) {
            found.push(Hierarchy {
                point,
                unified: *kind == "cgroup2",
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found_and_others_left_alone() {
        let mounts = "sysfs /sys sysfs rw 0 0\n\
            tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\n\
            cgroup /sys/fs/cgroup/cpuset cgroup rw,relatime,cpuset 0 0\n\
            cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found: Vec<_> = parse(mounts)
            .into_iter()
            .map(|h| (h.point.to_string_lossy().into_owned(), h.unified))
            .collect();
        assert_eq!(
            found,
            [
                ("/sys/fs/cgroup/cpu".to_owned(), false),
                ("/sys/fs/cgroup/memory".to_owned(), false),
                ("/sys/fs/cgroup/unified".to_owned(), true),
            ]
        );
    }
}
