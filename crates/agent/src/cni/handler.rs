//! The verbs.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use malha_cni::types::{CniError, code};
use malha_cni::wire::{Answer, Request, Verb};
use malha_endpoint::{AddRequest, CheckRequest, Error, Manager};
use malha_kernel::NetNs;
use tokio::sync::watch;

use super::convert;
use crate::cluster::events::{About, Notice, Notices};
use crate::target::{Board, Health};

/// Answers requests. Called from many threads at once.
#[derive(Clone, Debug)]
pub struct Handler {
    /// Who does it.
    pub manager: Arc<Manager>,
    /// Whether it may be done.
    pub board: watch::Receiver<Board>,
    /// Whom to tell when addresses run out.
    pub notices: Notices,
}

impl Handler {
    /// Answer one request.
    ///
    /// # Errors
    /// As CNI has them: 11 while the agent does not serve or no address is free, 50 for STATUS, and others.
    pub fn handle(&self, request: Request) -> Answer {
        let verb = request.verb;
        let id = request.id();
        let answer = match verb {
            Verb::Status => self.status(),
            Verb::Add => self.add(request),
            Verb::Del => self.del(&request),
            Verb::Check => self.check(request),
            Verb::Gc => self.gc(&request),
        };
        if let Err(error) = &answer
            && verb != Verb::Status
        {
            tracing::warn!(?verb, container = id.container_id, ifname = id.ifname, %error, "a CNI request failed");
        }
        answer
    }

    /// From memory: runtimes ask every five seconds and turn the node NotReady on an error. So a full range is none:
    /// the pods that are there work, and ADD itself says so.
    fn status(&self) -> Answer {
        match self.board.borrow().health.reason() {
            None => Ok(None),
            Some(reason) => Err(
                CniError::new(code::NOT_AVAILABLE, "Malha cannot attach pods yet")
                    .with_details(reason),
            ),
        }
    }

    fn add(&self, mut request: Request) -> Answer {
        if let Some(reason) = self.obstacle() {
            return Err(
                CniError::new(code::TRY_AGAIN, "Malha cannot attach pods yet").with_details(reason),
            );
        }
        let netns = namespace(request.netns.take())?;
        let add = AddRequest {
            key: convert::key(&request),
            netns: &netns,
            sandbox: request.netns_path.clone(),
            pod: convert::pod(&request),
            ports: convert::ports(&request.config),
        };
        match self.manager.add(&add) {
            Ok(endpoint) => Ok(Some(convert::success(&endpoint))),
            Err(error) => {
                self.tell(&request, &error);
                Err(convert::error(
                    &format!("cannot attach {}", add.key),
                    &error,
                ))
            }
        }
    }

    fn del(&self, request: &Request) -> Answer {
        let key = convert::key(request);
        let done = self.manager.del(&key);
        done.map(|()| None)
            .map_err(|error| convert::error(&format!("cannot detach {key}"), &error))
    }

    fn check(&self, mut request: Request) -> Answer {
        if let Some(reason) = self.obstacle() {
            return Err(
                CniError::new(code::TRY_AGAIN, "Malha cannot check pods yet").with_details(reason),
            );
        }
        let netns = namespace(request.netns.take())?;
        let check = CheckRequest {
            key: convert::key(&request),
            netns: &netns,
            addresses: convert::expected_addresses(&request.config, &request.ifname),
        };
        let done = self.manager.check(&check);
        done.map(|()| None)
            .map_err(|error| convert::error(&format!("{} is not right", check.key), &error))
    }

    fn gc(&self, request: &Request) -> Answer {
        let done = self.manager.gc(&convert::valid(&request.config));
        done.map(|()| None)
            .map_err(|error| convert::error("cannot remove stale attachments", &error))
    }

    fn obstacle(&self) -> Option<String> {
        let board = self.board.borrow();
        match &board.health {
            Health::Serving => None,
            other => other.reason().map(str::to_owned),
        }
    }

    /// Addresses that run out concern the pod and the operator, who looks at the node.
    fn tell(&self, request: &Request, error: &Error) {
        if !matches!(error, Error::Full { .. }) {
            return;
        }
        let notice = |about| Notice {
            about,
            warning: true,
            reason: "PodRangeFull",
            message: error.to_string(),
        };
        self.notices.tell(notice(About::Node));
        if let Some(pod) = request.args.pod() {
            let about = About::Pod {
                namespace: pod.namespace,
                name: pod.name,
                uid: pod.uid,
            };
            self.notices.tell(notice(about));
        }
    }
}

/// The plugin refuses a request without one; this guards against another plugin.
fn namespace(descriptor: Option<OwnedFd>) -> Result<NetNs, CniError> {
    let missing = || {
        CniError::new(
            code::INVALID_NETNS,
            "the request came without the container's network namespace",
        )
    };
    let netns = NetNs::from_fd(descriptor.ok_or_else(missing)?);
    netns.map_err(|error| {
        CniError::new(code::INVALID_NETNS, "cannot use CNI_NETNS").with_details(error.to_string())
    })
}
