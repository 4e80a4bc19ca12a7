//! The image of sandboxes: a program that does nothing, built here, for no registry is asked.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::digest;
use serde_json::json;

/// The image's name: below `localhost` is nobody else's.
pub const NAME: &str = "localhost/malha-bench-pause:1";
const SOURCE: &str = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n";

/// Builds the image in a directory, as an archive that `ctr image import` takes; its path.
///
/// # Errors
/// When there is no C compiler with a static C library.
pub fn archive(home: &Path) -> Result<PathBuf> {
    fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
    let program = fs::read(compile(home)?).context("cannot read the compiled program")?;
    let layer = tar(&[("pause", 0o755, &program)])?;
    let layer_digest = sha256(&layer);
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": { "Entrypoint": ["/pause"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] }, "history": [],
    })
    .to_string();
    let (config_name, layer_name) = (
        format!("{}.json", sha256(config.as_bytes())),
        format!("{layer_digest}/layer.tar"),
    );
    let manifest =
        json!([{ "Config": config_name, "RepoTags": [NAME], "Layers": [layer_name] }]).to_string();
    let image = tar(&[
        (&config_name, 0o644, config.as_bytes()),
        (&layer_name, 0o644, &layer),
        ("manifest.json", 0o644, manifest.as_bytes()),
    ])?;
    let path = home.join("pause.tar");
    fs::write(&path, image).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn compile(home: &Path) -> Result<PathBuf> {
    let target = home.join("pause");
    let mut compiler = Command::new("cc")
        .args(["-static", "-Os", "-s", "-x", "c", "-o"])
        .arg(&target)
        .arg("-")
        .stdin(Stdio::piped())
        .spawn()
        .context("no C compiler: apt-get install gcc libc6-dev")?;
    let mut source = compiler.stdin.take().context("no pipe to the compiler")?;
    source.write_all(SOURCE.as_bytes())?;
    drop(source);
    ensure!(
        compiler.wait()?.success(),
        "cannot compile a static C program: apt-get install gcc libc6-dev"
    );
    Ok(target)
}

/// As image configurations name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn tar(files: &[(&str, u32, &[u8])]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode, contents) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(*mode);
        header.set_size(contents.len() as u64);
        builder
            .append_data(&mut header, name, *contents)
            .with_context(|| format!("cannot pack {name}"))?;
    }
    builder.into_inner().context("cannot pack an archive")
}

fn sha256(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}
