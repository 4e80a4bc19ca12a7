//! The calls.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::grpc::Connection;
use crate::message::{
    CgroupDriver, Runtime, Sandbox, SandboxConfig, SandboxStatus, decode_id, decode_info, encode_id,
};
use crate::wire::Writer;

/// The interface's versions, the newest first.
const VERSIONS: [&str; 2] = ["v1", "v1alpha2"];
/// How long a question may take. Starting and stopping takes as long as the network plugin does.
const QUESTION: Duration = Duration::from_secs(10);
const WORK: Duration = Duration::from_secs(120);

/// A connection to a runtime.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    version: &'static str,
    runtime: Runtime,
}

impl Client {
    /// Connect to what listens on a socket, and agree on a version.
    ///
    /// # Errors
    /// [`Error`]: nobody listens, or none that knows this interface.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let call = "Version";
        let attempt = async {
            let mut connection = Connection::open(socket).await?;
            let mut last = None;
            for version in VERSIONS {
                let path = path(version, call);
                match connection.call(call, &path, &encode_id(version)).await {
                    Ok(answer) => {
                        let runtime = understood(call, Runtime::decode(&answer))?;
                        return Ok(Self {
                            connection,
                            version,
                            runtime,
                        });
                    }
                    Err(error) if error.is_unimplemented() => last = Some(error),
                    Err(error) => return Err(error),
                }
            }
            Err(last.unwrap_or(Error::Answer {
                call,
                problem: "it has no version",
            }))
        };
        within(call, QUESTION, attempt).await
    }

    /// Who answers.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The interface's version that is spoken.
    #[must_use]
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// Every sandbox that the runtime knows, whether it runs or not.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn sandboxes(&mut self) -> Result<Vec<Sandbox>> {
        let call = "ListPodSandbox";
        let answer = self.ask(call, QUESTION, &[]).await?;
        understood(call, Sandbox::decode_list(&answer))
    }

    /// Start a sandbox; its ID.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn run_sandbox(&mut self, config: &SandboxConfig) -> Result<String> {
        let call = "RunPodSandbox";
        let answer = self.ask(call, WORK, &config.encode()).await?;
        understood(call, decode_id(&answer))
    }

    /// How a sandbox is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn sandbox_status(&mut self, id: &str) -> Result<SandboxStatus> {
        let call = "PodSandboxStatus";
        let answer = self.ask(call, QUESTION, &encode_id(id)).await?;
        understood(call, SandboxStatus::decode(&answer))
    }

    /// Stop a sandbox: its network goes.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stop_sandbox(&mut self, id: &str) -> Result<()> {
        self.ask("StopPodSandbox", WORK, &encode_id(id))
            .await
            .map(drop)
    }

    /// Remove a sandbox that was stopped.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn remove_sandbox(&mut self, id: &str) -> Result<()> {
        self.ask("RemovePodSandbox", WORK, &encode_id(id))
            .await
            .map(drop)
    }

    /// What the runtime says about itself beyond what the interface defines, under a name of its own: containerd shows
    /// its configuration as JSON under `config`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn info(&mut self, name: &str) -> Result<Option<String>> {
        let call = "Status";
        let verbose = Writer::default().number(1, 1).finish();
        let answer = self.ask(call, QUESTION, &verbose).await?;
        understood(call, decode_info(&answer, name))
    }

    /// How the runtime makes control groups, if it tells kubelets: a call that the interface has since Kubernetes 1.28.
    ///
    /// # Errors
    /// [`Error`]; the runtime does not know the call: [`Error::is_unimplemented`].
    pub async fn cgroup_driver(&mut self) -> Result<CgroupDriver> {
        let call = "RuntimeConfig";
        let answer = self.ask(call, QUESTION, &[]).await?;
        understood(call, CgroupDriver::decode(&answer))
    }

    async fn ask(
        &mut self,
        call: &'static str,
        limit: Duration,
        message: &[u8],
    ) -> Result<bytes::Bytes> {
        let path = path(self.version, call);
        within(call, limit, self.connection.call(call, &path, message)).await
    }
}

fn path(version: &str, call: &str) -> String {
    format!("/runtime.{version}.RuntimeService/{call}")
}

fn understood<T>(call: &'static str, read: Option<T>) -> Result<T> {
    let problem = "it is no message of this interface";
    read.ok_or(Error::Answer { call, problem })
}

async fn within<T>(
    call: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let late = |_| Err(Error::Late { call, limit });
    tokio::time::timeout(limit, work).await.unwrap_or_else(late)
}
