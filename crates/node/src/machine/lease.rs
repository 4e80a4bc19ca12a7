//! The node's lease: what says that it lives.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Node,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

const NAMESPACE: &str = "kube-node-lease";
/// Seconds for which one renewal says so.
const DURATION: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);
/// Pause after a failure; the next renewal is as good as a retry, so one of these is enough.
const RETRY: Duration = Duration::from_millis(500);

/// Renews the lease for as long as the node is registered.
pub async fn keep_alive(
    client: Client,
    name: String,
    mut node: watch::Receiver<Option<Arc<Node>>>,
) {
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut held: Option<Lease> = None;
    let mut tick = interval(RENEW);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if node.wait_for(Option::is_some).await.is_err() {
            return;
        }
        tick.tick().await;
        let Some(owner) = node.borrow().as_ref().map(|n| owner(n)) else {
            continue;
        };
        match timeout(RENEW, renew(&leases, &name, owner, held.take())).await {
            Ok(Ok(lease)) => held = Some(lease),
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot renew the node's lease");
                tokio::time::sleep(RETRY).await;
                tick.reset_immediately();
            }
            Err(_) => tracing::warn!("the API server did not renew the node's lease in time"),
        }
    }
}

fn owner(node: &Node) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

async fn renew(
    leases: &Api<Lease>,
    name: &str,
    owner: OwnerReference,
    held: Option<Lease>,
) -> Result<Lease, kube::Error> {
    let known = match held {
        Some(lease) => Some(lease),
        None => leases.get_opt(name).await?,
    };
    let wanted = lease(name, owner, known.as_ref());
    let written = match known {
        Some(_) => leases.replace(name, &PostParams::default(), &wanted).await,
        None => leases.create(&PostParams::default(), &wanted).await,
    };
    match written {
        // Removed, or written by somebody else: read it again.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
            let known = leases.get_opt(name).await?;
            let wanted = lease(
                name,
                wanted
                    .metadata
                    .owner_references
                    .unwrap_or_default()
                    .remove(0),
                known.as_ref(),
            );
            match known {
                Some(_) => leases.replace(name, &PostParams::default(), &wanted).await,
                None => leases.create(&PostParams::default(), &wanted).await,
            }
        }
        other => other,
    }
}

fn lease(name: &str, owner: OwnerReference, known: Option<&Lease>) -> Lease {
    let now = MicroTime(Timestamp::now());
    let spec = known.and_then(|l| l.spec.clone()).unwrap_or_default();
    let metadata = known
        .map(|l| l.metadata.clone())
        .unwrap_or_else(|| ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        });
    Lease {
        metadata: ObjectMeta {
            owner_references: Some(vec![owner]),
            ..metadata
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.to_owned()),
            lease_duration_seconds: Some(DURATION),
            renew_time: Some(now),
            ..spec
        }),
    }
}
