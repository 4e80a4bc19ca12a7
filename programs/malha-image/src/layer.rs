//! The image's only layer: `/usr/bin` with the programs.

use std::io::Write;

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA256, digest};
use flate2::{Compression, write::GzEncoder};
use tar::{EntryType, Header};

/// A program of the image.
#[derive(Debug)]
pub struct Program {
    /// Its name in /usr/bin.
    pub name: &'static str,
    /// Its bytes.
    pub contents: Vec<u8>,
}

/// A packed layer.
#[derive(Debug)]
pub struct Layer {
    /// SHA-256 of the tar file, hexadecimal.
    pub unpacked: String,
    /// The tar file, compressed with gzip.
    pub packed: Vec<u8>,
}

/// Packs the programs.
///
/// # Errors
/// None that can be expected: everything happens in memory.
pub fn pack(programs: &[Program]) -> Result<Layer> {
    let mut tar = tar::Builder::new(Vec::new());
    for directory in ["usr/", "usr/bin/"] {
        append(&mut tar, (directory, EntryType::Directory, 0o755), &[])?;
    }
    for program in programs {
        let path = format!("usr/bin/{}", program.name);
        append(
            &mut tar,
            (&path, EntryType::Regular, 0o755),
            &program.contents,
        )?;
    }
    let tar = tar.into_inner()?;
    // The header of this encoder has no time and no name.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&tar)?;
    Ok(Layer {
        unpacked: sha256(&tar),
        packed: gzip.finish()?,
    })
}

/// Adds an entry that tells nothing of the machine it was packed on: root's, and of no time.
///
/// # Errors
/// When the path does not fit a tar header.
pub fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    (path, kind, mode): (&str, EntryType, u32),
    contents: &[u8],
) -> Result<()> {
    let mut header = Header::new_ustar();
    header
        .set_path(path)
        .with_context(|| format!("the path {path} does not fit a tar archive"))?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(contents.len() as u64);
    header.set_cksum();
    Ok(tar.append(&header, contents)?)
}

/// SHA-256, hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
