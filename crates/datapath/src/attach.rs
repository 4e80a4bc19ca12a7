//! Attach, move to other programs, detach: by filters and by tcx links.
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use crate::error::{Error, Result};
use crate::hooks::{Direction, Hook};
use crate::object::Programs;
use crate::pins::{self, Pins, pin_error};
use crate::sys::{self, TCX_EGRESS, TCX_INGRESS};
use crate::tc::{self, Change};

/// Attach by filters.
pub fn filters(programs: &Programs, ifindex: u32, hooks: &[Hook]) -> Result<()> {
    let changes: Vec<_> = hooks
        .iter()
        .map(|hook| (*hook, Change::Set(programs.get(*hook))))
        .collect();
    tc::apply(ifindex, &changes).map_err(|source| attach_error("attach filters", ifindex, source))
}

/// Attach by pinned tcx links; by filters if the kernel has none.
pub fn links(pins: &Pins, programs: &Programs, ifindex: u32, hooks: &[Hook]) -> Result<()> {
    for hook in hooks {
        match link(&pins.link(*hook, ifindex), programs, (*hook, ifindex)) {
            Ok(()) => {}
            Err(error) if is_unsupported(&error) => {
                tracing::debug!(
                    ifindex,
                    "no tcx in this kernel (Linux 6.6 has it): attaching filters"
                );
                return filters(programs, ifindex, hooks);
            }
            Err(source) => {
                return Err(attach_error(
                    &format!("attach {}", hook.name()),
                    ifindex,
                    source,
                ));
            }
        }
    }
    // An earlier start on an older kernel or in the other mode may have left filters: never both.
    let leftovers: Vec<_> = hooks.iter().map(|hook| (*hook, Change::Remove)).collect();
    tc::apply(ifindex, &leftovers).map_err(|source| attach_error("detach filters", ifindex, source))
}

/// Detach whatever is attached at these hooks.
pub fn detach(pins: &Pins, ifindex: u32, hooks: &[Hook]) -> Result<()> {
    for hook in hooks {
        let pin = pins.link(*hook, ifindex);
        match sys::get(&pin).and_then(|link| sys::link_detach(link.as_fd())) {
            Ok(()) => {}
            // Not attached; or attached to an interface that is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_dead(&error) => {}
            Err(source) => {
                let what = format!("detach {}", hook.name());
                return Err(attach_error(&what, ifindex, source));
            }
        }
        pins::remove(&pin)?;
    }
    let changes: Vec<_> = hooks.iter().map(|hook| (*hook, Change::Remove)).collect();
    tc::apply(ifindex, &changes).map_err(|source| attach_error("detach", ifindex, source))
}

/// Move every attachment in this network namespace to other programs, each atomically.
pub fn move_all(pins: &Pins, programs: &Programs) -> Result<()> {
    for (hook, ifindex, path) in pins.all_links() {
        match update(&path, programs, hook) {
            Ok(()) => {}
            Err(error) if is_dead(&error) => pins::remove(&path)?,
            Err(source) => {
                return Err(attach_error(
                    &format!("replace {}", hook.name()),
                    ifindex,
                    source,
                ));
            }
        }
    }
    let replace = Hook::ALL.map(|hook| (hook, Change::Replace(programs.get(hook))));
    for_every_interface(|ifindex| {
        tc::apply(ifindex, &replace)
            .map_err(|source| attach_error("replace filters", ifindex, source))
    })
}

/// Remove our filters from every interface of this network namespace, and what they hang at unless others use it. What
/// failed; the rest is removed.
pub fn remove_all_filters() -> Vec<Error> {
    let remove = Hook::ALL.map(|hook| (hook, Change::Remove));
    let mut failures = Vec::new();
    let listed = for_every_interface(|ifindex| {
        let removed = || {
            let found = tc::look(ifindex)?;
            if found.ours {
                tc::apply(ifindex, &remove)?;
            }
            if found.ours && !found.others {
                tc::remove_qdisc(ifindex)?;
            }
            Ok(())
        };
        let failed = removed().map_err(|source| attach_error("detach filters", ifindex, source));
        failures.extend(failed.err());
        Ok(())
    });
    failures.extend(listed.err());
    failures
}

/// Names of the interfaces of this network namespace that we are attached to.
pub fn attached(pins: &Pins) -> Result<Vec<String>> {
    let by_links: Vec<u32> = pins
        .all_links()
        .into_iter()
        .map(|(_, ifindex, _)| ifindex)
        .collect();
    let mut indexes = Vec::new();
    for_every_interface(|ifindex| {
        let found =
            tc::look(ifindex).map_err(|source| attach_error("list filters", ifindex, source))?;
        if found.ours || by_links.contains(&ifindex) {
            indexes.push(ifindex);
        }
        Ok(())
    })?;
    // One that went away meanwhile needs no name.
    let name = |index: &u32| nix::net::if_::if_indextoname(*index).ok();
    let names = indexes.iter().filter_map(name);
    Ok(names
        .map(|name| name.to_string_lossy().into_owned())
        .collect())
}

fn link(path: &Path, programs: &Programs, (hook, ifindex): (Hook, u32)) -> io::Result<()> {
    match update(path, programs, hook) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // The index was another interface's, which is gone.
        Err(error) if is_dead(&error) => std::fs::remove_file(path)?,
        Err(error) => return Err(error),
    }
    let kind = match hook.direction() {
        Direction::Ingress => TCX_INGRESS,
        Direction::Egress => TCX_EGRESS,
    };
    let link = sys::link_create(programs.get(hook), ifindex, kind)?;
    sys::pin(link.as_fd(), path)
}

fn update(path: &Path, programs: &Programs, hook: Hook) -> io::Result<()> {
    sys::link_update(sys::get(path)?.as_fd(), programs.get(hook))
}

fn for_every_interface(mut act: impl FnMut(u32) -> Result<()>) -> Result<()> {
    let list = Path::new("the list of interfaces");
    let interfaces =
        nix::net::if_::if_nameindex().map_err(|errno| pin_error("read", list, errno.into()))?;
    interfaces
        .iter()
        .try_for_each(|interface| act(interface.index()))
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

fn is_dead(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOLINK)
}

fn attach_error(what: &str, ifindex: u32, source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::EPERM) => Error::Privilege {
            what: format!("{what} at interface {ifindex}"),
        },
        Some(libc::ENODEV) => Error::NoInterface {
            name: format!("with index {ifindex}"),
        },
        _ => Error::Attach {
            what: what.to_owned(),
            ifindex,
            source,
        },
    }
}
