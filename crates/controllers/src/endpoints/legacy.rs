//! Endpoints: the older form, one object per Service, of its primary family. CoreDNS, kubectl and many tools read it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service,
};
use serde_json::json;

use super::{
    Selection,
    backends::{Backend, Port, backends},
    label_patch, reference, selections,
};
use crate::{
    frame::{Controller, Input, Plan, Precondition, Store, Target, Write, versioned},
    pods,
    world::World,
};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

pub(crate) struct EndpointsKeeper {
    services: Store<Service>,
    pods: Store<Pod>,
    endpoints: Store<Endpoints>,
}

impl EndpointsKeeper {
    pub fn new(world: &World) -> Self {
        Self {
            services: world.services.clone(),
            pods: world.pods.clone(),
            endpoints: world.endpoints.clone(),
        }
    }
}

impl Controller for EndpointsKeeper {
    type Action = Write;
    const NAME: &'static str = "endpoints";

    fn inputs(&self) -> Vec<Input> {
        vec![
            self.services.input(),
            self.pods.input(),
            self.endpoints.input(),
        ]
    }

    fn decide(&mut self, _now: Timestamp) -> Plan<Write> {
        let (services, pods) = (self.services.list(), self.pods.list());
        let mut plan = Plan::new();
        for selection in selections(&services, &pods) {
            let existing = self.endpoints.get(selection.namespace(), selection.name());
            plan.extend(keep(&selection, existing.as_deref()));
        }
        let exists = |namespace: &str, name: &str| self.services.get(namespace, name).is_some();
        plan.extend(leftover(&self.endpoints.list(), exists));
        plan
    }
}

/// Ours, without their Service.
fn leftover(all: &[Arc<Endpoints>], exists: impl Fn(&str, &str) -> bool) -> Vec<Write> {
    let ours = all.iter().filter(|endpoints| {
        let labels = endpoints.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(MANAGED_BY))
            .map(String::as_str)
            == Some(MANAGER)
    });
    let left = ours.filter(|e| !exists(pods::namespace(&e.metadata), pods::name(&e.metadata)));
    left.map(|endpoints| Write::delete(Target::of(&**endpoints), &Precondition::same(&**endpoints)))
        .collect()
}

/// Brings the Endpoints of a Service in line with its pods.
fn keep(selection: &Selection<'_>, existing: Option<&Endpoints>) -> Option<Write> {
    let subsets = subsets(selection);
    // As Kubernetes stores it: nothing instead of an empty list.
    let value = (!subsets.is_empty()).then_some(&subsets);
    let labels = selection.labels(&[(MANAGED_BY, MANAGER)]);
    let Some(existing) = existing else {
        let body = json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": selection.name(), "namespace": selection.namespace(), "labels": labels},
            "subsets": value,
        });
        let all = Target::all::<Endpoints>(Some(selection.namespace()));
        return Some(Write::create(all, body).about(selection.name()));
    };
    let same = existing.subsets.as_deref().unwrap_or_default() == subsets;
    if same && existing.metadata.labels.as_ref() == Some(&labels) {
        return None;
    }
    let labels = label_patch(existing.metadata.labels.as_ref(), &labels);
    let patch = versioned(
        existing,
        json!({"metadata": {"labels": labels}, "subsets": subsets}),
    );
    Some(Write::patch(Target::of(existing), patch))
}

/// One subset for all pods with the same ports.
fn subsets(selection: &Selection<'_>) -> Vec<EndpointSubset> {
    let family = selection.families().first().copied().unwrap_or("IPv4");
    let publish = selection.spec.publish_not_ready_addresses == Some(true);
    let needs_ports = selection
        .spec
        .ports
        .as_ref()
        .is_some_and(|ports| !ports.is_empty());
    let mut groups: BTreeMap<Vec<Port>, Vec<Backend<'_>>> = BTreeMap::new();
    for backend in backends(selection, family) {
        let goes = backend.terminating && !publish;
        let useless = needs_ports && backend.ports.is_empty();
        if !goes && !useless {
            groups
                .entry(backend.ports.clone())
                .or_default()
                .push(backend);
        }
    }
    let subset = |(ports, backends): (Vec<Port>, Vec<Backend<'_>>)| {
        let of = |ready: bool| {
            let mut list: Vec<_> = backends
                .iter()
                .filter(|b| b.ready == ready)
                .map(address)
                .collect();
            list.sort_by(|a, b| (&a.ip, uid(a)).cmp(&(&b.ip, uid(b))));
            (!list.is_empty()).then_some(list)
        };
        EndpointSubset {
            addresses: of(true),
            not_ready_addresses: of(false),
            ports: (!ports.is_empty()).then(|| ports.iter().map(subset_port).collect()),
        }
    };
    groups.into_iter().map(subset).collect()
}

fn uid(address: &EndpointAddress) -> Option<&String> {
    address.target_ref.as_ref()?.uid.as_ref()
}

fn address(backend: &Backend<'_>) -> EndpointAddress {
    EndpointAddress {
        ip: backend.address.to_owned(),
        hostname: backend.hostname.clone(),
        node_name: pods::node_name(backend.pod).map(str::to_owned),
        target_ref: Some(reference(backend.pod)),
    }
}

fn subset_port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: port.port,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{super::testing::*, *};
    use crate::testing::object;

    /// Subsets as `ports: ready | not ready`.
    fn outcome(service: &Arc<Service>, list: &[&str]) -> String {
        let (services, pods) = ([service.clone()], pods(list));
        let selections = selections(&services, &pods);
        let ips = |list: &Option<Vec<EndpointAddress>>| {
            let ips: Vec<String> = list
                .iter()
                .flatten()
                .map(|address| address.ip.clone())
                .collect();
            ips.join(" ")
        };
        let text = |subset: &EndpointSubset| {
            let ports: Vec<String> = subset
                .ports
                .iter()
                .flatten()
                .map(|port| port.port.to_string())
                .collect();
            format!(
                "{}: {} | {}",
                ports.join(","),
                ips(&subset.addresses),
                ips(&subset.not_ready_addresses)
            )
        };
        let texts: Vec<String> = subsets(&selections[0]).iter().map(text).collect();
        texts.join("; ")
    }

    #[test]
    fn pods_become_addresses() {
        let plain = service(json!({}));
        let published = service(json!({"publishNotReadyAddresses": true}));
        let headless = service(json!({"clusterIP": "None", "ports": null}));
        let named = service(json!({"ports": [{"port": 80, "targetPort": "web"}]}));
        let v6 = service(json!({"ipFamilies": ["IPv6", "IPv4"]}));
        let cases: [(&str, &Arc<Service>, &[&str], &str); 8] = [
            ("none", &plain, &[], ""),
            (
                "ready and not",
                &plain,
                &["a ready", "b", "c ready"],
                "8080: 10.0.0.1 10.0.0.3 | 10.0.0.2",
            ),
            ("those that stop are out", &plain, &["a ready going"], ""),
            (
                "unless all are published",
                &published,
                &["a", "b going"],
                "8080: 10.0.0.1 10.0.0.2 | ",
            ),
            (
                "headless without ports",
                &headless,
                &["a ready"],
                ": 10.0.0.1 | ",
            ),
            (
                "by name",
                &named,
                &["a ready web=81", "b ready web=82"],
                "81: 10.0.0.1 | ; 82: 10.0.0.2 | ",
            ),
            (
                "a pod without the named port is out",
                &named,
                &["a ready"],
                "",
            ),
            ("the primary family", &v6, &["a ready"], "8080: fd00::1 | "),
        ];
        for (name, service, list, expected) in cases {
            assert_eq!(outcome(service, list), expected, "{name}");
        }
    }

    #[test]
    fn only_changes_are_written() {
        let (services, pods) = ([service(json!({"clusterIP": "None"}))], pods(&["a ready"]));
        let selections = selections(&services, &pods);
        let created = keep(&selections[0], None).unwrap().to_string();
        let mut body: Value = serde_json::from_str(&created[created.find('{').unwrap()..]).unwrap();
        assert_eq!(
            body["metadata"]["labels"]["service.kubernetes.io/headless"],
            ""
        );
        let same: Arc<Endpoints> = object(body.clone());
        assert_eq!(keep(&selections[0], Some(&same)), None);
        body["metadata"]["labels"]["stale"] = "x".into();
        let stale: Arc<Endpoints> = object(body);
        let patch = keep(&selections[0], Some(&stale)).unwrap().to_string();
        assert!(patch.contains(r#""stale":null"#), "{patch}");
    }

    #[test]
    fn only_ours_are_removed() {
        let endpoints = |name: &str, labels: Value| {
            object::<Endpoints>(
                json!({"metadata": {"name": name, "namespace": "default", "labels": labels}}),
            )
        };
        let ours = json!({ MANAGED_BY: MANAGER });
        let all = [
            endpoints("a", ours.clone()),
            endpoints("b", ours),
            endpoints("c", json!({})),
        ];
        let writes = leftover(&all, |_, name| name == "b");
        assert_eq!(writes.len(), 1);
        assert!(
            writes[0]
                .to_string()
                .starts_with("DELETE /api/v1/namespaces/default/endpoints/a ")
        );
    }
}
