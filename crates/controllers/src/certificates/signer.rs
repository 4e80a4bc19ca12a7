//! The signer: approved requests get a certificate of the cluster's CA.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    ByteString, api::certificates::v1::CertificateSigningRequest,
    apimachinery::pkg::apis::meta::v1::Time,
};
use malha_bootstrap::pki::{self, CertificateAuthority};
use serde_json::{Value, json};

use super::{CLIENT, NODE_CLIENT, NODE_SERVING, check, conditions_with, has, inspect, is_signed};
use crate::{
    frame::{ActError, Action, Api, Controller, Input, Plan, Store, Target, Write, versioned},
    world::World,
};

/// The shortest life a requester may ask for.
const SHORTEST: Duration = Duration::from_secs(600);

pub(crate) struct CsrSigner {
    requests: Store<CertificateSigningRequest>,
    ca: Arc<CertificateAuthority>,
}

impl CsrSigner {
    pub fn new(world: &World, ca: &Arc<CertificateAuthority>) -> Self {
        Self {
            requests: world.requests.clone(),
            ca: ca.clone(),
        }
    }
}

impl Controller for CsrSigner {
    type Action = Sign;
    const NAME: &'static str = "csr-signer";

    fn inputs(&self) -> Vec<Input> {
        vec![self.requests.input()]
    }

    fn decide(&mut self, _now: Timestamp) -> Plan<Sign> {
        let requests = self.requests.list();
        let waiting = requests
            .into_iter()
            .filter(|request| awaits_signature(request));
        let mut plan = Plan::new();
        plan.extend(waiting.map(|request| Sign {
            request,
            ca: self.ca.clone(),
        }));
        plan
    }
}

fn awaits_signature(request: &CertificateSigningRequest) -> bool {
    let ours = [NODE_CLIENT, NODE_SERVING, CLIENT].contains(&request.spec.signer_name.as_str());
    let closed = has(request, "Denied") || has(request, "Failed") || is_signed(request);
    ours && has(request, "Approved") && !closed
}

/// Sign, or say why not.
pub(crate) struct Sign {
    request: Arc<CertificateSigningRequest>,
    ca: Arc<CertificateAuthority>,
}

impl Action for Sign {
    fn key(&self) -> String {
        self.request.metadata.name.clone().unwrap_or_default()
    }

    async fn perform(&self, api: &Api) -> Result<(), ActError> {
        let now = Timestamp::now();
        let status = match issue(&self.request, &self.ca, now) {
            Ok(certificate) => json!({ "certificate": certificate }),
            Err(reason) => {
                tracing::warn!(
                    request = self.key(),
                    reason,
                    "an approved certificate request cannot be signed"
                );
                json!({"conditions": conditions_with(&self.request, failed(&reason, now))})
            }
        };
        let patch = versioned(&*self.request, json!({ "status": status }));
        let target = Target::of(&*self.request).sub("status");
        api.write(&Write::patch(target, patch)).await.map(drop)
    }
}

fn failed(reason: &str, now: Timestamp) -> Value {
    json!({
        "type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": reason,
        "lastUpdateTime": Time(now), "lastTransitionTime": Time(now),
    })
}

fn issue(
    request: &CertificateSigningRequest,
    ca: &CertificateAuthority,
    now: Timestamp,
) -> Result<ByteString, String> {
    let info = inspect(request)?;
    check(request, &info)?;
    let pem = String::from_utf8_lossy(&request.spec.request.0);
    let usages = request.spec.usages.clone().unwrap_or_default();
    let life = lifetime(request.spec.expiration_seconds);
    let certificate = pki::sign_csr(ca, &pem, now, life, &usages).map_err(|e| e.to_string())?;
    Ok(ByteString(certificate.into_bytes()))
}

/// What was asked for, at most a year, at least ten minutes.
fn lifetime(seconds: Option<i32>) -> Duration {
    let asked = seconds
        .and_then(|s| u64::try_from(s).ok())
        .map(Duration::from_secs);
    asked.map_or(pki::LEAF_LIFETIME, |asked| {
        asked.clamp(SHORTEST, pki::LEAF_LIFETIME)
    })
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};
    use crate::testing::at;

    #[test]
    fn approved_requests_are_signed_once() {
        let cases: [(&str, &[&str], bool); 4] = [
            ("undecided", &[], false),
            ("approved", &["Approved"], true),
            ("approved and denied", &["Approved", "Denied"], false),
            ("approved and failed", &["Approved", "Failed"], false),
        ];
        for (name, conditions, expected) in cases {
            let request = request("w1", NODE_CLIENT, KUBELET_USAGES, conditions);
            assert_eq!(awaits_signature(&request), expected, "{name}");
        }
    }

    #[test]
    fn a_certificate_or_a_reason() {
        let now = at("2026-11-25T12:00:00Z");
        let ca = CertificateAuthority::generate("kubernetes", now).unwrap();
        let good = request("w1", NODE_CLIENT, KUBELET_USAGES, &["Approved"]);
        let certificate = issue(&good, &ca, now).unwrap();
        assert!(certificate.0.starts_with(b"-----BEGIN CERTIFICATE-----"));
        let bad = request(
            "w1",
            NODE_SERVING,
            &["digital signature", "server auth"],
            &["Approved"],
        );
        assert!(
            issue(&bad, &ca, now)
                .unwrap_err()
                .contains("at least one DNS name")
        );
    }

    #[test]
    fn lifetimes_are_clamped() {
        let days = |n: u64| Duration::from_secs(n * 24 * 3600);
        assert_eq!(lifetime(None), days(365));
        assert_eq!(lifetime(Some(1)), SHORTEST);
        assert_eq!(lifetime(Some(86_400)), days(1));
        assert_eq!(lifetime(Some(i32::MAX)), days(365));
    }
}
