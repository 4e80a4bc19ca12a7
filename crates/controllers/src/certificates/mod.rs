//! Certificate signing requests: a node's own is approved, what is approved is signed, what is old is deleted.
//!
//! Source: kubernetes.io, "Certificates and Certificate Signing Requests", section "Kubernetes signers".

mod approver;
mod cleaner;
mod signer;

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use malha_bootstrap::csr::{self, NODE_USER_PREFIX, NODES_GROUP, RequestInfo};

pub(crate) use approver::CsrApprover;
pub(crate) use cleaner::CsrCleaner;
pub(crate) use signer::CsrSigner;

const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const NODE_SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// The request's names; its self-signature is verified.
fn inspect(request: &CertificateSigningRequest) -> Result<RequestInfo, String> {
    let pem = String::from_utf8_lossy(&request.spec.request.0);
    csr::inspect(&pem).map_err(|error| error.to_string())
}

/// The condition of one type.
fn condition<'a>(
    request: &'a CertificateSigningRequest,
    kind: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    let conditions = request.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    condition(request, kind).is_some_and(|condition| condition.status != "False")
}

fn is_signed(request: &CertificateSigningRequest) -> bool {
    let status = request.status.as_ref();
    status.is_some_and(|s| s.certificate.as_ref().is_some_and(|c| !c.0.is_empty()))
}

/// The conditions with one more.
fn conditions_with(
    request: &CertificateSigningRequest,
    more: serde_json::Value,
) -> serde_json::Value {
    let old = request.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut all = serde_json::json!(old.cloned().unwrap_or_default());
    if let Some(list) = all.as_array_mut() {
        list.push(more);
    }
    all
}

/// Whether this CA may sign the request for the signer it names.
fn check(request: &CertificateSigningRequest, info: &RequestInfo) -> Result<(), String> {
    let usages: BTreeSet<&str> = request
        .spec
        .usages
        .iter()
        .flatten()
        .map(String::as_str)
        .collect();
    match request.spec.signer_name.as_str() {
        NODE_CLIENT => {
            check_node_subject(info)?;
            if info.has_alternative_names() {
                return Err(
                    "a node's client certificate has no DNS, address, mail or URI names".into(),
                );
            }
            check_exact(&usages, "client auth")
        }
        NODE_SERVING => {
            check_node_subject(info)?;
            if info.other_names > 0 {
                return Err("a node's serving certificate has no mail or URI names".into());
            }
            if info.dns_names.is_empty() && info.ip_addresses.is_empty() {
                return Err(
                    "a node's serving certificate needs at least one DNS name or address".into(),
                );
            }
            check_exact(&usages, "server auth")
        }
        CLIENT => {
            let allowed = ["digital signature", "key encipherment", "client auth"];
            if usages.iter().all(|usage| allowed.contains(usage)) && usages.contains("client auth")
            {
                return Ok(());
            }
            Err(
                "the usages of a client certificate must include \"client auth\" and may include \
                 \"digital signature\" and \"key encipherment\""
                    .into(),
            )
        }
        other => Err(format!("{other} is not a signer of this control plane")),
    }
}

fn check_node_subject(info: &RequestInfo) -> Result<(), String> {
    if info.subject.organizations != [NODES_GROUP] {
        return Err(format!(
            "the subject's organization must be {NODES_GROUP}, and only that"
        ));
    }
    match info.subject.common_name.strip_prefix(NODE_USER_PREFIX) {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err(format!(
            "the subject's common name must be {NODE_USER_PREFIX} and the node's name"
        )),
    }
}

/// Newer kubelets leave `key encipherment` out: an EC key cannot do it.
fn check_exact(usages: &BTreeSet<&str>, purpose: &str) -> Result<(), String> {
    let short = BTreeSet::from(["digital signature", purpose]);
    let mut long = short.clone();
    long.insert("key encipherment");
    if *usages == short || *usages == long {
        return Ok(());
    }
    Err(format!(
        "the usages must be \"digital signature\", \"{purpose}\" and, if wanted, \"key encipherment\""
    ))
}

#[cfg(test)]
mod testing {
    use std::sync::Arc;

    use k8s_openapi::{ByteString, api::certificates::v1::CertificateSigningRequest};
    use malha_bootstrap::csr::node_csr;
    use serde_json::json;

    use crate::testing::object;

    pub const KUBELET_USAGES: &[&str] = &["digital signature", "key encipherment", "client auth"];

    /// A node's request as a kubelet makes it, with these conditions (`Approved`, …).
    pub fn request(
        node: &str,
        signer: &str,
        usages: &[&str],
        conditions: &[&str],
    ) -> Arc<CertificateSigningRequest> {
        let pem = node_csr(node).unwrap().csr_pem;
        let conditions: Vec<_> = conditions
            .iter()
            .map(|kind| json!({"type": kind, "status": "True", "lastUpdateTime": "2026-11-25T10:00:00Z"}))
            .collect();
        object(json!({
            "metadata": {
                "name": "csr-1", "uid": "u1", "resourceVersion": "4", "creationTimestamp": "2026-11-25T09:00:00Z",
            },
            "spec": {
                "request": ByteString(pem.into_bytes()), "signerName": signer, "usages": usages,
                "username": "system:bootstrap:aaaaaa", "groups": ["system:bootstrappers"],
            },
            "status": {"conditions": conditions},
        }))
    }
}

#[cfg(test)]
mod tests {
    use malha_bootstrap::names::Subject;

    use super::{testing::request, *};

    #[test]
    fn each_signer_has_its_rules() {
        let node = |name: &str, groups: &[&str]| RequestInfo {
            subject: Subject {
                common_name: name.to_owned(),
                organizations: groups.iter().map(|g| (*g).to_owned()).collect(),
            },
            dns_names: vec![],
            ip_addresses: vec![],
            other_names: 0,
        };
        let with_dns = |mut info: RequestInfo| {
            info.dns_names.push("w1".into());
            info
        };
        let plain = || node("system:node:w1", &["system:nodes"]);
        let kubelet = &["client auth", "key encipherment", "digital signature"][..];
        let short = &["digital signature", "client auth"][..];
        let server = &["digital signature", "server auth"][..];
        let cases: Vec<(&str, &str, &[&str], RequestInfo, bool)> = vec![
            ("a kubelet's request", NODE_CLIENT, kubelet, plain(), true),
            (
                "without key encipherment",
                NODE_CLIENT,
                short,
                plain(),
                true,
            ),
            ("with a wrong usage", NODE_CLIENT, server, plain(), false),
            (
                "for another group as well",
                NODE_CLIENT,
                kubelet,
                node("system:node:w1", &["system:nodes", "x"]),
                false,
            ),
            (
                "for no node",
                NODE_CLIENT,
                kubelet,
                node("admin", &["system:nodes"]),
                false,
            ),
            (
                "for a node without a name",
                NODE_CLIENT,
                kubelet,
                node("system:node:", &["system:nodes"]),
                false,
            ),
            (
                "with a DNS name",
                NODE_CLIENT,
                kubelet,
                with_dns(plain()),
                false,
            ),
            ("serving needs a name", NODE_SERVING, server, plain(), false),
            ("and has one", NODE_SERVING, server, with_dns(plain()), true),
            (
                "a user's request",
                CLIENT,
                &["client auth"],
                node("jane", &["developers"]),
                true,
            ),
            (
                "that serves",
                CLIENT,
                &["client auth", "server auth"],
                node("jane", &[]),
                false,
            ),
            (
                "a signer of somebody else",
                "example.com/x",
                kubelet,
                plain(),
                false,
            ),
        ];
        for (name, signer, usages, info, expected) in cases {
            let outcome = check(&request("w1", signer, usages, &[]), &info);
            assert_eq!(outcome.is_ok(), expected, "{name}: {outcome:?}");
        }
    }
}
