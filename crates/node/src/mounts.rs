//! The mount table of this process (`/proc/self/mountinfo`).

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Where.
    pub point: PathBuf,
    /// Whether mounts made below it reach its peers.
    pub shared: bool,
    /// The filesystem's type.
    pub kind: String,
    /// The filesystem's options, comma-separated (for cgroups of version 1: the controllers).
    pub super_options: String,
}

/// All mounts, in the order they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountTable(Vec<MountEntry>);

impl MountTable {
    /// Reads the table of the calling thread's mount namespace.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs::read("/proc/thread-self/mountinfo")?))
    }

    /// Understands a table; lines that are not of its form are left out.
    pub fn parse(text: &[u8]) -> Self {
        Self(text.split(|b| *b == b'\n').filter_map(entry).collect())
    }

    /// All of them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &MountEntry> {
        self.0.iter()
    }

    /// The mount that a path without symbolic links lies in: of the deepest ones the last, which covers the others.
    pub fn containing(&self, path: &Path) -> Option<&MountEntry> {
        let candidates = self.0.iter().filter(|m| path.starts_with(&m.point));
        candidates.max_by_key(|m| m.point.components().count())
    }

    /// Mounts at a directory or below it.
    pub fn below<'a>(
        &'a self,
        directory: &'a Path,
    ) -> impl DoubleEndedIterator<Item = &'a MountEntry> {
        self.0
            .iter()
            .filter(move |m| m.point.starts_with(directory))
    }
}

/// `36 35 98:0 /mnt1 /mnt/parent rw,noatime shared:1 - ext3 /dev/root rw,errors=continue`
fn entry(line: &[u8]) -> Option<MountEntry> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let separator = fields.iter().position(|f| *f == b"-")?;
    let [kind, _source, options] = fields.get(separator + 1..separator + 4)? else {
        return None;
    };
    Some(MountEntry {
        point: unescape(fields.get(4)?),
        shared: fields
            .get(6..separator)?
            .iter()
            .any(|f| f.starts_with(b"shared:")),
        kind: String::from_utf8_lossy(kind).into_owned(),
        super_options: String::from_utf8_lossy(options).into_owned(),
    })
}

/// Blanks and backslashes are written `\040` and so on.
fn unescape(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let code = code
            .and_then(|c| std::str::from_utf8(c).ok())
            .and_then(|c| u8::from_str_radix(c, 8).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// Whether a path has bytes that a mount table or a line of a log would not show as they are.
pub fn is_plain(path: &Path) -> bool {
    !path.as_os_str().as_bytes().contains(&b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        30 21 0:26 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
        31 21 0:27 / /mnt/a\\040b rw - tmpfs malha rw\n\
        nonsense\n\
        32 31 0:28 / /mnt/a\\040b/c rw master:3 - tmpfs malha rw\n";

    #[test]
    fn the_mount_of_a_path_is_the_deepest() {
        let table = MountTable::parse(TABLE);
        assert_eq!(table.iter().count(), 4);
        let of = |path: &str| {
            table
                .containing(Path::new(path))
                .map(|m| (m.point.clone(), m.shared))
        };
        assert_eq!(of("/etc/x"), Some(("/".into(), true)));
        assert_eq!(of("/mnt/a b/x"), Some(("/mnt/a b".into(), false)));
        assert_eq!(of("/mnt/a bc"), Some(("/".into(), true)));
        let below: Vec<_> = table
            .below(Path::new("/mnt"))
            .map(|m| m.point.clone())
            .collect();
        assert_eq!(
            below,
            [PathBuf::from("/mnt/a b"), PathBuf::from("/mnt/a b/c")]
        );
    }

    #[test]
    fn controllers_are_options() {
        let table = MountTable::parse(TABLE);
        let memory = table.iter().find(|m| m.kind == "cgroup").unwrap();
        assert_eq!(memory.super_options, "rw,memory");
    }
}
