//! `malha-image`: packs the static programs into an image archive that `ctr image import`, `podman load` and
//! `docker load` take. Needs no container engine, no privilege and no network.
//!
//! The same programs give the same bytes: no times, users or file orders of the machine get in, and the compressor is
//! a library of a fixed version.

mod archive;
mod elf;
mod layer;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use archive::Image;
use layer::Program;

/// Pack Malha into an image archive.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The program `malha`.
    #[arg(long, value_name = "FILE")]
    malha: PathBuf,
    /// The plugin. Default: `malha-cni` beside the program.
    #[arg(long, value_name = "FILE")]
    malha_cni: Option<PathBuf>,
    /// The image's name. Names below `localhost` are nobody else's, and no registry is ever asked for them.
    #[arg(long, value_name = "NAME:TAG", default_value = concat!("localhost/malha:", env!("CARGO_PKG_VERSION")))]
    name: String,
    /// Size that the archive must stay below, in MB (a million bytes).
    #[arg(long, value_name = "MB", default_value_t = 25)]
    limit: u64,
    /// Where to write the archive.
    #[arg(short, long, value_name = "FILE", default_value = "malha-image.tar")]
    output: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let plugin = args
        .malha_cni
        .unwrap_or_else(|| args.malha.with_file_name("malha-cni"));
    let programs = [("malha", args.malha), ("malha-cni", plugin)];
    let programs = programs
        .map(|(name, path)| load(name, &path))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let architecture = elf::one_architecture(&programs)?;
    let image = Image::new(&args.name, architecture, &layer::pack(&programs)?)?;
    let size = image.bytes().len() as u64;
    ensure!(
        size < args.limit * 1_000_000,
        "the image is {size} bytes, and has to stay below {} MB: pack release programs (cargo build --release)",
        args.limit
    );
    write(&args.output, image.bytes())?;
    println!(
        "{}: {}, {}, {:.1} MB, {}",
        args.output.display(),
        args.name,
        architecture,
        size as f64 / 1e6,
        image.digest()
    );
    Ok(())
}

fn load(name: &'static str, path: &Path) -> Result<Program> {
    let contents = fs::read(path).with_context(|| {
        format!(
            "cannot read {}: build it (make build), or name it",
            path.display()
        )
    })?;
    Ok(Program { name, contents })
}

/// Whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    let directory = directory.unwrap_or(Path::new("."));
    let written = || -> std::io::Result<()> {
        fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(bytes)?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(readable)?;
        file.persist(path)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}
