//! The request is handed on to the node's agent.
//!
//! Without an agent ADD and CHECK end at once with code 11 (try again later) and STATUS with 50. DEL succeeds: it is
//! left for the agent as a file (see [`crate::wire::deferred`]). An error would keep the pod "terminating" for as
//! long as the agent is away, and when the pod's own end is what the agent waits for, for ever; a success without the
//! file would leave its address taken as long as the namespace exists. Neither can give an address to two pods,
//! because the agent gives back only what it has a record of.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use malha_core::paths;

use super::Handler;
use crate::{
    types::{CniError, code},
    wire::{Answer, CallError, Request, Verb, WireError, call, deferred},
};

/// The variable that names another socket, before what the configuration says.
pub const SOCKET_VARIABLE: &str = "MALHA_CNI_SOCKET";

/// Hands requests on to the agent.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    socket: Option<PathBuf>,
}

impl Agent {
    /// `socket` comes before what the configuration says, when it is not empty.
    pub fn new(socket: Option<OsString>) -> Self {
        Self {
            socket: socket.filter(|path| !path.is_empty()).map(PathBuf::from),
        }
    }

    fn socket<'a>(&'a self, request: &'a Request) -> &'a Path {
        let named = self.socket.as_deref().or(request.config.socket.as_deref());
        named.unwrap_or(Path::new(paths::CNI_SOCKET))
    }
}

impl Handler for Agent {
    fn about(&self) -> String {
        format!(
            "Malha CNI plugin {}: asks the node's agent on {}",
            env!("CARGO_PKG_VERSION"),
            paths::CNI_SOCKET
        )
    }

    fn handle(&self, request: &Request) -> Answer {
        let socket = self.socket(request);
        let answer = match call(socket, request, limit(request.verb)) {
            Ok(answer) => answer,
            Err(CallError::Absent) if request.verb == Verb::Del => defer(socket, request),
            Err(error) => Err(unanswered(socket, request.verb, &error)),
        };
        Ok(answer?.map(|ours| match &request.config.prev_result {
            Some(earlier) => earlier.clone().amended_by(ours),
            None => ours,
        }))
    }
}

/// How long each of the two waits for the agent may take. It answers within milliseconds; containerd waits for STATUS
/// without a limit of its own, and kubelet two minutes for a sandbox.
fn limit(verb: Verb) -> Duration {
    match verb {
        Verb::Status => Duration::from_secs(1),
        Verb::Add | Verb::Del | Verb::Check => Duration::from_secs(10),
        Verb::Gc => Duration::from_secs(25),
    }
}

/// Leaves the request for the next agent, unless one has come up in the meantime.
fn defer(socket: &Path, request: &Request) -> Answer {
    match deferred::put(socket, request) {
        Ok(false) => return Ok(None),
        Ok(true) => {}
        Err(error) => {
            let msg = format!(
                "the Malha agent is not running and the deletion cannot be noted for it: {error}"
            );
            return Err(CniError::new(code::TRY_AGAIN, msg));
        }
    }
    match call(socket, request, limit(request.verb)) {
        Ok(Ok(_)) => {
            deferred::Ticket::of(socket, request).served();
            Ok(None)
        }
        Err(CallError::Absent) => Ok(None),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(unanswered(socket, request.verb, &error)),
    }
}

fn unanswered(socket: &Path, verb: Verb, error: &CallError) -> CniError {
    let code = match (verb, error) {
        (Verb::Status, _) => code::NOT_AVAILABLE,
        (
            _,
            CallError::Absent
            | CallError::Timeout(_)
            | CallError::Wire(WireError::Protocol { .. } | WireError::Closed),
        ) => code::TRY_AGAIN,
        (_, CallError::Wire(_)) => code::IO,
    };
    let msg = match error {
        CallError::Absent => "the Malha agent is not running on this node",
        CallError::Timeout(_) => "the Malha agent on this node does not answer",
        CallError::Wire(WireError::Closed) => {
            "the Malha agent on this node ended while it was asked"
        }
        CallError::Wire(_) => "the Malha agent on this node cannot be asked",
    };
    let remedy = "look at its pod in kube-system (kubectl -n kube-system get pods -o wide)";
    CniError::new(code, msg).with_details(format!("{}: {error}; {remedy}", socket.display()))
}
