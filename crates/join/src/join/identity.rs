//! The node's certificate: a request, its approval by the control plane, the signed result.

use std::time::Duration;

use ::http::Method;
use anyhow::{Context, Result, bail};
use malha_bootstrap::csr::node_csr;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::cluster::{get, token_rejected};
use crate::client::Verified;

const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// How often it is looked whether the control plane has approved and signed.
const LOOK: Duration = Duration::from_millis(100);

/// A request that waits for its certificate.
pub(super) struct Request<'a> {
    client: &'a Verified,
    name: String,
    key_pem: String,
}

/// Sends a request for `system:node:NAME` with a fresh key, which never leaves this machine.
pub(super) async fn request<'a>(client: &'a Verified, node_name: &str) -> Result<Request<'a>> {
    let keyed = node_csr(node_name).context("cannot make a certificate request")?;
    let body = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": base64(keyed.csr_pem.as_bytes()),
            "signerName": SIGNER,
            "usages": ["digital signature", "key encipherment", "client auth"],
        },
    });
    let body = serde_json::to_vec(&body).context("cannot write a certificate request")?;
    let answer = client
        .send(Method::POST, PATH, Some(("application/json", body)))
        .await?;
    match answer.status.as_u16() {
        200 | 201 => {}
        401 => bail!("{}", token_rejected(&answer)),
        403 => bail!(
            "the token may not ask for a node's certificate ({}); create one that may with: malha token create \
             --print-join-command",
            answer.message()
        ),
        _ => bail!(
            "the API server refused the certificate request: {}; look at its log",
            answer.message()
        ),
    }
    let created = answer
        .json()
        .context("the API server did not answer with JSON")?;
    let name = created.pointer("/metadata/name").and_then(Value::as_str);
    Ok(Request {
        client,
        name: name
            .context("the API server gave the certificate request no name")?
            .to_owned(),
        key_pem: keyed.key_pem,
    })
}

impl Request<'_> {
    /// Waits for the certificate. The result is certificate and key in one PEM text, as kubelets keep them.
    pub(super) async fn wait(self, until: Instant) -> Result<String> {
        let path = format!("{PATH}/{}", self.name);
        let start = Instant::now();
        loop {
            let answer = get(self.client, &path).await?;
            match answer.status.as_u16() {
                200 => {}
                401 => bail!("{}", token_rejected(&answer)),
                _ => bail!(
                    "the certificate request {} is gone: {}; join again",
                    self.name,
                    answer.message()
                ),
            }
            let object = answer
                .json()
                .context("the API server did not answer with JSON")?;
            if let Some(certificate) = self.read(&object)? {
                return Ok(format!("{}\n{}", certificate.trim_end(), self.key_pem));
            }
            if Instant::now() >= until {
                bail!("{}", self.overdue(&object, start.elapsed()));
            }
            sleep(LOOK).await;
        }
    }

    fn read(&self, object: &Value) -> Result<Option<String>> {
        for kind in ["Denied", "Failed"] {
            if let Some(message) = condition(object, kind) {
                bail!(
                    "the certificate request {} was not granted ({kind}: {message}); ask the cluster's administrator",
                    self.name
                );
            }
        }
        let Some(encoded) = object
            .pointer("/status/certificate")
            .and_then(Value::as_str)
        else {
            return Ok(None);
        };
        let bytes: k8s_openapi::ByteString = serde_json::from_value(Value::from(encoded))
            .context("the certificate is not base64; look at the control plane's log")?;
        let pem = String::from_utf8(bytes.0)
            .context("the certificate is not PEM; look at the control plane's log")?;
        Ok(Some(pem))
    }

    fn overdue(&self, object: &Value, waited: Duration) -> String {
        let (what, remedy) = match condition(object, "Approved") {
            Some(_) => (
                "approved, but not signed",
                "look at the log of the controller manager, which needs the CA's key for it",
            ),
            None => (
                "not approved",
                "let the cluster approve such requests (kubeadm init phase bootstrap-token on the control plane), or join \
                 with --timeout 10m and meanwhile approve what kubectl get csr shows",
            ),
        };
        format!(
            "the certificate request {} was {what} within {} s; {remedy}",
            self.name,
            waited.as_secs()
        )
    }
}

/// The message of a condition that is true.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let found = conditions
        .iter()
        .find(|c| c["type"] == kind && c["status"] != "False")?;
    found["message"].as_str().or(Some("no reason given"))
}

fn base64(bytes: &[u8]) -> Value {
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())).unwrap_or_default()
}
