//! Taking away everything that agents brought to this node. Pods that are there lose their network.

use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use malha_cni::conflist;
use malha_datapath::Datapath;
use malha_kernel::{Batch, Handle, PROTOCOL, masquerade};

use crate::agent::is_running;
use crate::config::Paths;
use crate::model::OVERLAY_LINK;
use crate::observe::POD_LINK_PREFIX;

/// Remove it all, in the calling thread's network namespace; absent is fine. What was done, a sentence each. Settings
/// (forwarding) are left: others may depend on them.
///
/// # Errors
/// When an agent runs; or with everything that could not be removed, after the rest was.
pub fn uninstall(paths: &Paths) -> Result<Vec<String>> {
    if is_running(&paths.run)? {
        bail!(
            "an agent runs on this node and would bring everything back: delete the DaemonSet first \
             (kubectl delete -f deploy/malha.yaml)"
        );
    }
    let steps: [(&str, &dyn Fn() -> Result<bool>); 7] = [
        // First of all the node must not be Ready any more.
        ("the CNI configuration", &|| {
            Ok(conflist::remove(&paths.cni_conf)?)
        }),
        ("the CNI plugin", &|| remove_plugin(&paths.cni_bin)),
        ("pods' links and the overlay device", &remove_links),
        ("routes", &remove_routes),
        ("masquerade", &|| Ok(masquerade::remove().map(|()| true)?)),
        ("programs and maps", &|| remove_datapath(&paths.pins)),
        ("the agent's records", &|| remove_directory(&paths.state)),
    ];
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    for (what, step) in steps {
        match step() {
            Ok(true) => done.push(format!("removed {what}")),
            Ok(false) => {}
            Err(error) => failures.push(format!("{what}: {error:#}")),
        }
    }
    if failures.is_empty() {
        return Ok(done);
    }
    bail!("not everything could be removed: {}", failures.join("; "))
}

fn remove_plugin(directory: &Path) -> Result<bool> {
    let loopback = directory.join(conflist::LOOPBACK);
    let ours =
        std::fs::read_link(&loopback).is_ok_and(|target| target == Path::new(conflist::PLUGIN));
    let removed = remove_file(&directory.join(conflist::PLUGIN))?;
    Ok(if ours { remove_file(&loopback)? } else { false } || removed)
}

fn remove_links() -> Result<bool> {
    let handle = Handle::new()?;
    let ours = handle
        .links()?
        .into_iter()
        .filter(|link| link.name == OVERLAY_LINK || link.name.starts_with(POD_LINK_PREFIX));
    let indexes: Vec<u32> = ours.map(|link| link.index).collect();
    handle.delete_links(&indexes)?;
    Ok(!indexes.is_empty())
}

fn remove_routes() -> Result<bool> {
    let handle = Handle::new()?;
    let batch = handle
        .routes(PROTOCOL)?
        .iter()
        .fold(Batch::new(), |batch, route| batch.delete_route(route));
    let any = !batch.is_empty();
    handle.commit(batch)?;
    Ok(any)
}

fn remove_datapath(pins: &Path) -> Result<bool> {
    let any = pins.exists();
    Datapath::uninstall(pins)?;
    Ok(any)
}

fn remove_directory(path: &Path) -> Result<bool> {
    absent_is_fine(std::fs::remove_dir_all(path))
        .with_context(|| format!("cannot remove {}", path.display()))
}

fn remove_file(path: &Path) -> Result<bool> {
    absent_is_fine(std::fs::remove_file(path))
        .with_context(|| format!("cannot remove {}", path.display()))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
