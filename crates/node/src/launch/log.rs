//! The log file of a container, put aside when it grows too large.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::spec::Log;

/// An open log.
pub struct LogFile {
    log: Log,
    file: File,
    bytes: u64,
}

impl LogFile {
    /// Opens it at its end, with its directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(log: &Log) -> io::Result<Self> {
        if let Some(parent) = log.path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = append(&log.path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            log: log.clone(),
            file,
            bytes,
        })
    }

    /// Writes whole lines.
    ///
    /// # Errors
    /// When the disk is full, say.
    pub fn write(&mut self, lines: &[u8], now: Timestamp) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.bytes > 0 && self.bytes + lines.len() as u64 > self.log.max_bytes {
            self.put_aside(now)?;
        }
        self.file.write_all(lines)?;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    fn put_aside(&mut self, now: Timestamp) -> io::Result<()> {
        let mut old = self.log.path.clone().into_os_string();
        old.push(format!(".{}", now.strftime("%Y%m%d-%H%M%S-%9f")));
        fs::rename(&self.log.path, old)?;
        self.file = append(&self.log.path)?;
        self.bytes = 0;
        let aside = put_aside_files(&self.log.path)?;
        let surplus = (aside.len() + 1).saturating_sub(self.log.max_files.max(1));
        for old in aside.iter().take(surplus) {
            fs::remove_file(old)?;
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// The files that were put aside, oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn put_aside_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(Vec::new());
    };
    let prefix = format!("{name}.");
    let mut found: Vec<PathBuf> = fs::read_dir(parent)?
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|n| n.starts_with(&prefix))
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_files_are_put_aside_and_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log {
            path: directory.path().join("c/0.log"),
            max_bytes: 10,
            max_files: 3,
        };
        let mut file = LogFile::open(&log).unwrap();
        for second in 0..10 {
            let now = Timestamp::from_second(second).unwrap();
            file.write(format!("line {second}\n").as_bytes(), now)
                .unwrap();
        }
        let aside = put_aside_files(&log.path).unwrap();
        let texts: Vec<_> = aside
            .iter()
            .map(|p| fs::read_to_string(p).unwrap())
            .collect();
        assert_eq!(texts, ["line 7\n", "line 8\n"]);
        assert_eq!(fs::read_to_string(&log.path).unwrap(), "line 9\n");
    }
}
