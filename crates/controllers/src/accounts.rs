//! What every namespace has: the `default` service account and the cluster's CA certificate.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use serde_json::json;

use crate::{
    frame::{Controller, Input, Plan, Store, Target, Write},
    pods,
    world::{ROOT_CA, World},
};

/// The key of the certificate in its ConfigMap.
const CERTIFICATE: &str = "ca.crt";

pub(crate) struct NamespaceFurnisher {
    namespaces: Store<Namespace>,
    accounts: Store<ServiceAccount>,
    root_cas: Store<ConfigMap>,
    ca_cert_pem: Arc<str>,
}

impl NamespaceFurnisher {
    pub fn new(world: &World, ca_cert_pem: &Arc<str>) -> Self {
        Self {
            namespaces: world.namespaces.clone(),
            accounts: world.accounts.clone(),
            root_cas: world.root_cas.clone(),
            ca_cert_pem: ca_cert_pem.clone(),
        }
    }
}

impl Controller for NamespaceFurnisher {
    type Action = Write;
    const NAME: &'static str = "namespace-furnisher";

    fn inputs(&self) -> Vec<Input> {
        vec![
            self.namespaces.lifecycle(),
            self.accounts.lifecycle(),
            self.root_cas.input(),
        ]
    }

    fn decide(&mut self, _now: Timestamp) -> Plan<Write> {
        let mut plan = Plan::new();
        let namespaces = self.namespaces.list();
        let living = namespaces
            .iter()
            .filter(|n| !pods::is_terminating(&n.metadata));
        for namespace in living.map(|n| pods::name(&n.metadata)) {
            if self.accounts.get(namespace, "default").is_none() {
                plan.push(account(namespace));
            }
            let published = self.root_cas.get(namespace, ROOT_CA);
            plan.extend(publish(namespace, published.as_deref(), &self.ca_cert_pem));
        }
        plan
    }
}

fn account(namespace: &str) -> Write {
    let body =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    Write::create(Target::all::<ServiceAccount>(Some(namespace)), body).about("default")
}

/// The write that makes the published certificate the right one.
fn publish(namespace: &str, published: Option<&ConfigMap>, certificate: &str) -> Option<Write> {
    let data = json!({ CERTIFICATE: certificate });
    match published {
        None => {
            let body = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {
                    "name": ROOT_CA,
                    "annotations": {
                        "kubernetes.io/description":
                            "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                             endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                             guaranteed across distributions of Kubernetes clusters.",
                    },
                },
                "data": data,
            });
            let all = Target::all::<ConfigMap>(Some(namespace));
            Some(Write::create(all, body).about(ROOT_CA))
        }
        Some(map) => {
            let current = map.data.as_ref().and_then(|data| data.get(CERTIFICATE));
            let differs = current.map(String::as_str) != Some(certificate);
            differs.then(|| Write::patch(Target::of(map), json!({ "data": data })))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::object;

    #[test]
    fn the_right_certificate_is_published() {
        let map = |certificate: &str| {
            object::<ConfigMap>(json!({
                "metadata": {"name": ROOT_CA, "namespace": "x"}, "data": {"ca.crt": certificate},
            }))
        };
        let text = |published: Option<Arc<ConfigMap>>| {
            publish("x", published.as_deref(), "PEM").map(|write| write.to_string())
        };
        assert!(
            text(None)
                .unwrap()
                .starts_with("POST /api/v1/namespaces/x/configmaps ")
        );
        assert_eq!(text(Some(map("PEM"))), None);
        assert_eq!(
            text(Some(map("other"))).unwrap(),
            r#"PATCH /api/v1/namespaces/x/configmaps/kube-root-ca.crt {"data":{"ca.crt":"PEM"}}"#
        );
    }

    #[test]
    fn an_account_is_made_in_its_namespace() {
        assert!(
            account("x")
                .to_string()
                .starts_with("POST /api/v1/namespaces/x/serviceaccounts ")
        );
    }
}
