//! What the host was like before agents changed it, so that `malha uninstall` can give it back.
//!
//! Written before the change, and only for the first one: what an agent finds later is its predecessor's work. The record
//! is worthless in another boot, as settings are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use malha_kernel::sysctl;
use serde::{Deserialize, Serialize};

/// File in the agent's directory that says which boot an agent last ran in.
pub const BOOT_FILE: &str = "boot-id";

const FILE: &str = "before.json";
const IPV4_FORWARDING: &str = "net/ipv4/ip_forward";
const IPV6_FORWARDING: &str = "net/ipv6/conf/all/forwarding";

/// The record.
#[derive(Clone, Debug)]
pub struct Before {
    path: PathBuf,
    contents: Contents,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Contents {
    boot_id: String,
    settings: Vec<Setting>,
    /// Whether there was no BPF filesystem.
    mounted_bpffs: bool,
}

/// A setting that an agent changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// A path below /proc/sys.
    pub name: String,
    /// What it was.
    pub before: String,
    /// What it was set to.
    pub set: String,
    /// What other settings were, those that the kernel changes along with it.
    pub along: BTreeMap<String, String>,
}

impl Before {
    /// The record in an agent's directory. One that is absent, of another boot, or cannot be read, is empty: what was is
    /// not known any more then.
    #[must_use]
    pub fn load(run: &Path, boot_id: &str) -> Self {
        let path = run.join(FILE);
        let read = fs::read(&path).ok();
        let contents = read.and_then(|bytes| match serde_json::from_slice(&bytes) {
            Ok(contents) => Some(contents),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read what the host was like before: starting anew");
                None
            }
        });
        let contents = contents.filter(|contents: &Contents| contents.boot_id == boot_id);
        Self {
            path,
            contents: contents.unwrap_or_else(|| Contents {
                boot_id: boot_id.to_owned(),
                ..Contents::default()
            }),
        }
    }

    /// Change a setting of the calling thread's network namespace, unless it has the value.
    ///
    /// # Errors
    /// When the record cannot be written, and then nothing is changed; when the setting cannot be changed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let found = sysctl::get(name)?;
        let Some(found) = found.filter(|found| found != value) else {
            return Ok(sysctl::set(name, value).map(drop)?);
        };
        if !self.contents.settings.iter().any(|s| s.name == name) {
            let along = along(name)?;
            self.contents.settings.push(Setting {
                name: name.to_owned(),
                before: found,
                set: value.to_owned(),
                along,
            });
            self.save()?;
        }
        Ok(sysctl::set(name, value).map(drop)?)
    }

    /// Write down that there was no BPF filesystem.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn note_bpffs(&mut self) -> Result<()> {
        self.contents.mounted_bpffs = true;
        self.save()
    }

    /// Whether there was no BPF filesystem.
    #[must_use]
    pub fn mounted_bpffs(&self) -> bool {
        self.contents.mounted_bpffs
    }

    /// What was changed and still is as it was changed: others may have changed it since. The last change comes first.
    ///
    /// # Errors
    /// When a setting cannot be read.
    pub fn to_restore(&self) -> Result<Vec<Setting>> {
        let mut settings = Vec::new();
        for setting in self.contents.settings.iter().rev() {
            if sysctl::get(&setting.name)?.as_ref() == Some(&setting.set) {
                settings.push(setting.clone());
            }
        }
        Ok(settings)
    }

    /// The record's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whole or not at all.
    fn save(&self) -> Result<()> {
        let new = self.path.with_extension("new");
        let bytes = serde_json::to_vec_pretty(&self.contents)?;
        fs::write(&new, bytes)
            .and_then(|()| fs::rename(&new, &self.path))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Setting {
    /// Give it back, and what the kernel changed along with it. A link that is gone needs none.
    ///
    /// # Errors
    /// When one cannot be changed.
    pub fn restore(&self) -> Result<()> {
        sysctl::set_if_present(&self.name, &self.before)?;
        for (name, before) in &self.along {
            if sysctl::get(name)?.is_some_and(|found| found != *before) {
                sysctl::set_if_present(name, before)?;
            }
        }
        Ok(())
    }
}

/// Forwarding for all is forwarding of every link, and makes redirects unwelcome.
fn along(name: &str) -> Result<BTreeMap<String, String>> {
    let (directory, others): (_, &[&str]) = match name {
        IPV4_FORWARDING => ("net/ipv4/conf", &["net/ipv4/conf/all/accept_redirects"]),
        IPV6_FORWARDING => ("net/ipv6/conf", &[]),
        _ => return Ok(BTreeMap::new()),
    };
    let links = sysctl::list(directory)?.into_iter();
    let names = links.map(|link| format!("{directory}/{link}/forwarding"));
    let mut found = BTreeMap::new();
    for other in names.chain(others.iter().map(|other| (*other).to_owned())) {
        if let Some(value) = sysctl::get(&other)?.filter(|_| other != name) {
            found.insert(other, value);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_other_boots_and_torn_ones_are_empty() {
        let directory = tempfile::tempdir().unwrap();
        let mut before = Before::load(directory.path(), "one");
        assert!(!before.mounted_bpffs());
        before.note_bpffs().unwrap();
        assert!(Before::load(directory.path(), "one").mounted_bpffs());
        assert!(!Before::load(directory.path(), "two").mounted_bpffs());
        let whole = fs::read(before.path()).unwrap();
        for length in 0..whole.len() {
            fs::write(before.path(), &whole[..length]).unwrap();
            assert!(!Before::load(directory.path(), "one").mounted_bpffs());
        }
    }
}
