//! Packing a stand-in: `malha-image` itself, which is as static as what it packs.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The image's name.
pub const NAME: &str = concat!("localhost/malha:", env!("CARGO_PKG_VERSION"));

/// The stand-in for both programs: the head of one, which is enough of an ELF file to be looked at.
pub fn program() -> Vec<u8> {
    let mut bytes = fs::read(env!("CARGO_BIN_EXE_malha-image")).unwrap();
    bytes.truncate(1 << 14);
    // These do not compress: two of them are above a megabyte.
    let mut state = 1u64;
    bytes.extend((0..1 << 19).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    }));
    bytes
}

/// A run of `malha-image`.
pub struct Pack {
    pub directory: TempDir,
    pub arguments: Vec<&'static str>,
}

/// What a run made.
pub struct Made {
    _directory: TempDir,
    pub archive: PathBuf,
    pub output: String,
}

impl Pack {
    /// Of stand-ins that are only to be looked at.
    pub fn new() -> Self {
        Self::of(&program())
    }

    /// Of a program that can be started.
    pub fn runnable() -> Self {
        Self::of(&fs::read(env!("CARGO_BIN_EXE_malha-image")).unwrap())
    }

    fn of(program: &[u8]) -> Self {
        let directory = TempDir::new().unwrap();
        for name in ["malha", "malha-cni"] {
            fs::write(directory.path().join(name), program).unwrap();
        }
        Self {
            directory,
            arguments: Vec::new(),
        }
    }

    pub fn run(self) -> Made {
        let (output, archive) = self.start();
        assert!(output.status.success(), "{output:?}");
        let output = String::from_utf8(output.stdout).unwrap();
        Made {
            archive,
            output,
            _directory: self.directory,
        }
    }

    /// What it said, and where it might have written.
    pub fn fail(self) -> (String, PathBuf) {
        let (output, archive) = self.start();
        assert!(!output.status.success(), "{output:?}");
        (String::from_utf8(output.stderr).unwrap(), archive)
    }

    fn start(&self) -> (Output, PathBuf) {
        let archive = self.directory.path().join("made/image.tar");
        let mut command = Command::new(env!("CARGO_BIN_EXE_malha-image"));
        command
            .args(&self.arguments)
            .arg("--malha")
            .arg(self.directory.path().join("malha"));
        (
            command.arg("--output").arg(&archive).output().unwrap(),
            archive,
        )
    }
}

/// The directory of programs of a Debian package, unpacked aside.
pub fn debian(package: &str, directory: &str) -> PathBuf {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/unpack-package");
    let output = Command::new(tool)
        .arg(package)
        .output()
        .expect("tools/unpack-package");
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(
        output.status.success(),
        "cannot unpack {package}: {output:?}"
    );
    Path::new(&path).join(directory)
}
