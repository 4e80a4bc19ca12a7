//! Paths of the host.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
};

/// Checks that a path is what a pod says it is, and makes it where the pod allows that.
///
/// # Errors
/// In a kubelet's words.
pub fn check(path: &Path, kind: &str) -> Result<(), String> {
    let shown = path.display();
    let found = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("hostPath {shown}: {error}")),
    };
    let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(test);
    let refused = |what: &str| Err(format!("hostPath type check failed: {shown} is not {what}"));
    let cannot = |e: io::Error| format!("hostPath {shown}: {e}");
    match kind {
        "DirectoryOrCreate" if found.is_none() => {
            fs::create_dir_all(path).map_err(cannot)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(cannot)
        }
        "FileOrCreate" if found.is_none() => {
            fs::File::create(path).map_err(cannot)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(cannot)
        }
        "" if found.is_none() => Err(format!(
            "hostPath {shown} does not exist: create it, or give the volume a type"
        )),
        "" => Ok(()),
        "Directory" | "DirectoryOrCreate" if !is(fs::FileType::is_dir) => refused("a directory"),
        "File" | "FileOrCreate" if !is(fs::FileType::is_file) => refused("a file"),
        "Socket" if !is(FileTypeExt::is_socket) => refused("a socket file"),
        "CharDevice" if !is(FileTypeExt::is_char_device) => refused("a character device"),
        "BlockDevice" if !is(FileTypeExt::is_block_device) => refused("a block device"),
        "Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate" | "Socket" | "CharDevice"
        | "BlockDevice" => Ok(()),
        other => Err(format!("hostPath {shown}: type {other:?} is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked() {
        let directory = tempfile::tempdir().unwrap();
        let (file, none) = (directory.path().join("file"), directory.path().join("none"));
        fs::write(&file, "").unwrap();
        let table = [
            (directory.path(), "Directory", true),
            (directory.path(), "", true),
            (directory.path(), "File", false),
            (&file, "File", true),
            (&file, "Socket", false),
            (&file, "DirectoryOrCreate", false),
            (&none, "", false),
            (&none, "Directory", false),
            (Path::new("/dev/null"), "CharDevice", true),
            (&file, "Tree", false),
        ];
        for (path, kind, fits) in table {
            assert_eq!(check(path, kind).is_ok(), fits, "{} {kind}", path.display());
        }
        assert_eq!(
            check(&file, "Directory").unwrap_err(),
            format!(
                "hostPath type check failed: {} is not a directory",
                file.display()
            )
        );
        check(&none.join("a/b"), "DirectoryOrCreate").unwrap();
        assert!(none.join("a/b").is_dir());
    }
}
