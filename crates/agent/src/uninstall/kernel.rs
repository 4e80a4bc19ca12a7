//! What agents brought to the kernel.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use malha_datapath::Datapath;
use malha_endpoint::is_link_name;
use malha_kernel::machine::{self, BPFFS};
use malha_kernel::{Batch, Handle, Link, PROTOCOL, masquerade as nft};

use super::{Trace, Verb};
use crate::before::Before;
use crate::config::Paths;
use crate::model::OVERLAY_LINK;

/// How many pods are attached: ends of links whose other end still lives.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn pods() -> Result<usize> {
    let links = Handle::new()?.links()?;
    Ok(links.iter().filter(|link| is_pods(link)).count())
}

/// Pods' links and the overlay device. Their routes, neighbours and filters go with them.
pub fn links(_: &Paths, _: &Before) -> Result<Vec<Trace>> {
    let (pods, overlay): (Vec<_>, Vec<_>) = Handle::new()?
        .links()?
        .into_iter()
        .filter(is_ours)
        .partition(is_pods);
    let mut traces = Vec::new();
    if !pods.is_empty() {
        let object = format!("the links of {} pods", pods.len());
        let indexes: Vec<u32> = pods.iter().map(|link| link.index).collect();
        traces.push(Trace::new(Verb::Remove, object, move || {
            Ok(Handle::new()?.delete_links(&indexes)?)
        }));
    }
    traces.extend(overlay.into_iter().map(|link| {
        let object = format!("the overlay device {}", link.name);
        Trace::new(Verb::Remove, object, move || {
            Ok(Handle::new()?.delete_link(link.index)?)
        })
    }));
    Ok(traces)
}

/// Routes that no link of ours takes along.
pub fn routes(_: &Paths, _: &Before) -> Result<Vec<Trace>> {
    let handle = Handle::new()?;
    let links = handle.links()?;
    let goes = |device: u32| {
        links
            .iter()
            .any(|link| link.index == device && is_ours(link))
    };
    let routes = handle.routes(PROTOCOL)?.into_iter();
    let stay = routes.filter(|route| !route.device.is_some_and(goes));
    Ok(stay
        .map(|route| {
            let object = format!("the route to {}", route.prefix);
            let remove = move || Ok(Handle::new()?.commit(Batch::new().delete_route(&route))?);
            Trace::new(Verb::Remove, object, remove)
        })
        .collect())
}

/// The table of rules.
pub fn masquerade(_: &Paths, _: &Before) -> Result<Vec<Trace>> {
    let object = format!("the nftables table {}", nft::TABLE);
    let there = nft::is_present()?;
    Ok(Vec::from_iter(there.then(|| {
        Trace::new(Verb::Remove, object, || Ok(nft::remove()?))
    })))
}

/// Programs, where they are attached, maps; and the BPF filesystem if an agent mounted it and nobody else uses it.
pub fn datapath(paths: &Paths, before: &Before) -> Result<Vec<Trace>> {
    let found = Datapath::installed(&paths.pins)?;
    let mut traces = Vec::new();
    // Those that go away with their links are not worth a word.
    let stay: Vec<String> = found
        .links
        .into_iter()
        .filter(|name| name != OVERLAY_LINK && !is_link_name(name))
        .collect();
    if found.pins || !stay.is_empty() {
        let at = match stay.is_empty() {
            true => String::new(),
            false => format!(", attached to {}", stay.join(", ")),
        };
        let object = format!("the programs and maps in {}{at}", paths.pins.display());
        let pins = paths.pins.clone();
        traces.push(Trace::new(Verb::Remove, object, move || {
            Ok(Datapath::uninstall(&pins)?)
        }));
    }
    if before.mounted_bpffs() && is_idle_bpffs(&paths.pins) {
        let object = format!("the BPF filesystem at {BPFFS}");
        traces.push(Trace::new(Verb::Unmount, object, || {
            Ok(nix::mount::umount(BPFFS)?)
        }));
    }
    Ok(traces)
}

/// Settings that are as an agent set them.
pub fn settings(_: &Paths, before: &Before) -> Result<Vec<Trace>> {
    let settings = before
        .to_restore()
        .context("cannot read settings that were changed")?;
    Ok(settings
        .into_iter()
        .map(|setting| {
            let name = setting.name.replace('/', ".");
            let object = format!("{name} from {} to {}", setting.set, setting.before);
            Trace::new(Verb::Restore, object, move || setting.restore())
        })
        .collect())
}

/// Nothing but ours is pinned. Names with dots are the kernel's own.
fn is_idle_bpffs(pins: &Path) -> bool {
    let is_ours = |entry: fs::DirEntry| {
        entry.path() == pins || entry.file_name().to_string_lossy().contains('.')
    };
    let only_ours = |mut entries: fs::ReadDir| entries.all(|entry| entry.is_ok_and(is_ours));
    machine::is_bpffs(Path::new(BPFFS))
        && machine::is_bpffs_shared()
        && fs::read_dir(BPFFS).is_ok_and(only_ours)
}

fn is_ours(link: &Link) -> bool {
    is_pods(link) || (link.name == OVERLAY_LINK && link.kind == "vxlan")
}

fn is_pods(link: &Link) -> bool {
    link.kind == "veth" && is_link_name(&link.name)
}
