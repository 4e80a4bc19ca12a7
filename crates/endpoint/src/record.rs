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
use crate::names::fnv;

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
    /// Of the endpoint. A byte that has changed could give an endpoint an address that is another's. None: of a version
    /// that wrote none.
    #[serde(default)]
    checksum: Option<u64>,
}

impl Content {
    fn new(boot_id: &str, endpoint: &Endpoint) -> io::Result<Self> {
        Ok(Self {
            version: VERSION,
            boot_id: boot_id.to_owned(),
            checksum: Some(checksum(endpoint)?),
            endpoint: endpoint.clone(),
        })
    }
}

fn checksum(endpoint: &Endpoint) -> io::Result<u64> {
    Ok(fnv(serde_json::to_vec(endpoint)?.into_iter()))
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
        let sum = checksum(&content.endpoint).map_err(|error| error.to_string())?;
        if content.checksum.is_some_and(|written| written != sum) {
            return Err("its checksum is wrong".to_owned());
        }
        Ok(Some((phase, content.endpoint)))
    }

    /// Write a record, over the one of the same phase. On error that stays, and nothing else is left.
    pub fn write(&self, endpoint: &Endpoint, phase: Phase) -> Result<()> {
        let path = self.path(endpoint.id, phase);
        let temporary = self.directory.join(format!("{}.{TEMPORARY}", endpoint.id));
        let written = Content::new(&self.boot_id, endpoint)
            .and_then(|content| write(&temporary, &content))
            .and_then(|()| fs::rename(&temporary, &path));
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::attachment::{Key, Pod};
    use crate::ports::HostPort;

    fn endpoint(id: u32) -> Endpoint {
        Endpoint {
            id,
            key: Key::new("4f6c1d", "eth0"),
            pod: Some(Pod {
                namespace: "default".to_owned(),
                name: "web".to_owned(),
                uid: "0000-1111".to_owned(),
            }),
            sandbox: "/run/netns/cni-1".to_owned(),
            netns_inode: 4_026_532_000,
            netns_device: 4,
            host_link: "mlh0123456789ab".to_owned(),
            addresses: vec![
                IpAddr::from([10, 244, 1, 7]),
                "fd00:244:1::7".parse().unwrap(),
            ],
            mac: [10, 88, 10, 244, 1, 7],
            host_mac: [10, 88, 169, 254, 1, 1],
            mtu: 1450,
            ports: vec![HostPort {
                address: None,
                protocol: 6,
                port: 8080,
                container_port: 80,
            }],
        }
    }

    /// A directory with one record, to be damaged.
    struct Victim {
        directory: tempfile::TempDir,
        records: Records,
        phase: Phase,
        whole: Vec<u8>,
    }

    impl Victim {
        fn new(phase: Phase) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let records = Records::open(directory.path(), "boot").unwrap();
            records.write(&endpoint(17), phase).unwrap();
            let whole = fs::read(records.path(17, phase)).unwrap();
            Self {
                directory,
                records,
                phase,
                whole,
            }
        }

        /// What the next start makes of these bytes: the record as it was, or nothing, and then no file.
        fn survives(&self, bytes: &[u8]) -> bool {
            let path = self.records.path(17, self.phase);
            fs::write(&path, bytes).unwrap();
            let found = self.records.load().unwrap();
            let text = String::from_utf8_lossy(bytes);
            match &found.records[..] {
                [] => assert!(found.dropped == 1 && !path.exists(), "{text}"),
                records => assert_eq!(records, [(self.phase, endpoint(17))], "{text}"),
            }
            let left = fs::read_dir(self.directory.path()).unwrap().count();
            assert_eq!(left, found.records.len(), "{text}");
            !found.records.is_empty()
        }
    }

    #[test]
    fn cut_at_any_byte_a_record_is_dropped() {
        for phase in Phase::ALL {
            let victim = Victim::new(phase);
            for length in 0..victim.whole.len() {
                let cut = &victim.whole[..length];
                assert!(!victim.survives(cut));
                // A file whose length reached the disk before its content.
                let mut zeros = cut.to_vec();
                zeros.resize(victim.whole.len(), 0);
                assert!(!victim.survives(&zeros));
                // And one over which an older, longer one shows.
                assert!(!victim.survives(&[cut, &victim.whole[..]].concat()) || length == 0);
            }
            assert!(victim.survives(&victim.whole));
        }
    }

    #[test]
    fn with_any_bit_changed_a_record_is_dropped_or_reads_as_it_was() {
        for phase in Phase::ALL {
            let victim = Victim::new(phase);
            let mut survivors = 0;
            for at in 0..victim.whole.len() {
                for bit in 0..8 {
                    let mut bytes = victim.whole.clone();
                    bytes[at] ^= 1 << bit;
                    survivors += usize::from(victim.survives(&bytes));
                }
            }
            // Letters of the checksum's own name, and of an address in the other case.
            assert!(survivors < victim.whole.len() / 2, "{survivors}");
        }
    }

    #[test]
    fn what_an_interrupted_write_or_rename_leaves_is_one_record_or_none() {
        let victim = Victim::new(Phase::Ready);
        let temporary = victim.directory.path().join("17.temporary");
        for length in 0..=victim.whole.len() {
            fs::write(&temporary, &victim.whole[..length]).unwrap();
            let found = victim.records.load().unwrap();
            assert_eq!(found.records, [(Phase::Ready, endpoint(17))]);
            assert!(!temporary.exists());
        }
    }

    #[test]
    fn a_record_without_a_checksum_is_taken_as_before() {
        let victim = Victim::new(Phase::Ready);
        let mut content: serde_json::Value = serde_json::from_slice(&victim.whole).unwrap();
        content.as_object_mut().unwrap().remove("checksum");
        assert!(victim.survives(content.to_string().as_bytes()));
    }
}
