//! Writing files so that a failure later leaves nothing of them.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};

/// For everybody to read.
pub const PUBLIC: u32 = 0o644;
/// For root alone.
pub const SECRET: u32 = 0o600;

/// What a command has written so far. Dropped without [`Written::keep`], it removes all of it again, last first, and puts
/// back what was there before.
#[derive(Debug, Default)]
pub struct Written {
    paths: Vec<PathBuf>,
    trees: Vec<PathBuf>,
    replaced: Vec<Replaced>,
    /// Links that led elsewhere before: where they are, and where they led.
    relinked: Vec<(PathBuf, PathBuf)>,
}

/// A file as it was before.
#[derive(Debug)]
struct Replaced {
    path: PathBuf,
    mode: u32,
    content: Vec<u8>,
}

impl Written {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a directory and those above it that are missing.
    ///
    /// # Errors
    /// When it cannot be made; names it.
    pub fn directory(&mut self, path: &Path, mode: u32) -> Result<()> {
        let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.exists()).collect();
        for (index, directory) in missing.iter().enumerate().rev() {
            let mode = if index == 0 { mode } else { 0o755 };
            let made = fs::DirBuilder::new().mode(mode).create(directory);
            match made {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(|e| refused("make", directory, &e))?,
            }
            self.paths.push(directory.to_path_buf());
        }
        Ok(())
    }

    /// Writes a file under a temporary name beside it, then renames: others see all of it or nothing.
    ///
    /// # Errors
    /// When it cannot be written; names it.
    pub fn file(&mut self, path: &Path, mode: u32, content: impl AsRef<[u8]>) -> Result<()> {
        self.parent(path)?;
        let before = fs::metadata(path).ok();
        let before = before.and_then(|metadata| {
            Some(Replaced {
                path: path.to_path_buf(),
                mode: metadata.permissions().mode() & 0o7777,
                content: fs::read(path).ok()?,
            })
        });
        write(path, mode, content.as_ref()).map_err(|e| refused("write", path, &e))?;
        match before {
            Some(before) => self.replaced.push(before),
            None => self.paths.push(path.to_path_buf()),
        }
        Ok(())
    }

    /// Makes a symbolic link, in place of an older one.
    ///
    /// # Errors
    /// When it cannot be made; names it.
    pub fn link(&mut self, path: &Path, target: &Path) -> Result<()> {
        self.parent(path)?;
        let before = fs::read_link(path).ok();
        relink(path, target).map_err(|e| refused("make the link", path, &e))?;
        match before {
            Some(before) => self.relinked.push((path.to_path_buf(), before)),
            None => self.paths.push(path.to_path_buf()),
        }
        Ok(())
    }

    /// Takes note of a directory that another process fills: it is removed with all that is in it.
    pub fn tree(&mut self, path: PathBuf) {
        self.trees.push(path);
    }

    /// Everything stays.
    pub fn keep(mut self) {
        self.paths.clear();
        self.trees.clear();
        self.replaced.clear();
        self.relinked.clear();
    }

    fn parent(&mut self, path: &Path) -> Result<()> {
        match path.parent() {
            Some(parent) => self.directory(parent, 0o755),
            None => Ok(()),
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for tree in self.trees.drain(..) {
            if let Err(error) = remove(&tree) {
                tracing::warn!(error = format!("{error:#}"), "not removed");
            }
        }
        for before in self.replaced.drain(..).rev() {
            if let Err(error) = write(&before.path, before.mode, &before.content) {
                tracing::warn!(path = %before.path.display(), %error, "not put back");
            }
        }
        for (path, before) in self.relinked.drain(..).rev() {
            if let Err(error) = relink(&path, &before) {
                tracing::warn!(path = %path.display(), %error, "not put back");
            }
        }
        for path in self.paths.drain(..).rev() {
            let is_directory = fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir());
            // Directories go only when nothing else has come into them.
            let removed = if is_directory {
                fs::remove_dir(&path)
            } else {
                fs::remove_file(&path)
            };
            if let Err(error) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::debug!(path = %path.display(), %error, "not removed");
            }
        }
    }
}

/// Whether a directory, which need not exist yet, can take files: finds read-only and full file systems before anything
/// depends on it. Leaves nothing behind.
///
/// # Errors
/// Why not, and what to do.
pub fn writable(directory: &Path) -> Result<()> {
    let existing = directory.ancestors().find(|path| path.is_dir());
    let probe = existing.unwrap_or(Path::new("/")).join("probe");
    // More than a join writes into any directory.
    let content = [0; 64 * 1024];
    let beside = temporary(&probe);
    let made = create(&beside, SECRET).and_then(|mut file| {
        file.write_all(&content)?;
        file.sync_all()
    });
    let removed = remove(&beside);
    made.map_err(|e| refused("write into", directory, &e))?;
    removed.map(drop)
}

/// What the system says, with what to do about it.
fn refused(verb: &str, path: &Path, error: &io::Error) -> anyhow::Error {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let path = path.display();
    let (cause, remedy) = match error.kind() {
        ReadOnlyFilesystem => (
            "its file system is read-only",
            "mount it writable (mount -o remount,rw), after looking why it is not (dmesg)"
                .to_owned(),
        ),
        StorageFull | QuotaExceeded => (
            "no space is left",
            format!("free some on its file system (df -h {path})"),
        ),
        PermissionDenied => (
            "permission denied",
            "look at its attributes (lsattr) and at security modules' logs".to_owned(),
        ),
        _ => return anyhow!("cannot {verb} {path}: {error}"),
    };
    anyhow!("cannot {verb} {path}: {cause}; {remedy}")
}

/// Reads a text file.
///
/// # Errors
/// When it cannot be read; names it.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Removes a file or a whole directory; what is absent is removed already. Does not follow symbolic links.
///
/// # Errors
/// When something stays; names it.
pub fn remove(path: &Path) -> Result<bool> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).with_context(|| format!("cannot remove {}", path.display())),
    }
}

fn relink(path: &Path, target: &Path) -> io::Result<()> {
    let beside = temporary(path);
    // A link left by a process that was killed here.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, &beside)?;
    fs::rename(&beside, path)
}

fn write(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let beside = temporary(path);
    let mut file = create(&beside, mode)?;
    // The mode above is cut by the umask, and does not apply to a file left by a killed process.
    let written = file
        .set_permissions(fs::Permissions::from_mode(mode))
        .and_then(|()| file.write_all(content))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, path));
    written.inspect_err(|_| drop(fs::remove_file(&beside)))
}

fn create(path: &Path, mode: u32) -> io::Result<fs::File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".malha");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_not_kept_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().expect("a directory");
        let base = root.path();
        fs::create_dir(base.join("old")).expect("a directory");
        let mut written = Written::new();
        written
            .file(&base.join("old/a"), SECRET, "x")
            .expect("written");
        written
            .file(&base.join("new/deep/b"), PUBLIC, "y")
            .expect("written");
        written
            .link(&base.join("new/c"), Path::new("deep/b"))
            .expect("linked");
        assert_eq!(mode(&base.join("old/a")), 0o600);
        assert_eq!(mode(&base.join("new/c")), 0o644);
        drop(written);
        assert!(base.join("old").exists(), "was there before");
        assert!(!base.join("new").exists() && !base.join("old/a").exists());
    }

    #[test]
    fn what_was_there_before_is_put_back() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("f");
        write(&path, 0o640, b"old").expect("written");
        let mut written = Written::new();
        written.file(&path, SECRET, "new").expect("written");
        assert_eq!(mode(&path), 0o600);
        let link = root.path().join("l");
        symlink("old", &link).expect("linked");
        written.link(&link, Path::new("new")).expect("linked");
        drop(written);
        assert_eq!(
            (read(&path).expect("readable").as_str(), mode(&path)),
            ("old", 0o640)
        );
        assert_eq!(fs::read_link(&link).expect("a link"), Path::new("old"));
    }

    #[test]
    fn a_probe_leaves_nothing() {
        let root = tempfile::tempdir().expect("a directory");
        writable(&root.path().join("a/b")).expect("writable");
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 0);
        let text =
            refused("write", Path::new("/x"), &io::ErrorKind::StorageFull.into()).to_string();
        assert_eq!(
            text,
            "cannot write /x: no space is left; free some on its file system (df -h /x)"
        );
    }

    #[test]
    fn directories_with_foreign_files_stay() {
        let root = tempfile::tempdir().expect("a directory");
        let mut written = Written::new();
        let directory = root.path().join("d");
        written.directory(&directory, 0o700).expect("made");
        fs::write(directory.join("foreign"), "").expect("written");
        assert_eq!(mode(&directory), 0o700);
        drop(written);
        assert!(directory.join("foreign").exists());
    }

    #[test]
    fn kept_files_stay_and_are_replaced_whole() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("f");
        for (content, wanted) in [("1", PUBLIC), ("2", SECRET)] {
            let mut written = Written::new();
            written.file(&path, wanted, content).expect("written");
            written.keep();
            assert_eq!(read(&path).expect("readable"), content);
            assert_eq!(mode(&path), wanted);
        }
        assert_eq!(
            fs::read_dir(root.path()).expect("readable").count(),
            1,
            "no temporary file"
        );
        assert!(remove(&path).expect("removed"));
        assert!(!remove(&path).expect("removed already"));
    }
}
