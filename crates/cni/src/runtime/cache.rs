//! What attachments were made with, one file each, in the form that libcni has.
//!
//! libcni writes these files in place; a crash leaves an empty one, and DEL then failed for ever. Here a file is
//! whole or not there, and one that cannot be read all the same is only a record that is missing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Attachment, RuntimeError};
use crate::{
    files,
    types::{Args, AttachmentId, NetworkList, Success, Version},
};

const KIND: &str = "cniCacheV1";

/// A directory of records.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    kind: String,
    container_id: String,
    /// The list, in base64.
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default)]
    netns: String,
    #[serde(default)]
    cni_args: Vec<(String, String)>,
    #[serde(default)]
    capability_args: Map<String, Value>,
    /// The final result, in the list's version; absent until ADD has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

impl Entry {
    /// A record without a result: ADD begins.
    pub fn intent(list: &NetworkList, attachment: &Attachment, netns: &Path) -> Self {
        Self {
            kind: KIND.into(),
            container_id: attachment.id.container_id.clone(),
            config: STANDARD.encode(list.to_value().to_string()),
            if_name: attachment.id.ifname.clone(),
            network_name: list.name.clone(),
            netns: netns.to_string_lossy().into_owned(),
            cni_args: attachment.args.pairs().to_vec(),
            capability_args: attachment.capabilities.clone(),
            result: None,
        }
    }

    /// The list that the attachment was made with, when it can be read.
    pub fn list(&self) -> Option<NetworkList> {
        let list = NetworkList::parse(&STANDARD.decode(&self.config).ok()?).ok()?;
        (list.name == self.network_name && !list.plugins.is_empty()).then_some(list)
    }

    /// The result, when there is one and it can be read.
    pub fn result(&self, version: Version) -> Option<Success> {
        Success::from_value(self.result.as_ref()?, version).ok()
    }

    /// What was attached. A namespace that is gone by now is left out.
    pub fn attachment(&self) -> Attachment {
        let netns = Some(PathBuf::from(&self.netns)).filter(|path| path.exists());
        Attachment {
            id: AttachmentId {
                container_id: self.container_id.clone(),
                ifname: self.if_name.clone(),
            },
            netns,
            args: Args::new(self.cni_args.iter().cloned()),
            capabilities: self.capability_args.clone(),
        }
    }
}

impl Cache {
    /// Records in `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The record of an attachment.
    ///
    /// # Errors
    /// When there is a file that cannot be read or is no record of this attachment.
    pub fn get(&self, network: &str, id: &AttachmentId) -> Result<Option<Entry>, RuntimeError> {
        let path = self.path(network, id);
        let entry = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
            Ok(text) => parse(&text),
        };
        let entry = entry.and_then(|entry| {
            match self.path(&entry.network_name, &entry.attachment().id) == path {
                true => Ok(entry),
                false => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it is the record of another attachment",
                )),
            }
        });
        entry
            .map(Some)
            .map_err(|source| RuntimeError::Cache { path, source })
    }

    /// Writes a record.
    ///
    /// # Errors
    /// Of the file system.
    pub fn put(&self, entry: &Entry) -> Result<(), RuntimeError> {
        let path = self.path(&entry.network_name, &entry.attachment().id);
        let written = fs::create_dir_all(&self.dir)
            .and_then(|()| Ok(serde_json::to_vec(entry)?))
            .and_then(|text| files::write_atomic(&path, 0o600, &text));
        written.map_err(|source| RuntimeError::Cache { path, source })
    }

    /// Removes a record, if there is one.
    ///
    /// # Errors
    /// Of the file system.
    pub fn remove(&self, network: &str, id: &AttachmentId) -> Result<(), RuntimeError> {
        let path = self.path(network, id);
        files::remove(&path)
            .map(|_| ())
            .map_err(|source| RuntimeError::Cache { path, source })
    }

    /// The readable records of a network.
    ///
    /// # Errors
    /// When the directory is there and cannot be read: then nobody knows what is attached.
    pub fn list(&self, network: &str) -> Result<Vec<Entry>, RuntimeError> {
        let failed = |source| RuntimeError::Cache {
            path: self.dir.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let paths: Vec<PathBuf> = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()
            .map_err(failed)?;
        let read = |path: &PathBuf| parse(&fs::read(path).ok()?).ok();
        Ok(paths
            .iter()
            .filter_map(read)
            .filter(|entry| entry.network_name == network)
            .collect())
    }

    /// Removes the network's files that are no records, except those named as records of `keep` are.
    pub fn remove_unreadable(&self, network: &str, keep: &[AttachmentId]) {
        let keep: Vec<PathBuf> = keep.iter().map(|id| self.path(network, id)).collect();
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let ours = name
                .strip_prefix(network)
                .is_some_and(|rest| rest.starts_with('-'));
            let broken = || fs::read(&path).is_ok_and(|text| parse(&text).is_err());
            if ours && !keep.contains(&path) && broken() {
                // It says nothing to anybody; what stays is looked at again next time.
                let _ = files::remove(&path);
            }
        }
    }

    fn path(&self, network: &str, id: &AttachmentId) -> PathBuf {
        self.dir
            .join(format!("{network}-{}-{}", id.container_id, id.ifname))
    }
}

fn parse(text: &[u8]) -> io::Result<Entry> {
    let entry: Entry = serde_json::from_slice(text)?;
    match entry.kind == KIND {
        true => Ok(entry),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is of kind {:?}", entry.kind),
        )),
    }
}
