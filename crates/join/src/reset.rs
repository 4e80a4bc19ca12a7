//! `malha reset`: undoes `join` and `init`, as far as they came.
//!
//! Everything is tried, whatever fails on the way, and all failures are told at the end. Nothing is removed through a
//! mount: what is mounted below a directory is unmounted first, and if that fails the directory stays.

use std::{
    ffi::OsString,
    fs,
    io::{self, BufRead, Write},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use malha_bootstrap::csr::NODE_USER_PREFIX;
use malha_core::paths;
use nix::mount::{MntFlags, umount2};
use x509_parser::pem::Pem;

use crate::{
    daemon::{self, Daemon},
    files, init,
    join::{AGENT, remove_unit, stop_kubelet},
    machine::Machine,
};

/// kubeadm's kubeconfigs.
const KUBECONFIGS: [&str; 6] = [
    "admin.conf",
    "super-admin.conf",
    "kubelet.conf",
    "bootstrap-kubelet.conf",
    "controller-manager.conf",
    "scheduler.conf",
];

/// Undoes what another part of Malha did on this machine; returns whether there was anything.
pub type Teardown<'a> = Box<dyn FnOnce() -> Result<bool> + 'a>;

/// Asks whether to go on.
///
/// # Errors
/// When the answer is not yes.
pub fn confirm(mut input: impl BufRead, mut output: impl Write) -> Result<()> {
    write!(
        output,
        "[reset] WARNING: Changes made to this host by 'malha init' or 'malha join' will be reverted.\n\
         [reset] Are you sure you want to proceed? [y/N]: "
    )
    .and_then(|()| output.flush())
    .context("cannot ask")?;
    let mut answer = String::new();
    input
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    ensure!(
        matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"),
        "nothing was changed; confirm with y, or use --force"
    );
    Ok(())
}

/// Stops, unmounts and removes everything. `teardown`s run once nothing starts pods any more, while the API server may
/// still run.
///
/// # Errors
/// Everything that could not be undone, in one line.
pub fn run(machine: &Machine, teardown: Vec<(&str, Teardown<'_>)>) -> Result<()> {
    ensure!(
        machine.privileged,
        "this needs root; run it as root or through sudo"
    );
    let progress = machine.progress;
    let mut trouble: Vec<String> = Vec::new();
    let mut attempt = |what: &str, outcome: Result<bool>| match outcome {
        Ok(true) => progress.step("reset", what),
        Ok(false) => {}
        Err(error) => trouble.push(format!("{error:#}")),
    };
    let joined = machine.paths.kubelet_conf().exists();
    let node = node_name(&machine.paths.kubelet("pki/kubelet-client-current.pem"));
    let agent = Daemon::new(AGENT, &machine.paths);
    attempt("Stopped the node agent", agent.stop());
    if joined {
        attempt("Stopped the kubelet", stop_kubelet(machine));
    }
    for (what, action) in teardown {
        attempt(what, action().with_context(|| format!("not done: {what}")));
    }
    let control_plane = Daemon::new(init::DAEMON, &machine.paths);
    attempt("Stopped the control plane", control_plane.stop());
    for tree in trees(machine) {
        attempt(&format!("Deleted {}", tree.display()), remove_tree(&tree));
    }
    for file in single_files(machine) {
        attempt(&format!("Deleted {}", file.display()), files::remove(&file));
    }
    attempt("Deleted the kubelet's unit", remove_unit(&machine.paths));
    for directory in shared_directories(machine) {
        let _ = fs::remove_dir(directory);
    }
    if joined && machine.paths.has_systemd() {
        attempt(
            "Reloaded systemd's units",
            daemon::reload_units().map(|()| false),
        );
    }
    if !trouble.is_empty() {
        bail!(
            "not everything was undone: {}; correct this and run malha reset again",
            trouble.join("; ")
        );
    }
    if let Some(node) = node {
        progress.line(&format!(
            "\nThe cluster still has the Node object; delete it with: kubectl delete node {node}"
        ));
    }
    progress.line("\nKubeconfig files of users, such as $HOME/.kube/config, are left as they are.");
    Ok(())
}

/// The node that a client certificate is for.
fn node_name(pem: &Path) -> Option<String> {
    let bytes = fs::read(pem).ok()?;
    let block = Pem::iter_from_buffer(&bytes).find_map(|block| {
        let block = block.ok()?;
        (block.label == "CERTIFICATE").then_some(block)
    })?;
    let certificate = block.parse_x509().ok()?;
    let name = certificate
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()?;
    name.strip_prefix(NODE_USER_PREFIX).map(str::to_owned)
}

/// Directories that go with all that is in them.
fn trees(machine: &Machine) -> Vec<PathBuf> {
    let paths = &machine.paths;
    let [pki, manifests] = ["pki", "manifests"].map(|name| paths.kubernetes().join(name));
    vec![
        paths.kubelet(""),
        paths.at("/var/lib/malha"),
        paths.run(),
        paths.at("/run/malha-node"),
        pki,
        manifests,
        paths.logs(),
    ]
}

/// Directories that go only when nothing of others is in them.
fn shared_directories(machine: &Machine) -> [PathBuf; 3] {
    let paths = &machine.paths;
    [
        paths.kubernetes(),
        paths.kubelet_drop_ins(),
        paths.at("/var/log/pods"),
    ]
}

fn single_files(machine: &Machine) -> Vec<PathBuf> {
    let paths = &machine.paths;
    let kubeconfigs = KUBECONFIGS.iter().map(|name| paths.kubernetes().join(name));
    let network = [
        paths.at(paths::CNI_CONF_DIR).join(paths::CNI_CONFLIST),
        paths.at(paths::CNI_BIN_DIR).join("malha-cni"),
        paths.kubelet_drop_ins().join("10-malha.conf"),
    ];
    kubeconfigs.chain(network).collect()
}

/// A directory on a filesystem of its own is emptied and stays.
fn remove_tree(tree: &Path) -> Result<bool> {
    // The kernel tells real paths.
    let Ok(real) = fs::canonicalize(tree) else {
        return files::remove(tree);
    };
    // Deepest first, so that nothing hides below another mount.
    for point in mounts_below(&real)?.iter().rev() {
        umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .with_context(|| format!("cannot unmount {}", point.display()))?;
    }
    if let Some(point) = mounts_below(&real)?.first() {
        bail!(
            "{} stays, for something is mounted on {}",
            tree.display(),
            point.display()
        );
    }
    let entries = fs::read_dir(tree).with_context(|| format!("cannot read {}", tree.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", tree.display()))?;
        files::remove(&entry.path())?;
    }
    use io::ErrorKind::{NotADirectory, ResourceBusy};
    match fs::remove_dir(tree) {
        // A mount point, or a link to a directory elsewhere.
        Err(error) if matches!(error.kind(), ResourceBusy | NotADirectory) => Ok(true),
        other => {
            other.with_context(|| format!("cannot remove {}", tree.display()))?;
            Ok(true)
        }
    }
}

/// Mount points strictly below a directory, in the order they were mounted.
fn mounts_below(tree: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    let points = table.split(|b| *b == b'\n').filter_map(mount_point);
    Ok(points
        .filter(|point| point.starts_with(tree) && point != tree)
        .collect())
}

/// The fifth field of a line of mountinfo, with its octal escapes (`\040` is a blank) undone.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|b| *b == b' ').nth(4)?;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let escaped = digits
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let line = br"36 35 98:0 /mnt1 /mnt/a\040b\134c rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from(r"/mnt/a b\c")));
        assert_eq!(mount_point(b""), None);
        assert_eq!(mount_point(br"1 2 3 4 /a\0"), Some(PathBuf::from(r"/a\0")));
    }

    #[test]
    fn only_yes_is_yes() {
        let mut asked = Vec::new();
        confirm(&b"y\n"[..], &mut asked).expect("yes");
        confirm(&b"YES\n"[..], &mut asked).expect("yes");
        for answer in ["", "\n", "n\n", "yesterday\n"] {
            confirm(answer.as_bytes(), &mut asked).expect_err(answer);
        }
        assert!(String::from_utf8_lossy(&asked).contains("[y/N]: "));
    }
}
