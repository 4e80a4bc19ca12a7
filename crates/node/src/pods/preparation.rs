//! What a worker does before any container: volumes, sandbox, files.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;

use super::{
    actions::later,
    observed::SandboxState,
    prepare,
    worker::{Worker, blocking},
};
use crate::runtime::SandboxRecord;

/// Pause after the first failure to prepare a pod; doubled …
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// … up to this.
const LAST_PAUSE: Duration = Duration::from_secs(10);

impl Worker {
    /// Volumes, sandbox, files.
    pub(super) async fn prepare(&mut self) {
        self.seen.since.get_or_insert_with(Timestamp::now);
        match self.try_prepare().await {
            Ok(()) => {
                self.failures = 0;
                self.seen.prepare_at = None;
                self.seen.sandbox = SandboxState::Ready;
            }
            Err((reason, message)) => {
                tracing::info!(pod = self.name(), reason, message, "pod not prepared");
                self.warn(None, reason, message);
                let pause = FIRST_PAUSE
                    .saturating_mul(1 << self.failures.min(5))
                    .min(LAST_PAUSE);
                self.failures += 1;
                self.seen.prepare_at = later(pause);
            }
        }
    }

    async fn try_prepare(&mut self) -> Result<(), (&'static str, String)> {
        let request = match prepare::request(&self.pod, self.sandboxes) {
            Ok(request) => request,
            Err((reason, message)) => {
                self.seen.rejected = Some((reason, message.clone()));
                return Err(("SysctlForbidden", message));
            }
        };
        let network = self.network.borrow_and_update().message();
        if let Some(why) = network.filter(|_| !request.host_network) {
            return Err(("NetworkNotReady", format!("network is not ready: {why}")));
        }
        self.places = self
            .context
            .volumes
            .set_up(&self.pod, &self.around())
            .await
            .map_err(|e| ("FailedMount", e.to_string()))?;
        let (context, old) = (self.context.clone(), self.sandbox.take());
        let made = blocking(move || {
            if let Some(old) = old {
                context.runtime.remove_sandbox(&old)?;
            }
            Ok(context.runtime.create_sandbox(&request)?)
        });
        let sandbox = made.await.map_err(|e| {
            (
                "FailedCreatePodSandBox",
                format!("Failed to create pod sandbox: {e:#}"),
            )
        })?;
        if self.sandboxes > 0 {
            self.run_init_again();
        }
        self.sandboxes += 1;
        self.take_sandbox(sandbox);
        let pod_dir = self.context.volumes.pod_dir(&self.uid());
        prepare::write_etc(&self.pod, &self.ips(), &self.context.config, &pod_dir).map_err(
            |e| {
                (
                    "FailedCreatePodSandBox",
                    format!("cannot write the pod's files: {e}"),
                )
            },
        )?;
        // Fields that name the pod's addresses are known only now.
        if self.pod.spec.as_ref().is_some_and(|s| s.volumes.is_some()) {
            let _ = self.context.volumes.set_up(&self.pod, &self.around()).await;
        }
        Ok(())
    }

    pub(super) fn take_sandbox(&mut self, sandbox: SandboxRecord) {
        self.seen.ips = sandbox
            .network
            .as_ref()
            .map(|n| n.ips.clone())
            .unwrap_or_default();
        self.sandbox = Some(sandbox);
    }

    pub(super) fn ips(&self) -> Vec<IpAddr> {
        self.around()
            .pod_ips
            .iter()
            .filter_map(|ip| ip.parse().ok())
            .collect()
    }

    /// A new sandbox is initialized anew.
    fn run_init_again(&mut self) {
        let spec = self.pod.spec.clone().unwrap_or_default();
        for container in spec.init_containers.iter().flatten() {
            if let Some(track) = self.seen.containers.get_mut(&container.name) {
                track.last = track.ended().cloned();
                track.current = None;
            }
        }
    }

    /// Contents of volumes as they are now.
    pub(super) async fn refresh(&mut self) {
        if let Err(error) = self.context.volumes.set_up(&self.pod, &self.around()).await {
            tracing::warn!(pod = self.name(), %error, "cannot bring volumes up to date");
        }
    }
}
