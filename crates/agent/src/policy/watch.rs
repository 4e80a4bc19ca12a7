//! The watches that only policy needs.

use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use kube::{Api, ResourceExt};
use malha_policy::api::NetworkPolicy;
use malha_policy::model::{Namespace, Pod, Policy};

use super::{Admitter, Ask, Message, Seen};
use crate::cluster::connection::Current;
use crate::cluster::objects;

/// Start them. They end when nobody listens.
pub fn start(server: &Current, keeper: &Admitter) {
    let to = keeper.clone();
    let namespaces = move |heard| to.tell(Message::Namespaces(heard));
    let read = |object: core::Namespace| Namespace::read(&object);
    tokio::spawn(objects::run(server.clone(), read, namespaces));
    let to = keeper.clone();
    let pods = move |heard| to.tell(Message::Pods(heard));
    tokio::spawn(objects::run(server.clone(), seen, pods));
    let to = keeper.clone();
    let policies = move |heard| to.tell(Message::Policies(heard));
    tokio::spawn(objects::run(server.clone(), bare, policies));
}

/// On a pod that stands in the API for one that its kubelet has from a file: the UID that runtimes know.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// How long the answer to one question may take.
const LIMIT: Duration = Duration::from_secs(2);

/// A way to ask the API server whether there is a pod, for threads that are not the runtime's.
pub fn ask(server: &Current) -> Ask {
    let (server, runtime) = (server.clone(), tokio::runtime::Handle::current());
    Box::new(move |(namespace, name)| {
        let client = server.borrow().client.clone();
        let pods: Api<core::Pod> = Api::namespaced(client, namespace);
        let asked = async { tokio::time::timeout(LIMIT, pods.get_metadata_opt(name)).await };
        let found = runtime.block_on(asked).ok()?.ok()?;
        Some(found.is_some())
    })
}

/// A pod is large, and little of it decides.
fn seen(object: core::Pod) -> Seen {
    let mirrored = object.annotations().get(MIRROR).cloned();
    Seen {
        uid: mirrored.or_else(|| object.uid()).unwrap_or_default(),
        pod: Pod::read(&object),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    }
}

fn bare(mut policy: NetworkPolicy) -> Box<Policy> {
    policy.metadata.managed_fields = None;
    Box::new(Policy::Namespaced(policy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_pod_has_the_uid_that_its_runtime_knows() {
        let mut pod = core::Pod::default();
        pod.metadata.uid = Some("of-the-mirror".to_owned());
        assert_eq!(seen(pod.clone()).uid, "of-the-mirror");
        pod.annotations_mut()
            .insert(MIRROR.to_owned(), "of-the-file".to_owned());
        assert_eq!(seen(pod).uid, "of-the-file");
    }
}
