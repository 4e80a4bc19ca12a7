//! The archive as other tools read it: structure, digests, names, sizes; the same bytes each time.
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

use aws_lc_rs::digest::{SHA256, digest};
use common::{NAME, Pack, program};
use serde_json::Value;

fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    let text: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{text}")
}

/// The files of a tar archive, in order, with their modes; nothing in it tells of this machine.
fn files(tar: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!(
            (header.uid().unwrap(), header.gid().unwrap()),
            (0, 0),
            "root's"
        );
        assert_eq!(header.mtime().unwrap(), 0, "of no time");
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (path, header.mode().unwrap(), bytes)
    });
    entries.collect()
}

struct Archive(BTreeMap<String, Vec<u8>>);

impl Archive {
    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.0[path]).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The blob of a descriptor, whose size and digest have to be right.
    fn blob(&self, descriptor: &Value) -> &[u8] {
        let digest = descriptor["digest"].as_str().expect("a digest");
        let blob = &self.0[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(sha256(blob), digest);
        assert_eq!(descriptor["size"], blob.len());
        blob
    }
}

#[test]
fn the_archive_holds_what_its_tables_say() {
    let made = Pack::new().run();
    let bytes = fs::read(&made.archive).unwrap();
    let entries = files(&bytes);
    assert_eq!(entries[0].0, "oci-layout", "how file types are told apart");
    let archive = Archive(
        entries
            .into_iter()
            .map(|(path, _, bytes)| (path, bytes))
            .collect(),
    );
    assert_eq!(
        archive.json("oci-layout")["imageLayoutVersion"],
        "1.0.0",
        "the only version there is"
    );

    let index = archive.json("index.json");
    let entry = &index["manifests"][0];
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1));
    assert_eq!(entry["annotations"]["io.containerd.image.name"], NAME);
    assert_eq!(
        entry["annotations"]["org.opencontainers.image.ref.name"],
        env!("CARGO_PKG_VERSION")
    );
    assert!(
        made.output.contains(entry["digest"].as_str().unwrap()),
        "the digest is printed"
    );
    let manifest: Value = serde_json::from_slice(archive.blob(entry)).unwrap();
    assert_eq!(manifest["mediaType"], entry["mediaType"]);
    let config_blob = archive.blob(&manifest["config"]);
    let layer_blob = archive.blob(&manifest["layers"][0]);
    let config: Value = serde_json::from_slice(config_blob).unwrap();
    assert_eq!(
        config["config"]["Entrypoint"],
        serde_json::json!(["/usr/bin/malha"])
    );
    assert_eq!(config["os"], "linux");

    let mut layer = Vec::new();
    flate2::read::GzDecoder::new(layer_blob)
        .read_to_end(&mut layer)
        .unwrap();
    assert_eq!(
        config["rootfs"]["diff_ids"],
        serde_json::json!([sha256(&layer)])
    );
    let inside: Vec<_> = files(&layer)
        .into_iter()
        .map(|(path, mode, bytes)| (path, mode, bytes == program()))
        .collect();
    let expected = [
        ("usr/", false),
        ("usr/bin/", false),
        ("usr/bin/malha", true),
        ("usr/bin/malha-cni", true),
    ];
    let expected: Vec<_> = expected
        .map(|(path, program)| (path.to_owned(), 0o755, program))
        .into();
    assert_eq!(inside, expected, "the programs and nothing else");

    // What docker load reads names the same blobs.
    let docker = &archive.json("manifest.json")[0];
    assert_eq!(docker["RepoTags"], serde_json::json!([NAME]));
    let named = |path: &Value| archive.0[path.as_str().unwrap()].as_slice();
    assert_eq!(named(&docker["Config"]), config_blob);
    assert_eq!(named(&docker["Layers"][0]), layer_blob);
    assert_eq!(archive.0.len(), 6, "nothing that no table names");
}

#[test]
fn the_same_programs_give_the_same_bytes() {
    let (one, two) = (Pack::new().run(), Pack::new().run());
    assert_ne!(one.archive, two.archive);
    assert!(
        fs::read(&one.archive).unwrap() == fs::read(&two.archive).unwrap(),
        "the archives differ"
    );
}

#[test]
fn what_cannot_work_is_refused_and_writes_nothing() {
    let refused = |pack: Pack, wanted: &str| {
        let (text, archive) = pack.fail();
        assert!(text.contains(wanted), "{text}");
        assert!(!archive.exists());
    };
    let mut large = Pack::new();
    large.arguments.extend(["--limit", "1"]);
    refused(large, "below 1 MB");
    let mut nameless = Pack::new();
    nameless.arguments.extend(["--name", "malha"]);
    refused(nameless, "NAME:TAG");
    let script = Pack::new();
    fs::write(script.directory.path().join("malha-cni"), "#!/bin/sh\n").unwrap();
    refused(script, "malha-cni is no 64-bit ELF program");
    let shell = Pack::new();
    fs::copy("/bin/sh", shell.directory.path().join("malha")).unwrap();
    refused(shell, "malha is linked dynamically");
    let absent = Pack::new();
    fs::remove_file(absent.directory.path().join("malha-cni")).unwrap();
    refused(absent, "make build");
}
