//! A machine's files: an overlay over the host's root, with kernel filesystems of its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{chdir, pivot_root},
};

use crate::{cgroups, plan::machine_dir};

/// Makes the machine's root the root of this mount namespace. The caller is alone in it.
///
/// # Errors
/// When a mount is refused; names it.
pub fn enter_root(machine: &str, hosts: &str) -> Result<()> {
    // The host must not see what is mounted here.
    propagate(MsFlags::MS_PRIVATE)?;
    let binaries = own_binaries()?;
    let cgroups = cgroups::of_machine(machine)?;
    let root = overlay(machine)?;
    let at = |path: &str| root.join(path);
    fresh("proc", &at("proc"), "")?;
    bind("/dev".as_ref(), &at("dev"))?;
    bind("/sys".as_ref(), &at("sys"))?;
    fresh("bpf", &at("sys/fs/bpf"), "")?;
    for (own, point) in &cgroups {
        bind(own, &root.join(point.strip_prefix("/").unwrap_or(point)))?;
    }
    for (directory, mode) in [("run", "mode=755"), ("tmp", "mode=1777")] {
        fresh("tmpfs", &at(directory), mode)?;
    }
    for directory in ["run/netns", "run/lock", "usr/local/bin"] {
        fs::create_dir_all(at(directory)).with_context(|| format!("cannot create /{directory}"))?;
    }
    for (binary, name) in binaries.iter().zip(["malha", "malha-cni"]) {
        let target = at("usr/local/bin").join(name);
        // A copy, so that the lab goes on when the programs are built anew.
        fs::copy(binary, &target).with_context(|| format!("cannot create {}", target.display()))?;
    }
    fs::write(at("etc/hosts"), hosts).context("cannot write /etc/hosts")?;
    fs::write(at("etc/hostname"), format!("{machine}\n")).context("cannot write /etc/hostname")?;
    pivot(&root)
}

/// `malha`, and `malha-cni` beside it.
fn own_binaries() -> Result<[PathBuf; 2]> {
    let malha = std::env::current_exe().context("cannot find this program's own file")?;
    let plugin = malha.with_file_name("malha-cni");
    anyhow::ensure!(
        plugin.exists(),
        "{} is missing; build it with: cargo build --release -p malha-plugin",
        plugin.display()
    );
    Ok([malha, plugin])
}

fn overlay(machine: &str) -> Result<PathBuf> {
    let dir = machine_dir(machine);
    let [upper, work, root] = ["upper", "work", "root"].map(|name| dir.join(name));
    for directory in [&upper, &work, &root] {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let layers = format!(
        "lowerdir=/,upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    fresh("overlay", &root, &layers)?;
    Ok(root)
}

fn pivot(root: &Path) -> Result<()> {
    chdir(root).context("cannot enter the machine's root")?;
    pivot_root(".", ".").context("cannot change the root")?;
    umount2(".", MntFlags::MNT_DETACH).context("cannot leave the host's root")?;
    chdir("/").context("cannot enter /")?;
    // Most Linux systems share mounts between namespaces, and pods' volumes rely on it.
    propagate(MsFlags::MS_SHARED)
}

/// A filesystem of its own.
fn fresh(kind: &str, target: &Path, options: &str) -> Result<()> {
    mount(
        Some(kind),
        target,
        Some(kind),
        MsFlags::empty(),
        Some(options),
    )
    .with_context(|| format!("cannot mount {kind} on {}", target.display()))
}

/// What is at `source`, also at `target`, with the mounts below it.
fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(
        Some(source),
        target,
        NOTHING,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        NOTHING,
    )
    .with_context(|| format!("cannot mount {} on {}", source.display(), target.display()))
}

/// How mounts below `/` are shared with other namespaces.
fn propagate(how: MsFlags) -> Result<()> {
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | how, NOTHING)
        .with_context(|| format!("cannot change the propagation of / to {how:?}"))
}

const NOTHING: Option<&str> = None;
