//! The image of the release programs: small enough, and its root is all that they need.
mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

#[test]
fn the_release_image_is_small_and_needs_nothing_else() {
    let binaries = std::env::var("MALHA_BINARIES")
        .expect("MALHA_BINARIES has to name the directory of the release programs: run make tier3");
    let directory = TempDir::new().unwrap();
    let archive = directory.path().join("image.tar");
    let packed = Command::new(env!("CARGO_BIN_EXE_malha-image"))
        .arg("--malha")
        .arg(PathBuf::from(binaries).join("malha"))
        .arg("--output")
        .arg(&archive)
        .output()
        .unwrap();
    assert!(packed.status.success(), "{packed:?}");
    let size = fs::metadata(&archive).unwrap().len();
    assert!(size < 25_000_000, "{size} bytes");

    let layout = directory.path().join("layout");
    tar::Archive::new(fs::File::open(&archive).unwrap())
        .unpack(&layout)
        .unwrap();
    let json = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(layout.join(path)).unwrap()).unwrap()
    };
    let docker = json("manifest.json");
    let layer = fs::File::open(layout.join(docker[0]["Layers"][0].as_str().unwrap())).unwrap();
    let root = directory.path().join("root");
    tar::Archive::new(flate2::read::GzDecoder::new(layer))
        .unpack(&root)
        .unwrap();
    let config = json(docker[0]["Config"].as_str().unwrap());
    let entrypoint = config["config"]["Entrypoint"][0].as_str().unwrap();
    let inside = |arguments: &[&str]| {
        let mut command = Command::new("chroot");
        command.arg(&root).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    let version = inside(&[entrypoint, "--version"]);
    assert_eq!(version.trim(), concat!("malha ", env!("CARGO_PKG_VERSION")));
    inside(&[entrypoint, "agent", "--help"]);
    let about = inside(&["/usr/bin/malha-cni"]);
    assert!(
        about.contains("1.1.0"),
        "the plugin tells its versions: {about}"
    );
}
