//! Two questions to the machine's container runtime: is it one, and which cgroup driver does it use?

use std::{io, path::Path, time::Duration};

use malha_cri::{Client, Error};
use serde_json::Value;
use tokio::time::timeout;

pub use malha_cri::CgroupDriver;

/// How long a runtime may take to answer everything.
const LIMIT: Duration = Duration::from_secs(2);

/// A container runtime that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Its name, for example `containerd`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its cgroup driver, when it tells.
    pub cgroup_driver: Option<CgroupDriver>,
    /// Whether it tells its driver to kubelets too: newer ones then follow it.
    pub tells_kubelets: bool,
}

/// Why a socket is no container runtime's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CriError {
    /// No such socket.
    #[error(
        "there is no socket {0}: start the container runtime (systemctl start containerd), or name its socket with \
         --cri-socket"
    )]
    Absent(String),
    /// Nobody listens.
    #[error(
        "nothing listens on {0}: start the container runtime (systemctl start containerd), or name its socket with \
         --cri-socket"
    )]
    Refused(String),
    /// Silence.
    #[error(
        "the container runtime at {0} does not answer within 2 s; look at its log (journalctl -u containerd) and restart \
         it, or name another socket with --cri-socket"
    )]
    Silent(String),
    /// Somebody else.
    #[error(
        "what listens on {0} is not a container runtime ({1}); name the right socket with --cri-socket"
    )]
    NotCri(String, String),
    /// containerd as Docker packages it.
    #[error(
        "the container runtime at {0} does not serve CRI: for containerd, take \"cri\" out of disabled_plugins in \
         /etc/containerd/config.toml and restart it"
    )]
    Disabled(String),
}

/// Asks the runtime that listens on a socket.
///
/// # Errors
/// When nobody answers there, or somebody who is no container runtime.
pub async fn probe(socket: &Path) -> Result<Runtime, CriError> {
    let asked = timeout(LIMIT, ask(socket)).await;
    let shown = socket.display().to_string();
    asked
        .map_err(|_| CriError::Silent(shown.clone()))?
        .map_err(|error| explain(error, shown))
}

async fn ask(socket: &Path) -> Result<Runtime, Error> {
    let mut client = Client::connect(socket).await?;
    let told = client.cgroup_driver().await.ok();
    let shown = match told {
        Some(_) => None,
        None => client.info("config").await.ok().flatten(),
    };
    Ok(Runtime {
        name: client.runtime().name.clone(),
        version: client.runtime().version.clone(),
        cgroup_driver: told.or_else(|| of_containerd(&shown?)),
        tells_kubelets: told.is_some(),
    })
}

/// The driver in containerd's configuration, as it shows it.
fn of_containerd(config: &str) -> Option<CgroupDriver> {
    let config: Value = serde_json::from_str(config).ok()?;
    let containerd = &config["containerd"];
    let runtime = &containerd["runtimes"][containerd["defaultRuntimeName"].as_str()?];
    let systemd = &runtime["options"]["SystemdCgroup"];
    let usual = runtime["runtimeType"] == "io.containerd.runc.v2";
    match (systemd.as_bool().unwrap_or(false), usual) {
        (true, _) => Some(CgroupDriver::Systemd),
        (false, true) => Some(CgroupDriver::Cgroupfs),
        (false, false) => None,
    }
}

fn explain(error: Error, socket: String) -> CriError {
    match error {
        Error::Connect { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            CriError::Absent(socket)
        }
        Error::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
            CriError::Refused(socket)
        }
        Error::Late { .. } => CriError::Silent(socket),
        error if error.is_unimplemented() => CriError::Disabled(socket),
        error => CriError::NotCri(socket, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerds_driver_is_read() {
        let config = r#"{"containerd": {"defaultRuntimeName": "runc", "runtimes": {"runc":
            {"runtimeType": "io.containerd.runc.v2", "options": {"SystemdCgroup": true}}}}}"#;
        assert_eq!(of_containerd(config), Some(CgroupDriver::Systemd));
        let without = config.replace("true", "false");
        assert_eq!(of_containerd(&without), Some(CgroupDriver::Cgroupfs));
        assert_eq!(of_containerd(&without.replace("runc.v2", "kata.v2")), None);
        assert_eq!(of_containerd("not JSON"), None);
    }
}
