//! Which network a directory of configurations means: the one of the first file in lexical order, as containerd
//! and kubelet have it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::types::{ListError, NetworkList, PluginEntry};

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no file that could be a configuration. This is what `cni plugin not initialized` means.
    #[error("no network configuration in {}: has a network provider been installed?", .dir.display())]
    None {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory or a file in it cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The first file is no network configuration. The next one is not tried: a node that silently takes another
    /// network is worse than one that is not Ready.
    #[error("{} is no network configuration: {source}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ListError,
    },
    /// The list has no plugins.
    #[error("{} has no plugins", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Loads the network of a directory: the first of its `*.conf`, `*.conflist` and `*.json`.
///
/// # Errors
/// When there is none, or the first is broken.
pub fn load(dir: &Path) -> Result<NetworkList, LoadError> {
    let files = files(dir, &["conf", "conflist", "json"])?;
    match files.first() {
        Some(first) => load_file(first),
        None => Err(LoadError::None {
            dir: dir.to_owned(),
        }),
    }
}

/// Loads one file. Plugins of `<directory>/<network>/*.conf` follow those of a list that does not exclude them
/// (`loadOnlyInlinedPlugins`).
///
/// # Errors
/// When a file is broken or the list has no plugins.
pub fn load_file(path: &Path) -> Result<NetworkList, LoadError> {
    let text = read(path)?;
    let is_list = path
        .extension()
        .is_some_and(|extension| extension == "conflist");
    let parsed = if is_list {
        NetworkList::parse(&text)
    } else {
        NetworkList::parse_single(&text)
    };
    let mut list = parsed.map_err(|source| LoadError::Invalid {
        path: path.to_owned(),
        source,
    })?;
    if !list.inlined_only {
        let beside = path.with_file_name(&list.name);
        for file in files(&beside, &["conf"])? {
            let entry = PluginEntry::parse(&read(&file)?);
            list.plugins
                .push(entry.map_err(|source| LoadError::Invalid { path: file, source })?);
        }
    }
    if list.plugins.is_empty() {
        return Err(LoadError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(list)
}

/// Files with one of the extensions, sorted. A directory that is not there has none.
fn files(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, LoadError> {
    let failed = |source| LoadError::Read {
        path: dir.to_owned(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        other => other.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let matches = path
            .extension()
            .is_some_and(|e| extensions.iter().any(|wanted| e == *wanted));
        if matches && !path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    fs::read(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })
}
