//! Records on disk: one file for each endpoint, whose name says the phase.
//!
//! ```text
//! STATE/17.adding → 17.ready → 17.deleting → 17.freed → (removed)
//! ```
//! Nothing is synchronised to the disk: a killed process loses nothing of what it wrote, and after a power cut the boot
//! is another one, so that whatever is left, torn or empty, is dropped.
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::attachment::Endpoint;
use crate::error::{Error, Result};

/// How far an endpoint has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// ADD is at work, or was killed.
    Adding,
    /// ADD has succeeded.
    Ready,
    /// Nothing passes any more; its link may still be there.
    Deleting,
    /// Nothing is left of it; its addresses rest.
    Freed,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Adding, Self::Ready, Self::Deleting, Self::Freed];

    fn suffix(self) -> &'static str {
        match self {
            Self::Adding => "adding",
            Self::Ready => "ready",
            Self::Deleting => "deleting",
            Self::Freed => "freed",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    boot_id: String,
    endpoint: Endpoint,
}

const VERSION: u32 = 1;

/// The directory of records.
#[derive(Debug)]
pub struct Records {
    directory: PathBuf,
    boot_id: String,
}

/// What was found in the directory.
#[derive(Debug, Default)]
pub struct Found {
    pub records: Vec<(Phase, Endpoint)>,
    /// Dropped because they are of another boot, or cannot be read.
    pub dropped: usize,
}

impl Records {
    pub fn open(directory: &Path, boot_id: &str) -> Result<Self> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(|source| record_error("make the directory of", directory, source))?;
        Ok(Self {
            directory: directory.to_owned(),
            boot_id: boot_id.to_owned(),
        })
    }

    /// Read all, and remove what is worthless.
    pub fn load(&self) -> Result<Found> {
        let failed = |source| record_error("list", &self.directory, source);
        let mut found = Found::default();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(name) = path
                .file_name()
                .and_then(|name| name.to_str())
                .map(str::to_owned)
            else {
                continue;
            };
            match self.read(&path, &name) {
                Ok(Some(record)) => found.records.push(record),
                Ok(None) => {}
                Err(reason) => {
                    tracing::warn!(path = %path.display(), reason, "dropping an endpoint record");
                    found.dropped += 1;
                    remove(&path)?;
                }
            }
        }
        found.records.sort_by_key(|(_, endpoint)| endpoint.id);
        Ok(found)
    }

    /// The record in a file; None: not one of ours. Err: worthless, and why.
    fn read(
        &self,
        path: &Path,
        name: &str,
    ) -> std::result::Result<Option<(Phase, Endpoint)>, String> {
        let Some((id, suffix)) = name.split_once('.') else {
            return Ok(None);
        };
        if suffix == TEMPORARY {
            return Err("its write was interrupted".to_owned());
        }
        let phase = Phase::ALL
            .into_iter()
            .find(|phase| phase.suffix() == suffix);
        let (Some(phase), Ok(id)) = (phase, id.parse::<u32>()) else {
            return Ok(None);
        };
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        let content: Content = serde_json::from_slice(&bytes)
            .map_err(|error| format!("it cannot be read: {error}"))?;
        if content.boot_id != self.boot_id {
            return Err("it is of another boot".to_owned());
        }
        if content.version != VERSION || content.endpoint.id != id {
            return Err("it is of another version or has another's name".to_owned());
        }
        Ok(Some((phase, content.endpoint)))
    }

    /// Write a record, over the one of the same phase. On error that stays, and nothing else is left.
    pub fn write(&self, endpoint: &Endpoint, phase: Phase) -> Result<()> {
        let path = self.path(endpoint.id, phase);
        let temporary = self.directory.join(format!("{}.{TEMPORARY}", endpoint.id));
        let content = Content {
            version: VERSION,
            boot_id: self.boot_id.clone(),
            endpoint: endpoint.clone(),
        };
        let written = write(&temporary, &content).and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|source| {
            let _ = fs::remove_file(&temporary);
            record_error("write", &path, source)
        })
    }

    /// Note the next phase.
    pub fn advance(&self, id: u32, from: Phase, to: Phase) -> Result<()> {
        let path = self.path(id, from);
        fs::rename(&path, self.path(id, to)).map_err(|source| record_error("rename", &path, source))
    }

    /// Forget a record. Absent is fine.
    pub fn remove(&self, id: u32, phase: Phase) -> Result<()> {
        remove(&self.path(id, phase))
    }

    fn path(&self, id: u32, phase: Phase) -> PathBuf {
        self.directory.join(format!("{id}.{}", phase.suffix()))
    }
}

const TEMPORARY: &str = "temporary";

fn write(path: &Path, content: &Content) -> io::Result<()> {
    let bytes = serde_json::to_vec(content)?;
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&bytes)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(record_error("remove", path, source))
        }
        _ => Ok(()),
    }
}

fn record_error(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Record {
        what,
        path: path.to_owned(),
        source,
    }
}
