//! The embedded object, and the programs loaded from it.
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::EbpfLoader;
use aya::programs::SchedClassifier;
use malha_abi::map;

use crate::Config;
use crate::error::{Error, Result};
use crate::features;
use crate::hooks::Hook;
use crate::pins::{self, Pins, pin_error};
use crate::sys;

/// The object that the build script compiled.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/malha.o"));

/// Packets in fragments at a time that isolated endpoints may have, some 120 bytes of kernel memory each.
const FRAGMENTS: u32 = 4096;

/// The programs.
#[derive(Debug)]
pub struct Programs {
    by_hook: BTreeMap<Hook, OwnedFd>,
}

impl Programs {
    /// Open the programs pinned in `directory`; None if they are not all there.
    pub fn open(directory: &Path) -> Option<Self> {
        let open = |hook: Hook| Some((hook, sys::get(&directory.join(hook.name())).ok()?));
        let by_hook = Hook::ALL.into_iter().map(open).collect::<Option<_>>()?;
        Some(Self { by_hook })
    }

    /// Load the object: maps are taken from their pins or made and pinned, programs are verified and pinned in
    /// `directory`.
    pub fn load(object: &[u8], config: &Config, pins: &Pins, directory: &Path) -> Result<Self> {
        match Self::load_all(object, config, pins, directory) {
            Err(error @ Error::Load { .. }) => Err(features::missing().unwrap_or(error)),
            result => result,
        }
    }

    fn load_all(object: &[u8], config: &Config, pins: &Pins, directory: &Path) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries(map::ENDPOINTS, config.max_endpoints)
            .map_max_entries(map::ROUTES, config.max_routes)
            .map_max_entries(map::FLOWS, config.max_flows)
            .map_max_entries(map::DATAGRAMS, config.max_flows)
            .map_max_entries(map::POLICIES, config.max_endpoints)
            .map_max_entries(map::IDENTITIES, config.max_identities)
            .map_max_entries(map::PEERS, config.max_verdicts)
            .map_max_entries(map::PORTS, config.max_verdicts)
            .map_max_entries(map::CONNECTIONS, config.max_connections)
            .map_max_entries(map::FRAGMENTS, FRAGMENTS)
            .map_max_entries(
                map::EVENTS,
                config.event_bytes.next_power_of_two().max(4096),
            );
        for name in map::ALL {
            loader.map_pin_path(name, pins.maps().join(name));
        }
        let mut loaded = loader
            .load(object)
            .map_err(|error| load_error("object", error))?;
        pins::remove_directory(directory)?;
        pins::make_directory(directory)?;
        for hook in Hook::ALL {
            let missing = || {
                load_error(
                    hook.name(),
                    std::io::Error::other("the object has no such program"),
                )
            };
            let program = loaded.program_mut(hook.name()).ok_or_else(missing)?;
            let program: &mut SchedClassifier = program
                .try_into()
                .map_err(|error| load_error(hook.name(), error))?;
            program
                .load()
                .map_err(|error| load_error(hook.name(), error))?;
            let fd = program
                .fd()
                .map_err(|error| load_error(hook.name(), error))?;
            let pin = directory.join(hook.name());
            sys::pin(fd.as_fd(), &pin).map_err(|source| pin_error("pin", &pin, source))?;
        }
        Self::open(directory)
            .ok_or_else(|| load_error("programs", std::io::Error::other("their pins vanished")))
    }

    /// The program of a hook.
    pub fn get(&self, hook: Hook) -> BorrowedFd<'_> {
        self.by_hook[&hook].as_fd()
    }
}

/// What tells one object from another: FNV-1a over its bytes, 64 bits. Not against malice: whoever can write pins can
/// do anything.
pub fn hash(object: &[u8]) -> u64 {
    object.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Whether every directory of programs but `keep` could be removed.
pub fn remove_others(pins: &Pins, keep: &Path) -> Result<()> {
    pins.all_programs()
        .iter()
        .filter(|path| *path != keep)
        .try_for_each(|path| pins::remove_directory(path))
}

/// Name `new` as the programs in force.
pub fn commit(new: &Path, current: &Path) -> Result<()> {
    fs::rename(new, current).map_err(|source| pin_error("rename", new, source))
}

fn load_error(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Load {
        what: what.to_owned(),
        source: Box::new(source),
    }
}
