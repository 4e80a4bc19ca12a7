//! The archive: an OCI image layout, and beside it the table of contents that `docker load` reads. Both name the same
//! blobs.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tar::EntryType;

use crate::layer::{Layer, append, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image archive.
#[derive(Debug)]
pub struct Image {
    bytes: Vec<u8>,
    digest: String,
}

impl Image {
    /// Makes an archive of one layer that starts `malha`.
    ///
    /// # Errors
    /// When the name has no tag.
    pub fn new(name: &str, architecture: &str, layer: &Layer) -> Result<Self> {
        let tag = tag_of(name)?;
        let config = config(architecture, layer).to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config),
            "layers": [descriptor(LAYER, &layer.packed)],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut entry = descriptor(MANIFEST, &manifest);
        entry["platform"] = json!({ "architecture": architecture, "os": "linux" });
        // containerd takes the whole name from its own annotation, other tools the tag from the standard's.
        entry["annotations"] =
            json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
        let docker = json!([{
            "Config": path_of(&config),
            "RepoTags": [name],
            "Layers": [path_of(&layer.packed)],
        }]);

        let mut tar = tar::Builder::new(Vec::new());
        let mut file =
            |path: &str, bytes: &[u8]| append(&mut tar, (path, EntryType::Regular, 0o644), bytes);
        file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        file("index.json", index.to_string().as_bytes())?;
        file("manifest.json", docker.to_string().as_bytes())?;
        for blob in [&manifest, &config, &layer.packed] {
            file(&path_of(blob), blob)?;
        }
        Ok(Self {
            bytes: tar.into_inner()?,
            digest: format!("sha256:{}", sha256(&manifest)),
        })
    }

    /// The archive's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The image's digest: that of its manifest.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

fn config(architecture: &str, layer: &Layer) -> Value {
    json!({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": ["/usr/bin/malha"],
            "Env": ["PATH=/usr/bin"],
            "Labels": {
                "org.opencontainers.image.title": "malha",
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", layer.unpacked)] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "malha-image" }],
    })
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({
        "mediaType": media_type,
        "digest": format!("sha256:{}", sha256(blob)),
        "size": blob.len(),
    })
}

fn path_of(blob: &[u8]) -> String {
    format!("blobs/sha256/{}", sha256(blob))
}

/// A name without a tag would be another one to every tool that reads it.
fn tag_of(name: &str) -> Result<&str> {
    let tag = name
        .rsplit_once(':')
        .map(|(_, tag)| tag)
        .filter(|tag| !tag.is_empty() && !tag.contains('/'));
    ensure!(
        tag.is_some(),
        "the image's name {name:?} has no tag: write it as NAME:TAG"
    );
    Ok(tag.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_tags() {
        assert_eq!(tag_of("localhost/malha:0.1.0").unwrap(), "0.1.0");
        assert_eq!(tag_of("localhost:5000/malha:a").unwrap(), "a");
        for name in ["malha", "localhost:5000/malha", "malha:", ""] {
            assert!(tag_of(name).is_err(), "{name}");
        }
    }
}
