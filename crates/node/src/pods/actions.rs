//! What a worker does: prepare, start, stop, and take in what containers and probes tell.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container;

use super::{
    container::{self, Place, Refused},
    context::Context,
    decide::Why,
    downward::Surroundings,
    ended,
    inputs::Inputs,
    observed::{Instance, Run},
    prepare, resources, stop,
    worker::{Message, Worker, blocking},
};
use crate::{
    events::Kind,
    launch::spec::Spec,
    probes::{self, Target},
    runtime::{ContainerRecord, SandboxRecord, StartError},
};

/// Pause after a container cannot be waited for.
const WAIT_PAUSE: Duration = Duration::from_secs(1);
/// Pause before a container that cannot be configured is tried again.
const CONFIG_PAUSE: Duration = Duration::from_secs(5);
/// A hook after the start may take this long.
const POST_START_LIMIT: Duration = Duration::from_secs(300);

impl Worker {
    pub(super) fn around(&self) -> Surroundings {
        let host_ips = self.context.host_ips();
        let host_network = self
            .pod
            .spec
            .as_ref()
            .is_some_and(|s| s.host_network == Some(true));
        let pod_ips = if host_network {
            host_ips.clone()
        } else {
            self.seen.ips.iter().map(ToString::to_string).collect()
        };
        Surroundings {
            host_ips,
            pod_ips,
            capacity: self.context.capacity,
        }
    }

    pub(super) fn warn(
        &self,
        container: Option<&str>,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.context
            .events
            .pod(&self.pod, container, Kind::Warning, reason, message);
    }

    pub(super) fn note(&self, container: &str, reason: &'static str, message: impl Into<String>) {
        self.context
            .events
            .pod(&self.pod, Some(container), Kind::Normal, reason, message);
    }

    /// Starts a container (again).
    pub(super) async fn start(&mut self, name: &str) {
        let (Some(container), Some(sandbox)) = (self.find(name), self.sandbox.clone()) else {
            return;
        };
        match self.describe(&container, &sandbox).await {
            Err(refused) => {
                self.warn(Some(name), "Failed", format!("Error: {refused}"));
                let track = self.seen.containers.entry(name.to_owned()).or_default();
                track.waiting = Some((refused.reason.to_owned(), refused.message));
                track.retry_at = later(CONFIG_PAUSE);
            }
            Ok((record, spec)) => {
                let image = container.image.as_deref().unwrap_or_default();
                let present = format!("Container image {image:?} already present on machine");
                self.note(name, "Pulled", present);
                self.forget_old_runs(name).await;
                self.launch(container, record, spec).await;
            }
        }
    }

    async fn describe(
        &mut self,
        container: &Container,
        sandbox: &SandboxRecord,
    ) -> Result<(ContainerRecord, Spec), Refused> {
        let unread = |e: kube::Error| Refused {
            reason: "CreateContainerConfigError",
            message: e.to_string(),
        };
        let around = self.around();
        let inputs = Inputs::read(&self.pod, container, &around, &self.context.sources)
            .await
            .map_err(unread)?;
        let track = self.seen.track(&container.name);
        let attempt = track.map_or(0, |t| t.restarts + u32::from(t.current.is_some()));
        let pod_dir = self.context.volumes.pod_dir(&self.uid());
        let message = message_file(&pod_dir, &container.name, attempt)?;
        let log = super::log_file(
            &self.context.config.log_dir,
            &self.pod,
            &container.name,
            attempt,
        );
        let spec = container::build(
            container,
            &Place {
                pod: &self.pod,
                config: &self.context.config,
                namespaces: sandbox.shared_with(
                    self.pod
                        .spec
                        .as_ref()
                        .is_some_and(|s| s.host_pid == Some(true)),
                ),
                volumes: &self.places,
                files: &prepare::etc_files(&pod_dir),
                message: &message,
                log: &log,
                memory: self.context.capacity.1,
            },
            &inputs.services,
            &inputs,
        )?;
        let record = self.context.runtime.new_container(ContainerRecord {
            id: String::new(),
            sandbox_id: sandbox.id.clone(),
            pod_uid: self.uid(),
            name: container.name.clone(),
            attempt,
            created_at: Timestamp::now(),
            log_path: log,
            message_path: Some(message),
            cgroup: String::new(),
            bundle: Default::default(),
        });
        Ok((record, spec))
    }

    async fn launch(&mut self, container: Container, record: ContainerRecord, spec: Spec) {
        let name = container.name.clone();
        let track = self.seen.containers.entry(name.clone()).or_default();
        if let Some(ended) = track.ended().cloned() {
            let ran = ended.finished.duration_since(ended.started).unsigned_abs();
            track.backoff.restart(ran);
            track.restarts += 1;
            track.last = Some(ended);
        }
        (track.waiting, track.retry_at) = (None, None);
        self.records
            .entry(name.clone())
            .or_default()
            .push(record.clone());
        let (context, limits, started) = (
            self.context.clone(),
            resources::limits(&container),
            record.clone(),
        );
        let outcome =
            tokio::task::spawn_blocking(move || context.runtime.start(&started, spec, &limits))
                .await;
        let outcome = outcome.unwrap_or_else(|e| {
            Err(StartError::System {
                what: "cannot start the container".to_owned(),
                source: std::io::Error::other(e),
            })
        });
        match outcome {
            Ok((started, unkept)) => {
                for limit in unkept {
                    self.warn(
                        Some(&name),
                        "FailedLimit",
                        format!("limit not kept: {limit}"),
                    );
                }
                self.note(&name, "Created", format!("Created container: {name}"));
                self.note(&name, "Started", format!("Started container {name}"));
                self.runs(&container, &record, started.at);
                self.run_post_start(&container, &record);
            }
            Err(error) => {
                self.warn(Some(&name), "Failed", format!("Error: {error}"));
                let ended = ended::of_failure(&record, &error, Timestamp::now());
                let run = Run::Ended(ended);
                let instance = Instance {
                    id: record.id,
                    run,
                    started: false,
                    ready: false,
                    stopping: false,
                    unhealthy: false,
                };
                self.seen.containers.entry(name).or_default().current = Some(instance);
            }
        }
    }

    /// A container runs: watch it, probe it.
    pub(super) fn runs(
        &mut self,
        container: &Container,
        record: &ContainerRecord,
        since: Timestamp,
    ) {
        let instance = Instance {
            id: record.id.clone(),
            run: Run::Running(since),
            started: container.startup_probe.is_none(),
            ready: container.readiness_probe.is_none(),
            stopping: false,
            unhealthy: false,
        };
        self.seen
            .containers
            .entry(container.name.clone())
            .or_default()
            .current = Some(instance);
        let (context, sender) = (self.context.clone(), self.sender.clone());
        let (record, name) = (record.clone(), container.name.clone());
        let target = self.target(&record);
        tokio::spawn(async move {
            let state = loop {
                match context.runtime.wait(&record).await {
                    Ok(state) => break state,
                    Err(error) => {
                        tracing::warn!(container = record.id, %error, "cannot wait for a container")
                    }
                }
                tokio::time::sleep(WAIT_PAUSE).await;
            };
            let (id, cgroup) = (record.id.clone(), record.cgroup.clone());
            let removed = blocking(move || Ok(context.runtime.cgroups().remove(&cgroup)?)).await;
            if let Err(error) = removed {
                tracing::debug!(container = id, %error, "a cgroup is removed later");
            }
            let _ = sender
                .send(Message::Ended {
                    container: name,
                    id,
                    state,
                })
                .await;
        });
        self.probe(container, target);
    }

    fn target(&self, record: &ContainerRecord) -> Arc<Target> {
        Arc::new(Target {
            runtime: self.context.runtime.clone(),
            record: record.clone(),
            ip: self.ips().first().copied(),
        })
    }

    fn probe(&mut self, container: &Container, target: Arc<Target>) {
        let (findings, mut found) = tokio::sync::mpsc::channel(8);
        let sender = self.sender.clone();
        let watch = probes::watch(
            container.clone(),
            target.record.id.clone(),
            target,
            findings,
        );
        let task = tokio::spawn(async move {
            let pass_on = async {
                while let Some(finding) = found.recv().await {
                    if sender.send(Message::Probe(finding)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::join!(watch, pass_on);
        });
        if let Some(before) = self
            .probes
            .insert(container.name.clone(), task.abort_handle())
        {
            before.abort();
        }
    }

    fn run_post_start(&self, container: &Container, record: &ContainerRecord) {
        let Some(hook) = container
            .lifecycle
            .as_ref()
            .and_then(|l| l.post_start.clone())
        else {
            return;
        };
        let (context, pod) = (self.context.clone(), self.pod.clone());
        let (container, target) = (container.clone(), self.target(record));
        tokio::spawn(async move {
            if let Err(error) = stop::run_hook(&hook, &container, &target, POST_START_LIMIT).await {
                let text = format!("PostStartHook failed: {error}");
                context.events.pod(
                    &pod,
                    Some(&container.name),
                    Kind::Warning,
                    "FailedPostStartHook",
                    text,
                );
                let _ = context
                    .runtime
                    .signal(&target.record, rustix::process::Signal::KILL);
            }
        });
    }

    /// Begins to stop a container; its end is told like any other.
    pub(super) fn stop(&mut self, name: &str, why: Why) {
        let (Some(container), Some(record)) = (self.find(name), self.record(name).cloned()) else {
            return;
        };
        if let Some(instance) = self
            .seen
            .containers
            .get_mut(name)
            .and_then(|t| t.current.as_mut())
        {
            instance.stopping = true;
        }
        let text = match why {
            Why::Unhealthy => format!("Container {name} failed a probe, will be restarted"),
            Why::Deleted | Why::Over => format!("Stopping container {name}"),
        };
        self.note(name, "Killing", text);
        let target = self.target(&record);
        tokio::spawn(stop::stop(
            self.context.clone(),
            container,
            target,
            why,
            self.updates.clone(),
        ));
    }

    /// Keeps the last run, for its log and state, and the log of the one before.
    async fn forget_old_runs(&mut self, name: &str) {
        let Some(runs) = self.records.get_mut(name) else {
            return;
        };
        let old: Vec<ContainerRecord> = runs.drain(..runs.len().saturating_sub(1)).collect();
        let context: Arc<Context> = self.context.clone();
        let work = move || {
            for record in &old {
                context.runtime.remove(record)?;
                for log in crate::launch::log::put_aside_files(&record.log_path).unwrap_or_default()
                {
                    let _ = std::fs::remove_file(log);
                }
                let _ = std::fs::remove_file(&record.log_path);
                let _ = record.message_path.as_ref().map(std::fs::remove_file);
            }
            Ok(())
        };
        if let Err(error) = blocking(work).await {
            tracing::warn!(pod = self.name(), %error, "cannot remove old runs of a container");
        }
    }
}

pub(super) fn later(pause: Duration) -> Option<Timestamp> {
    Timestamp::now()
        .checked_add(SignedDuration::try_from(pause).ok()?)
        .ok()
}

/// An empty file for a container's last words.
fn message_file(
    pod_dir: &std::path::Path,
    container: &str,
    attempt: u32,
) -> Result<std::path::PathBuf, Refused> {
    let directory = pod_dir.join("containers").join(container);
    let path = directory.join(format!("{attempt}.message"));
    let made = std::fs::create_dir_all(&directory).and_then(|()| std::fs::File::create(&path));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    made.and_then(|file| file.set_permissions(mode))
        .map_err(|e| Refused {
            reason: "CreateContainerError",
            message: format!("cannot make {}: {e}", path.display()),
        })?;
    Ok(path)
}
