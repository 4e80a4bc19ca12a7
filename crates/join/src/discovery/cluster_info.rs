//! The ConfigMap `kube-public/cluster-info`: a kubeconfig and signatures over it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use malha_bootstrap::{
    jws,
    kubeconfig::Kubeconfig,
    pin::CertificateError,
    token::{Token, TokenId},
};
use serde::Deserialize;
use x509_parser::pem::Pem;

use super::Failure;
use crate::client::Answer;

/// Key of the kubeconfig.
const KUBECONFIG: &str = "kubeconfig";

/// What a server says about its cluster. Not to be believed before [`ClusterInfo::verify`].
#[derive(Clone, Debug)]
pub struct ClusterInfo {
    /// A kubeconfig with one cluster, as YAML.
    pub kubeconfig: String,
    data: BTreeMap<String, String>,
}

impl ClusterInfo {
    /// Reads the server's answer.
    ///
    /// # Errors
    /// When it is a refusal, or not the ConfigMap.
    pub fn read(answer: &Answer) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct ConfigMap {
            #[serde(default)]
            data: BTreeMap<String, String>,
        }
        match answer.status.as_u16() {
            200 => {}
            404 => return Err(Failure::NoClusterInfo(answer.message())),
            401 | 403 => return Err(Failure::Closed(answer.message())),
            _ => return Err(Failure::Refused(answer.message())),
        }
        let map: ConfigMap = serde_json::from_slice(&answer.body)
            .map_err(|e| Failure::NotKubernetes(e.to_string()))?;
        let kubeconfig = map.data.get(KUBECONFIG).cloned();
        Ok(Self {
            kubeconfig: kubeconfig
                .ok_or_else(|| Failure::NotKubernetes("cluster-info has no kubeconfig".into()))?,
            data: map.data,
        })
    }

    /// The signature made with a token.
    pub fn signature(&self, id: &TokenId) -> Option<&str> {
        self.data.get(&jws::config_map_key(id)).map(String::as_str)
    }

    /// Checks that whoever wrote the kubeconfig knows the token's secret.
    ///
    /// # Errors
    /// When there is no signature, or it was made with another secret or over other bytes.
    pub fn verify(&self, token: &Token) -> Result<(), Failure> {
        let signature = self
            .signature(&token.id)
            .ok_or_else(|| Failure::TokenUnknown(token.id.clone()))?;
        jws::verify_detached(signature, self.kubeconfig.as_bytes(), token)
            .map_err(|_| Failure::WrongSecret(token.id.clone()))
    }

    /// The CA that the kubeconfig names.
    ///
    /// # Errors
    /// When it is no kubeconfig with exactly one cluster and its CA.
    pub fn ca_pem(&self) -> Result<String, Failure> {
        Ok(Kubeconfig::parse(&self.kubeconfig)?
            .single_cluster()?
            .ca_pem()?)
    }
}

/// A CA that is not valid now: TLS libraries do not look at a root's validity. `date` is the server's clock.
pub(super) fn check_validity(
    ca_pem: &str,
    now: Timestamp,
    date: Option<Timestamp>,
) -> Result<(), Failure> {
    let unreadable =
        |e: &dyn std::fmt::Display| Failure::Ca(CertificateError::Unreadable(e.to_string()));
    for block in Pem::iter_from_buffer(ca_pem.as_bytes()) {
        let block = block.map_err(|e| unreadable(&e))?;
        let certificate = block.parse_x509().map_err(|e| unreadable(&e))?;
        let time = |t: x509_parser::time::ASN1Time| {
            Timestamp::from_second(t.timestamp()).unwrap_or_default()
        };
        let from = time(certificate.validity().not_before);
        let until = time(certificate.validity().not_after);
        if now < from {
            return Err(Failure::CaNotYetValid {
                from,
                now,
                server: date,
            });
        }
        if now > until {
            return Err(Failure::CaExpired {
                until,
                now,
                server: date,
            });
        }
    }
    Ok(())
}
