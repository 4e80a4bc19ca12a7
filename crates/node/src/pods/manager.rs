//! Follows the pods bound to this node and gives each a worker.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::watch, task::JoinSet};

use super::{
    context::Context,
    stop::Update,
    worker::{Left, Worker, blocking},
};
use crate::{machine::NetworkState, retry::Pauses, runtime::Inventory};

/// What is left of pods that nobody remembers is asked to end, for this long.
const LEFTOVER_GRACE: Duration = Duration::from_secs(10);

/// Runs this node's pods for as long as it is polled.
pub async fn run(context: Arc<Context>) {
    let fields = format!("spec.nodeName={}", context.config.node_name);
    let pods: Api<Pod> = Api::all(context.client.clone());
    let events =
        watcher(pods, watcher::Config::default().fields(&fields)).backoff(Pauses::default());
    let mut events = pin!(events);
    let mut manager = Manager {
        left: by_pod(&context),
        context,
        workers: HashMap::new(),
        running: JoinSet::new(),
        listing: None,
        listed_once: false,
    };
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => manager.take(event).await,
                Some(Err(error)) => tracing::warn!(%error, "watch of this node's pods"),
                None => return,
            },
            Some(ended) = manager.running.join_next() => match ended {
                Ok(uid) => drop(manager.workers.remove(&uid)),
                Err(error) => tracing::error!(%error, "a pod's worker failed"),
            },
        }
    }
}

struct Manager {
    context: Arc<Context>,
    workers: HashMap<String, watch::Sender<Update>>,
    running: JoinSet<String>,
    /// A listing that has not come to its end.
    listing: Option<Vec<Pod>>,
    listed_once: bool,
    left: HashMap<String, Left>,
}

/// What an earlier agent left, by the pods' uids.
fn by_pod(context: &Context) -> HashMap<String, Left> {
    let inventory = context.runtime.inventory().unwrap_or_else(|error| {
        tracing::error!(%error, "the records of containers cannot be read");
        Inventory::default()
    });
    let mut left: HashMap<String, Left> = HashMap::new();
    for sandbox in inventory.sandboxes {
        left.entry(sandbox.pod_uid.clone())
            .or_default()
            .sandboxes
            .push(sandbox);
    }
    for container in inventory.containers {
        left.entry(container.pod_uid.clone())
            .or_default()
            .containers
            .push(container);
    }
    left
}

impl Manager {
    async fn take(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listing = Some(Vec::new()),
            watcher::Event::InitApply(pod) => self.listing.get_or_insert_default().push(pod),
            watcher::Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                self.take_listing(listed).await;
            }
            watcher::Event::Apply(pod) => self.apply(pod),
            watcher::Event::Delete(pod) => self.gone(&pod),
        }
    }

    async fn take_listing(&mut self, listed: Vec<Pod>) {
        let uids: HashSet<String> = listed
            .iter()
            .filter_map(|p| p.metadata.uid.clone())
            .collect();
        if !self.listed_once {
            self.listed_once = true;
            self.collect_networks().await;
            self.clean_up(&uids);
        }
        for (uid, worker) in &self.workers {
            if !uids.contains(uid) {
                worker.send_modify(|update| update.gone = true);
            }
        }
        for pod in listed {
            self.apply(pod);
        }
    }

    fn apply(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else {
            return;
        };
        let pod = Arc::new(pod);
        self.context.registry.put(pod.clone());
        let update = Update { pod, gone: false };
        if let Some(worker) = self.workers.get(&uid) {
            worker.send_replace(update);
            return;
        }
        let (sender, updates) = watch::channel(update);
        let left = self.left.remove(&uid).unwrap_or_default();
        let worker = Worker::new(self.context.clone(), updates, left);
        self.workers.insert(uid.clone(), sender);
        self.running.spawn(async move {
            worker.run().await;
            uid
        });
    }

    fn gone(&mut self, pod: &Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        match self.workers.get(&uid) {
            Some(worker) => worker.send_modify(|update| {
                update.pod = Arc::new(pod.clone());
                update.gone = true;
            }),
            None => self.context.registry.remove(pod),
        }
    }

    /// Before any pod is started: what belongs to none of the sandboxes is the plugins' to remove.
    async fn collect_networks(&self) {
        if !matches!(
            *self.context.watched.network.borrow(),
            NetworkState::Ready(_)
        ) {
            return;
        }
        let sandboxes = self
            .left
            .values()
            .flat_map(|l| l.sandboxes.iter().map(|s| s.id.clone()));
        let (sandboxes, context) = (sandboxes.collect::<Vec<_>>(), self.context.clone());
        let work = move || {
            let keep: Vec<&str> = sandboxes.iter().map(String::as_str).collect();
            Ok(context.runtime.network().collect(&keep)?)
        };
        if let Err(error) = blocking(work).await {
            tracing::warn!(error = format!("{error:#}"), "CNI GC failed");
        }
    }

    /// Removes what is left of pods that the API server does not have any more.
    fn clean_up(&mut self, listed: &HashSet<String>) {
        let mut unknown: HashMap<String, Left> = HashMap::new();
        for uid in self.context.volumes.pods() {
            if !listed.contains(&uid) {
                unknown.entry(uid).or_default();
            }
        }
        unknown.extend(self.left.extract_if(|uid, _| !listed.contains(uid)));
        for (uid, left) in unknown {
            let context = self.context.clone();
            tokio::spawn(async move {
                while let Err(error) = remove_left(&context, &uid, &left).await {
                    tracing::warn!(
                        uid,
                        error = format!("{error:#}"),
                        "cannot remove what is left of a pod"
                    );
                    tokio::time::sleep(LEFTOVER_GRACE).await;
                }
                tracing::info!(uid, "removed what was left of a pod");
            });
        }
    }
}

async fn remove_left(context: &Arc<Context>, uid: &str, left: &Left) -> anyhow::Result<()> {
    let stops = left
        .containers
        .iter()
        .map(|c| context.runtime.stop(c, LEFTOVER_GRACE));
    futures::future::try_join_all(stops).await?;
    let (context, uid, left) = (context.clone(), uid.to_owned(), left.clone());
    blocking(move || {
        for container in &left.containers {
            context.runtime.remove(container)?;
        }
        for sandbox in &left.sandboxes {
            context.runtime.remove_sandbox(sandbox)?;
        }
        context.volumes.tear_down(&uid)?;
        for logs in super::logs_of_uid(&context.config.log_dir, &uid) {
            crate::volumes::remove_directory(&logs)?;
        }
        let cgroups = context.runtime.cgroups();
        Ok(cgroups.remove(&cgroups.pod(&uid))?)
    })
    .await
}
