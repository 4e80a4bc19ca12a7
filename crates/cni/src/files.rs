//! Files that are there whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Writes a file beside its place, makes it durable and renames it into place. The temporary file lies in the same
/// directory because runtimes notice a rename only when both ends are watched.
///
/// # Errors
/// Of the file system; then the file is as it was.
pub(crate) fn write_atomic(path: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
    replace(path, mode, |file| file.write_all(contents))
}

/// As [`write_atomic`], with what `fill` writes.
///
/// # Errors
/// Of the file system or of `fill`; then the file is as it was.
pub(crate) fn replace(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let (directory, temporary) = temporary_beside(path)?;
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        // The mode given to open is cut by the umask.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        fill(&mut file)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        // Whatever is left of it is of no use; the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Removes a file; one that is not there is no fault. Says whether it was there.
///
/// # Errors
/// Of the file system.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn temporary_beside(path: &Path) -> io::Result<(&Path, PathBuf)> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name");
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(no_name());
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!(
        ".{}.{}-{number}.tmp",
        name.to_string_lossy(),
        std::process::id()
    );
    Ok((directory, directory.join(name)))
}
