//! From a container of a pod to the launcher's specification.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SecurityContext, VolumeMount};

use super::{
    env::{self, Lookup},
    image::{self, Image},
    observed, resources,
};
use crate::{
    Config,
    launch::{
        capability,
        spec::{Log, Mount, Namespaces, Privileges, Propagation, Root, Spec, Stdio, User},
    },
    volumes::{self, Places},
};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// As a kubelet: ten files of ten mebibytes at most.
const LOG_BYTES: u64 = 10 << 20;
const LOG_FILES: usize = 5;
/// What a container with the host's root must not see: keys, and the state of nodes.
const HIDDEN: [&str; 6] = [
    "/etc/kubernetes",
    "/root",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/lib/malha",
    "/var/log/pods",
];

/// Why a container cannot even be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// `CreateContainerConfigError`, `InvalidImageName`, …
    pub reason: &'static str,
    /// What is wrong.
    pub message: String,
}

fn refused(message: impl Into<String>) -> Refused {
    Refused {
        reason: "CreateContainerConfigError",
        message: message.into(),
    }
}

/// What surrounds a container.
pub struct Place<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The agent's configuration.
    pub config: &'a Config,
    /// What it joins.
    pub namespaces: Namespaces,
    /// The pod's volumes.
    pub volumes: &'a Places,
    /// hosts, resolv.conf, hostname: name in /etc, file on the host.
    pub files: &'a [(&'static str, PathBuf)],
    /// Where it may leave its last words.
    pub message: &'a Path,
    /// Where its log goes.
    pub log: &'a Path,
    /// The machine's memory, in bytes.
    pub memory: u64,
}

/// Puts the specification together.
///
/// # Errors
/// What in the pod's own words cannot be.
pub fn build(
    container: &Container,
    place: &Place<'_>,
    services: &BTreeMap<String, String>,
    lookup: &dyn Lookup,
) -> Result<Spec, Refused> {
    let pod_spec = observed::spec(place.pod);
    let name = container.image.as_deref().unwrap_or_default();
    let image = image::resolve(name).map_err(|e| Refused {
        reason: "InvalidImageName",
        message: e.to_string(),
    })?;
    let security = container.security_context.clone().unwrap_or_default();
    let user = user(&pod_spec, &security, &container.name)?;
    let env = environment(container, &user, &pod_spec, place.pod, services, lookup)?;
    let class = resources::qos_class(&pod_spec);
    Ok(Spec {
        args: command(container, image, &env)?,
        cwd: container
            .working_dir
            .as_deref()
            .filter(|d| !d.is_empty())
            .unwrap_or("/")
            .into(),
        root: root(image, place.config)?,
        read_only_root: security.read_only_root_filesystem == Some(true),
        mounts: mounts(container, place, &env)?,
        namespaces: place.namespaces.clone(),
        user,
        privileges: privileges(&security)?,
        cgroups: Vec::new(),
        shim_cgroups: Vec::new(),
        oom_score_adj: resources::oom_score(
            class,
            resources::memory_request(container),
            place.memory,
        ),
        stdio: Stdio {
            stdin: container.stdin == Some(true),
            stdin_once: container.stdin_once == Some(true),
            tty: container.tty == Some(true),
        },
        log: Log {
            path: place.log.to_owned(),
            max_bytes: LOG_BYTES,
            max_files: LOG_FILES,
        },
        env,
    })
}

fn root(image: Image, config: &Config) -> Result<Root, Refused> {
    let broken = |message| Refused {
        reason: "ErrImagePull",
        message,
    };
    match image {
        Image::Malha => match config.image_programs.iter().find(|p| !p.exists()) {
            Some(missing) => Err(broken(format!(
                "the image malha is made of this node's programs, and {} is not there: install it again",
                missing.display()
            ))),
            None => Ok(Root::Programs(config.image_programs.clone())),
        },
        Image::Host => {
            let own = [
                &config.root_dir,
                &config.run_dir,
                &config.log_dir,
                &config.pki_dir,
            ];
            let hidden = HIDDEN
                .iter()
                .map(PathBuf::from)
                .chain(own.into_iter().cloned());
            Ok(Root::Host {
                hidden: hidden.collect(),
            })
        }
    }
}

fn environment(
    container: &Container,
    user: &User,
    spec: &PodSpec,
    pod: &Pod,
    services: &BTreeMap<String, String>,
    lookup: &dyn Lookup,
) -> Result<Vec<(String, String)>, Refused> {
    let own = env::environment(container, services, lookup).map_err(|e| refused(e.0))?;
    let home = if user.uid == 0 { "/root" } else { "/" };
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let hostname = super::dns::hostname(spec, pod_name);
    let mut all: Vec<(String, String)> = [("PATH", PATH), ("HOME", home), ("HOSTNAME", &hostname)]
        .into_iter()
        .filter(|(name, _)| !own.iter().any(|(own, _)| own == name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if container.tty == Some(true) && !own.iter().any(|(name, _)| name == "TERM") {
        all.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    all.extend(own);
    Ok(all)
}

/// `command` and `args`, with variables. The image `malha` starts `malha`; the host's root starts nothing by itself.
fn command(
    container: &Container,
    image: Image,
    env: &[(String, String)],
) -> Result<Vec<String>, Refused> {
    let of = |name: &str| {
        env.iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.clone())
    };
    let words = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter()
            .flatten()
            .map(|word| env::expand(word, &of))
            .collect()
    };
    let mut command = words(&container.command);
    if command.is_empty() && image == Image::Malha {
        command.push("malha".to_owned());
    }
    command.extend(words(&container.args));
    if command.is_empty() {
        return Err(refused(
            "no command specified: this node has no registry, so an image other than malha brings no command of its own",
        ));
    }
    Ok(command)
}

fn user(spec: &PodSpec, own: &SecurityContext, name: &str) -> Result<User, Refused> {
    let pod = spec.security_context.clone().unwrap_or_default();
    let number = |value: i64| {
        u32::try_from(value)
            .map_err(|_| refused(format!("container {name:?}: {value} is no user or group")))
    };
    let uid = own.run_as_user.or(pod.run_as_user).map_or(Ok(0), number)?;
    let gid = own
        .run_as_group
        .or(pod.run_as_group)
        .map_or(Ok(0), number)?;
    if own.run_as_non_root.or(pod.run_as_non_root) == Some(true) && uid == 0 {
        return Err(refused(format!(
            "container has runAsNonRoot and image will run as root (container: {name}): set runAsUser"
        )));
    }
    let groups = pod
        .supplemental_groups
        .unwrap_or_default()
        .into_iter()
        .chain(pod.fs_group);
    Ok(User {
        uid,
        gid,
        groups: groups.map(number).collect::<Result<_, _>>()?,
    })
}

fn privileges(own: &SecurityContext) -> Result<Privileges, Refused> {
    let privileged = own.privileged == Some(true);
    let named = own.capabilities.clone().unwrap_or_default();
    let capabilities = match privileged {
        true => capability::ALL,
        false => capability::resolve(
            &named.add.unwrap_or_default(),
            &named.drop.unwrap_or_default(),
        )
        .map_err(refused)?,
    };
    let no_new_privileges = own.allow_privilege_escalation == Some(false) && !privileged;
    Ok(Privileges {
        privileged,
        capabilities,
        no_new_privileges,
    })
}

/// Volumes, the files of every pod, and the file for last words; parents before what lies in them.
fn mounts(
    container: &Container,
    place: &Place<'_>,
    env: &[(String, String)],
) -> Result<Vec<Mount>, Refused> {
    let mut mounts = Vec::new();
    for asked in container.volume_mounts.iter().flatten() {
        let volume = place
            .volumes
            .get(&asked.name)
            .ok_or_else(|| refused(format!("the pod has no volume {:?}", asked.name)))?;
        mounts.push(Mount {
            source: source(volume, asked, env)?,
            target: asked.mount_path.clone().into(),
            read_only: asked.read_only == Some(true),
            propagation: match asked.mount_propagation.as_deref() {
                Some("Bidirectional") => Propagation::Bidirectional,
                Some("HostToContainer") => Propagation::HostToContainer,
                _ => Propagation::None,
            },
        });
    }
    let message = container
        .termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log");
    let own = place
        .files
        .iter()
        .map(|(name, file)| (Path::new("/etc").join(name), file.clone()))
        .chain([(message.into(), place.message.to_owned())]);
    for (target, source) in own {
        if !mounts.iter().any(|m| m.target == target) {
            mounts.push(Mount {
                source,
                target,
                read_only: false,
                propagation: Propagation::None,
            });
        }
    }
    mounts.sort_by_key(|m| m.target.components().count());
    Ok(mounts)
}

fn source(
    volume: &Path,
    asked: &VolumeMount,
    env: &[(String, String)],
) -> Result<PathBuf, Refused> {
    let of = |name: &str| {
        env.iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.clone())
    };
    let expanded = asked
        .sub_path_expr
        .as_deref()
        .map(|text| env::expand(text, &of));
    let sub = asked
        .sub_path
        .clone()
        .or(expanded)
        .filter(|sub| !sub.is_empty());
    match sub {
        None => Ok(volume.to_owned()),
        Some(sub) => volumes::sub_path(volume, &sub).map_err(|e| {
            refused(format!(
                "failed to prepare subPath {sub:?} for volumeMount {:?}: {e}",
                asked.name
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    struct Nothing;

    impl Lookup for Nothing {
        fn config_map(&self, _: &str) -> Option<&BTreeMap<String, String>> {
            None
        }

        fn secret(&self, _: &str) -> Option<&BTreeMap<String, String>> {
            None
        }

        fn field(&self, _: &str) -> Result<String, String> {
            Err(String::new())
        }

        fn resource(&self, _: &str, _: &str, _: Option<&str>) -> Result<String, String> {
            Err(String::new())
        }
    }

    fn built(pod: Value, container: Value) -> Result<Spec, Refused> {
        let mut own = json!({"name": "c", "image": "malha"});
        own.as_object_mut()
            .unwrap()
            .extend(container.as_object().unwrap().clone());
        let mut spec = json!({"containers": [own]});
        spec.as_object_mut()
            .unwrap()
            .extend(pod.as_object().unwrap().clone());
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        let config = Config::new("n", Vec::new()).unwrap();
        let place = Place {
            pod: &pod,
            config: &config,
            namespaces: Namespaces::default(),
            volumes: &[("v".to_owned(), PathBuf::from("/vol"))].into(),
            files: &[("hosts", "/pod/hosts".into())],
            message: Path::new("/pod/message"),
            log: Path::new("/log"),
            memory: 1 << 30,
        };
        let container = &pod.spec.as_ref().unwrap().containers[0];
        build(container, &place, &BTreeMap::new(), &Nothing)
    }

    #[test]
    fn commands() {
        let args = |container| built(json!({}), container).map(|s| s.args);
        assert_eq!(
            args(json!({"args": ["lab", "serve"]})).unwrap(),
            ["malha", "lab", "serve"]
        );
        let host = json!({"image": "x", "command": ["sh", "-c", "$(A)"], "env": [{"name": "A", "value": "b"}]});
        assert_eq!(args(host).unwrap(), ["sh", "-c", "b"]);
        assert!(
            args(json!({"image": "x"}))
                .unwrap_err()
                .message
                .starts_with("no command specified")
        );
        assert_eq!(
            args(json!({"image": "X Y"})).unwrap_err().reason,
            "InvalidImageName"
        );
    }

    #[test]
    fn who_a_container_is() {
        let pod = json!({"securityContext": {"runAsUser": 5, "runAsGroup": 6, "fsGroup": 7, "supplementalGroups": [8]}});
        let spec = built(pod.clone(), json!({"securityContext": {"runAsUser": 9}})).unwrap();
        assert_eq!(
            spec.user,
            User {
                uid: 9,
                gid: 6,
                groups: vec![8, 7]
            }
        );
        assert!(spec.env.contains(&("HOME".into(), "/".into())));
        let root = built(
            json!({"securityContext": {"runAsNonRoot": true}}),
            json!({}),
        )
        .unwrap_err();
        assert!(root.message.contains("runAsNonRoot"), "{root}");
        let privileged =
            built(json!({}), json!({"securityContext": {"privileged": true}})).unwrap();
        assert_eq!(privileged.privileges.capabilities, capability::ALL);
    }

    #[test]
    fn mounts_are_in_order_and_users_win() {
        let container = json!({
            "terminationMessagePath": "/dev/last",
            "volumeMounts": [
                {"name": "v", "mountPath": "/a/b", "readOnly": true},
                {"name": "v", "mountPath": "/a", "mountPropagation": "Bidirectional"},
                {"name": "v", "mountPath": "/etc/hosts"},
            ],
        });
        let spec = built(json!({}), container).unwrap();
        let shown: Vec<String> = spec
            .mounts
            .iter()
            .map(|m| {
                format!(
                    "{} {} {:?}",
                    m.source.display(),
                    m.target.display(),
                    m.propagation
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "/vol /a Bidirectional",
                "/vol /a/b None",
                "/vol /etc/hosts None",
                "/pod/message /dev/last None",
            ]
        );
        let unknown = json!({"volumeMounts": [{"name": "x", "mountPath": "/a"}]});
        assert_eq!(
            built(json!({}), unknown).unwrap_err().message,
            "the pod has no volume \"x\""
        );
    }
}
