//! Files that change together: a reader sees the old ones or the new ones.
//!
//! As in a kubelet: the files lie in a directory of their own, `..data` is a link to it, and each name is a link through
//! `..data`. Renaming a new `..data` over the old one changes all of them at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use jiff::Timestamp;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
}

/// Files by their names, which may have directories.
pub type Payload = BTreeMap<String, Content>;

const DATA: &str = "..data";
const NEW: &str = "..data_tmp";

/// Writes `payload` if it differs from what is there, for `group` if one is given. Tells whether it did.
///
/// # Errors
/// When the directory cannot be written to.
pub fn write(directory: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    if read(&directory.join(DATA)).is_ok_and(|present| present == *payload) {
        return Ok(false);
    }
    let old = fs::read_link(directory.join(DATA)).ok();
    let stamp = Timestamp::now()
        .strftime("..%Y_%m_%d_%H_%M_%S.%9f")
        .to_string();
    let fresh = directory.join(&stamp);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (name, content) in payload {
        let path = fresh.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &content.bytes)?;
        let mut mode = content.mode;
        if let Some(group) = group {
            std::os::unix::fs::chown(&path, None, Some(group))?;
            mode |= 0o440;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    let _ = fs::remove_file(directory.join(NEW));
    symlink(&stamp, directory.join(NEW))?;
    fs::rename(directory.join(NEW), directory.join(DATA))?;
    link(directory, payload)?;
    if let Some(old) = old {
        fs::remove_dir_all(directory.join(old))?;
    }
    Ok(true)
}

/// The links that users see: one for the first part of each name.
fn link(directory: &Path, payload: &Payload) -> io::Result<()> {
    let first = |name: &String| name.split('/').next().unwrap_or_default().to_owned();
    let wanted: BTreeSet<String> = payload.keys().map(first).collect();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let keep = name
            .to_str()
            .is_some_and(|n| n.starts_with("..") || wanted.contains(n));
        if !keep {
            fs::remove_file(directory.join(name))?;
        }
    }
    for name in wanted {
        match symlink(Path::new(DATA).join(&name), directory.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn read(directory: &Path) -> io::Result<Payload> {
    let mut payload = Payload::new();
    let mut ahead = vec![directory.to_owned()];
    while let Some(next) = ahead.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.is_dir() {
                ahead.push(path);
                continue;
            }
            let name = path
                .strip_prefix(directory)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            let content = Content {
                bytes: fs::read(&path)?,
                mode: metadata.permissions().mode() & 0o7777,
            };
            payload.insert(name, content);
        }
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let content = |text: &str| Content {
            bytes: text.into(),
            mode: 0o640,
        };
        files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), content(text)))
            .collect()
    }

    #[test]
    fn files_change_together() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        assert!(write(at, &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap());
        assert_eq!(fs::read_to_string(at.join("d/b")).unwrap(), "2");
        assert_eq!(fs::read_link(at.join("a")).unwrap(), Path::new("..data/a"));
        assert!(!write(at, &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap());
        assert!(write(at, &payload(&[("a", "3"), ("c", "4")]), None).unwrap());
        assert_eq!(fs::read_to_string(at.join("a")).unwrap(), "3");
        assert!(!at.join("d").exists());
        let names = fs::read_dir(at).unwrap().count();
        assert_eq!(
            names, 4,
            "the old directory is gone: ..data, its target, a, c"
        );
        let mode = fs::metadata(at.join("c")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }
}
