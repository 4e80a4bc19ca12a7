//! What a pod's volumes consist of. Pure.

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume, VolumeProjection};

use crate::pods::resources::units;

/// What a volume is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// A path of the host.
    Host {
        /// The path.
        path: PathBuf,
        /// What it must be: `Directory`, `DirectoryOrCreate`, …; empty for whatever there is.
        kind: String,
    },
    /// An empty directory.
    Empty {
        /// In memory.
        memory: bool,
        /// Bytes, for one in memory.
        size: Option<u64>,
    },
    /// Files whose content is known elsewhere.
    Files {
        /// The directory's name on the disk: the volume plugin's, as kubelets have it.
        plugin: &'static str,
        /// Never on a disk.
        memory: bool,
        /// Mode of files that have none of their own.
        mode: u32,
        /// Where they come from; later ones win.
        sources: Vec<Source>,
    },
}

/// Where files come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A ConfigMap.
    ConfigMap(Keyed),
    /// A Secret.
    Secret(Keyed),
    /// Fields of the pod.
    Downward(Vec<DownwardAPIVolumeFile>),
    /// A token of the pod's service account.
    Token {
        /// For whom.
        audience: Option<String>,
        /// Seconds it lasts.
        seconds: i64,
        /// The file.
        path: String,
    },
}

/// An object with keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyed {
    /// Its name.
    pub name: String,
    /// Which keys and as what; all of them when absent.
    pub items: Option<Vec<KeyToPath>>,
    /// It may be missing.
    pub optional: bool,
}

const DEFAULT_MODE: i32 = 0o644;
/// What a token lasts unless the pod says otherwise.
const TOKEN_SECONDS: i64 = 3600;

/// What a volume is made of.
///
/// # Errors
/// A kind of volume that this agent does not have.
pub fn plan(volume: &Volume) -> Result<Plan, String> {
    if let Some(host) = &volume.host_path {
        let kind = host.type_.clone().unwrap_or_default();
        return Ok(Plan::Host {
            path: host.path.clone().into(),
            kind,
        });
    }
    if let Some(empty) = &volume.empty_dir {
        let memory = empty.medium.as_deref() == Some("Memory");
        return Ok(Plan::Empty {
            memory,
            size: empty.size_limit.as_ref().and_then(units),
        });
    }
    if let Some(map) = &volume.config_map {
        let source = Source::ConfigMap(keyed(&map.name, &map.items, map.optional));
        return Ok(files(
            "kubernetes.io~configmap",
            false,
            map.default_mode,
            vec![source],
        ));
    }
    if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let source = Source::Secret(keyed(name, &secret.items, secret.optional));
        return Ok(files(
            "kubernetes.io~secret",
            true,
            secret.default_mode,
            vec![source],
        ));
    }
    if let Some(downward) = &volume.downward_api {
        let source = Source::Downward(downward.items.clone().unwrap_or_default());
        return Ok(files(
            "kubernetes.io~downward-api",
            false,
            downward.default_mode,
            vec![source],
        ));
    }
    if let Some(projected) = &volume.projected {
        let sources = projected
            .sources
            .iter()
            .flatten()
            .map(|s| projection(&volume.name, s));
        let sources = sources.collect::<Result<_, _>>()?;
        return Ok(files(
            "kubernetes.io~projected",
            true,
            projected.default_mode,
            sources,
        ));
    }
    Err(format!(
        "volume {:?}: its kind is not supported on this node; hostPath, emptyDir, configMap, secret, downwardAPI and \
         projected are",
        volume.name
    ))
}

fn projection(volume: &str, source: &VolumeProjection) -> Result<Source, String> {
    if let Some(map) = &source.config_map {
        return Ok(Source::ConfigMap(keyed(
            &map.name,
            &map.items,
            map.optional,
        )));
    }
    if let Some(secret) = &source.secret {
        return Ok(Source::Secret(keyed(
            &secret.name,
            &secret.items,
            secret.optional,
        )));
    }
    if let Some(downward) = &source.downward_api {
        return Ok(Source::Downward(downward.items.clone().unwrap_or_default()));
    }
    if let Some(token) = &source.service_account_token {
        return Ok(Source::Token {
            audience: token.audience.clone().filter(|a| !a.is_empty()),
            seconds: token.expiration_seconds.unwrap_or(TOKEN_SECONDS),
            path: token.path.clone(),
        });
    }
    Err(format!(
        "volume {volume:?}: this projected source is not supported on this node"
    ))
}

fn keyed(name: &str, items: &Option<Vec<KeyToPath>>, optional: Option<bool>) -> Keyed {
    Keyed {
        name: name.to_owned(),
        items: items.clone(),
        optional: optional == Some(true),
    }
}

fn files(plugin: &'static str, memory: bool, mode: Option<i32>, sources: Vec<Source>) -> Plan {
    let mode = mode.unwrap_or(DEFAULT_MODE).cast_unsigned() & 0o7777;
    Plan::Files {
        plugin,
        memory,
        mode,
        sources,
    }
}

/// Whether a file's name stays in its volume.
pub fn stays_inside(path: &str) -> bool {
    !path.is_empty()
        && Path::new(path)
            .components()
            .all(|c| matches!(c, Component::Normal(_)))
        && !path.starts_with("..")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(value: Value) -> Result<Plan, String> {
        let mut whole = json!({"name": "v"});
        whole
            .as_object_mut()
            .unwrap()
            .extend(value.as_object().unwrap().clone());
        plan(&serde_json::from_value(whole).unwrap())
    }

    #[test]
    fn kinds() {
        assert_eq!(
            of(json!({"hostPath": {"path": "/x", "type": "Socket"}})),
            Ok(Plan::Host {
                path: "/x".into(),
                kind: "Socket".into()
            })
        );
        assert_eq!(
            of(json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})),
            Ok(Plan::Empty {
                memory: true,
                size: Some(1 << 20)
            })
        );
        let secret = of(json!({"secret": {"secretName": "s", "defaultMode": 256}})).unwrap();
        assert!(matches!(
            secret,
            Plan::Files {
                memory: true,
                mode: 0o400,
                ..
            }
        ));
        assert!(
            of(json!({"persistentVolumeClaim": {"claimName": "c"}}))
                .unwrap_err()
                .contains("not supported")
        );
    }

    #[test]
    fn the_token_of_a_service_account() {
        let value = json!({"projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        ]}});
        let Ok(Plan::Files {
            sources,
            mode: 0o644,
            ..
        }) = of(value)
        else {
            panic!()
        };
        assert_eq!(
            sources[0],
            Source::Token {
                audience: None,
                seconds: 3607,
                path: "token".into()
            }
        );
        assert!(
            matches!(&sources[1], Source::ConfigMap(keyed) if keyed.name == "kube-root-ca.crt")
        );
    }

    #[test]
    fn names_that_leave_the_volume() {
        for path in ["", "/x", "../x", "a/../../x", "..data", "."] {
            assert!(!stays_inside(path), "{path}");
        }
        assert!(stays_inside("a/b.c"));
    }
}
