//! What pods refer to, read from the API server.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
        core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};

use super::env;

/// Reads as the node, which may read what its pods refer to.
#[derive(Clone)]
pub struct Sources {
    client: Client,
}

/// A ConfigMap's or Secret's content.
pub type Data = BTreeMap<String, Vec<u8>>;

impl Sources {
    /// Nothing is read before it is asked for.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// A ConfigMap's content; `None` when there is none.
    ///
    /// # Errors
    /// What the server says.
    pub async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Data>, kube::Error> {
        let found: Option<ConfigMap> = Api::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await?;
        Ok(found.map(|map| {
            let text = map
                .data
                .unwrap_or_default()
                .into_iter()
                .map(|(k, v)| (k, v.into_bytes()));
            let binary = map
                .binary_data
                .unwrap_or_default()
                .into_iter()
                .map(|(k, v)| (k, v.0));
            text.chain(binary).collect()
        }))
    }

    /// A Secret's content; `None` when there is none.
    ///
    /// # Errors
    /// What the server says.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Data>, kube::Error> {
        let found: Option<Secret> = Api::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await?;
        Ok(found.map(|secret| {
            secret
                .data
                .unwrap_or_default()
                .into_iter()
                .map(|(k, v)| (k, v.0))
                .collect()
        }))
    }

    /// A token of the pod's service account, bound to the pod.
    ///
    /// # Errors
    /// What the server says.
    pub async fn token(
        &self,
        pod: &Pod,
        audience: Option<&str>,
        seconds: i64,
    ) -> Result<String, String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let account = pod
            .spec
            .as_ref()
            .and_then(|s| s.service_account_name.clone());
        let account = account
            .filter(|a| !a.is_empty())
            .unwrap_or_else(|| "default".to_owned());
        let request = TokenRequest {
            metadata: ObjectMeta::default(),
            spec: TokenRequestSpec {
                audiences: audience.map(str::to_owned).into_iter().collect(),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
                expiration_seconds: Some(seconds),
            },
            status: None,
        };
        let accounts: Api<ServiceAccount> =
            Api::namespaced(self.client.clone(), &text(&pod.metadata.namespace));
        let answer = accounts
            .create_token_request(&account, &PostParams::default(), &request)
            .await
            .map_err(|e| e.to_string())?;
        match answer.status {
            Some(status) => Ok(status.token),
            None => Err(format!(
                "the API server gave no token for service account {account:?}"
            )),
        }
    }

    /// The services that a pod of this namespace finds in its environment: `kubernetes`, and with `links` those of its
    /// own namespace.
    ///
    /// # Errors
    /// What the server says.
    pub async fn services(
        &self,
        namespace: &str,
        links: bool,
    ) -> Result<Vec<env::Service>, kube::Error> {
        let own: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let listed = if links {
            own.list(&ListParams::default()).await?.items
        } else {
            Vec::new()
        };
        let mut found: Vec<env::Service> = listed.iter().filter_map(service).collect();
        if !(links && namespace == "default") {
            let default: Api<Service> = Api::namespaced(self.client.clone(), "default");
            found.extend(
                default
                    .get_opt("kubernetes")
                    .await?
                    .as_ref()
                    .and_then(service),
            );
        }
        Ok(found)
    }
}

/// A service with an address of its own.
fn service(service: &Service) -> Option<env::Service> {
    let spec = service.spec.as_ref()?;
    let ports = spec.ports.iter().flatten().map(|port| env::ServicePort {
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: port.port,
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
    });
    Some(env::Service {
        name: service.metadata.name.clone()?,
        address: spec.cluster_ip.as_ref()?.parse().ok()?,
        ports: ports.collect(),
    })
}
