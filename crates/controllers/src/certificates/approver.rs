//! The approver: a request for a node's client certificate is granted to whom RBAC lets ask for one.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::{authorization::v1::SubjectAccessReview, certificates::v1::CertificateSigningRequest},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;

use super::{NODE_CLIENT, check, conditions_with, has, inspect, is_signed};
use crate::{
    frame::{ActError, Action, Api, Controller, Input, Plan, Store, Target, Write, versioned},
    world::World,
};

const MESSAGE: &str = "Auto approving kubelet client certificate after SubjectAccessReview.";
const MESSAGE_SELF: &str =
    "Auto approving self kubelet client certificate after SubjectAccessReview.";

pub(crate) struct CsrApprover {
    requests: Store<CertificateSigningRequest>,
}

impl CsrApprover {
    pub fn new(world: &World) -> Self {
        Self {
            requests: world.requests.clone(),
        }
    }
}

impl Controller for CsrApprover {
    type Action = Approve;
    const NAME: &'static str = "csr-approver";

    fn inputs(&self) -> Vec<Input> {
        vec![self.requests.input()]
    }

    fn decide(&mut self, _now: Timestamp) -> Plan<Approve> {
        let mut plan = Plan::new();
        plan.extend(self.requests.list().iter().filter_map(recognise));
        plan
    }
}

/// Approve, if one of the rights is there.
#[derive(Debug)]
pub(crate) struct Approve {
    request: Arc<CertificateSigningRequest>,
    /// The subresources that the requester has to be allowed to create, any of them.
    rights: Vec<&'static str>,
}

/// A node's request for a client certificate that nobody has decided yet.
fn recognise(request: &Arc<CertificateSigningRequest>) -> Option<Approve> {
    let decided = ["Approved", "Denied", "Failed"]
        .iter()
        .any(|kind| has(request, kind));
    if decided || is_signed(request) || request.spec.signer_name != NODE_CLIENT {
        return None;
    }
    let info = inspect(request).ok()?;
    check(request, &info).ok()?;
    let own = request.spec.username.as_ref() == Some(&info.subject.common_name);
    let rights = if own {
        vec!["selfnodeclient", "nodeclient"]
    } else {
        vec!["nodeclient"]
    };
    Some(Approve {
        request: request.clone(),
        rights,
    })
}

impl Action for Approve {
    fn key(&self) -> String {
        self.request.metadata.name.clone().unwrap_or_default()
    }

    async fn perform(&self, api: &Api) -> Result<(), ActError> {
        for right in &self.rights {
            let review: SubjectAccessReview = api.ask(&self.review(right)).await?;
            if review.status.is_some_and(|status| status.allowed) {
                api.write(&self.approval(right, Timestamp::now())).await?;
                tracing::info!(
                    request = self.key(),
                    user = self.request.spec.username,
                    "approved a node's certificate"
                );
                return Ok(());
            }
        }
        Err(ActError::NotYet(format!(
            "{} may not create certificatesigningrequests/{}",
            self.request
                .spec
                .username
                .as_deref()
                .unwrap_or("the requester"),
            self.rights.join(" or /"),
        )))
    }
}

impl Approve {
    fn review(&self, right: &str) -> Write {
        let spec = &self.request.spec;
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
                "resourceAttributes": {
                    "group": "certificates.k8s.io", "resource": "certificatesigningrequests",
                    "subresource": right, "verb": "create", "version": "*",
                },
            },
        });
        Write::create(Target::all::<SubjectAccessReview>(None), body)
    }

    fn approval(&self, right: &str, now: Timestamp) -> Write {
        let message = match right {
            "selfnodeclient" => MESSAGE_SELF,
            _ => MESSAGE,
        };
        let condition = json!({
            "type": "Approved", "status": "True", "reason": "AutoApproved", "message": message,
            "lastUpdateTime": Time(now), "lastTransitionTime": Time(now),
        });
        let conditions = conditions_with(&self.request, condition);
        let patch = versioned(
            &*self.request,
            json!({"status": {"conditions": conditions}}),
        );
        Write::patch(Target::of(&*self.request).sub("approval"), patch)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};
    use crate::testing::at;

    #[test]
    fn only_undecided_requests_of_nodes_are_recognised() {
        let cases = [
            (
                "a join",
                request("w1", NODE_CLIENT, KUBELET_USAGES, &[]),
                true,
            ),
            (
                "approved already",
                request("w1", NODE_CLIENT, KUBELET_USAGES, &["Approved"]),
                false,
            ),
            (
                "denied",
                request("w1", NODE_CLIENT, KUBELET_USAGES, &["Denied"]),
                false,
            ),
            (
                "serving",
                request("w1", super::super::NODE_SERVING, KUBELET_USAGES, &[]),
                false,
            ),
            (
                "other usages",
                request("w1", NODE_CLIENT, &["server auth"], &[]),
                false,
            ),
        ];
        for (name, request, expected) in cases {
            let rights = recognise(&request).map(|approve| approve.rights);
            assert_eq!(rights, expected.then(|| vec!["nodeclient"]), "{name}");
        }
    }

    #[test]
    fn a_node_renews_by_its_own_right() {
        let mut renewal = (*request("w1", NODE_CLIENT, KUBELET_USAGES, &[])).clone();
        renewal.spec.username = Some("system:node:w1".into());
        let approve = recognise(&Arc::new(renewal)).unwrap();
        assert_eq!(approve.rights, ["selfnodeclient", "nodeclient"]);
        assert_eq!(
            approve
                .approval("nodeclient", at("2026-11-25T12:00:00Z"))
                .to_string(),
            r#"PATCH /apis/certificates.k8s.io/v1/certificatesigningrequests/csr-1/approval {"metadata":{"resourceVersion":"4"},"status":{"conditions":[{"lastTransitionTime":"2026-11-25T12:00:00Z","lastUpdateTime":"2026-11-25T12:00:00Z","message":"Auto approving kubelet client certificate after SubjectAccessReview.","reason":"AutoApproved","status":"True","type":"Approved"}]}}"#
        );
    }
}
