//! Reconciling with the runtime's own list of sandboxes, over CRI: containerd never calls GC, some of its versions skip
//! DEL, and a network namespace that is mounted somewhere lives on without its pod, link and all. So the agent asks the
//! runtime what it runs, and detaches what it does not.
//!
//! How long until what a dead sandbox held is free, besides the 30 s for which addresses rest:
//!
//! | what happened | detached within |
//! | --- | --- |
//! | DEL | at once |
//! | no DEL, and the network namespace is gone | 30 s (the reconciler of endpoints sees that the link is) |
//! | no DEL, the namespace lives, the runtime no longer lists a sandbox that it did list | 40 s |
//! | the same, and it was never listed since this agent started: its start may be under way | 5 min 40 s |

mod census;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use malha_cri::{Client, Sandbox};
use malha_endpoint::{Key, Manager};

use census::{Census, List};

/// How often runtimes are asked.
const LOOK: Duration = Duration::from_secs(20);
/// Where `deploy/malha.yaml` mounts the host's /run.
const HOST_RUN: &str = "/host/run";
/// Where runtimes listen, below /run: containerd, CRI-O, k3s and RKE2, cri-dockerd.
const SOCKETS: [&str; 4] = [
    "containerd/containerd.sock",
    "crio/crio.sock",
    "k3s/containerd/containerd.sock",
    "cri-dockerd.sock",
];

/// What the agent has to know of runtimes.
#[derive(Clone, Debug, Default)]
pub struct Runtimes {
    /// Sockets to ask at. Empty: the usual ones.
    pub sockets: Vec<PathBuf>,
    /// UID of the agent's own pod. A runtime that does not list it is not the one that runs this node's pods, or does
    /// not know yet what it runs. Empty: not a pod, and only the sockets that were named are asked.
    pub pod_uid: String,
}

impl Runtimes {
    /// Those that are there.
    fn present(&self) -> Vec<PathBuf> {
        if !self.sockets.is_empty() {
            return self.sockets.clone();
        }
        if self.pod_uid.is_empty() {
            return Vec::new();
        }
        let usual = SOCKETS
            .iter()
            .map(|socket| Path::new(HOST_RUN).join(socket));
        usual.filter(|socket| socket.exists()).collect()
    }

    /// Whether to believe that what is not on the list is not there.
    fn believes(&self, sandboxes: &[Sandbox]) -> bool {
        if self.pod_uid.is_empty() {
            return !sandboxes.is_empty();
        }
        let own = |sandbox: &Sandbox| sandbox.ready && sandbox.uid == self.pod_uid;
        sandboxes.iter().any(own)
    }
}

/// Look again and again.
pub async fn run(manager: Arc<Manager>, runtimes: Runtimes) {
    let mut census = Census::default();
    let mut said = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let mut lists = Vec::new();
        for socket in runtimes.present() {
            lists.push(ask(&runtimes, socket).await);
        }
        let problem = lists.iter().find_map(|list| list.as_ref().err().cloned());
        if problem != said {
            match &problem {
                Some(problem) => tracing::warn!(
                    problem,
                    "cannot compare pods' attachments with the runtime's sandboxes"
                ),
                None => tracing::info!("comparing pods' attachments with the runtime's sandboxes"),
            }
            said = problem;
        }
        let lists: Vec<Option<List>> = lists.into_iter().map(Result::ok).collect();
        let dead = census.take(Instant::now(), &attachments(&manager), &lists);
        if !dead.is_empty() {
            let manager = manager.clone();
            let detached = tokio::task::spawn_blocking(move || detach(&manager, &dead)).await;
            if let Err(error) = detached {
                tracing::warn!(%error, "detaching dead sandboxes ended early");
            }
        }
    }
}

/// What a runtime lists.
async fn ask(runtimes: &Runtimes, socket: PathBuf) -> Result<List, String> {
    let answer = async { Client::connect(&socket).await?.sandboxes().await };
    let sandboxes: Vec<Sandbox> = answer
        .await
        .map_err(|error: malha_cri::Error| error.to_string())?;
    Ok(List {
        believed: runtimes.believes(&sandboxes),
        ids: sandboxes.into_iter().map(|sandbox| sandbox.id).collect(),
        socket,
    })
}

/// The attachments that runtimes with CRI made: only they name a pod's UID. Others have container engines of their own.
fn attachments(manager: &Manager) -> HashSet<Key> {
    let attached = manager.list().into_iter();
    let of_pods =
        attached.filter(|endpoint| endpoint.pod.as_ref().is_some_and(|pod| !pod.uid.is_empty()));
    of_pods.map(|endpoint| endpoint.key).collect()
}

fn detach(manager: &Manager, dead: &[Key]) {
    for key in dead {
        tracing::info!(%key, "the runtime has no such sandbox any more: detaching it");
        if let Err(error) = manager.del(key) {
            tracing::warn!(%key, %error, "cannot detach a dead sandbox; trying again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(uid: &str, ready: bool) -> Sandbox {
        Sandbox {
            uid: uid.to_owned(),
            ready,
            ..Sandbox::default()
        }
    }

    #[test]
    fn only_a_runtime_that_runs_this_agent_is_believed() {
        let pod = Runtimes {
            pod_uid: "me".to_owned(),
            ..Runtimes::default()
        };
        assert!(pod.believes(&[sandbox("other", true), sandbox("me", true)]));
        assert!(!pod.believes(&[sandbox("other", true), sandbox("me", false)]));
        assert!(!pod.believes(&[]));
        let process = Runtimes {
            sockets: vec!["/run/a".into()],
            ..Runtimes::default()
        };
        assert!(process.believes(&[sandbox("other", true)]));
        assert!(!process.believes(&[]));
        assert!(Runtimes::default().present().is_empty());
    }
}
