//! One pod's worker: decides, acts, reports, waits.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{MissedTickBehavior, interval},
};

use super::{
    adopt,
    context::Context,
    decide::{Step, decide},
    observed::{Observed, SandboxState},
    report::Reporter,
    status,
    stop::Update,
};
use crate::{
    machine::NetworkState,
    probes::Finding,
    runtime::{ContainerRecord, SandboxRecord, State},
    volumes::Places,
};

/// How often contents of volumes are brought up to date.
const REFRESH: Duration = Duration::from_secs(60);
/// Pause before what failed to be removed is removed again.
const CLEAN_UP_RETRY: Duration = Duration::from_secs(1);

/// What happens to a pod's containers.
#[derive(Debug)]
pub(super) enum Message {
    /// A container has ended.
    Ended {
        /// Its name.
        container: String,
        /// The runtime's name of the run.
        id: String,
        /// How.
        state: State,
    },
    /// A probe has something to say.
    Probe(Finding),
}

/// A pod's worker.
pub struct Worker {
    pub(super) context: Arc<Context>,
    pub(super) pod: Arc<Pod>,
    pub(super) seen: Observed,
    pub(super) sandbox: Option<SandboxRecord>,
    pub(super) sandboxes: u32,
    pub(super) places: Places,
    /// The runs of each container that still have a record, the newest last.
    pub(super) records: BTreeMap<String, Vec<ContainerRecord>>,
    pub(super) probes: BTreeMap<String, AbortHandle>,
    pub(super) updates: watch::Receiver<Update>,
    /// What it saw last is seen, so that no change is missed between a failure and the wait for better.
    pub(super) network: watch::Receiver<NetworkState>,
    pub(super) sender: mpsc::Sender<Message>,
    pub(super) failures: u32,
    messages: mpsc::Receiver<Message>,
    reporter: Reporter,
}

/// What an earlier agent left of a pod.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// Sandboxes.
    pub sandboxes: Vec<SandboxRecord>,
    /// Containers, oldest first.
    pub containers: Vec<ContainerRecord>,
}

impl Worker {
    /// A worker for a pod, of which an earlier agent may have left something.
    pub fn new(context: Arc<Context>, updates: watch::Receiver<Update>, left: Left) -> Self {
        let pod = updates.borrow().pod.clone();
        let (sender, messages) = mpsc::channel(64);
        let reporter = Reporter::start(context.client.clone(), &pod);
        let mut worker = Self {
            seen: adopt::seed(&pod),
            network: context.watched.network.clone(),
            context,
            pod,
            sandbox: None,
            sandboxes: 0,
            places: Places::new(),
            records: BTreeMap::new(),
            probes: BTreeMap::new(),
            updates,
            sender,
            failures: 0,
            messages,
            reporter,
        };
        worker.adopt(left);
        worker
    }

    /// Works until the pod is gone.
    pub async fn run(mut self) {
        let mut refresh = interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        refresh.reset();
        loop {
            let decision = decide(&self.pod, &self.seen, Timestamp::now());
            self.report();
            if decision.steps.is_empty() {
                self.wait(decision.wake, &mut refresh).await;
                continue;
            }
            for step in decision.steps {
                tracing::debug!(pod = self.name(), ?step, "step");
                match step {
                    Step::Prepare => self.prepare().await,
                    Step::Fail(reason, message) => self.seen.rejected = Some((reason, message)),
                    Step::Start(container) => self.start(&container).await,
                    Step::Stop(container, why) => self.stop(&container, why),
                    Step::Release => {
                        if !self.release().await {
                            break;
                        }
                    }
                    Step::Finish => {
                        if self.finish().await {
                            self.reporter.finish().await;
                            return;
                        }
                    }
                }
                self.report();
            }
        }
    }

    /// Namespace and name.
    pub(super) fn name(&self) -> String {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        format!(
            "{}/{}",
            text(&self.pod.metadata.namespace),
            text(&self.pod.metadata.name)
        )
    }

    pub(super) fn uid(&self) -> String {
        self.pod.metadata.uid.clone().unwrap_or_default()
    }

    pub(super) fn find(&self, name: &str) -> Option<Container> {
        let spec = self.pod.spec.as_ref()?;
        let mut all = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers);
        all.find(|c| c.name == name).cloned()
    }

    /// The newest run of a container.
    pub(super) fn record(&self, name: &str) -> Option<&ContainerRecord> {
        self.records.get(name).and_then(|runs| runs.last())
    }

    async fn wait(&mut self, wake: Option<Timestamp>, refresh: &mut tokio::time::Interval) {
        let now = Timestamp::now();
        let pause = wake.map(|at| at.duration_since(now).unsigned_abs());
        let preparing = self.seen.sandbox == SandboxState::Absent;
        tokio::select! {
            changed = self.updates.changed() => match changed {
                Ok(()) => self.take_update(),
                // The manager has ended, and with it the agent.
                Err(_) => std::future::pending().await,
            },
            Some(message) = self.messages.recv() => self.take(message),
            () = sleep(pause), if pause.is_some() => {}
            Ok(()) = self.network.changed(), if preparing => {
                if matches!(*self.network.borrow(), NetworkState::Ready(_)) {
                    self.seen.prepare_at = None;
                }
            }
            _ = refresh.tick(), if self.seen.sandbox == SandboxState::Ready => self.refresh().await,
        }
        while let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
    }

    fn take_update(&mut self) {
        let update = self.updates.borrow_and_update().clone();
        self.pod = update.pod;
        self.seen.gone = update.gone;
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Ended {
                container,
                id,
                state,
            } => self.ended(&container, &id, &state),
            Message::Probe(finding) => self.found(finding),
        }
    }

    /// Computes the status and hands it to the reporter. What was reported last counts as the pod's own conditions, be
    /// it back from the API server or not; conditions of others come from there.
    fn report(&self) {
        let mut pod = Pod::clone(&self.pod);
        let recorded = pod.status.get_or_insert_default();
        let own = self.reporter.latest().conditions.unwrap_or_default();
        let foreign = recorded.conditions.take().unwrap_or_default();
        let foreign = foreign
            .into_iter()
            .filter(|c| !own.iter().any(|o| o.type_ == c.type_));
        recorded.conditions = Some(own.iter().cloned().chain(foreign).collect());
        let status: PodStatus = status::status(
            &pod,
            &self.seen,
            &self.context.config.node_ips,
            Timestamp::now(),
        );
        self.reporter.report(status);
    }

    /// Removes sandbox and volumes; tells whether all of it is gone.
    async fn release(&mut self) -> bool {
        let (context, sandbox, uid) = (self.context.clone(), self.sandbox.clone(), self.uid());
        let work = move || -> anyhow::Result<()> {
            if let Some(sandbox) = &sandbox {
                context.runtime.remove_sandbox(sandbox)?;
            }
            context.volumes.tear_down(&uid)?;
            let cgroups = context.runtime.cgroups();
            Ok(cgroups.remove(&cgroups.pod(&uid))?)
        };
        match blocking(work).await {
            Ok(()) => {
                self.sandbox = None;
                self.seen.sandbox = SandboxState::Released;
                true
            }
            Err(error) => {
                tracing::warn!(
                    pod = self.name(),
                    error = format!("{error:#}"),
                    "cannot clean up the pod"
                );
                let text = format!(
                    "error killing pod: failed to {:?} the pod's sandbox: {error:#}",
                    "KillPodSandbox"
                );
                self.warn(None, "FailedKillPod", text);
                tokio::time::sleep(CLEAN_UP_RETRY).await;
                false
            }
        }
    }

    /// Removes what is left of containers, and the object; tells whether both are gone.
    async fn finish(&mut self) -> bool {
        let (context, uid) = (self.context.clone(), self.uid());
        let records: Vec<ContainerRecord> = self.records.values().flatten().cloned().collect();
        let logs = super::logs_dir(&self.context.config.log_dir, &self.pod);
        let work = move || -> anyhow::Result<()> {
            for record in &records {
                context.runtime.remove(record)?;
            }
            crate::volumes::remove_directory(&logs)?;
            // The last words of containers were written after the sandbox was released.
            Ok(context.volumes.tear_down(&uid)?)
        };
        let cleaned = blocking(work).await;
        if let Err(error) = &cleaned {
            tracing::warn!(
                pod = self.name(),
                error = format!("{error:#}"),
                "cannot remove the pod's containers"
            );
        }
        let deleted = self.seen.gone || self.delete().await;
        if cleaned.is_err() || !deleted {
            tokio::time::sleep(CLEAN_UP_RETRY).await;
            if self.updates.has_changed().unwrap_or(false) {
                self.take_update();
            }
            return false;
        }
        self.context.registry.remove(&self.pod);
        true
    }

    /// The end of a graceful deletion is the node's to tell. The last status goes first.
    async fn delete(&mut self) -> bool {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(
            self.context.client.clone(),
            &text(&self.pod.metadata.namespace),
        );
        let own = Preconditions {
            uid: self.pod.metadata.uid.clone(),
            resource_version: None,
        };
        let parameters = DeleteParams::default().grace_period(0).preconditions(own);
        match pods
            .delete(&text(&self.pod.metadata.name), &parameters)
            .await
        {
            Ok(_) => true,
            // It is gone, or another pod has its name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => true,
            Err(error) => {
                tracing::warn!(pod = self.name(), %error, "cannot remove the pod from the API server");
                false
            }
        }
    }
}

async fn sleep(pause: Option<Duration>) {
    tokio::time::sleep(pause.unwrap_or_default()).await;
}

/// Runs what blocks on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}
