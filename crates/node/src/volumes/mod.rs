//! Pods' volumes, under `ROOT/pods/UID/volumes`.

pub mod host_path;
pub mod payload;
pub mod plan;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{KeyToPath, Pod};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use self::{
    payload::{Content, Payload},
    plan::{Keyed, Plan, Source},
};
use crate::{
    mounts::MountTable,
    pods::{
        downward::{self, Surroundings},
        sources::{Data, Sources},
    },
};

/// Why a pod's volumes are not there: the message of `FailedMount`.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {why}")]
pub struct VolumeError {
    volume: String,
    why: String,
}

/// The volumes of this node's pods.
#[derive(Clone)]
pub struct Volumes {
    root: PathBuf,
    sources: Sources,
}

/// Where each of a pod's volumes is.
pub type Places = BTreeMap<String, PathBuf>;

impl Volumes {
    /// Below `root`, with contents read from `sources`.
    pub fn new(root: PathBuf, sources: Sources) -> Self {
        Self { root, sources }
    }

    /// A pod's directory.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        pods_dir(&self.root).join(uid)
    }

    /// Makes a pod's volumes, or brings their contents up to date.
    ///
    /// # Errors
    /// The first one that cannot be made.
    pub async fn set_up(&self, pod: &Pod, around: &Surroundings) -> Result<Places, VolumeError> {
        let mut places = Places::new();
        let spec = pod.spec.clone().unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let group = spec
            .security_context
            .as_ref()
            .and_then(|s| s.fs_group)
            .and_then(|g| u32::try_from(g).ok());
        for volume in spec.volumes.iter().flatten() {
            let failed = |why: String| VolumeError {
                volume: volume.name.clone(),
                why,
            };
            let plan = plan::plan(volume).map_err(failed)?;
            let place = self.place(&uid, &volume.name, &plan);
            match &plan {
                Plan::Host { path, kind } => host_path::check(path, kind).map_err(failed)?,
                Plan::Empty { memory, size } => {
                    make_directory(&place, 0o777, memory.then_some(*size))
                        .map_err(|e| failed(e.to_string()))?;
                    give_to_group(&place, group).map_err(|e| failed(e.to_string()))?;
                }
                Plan::Files {
                    memory,
                    mode,
                    sources,
                    ..
                } => {
                    let payload = self
                        .payload(pod, around, *mode, sources, &place)
                        .await
                        .map_err(failed)?;
                    make_directory(&place, 0o755, memory.then_some(None))
                        .map_err(|e| failed(e.to_string()))?;
                    payload::write(&place, &payload, group).map_err(|e| failed(e.to_string()))?;
                }
            }
            places.insert(volume.name.clone(), place);
        }
        Ok(places)
    }

    fn place(&self, uid: &str, name: &str, plan: &Plan) -> PathBuf {
        let plugin = match plan {
            Plan::Host { path, .. } => return path.clone(),
            Plan::Empty { .. } => "kubernetes.io~empty-dir",
            Plan::Files { plugin, .. } => plugin,
        };
        self.pod_dir(uid).join("volumes").join(plugin).join(name)
    }

    async fn payload(
        &self,
        pod: &Pod,
        around: &Surroundings,
        mode: u32,
        sources: &[Source],
        place: &Path,
    ) -> Result<Payload, String> {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let text = |e: kube::Error| e.to_string();
        let mut payload = Payload::new();
        for source in sources {
            match source {
                Source::ConfigMap(keyed) => {
                    let data = self
                        .sources
                        .config_map(&namespace, &keyed.name)
                        .await
                        .map_err(text)?;
                    payload.extend(keyed_files("configmap", keyed, data, mode)?);
                }
                Source::Secret(keyed) => {
                    let data = self
                        .sources
                        .secret(&namespace, &keyed.name)
                        .await
                        .map_err(text)?;
                    payload.extend(keyed_files("secret", keyed, data, mode)?);
                }
                Source::Downward(files) => {
                    for file in files {
                        let bytes = downward_file(pod, around, file)?.into_bytes();
                        let mode = file.mode.map_or(mode, |m| m.cast_unsigned() & 0o7777);
                        insert(&mut payload, &file.path, Content { bytes, mode })?;
                    }
                }
                Source::Token {
                    audience,
                    seconds,
                    path,
                } => {
                    let bytes = match still_good(&place.join(path)) {
                        Some(bytes) => bytes,
                        None => {
                            let token = self.sources.token(pod, audience.as_deref(), *seconds);
                            token.await?.into_bytes()
                        }
                    };
                    insert(&mut payload, path, Content { bytes, mode })?;
                }
            }
        }
        Ok(payload)
    }

    /// Unmounts and removes all that is a pod's here. Twice is fine.
    ///
    /// # Errors
    /// When something cannot be unmounted or removed; nothing is removed through a mount.
    pub fn tear_down(&self, uid: &str) -> io::Result<()> {
        remove_directory(&self.pod_dir(uid))
    }

    /// The pods that have a directory here.
    pub fn pods(&self) -> Vec<String> {
        pods_in(&self.root)
    }
}

/// The pods that have a directory below `root`.
pub fn pods_in(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(pods_dir(root)).into_iter().flatten().flatten();
    entries
        .filter_map(|e| e.file_name().into_string().ok())
        .collect()
}

/// Where pods' directories are.
pub fn pods_dir(root: &Path) -> PathBuf {
    root.join("pods")
}

/// The token of a file that has most of its life before it.
fn still_good(path: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(path).ok()?;
    token_is_young(&bytes, Timestamp::now().as_second()).then_some(bytes)
}

/// A token is used for four fifths of its life, and for no longer than a day.
fn token_is_young(token: &[u8], now: i64) -> bool {
    const DAY: i64 = 86_400;
    let claims = token.split(|b| *b == b'.').nth(1).and_then(|part| {
        use base64::Engine;
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(part)
            .ok()?;
        serde_json::from_slice::<serde_json::Value>(&text).ok()
    });
    let number = |name: &str| claims.as_ref()?.get(name)?.as_i64();
    match (number("iat"), number("exp")) {
        (Some(issued), Some(expires)) => now - issued < ((expires - issued) * 4 / 5).min(DAY),
        _ => false,
    }
}

fn keyed_files(
    kind: &str,
    keyed: &Keyed,
    data: Option<Data>,
    mode: u32,
) -> Result<Payload, String> {
    let data = match data {
        Some(data) => data,
        None if keyed.optional => Data::new(),
        None => return Err(format!("{kind} \"{}\" not found", keyed.name)),
    };
    let mut payload = Payload::new();
    let Some(items) = &keyed.items else {
        for (name, bytes) in data {
            insert(&mut payload, &name, Content { bytes, mode })?;
        }
        return Ok(payload);
    };
    for KeyToPath {
        key,
        mode: own,
        path,
    } in items
    {
        match data.get(key) {
            Some(bytes) => {
                let mode = own.map_or(mode, |m| m.cast_unsigned() & 0o7777);
                insert(
                    &mut payload,
                    path,
                    Content {
                        bytes: bytes.clone(),
                        mode,
                    },
                )?;
            }
            None if keyed.optional => {}
            None => return Err(format!("references non-existent {kind} key: {key}")),
        }
    }
    Ok(payload)
}

fn insert(payload: &mut Payload, path: &str, content: Content) -> Result<(), String> {
    if !plan::stays_inside(path) {
        return Err(format!("path {path:?} leads out of the volume"));
    }
    payload.insert(path.to_owned(), content);
    Ok(())
}

fn downward_file(
    pod: &Pod,
    around: &Surroundings,
    file: &k8s_openapi::api::core::v1::DownwardAPIVolumeFile,
) -> Result<String, String> {
    if let Some(field) = &file.field_ref {
        return downward::field(pod, around, &field.field_path);
    }
    let Some(resource) = &file.resource_field_ref else {
        return Err(format!("file {:?} refers to nothing", file.path));
    };
    let container = resource.container_name.clone().unwrap_or_default();
    let divisor = resource.divisor.as_ref().map(|d| d.0.as_str());
    downward::resource(pod, around, &container, &resource.resource, divisor)
}

/// Makes a directory, on a tmpfs of its own (of a size, in bytes) if asked for.
fn make_directory(path: &Path, mode: u32, memory: Option<Option<u64>>) -> io::Result<()> {
    fs::create_dir_all(path)?;
    if let Some(size) = memory
        && !MountTable::read()?.iter().any(|m| m.point == path)
    {
        let size = size
            .map(|bytes| format!(",size={bytes}"))
            .unwrap_or_default();
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            Some("malha"),
            path,
            Some("tmpfs"),
            flags,
            Some(format!("mode={mode:o}{size}").as_str()),
        )?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn give_to_group(path: &Path, group: Option<u32>) -> io::Result<()> {
    let Some(group) = group else {
        return Ok(());
    };
    std::os::unix::fs::chown(path, None, Some(group))?;
    let mode = fs::metadata(path)?.permissions().mode();
    fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o2770))
}

/// Removes a directory tree after unmounting all in it. One in which something stays mounted is left.
///
/// # Errors
/// What cannot be unmounted or removed.
pub fn remove_directory(directory: &Path) -> io::Result<()> {
    for mount in MountTable::read()?.below(directory).rev() {
        umount2(&mount.point, MntFlags::MNT_DETACH)?;
    }
    if let Some(left) = MountTable::read()?.below(directory).next() {
        return Err(io::Error::other(format!(
            "{} is still mounted",
            left.point.display()
        )));
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let text = format!("cannot remove {}: {error}", directory.display());
            Err(io::Error::new(error.kind(), text))
        }
        _ => Ok(()),
    }
}

/// The place in a volume that `subPath` names, made if it does not exist. It cannot lead out of the volume.
///
/// # Errors
/// When it would, or cannot be made.
pub fn sub_path(volume: &Path, sub: &str) -> io::Result<PathBuf> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
    let inside = |path: &Path| {
        let root = fs::File::open(volume)?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        openat2(
            &root,
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
        .map_err(io::Error::from)
    };
    let mut reached = PathBuf::new();
    for part in Path::new(sub).components() {
        let parent = if reached.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            reached.clone()
        };
        reached.push(part);
        match inside(&reached) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                mkdirat(
                    inside(&parent)?,
                    part.as_os_str(),
                    Mode::from_raw_mode(0o755),
                )?;
            }
            other => drop(other?),
        }
    }
    let descriptor = inside(if reached.as_os_str().is_empty() {
        Path::new(".")
    } else {
        &reached
    })?;
    fs::read_link(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&descriptor)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_paths_stay_inside() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("v");
        fs::create_dir(&at).unwrap();
        assert_eq!(
            sub_path(&at, "a/b").unwrap(),
            fs::canonicalize(at.join("a/b")).unwrap()
        );
        fs::write(at.join("file"), "").unwrap();
        assert!(sub_path(&at, "file").unwrap().is_file());
        std::os::unix::fs::symlink("/etc", at.join("out")).unwrap();
        for bad in ["../x", "out/passwd", "/etc"] {
            assert!(sub_path(&at, bad).is_err(), "{bad}");
        }
        assert!(!directory.path().join("x").exists());
    }

    #[test]
    fn tokens_are_renewed_before_they_end() {
        use base64::Engine;
        let claims =
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"iat":1000,"exp":2000}"#);
        let token = format!("h.{claims}.s");
        assert!(token_is_young(token.as_bytes(), 1799));
        assert!(!token_is_young(token.as_bytes(), 1800));
        assert!(!token_is_young(b"opaque", 0));
    }

    #[test]
    fn keys_become_files() {
        let data = || {
            Some(Data::from([
                ("k".to_owned(), b"v".to_vec()),
                ("l".to_owned(), Vec::new()),
            ]))
        };
        let keyed = |items: Option<Vec<KeyToPath>>, optional| Keyed {
            name: "n".into(),
            items,
            optional,
        };
        let all = keyed_files("secret", &keyed(None, false), data(), 0o600).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["k", "l"]);
        let item = |key: &str| KeyToPath {
            key: key.into(),
            mode: Some(0o400),
            path: "d/f".into(),
        };
        let one = keyed_files(
            "secret",
            &keyed(Some(vec![item("k")]), false),
            data(),
            0o600,
        )
        .unwrap();
        assert_eq!(
            one["d/f"],
            Content {
                bytes: b"v".to_vec(),
                mode: 0o400
            }
        );
        let missing = keyed_files(
            "secret",
            &keyed(Some(vec![item("x")]), false),
            data(),
            0o600,
        );
        assert_eq!(
            missing.unwrap_err(),
            "references non-existent secret key: x"
        );
        let none = keyed_files("configmap", &keyed(None, false), None, 0o600);
        assert_eq!(none.unwrap_err(), "configmap \"n\" not found");
        assert_eq!(
            keyed_files("configmap", &keyed(None, true), None, 0o600),
            Ok(Payload::new())
        );
    }
}
