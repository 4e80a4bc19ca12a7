//! EndpointSlices: what proxies read. Up to a hundred endpoints of one family with the same ports each.
//!
//! An endpoint stays in the slice it is in, so that a change of one pod rewrites one slice.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
};
use serde_json::{Value, json};

use super::{
    Selection,
    backends::{Backend, Port, backends},
    label_patch, reference, selections,
};
use crate::{
    frame::{Controller, Input, Plan, Precondition, Store, Target, Write, versioned},
    matching::Labels,
    pods,
    world::World,
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Endpoints in one slice.
const FULL: usize = 100;

pub(crate) struct SliceKeeper {
    services: Store<Service>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    slices: Store<EndpointSlice>,
}

impl SliceKeeper {
    pub fn new(world: &World) -> Self {
        Self {
            services: world.services.clone(),
            pods: world.pods.clone(),
            nodes: world.nodes.clone(),
            slices: world.slices.clone(),
        }
    }
}

impl Controller for SliceKeeper {
    type Action = Write;
    const NAME: &'static str = "endpoint-slices";

    fn inputs(&self) -> Vec<Input> {
        vec![
            self.services.input(),
            self.pods.input(),
            self.nodes.lifecycle(),
            self.slices.input(),
        ]
    }

    fn decide(&mut self, _now: Timestamp) -> Plan<Write> {
        let (services, pods, slices) = (self.services.list(), self.pods.list(), self.slices.list());
        let zone = |node: &str| {
            let node = self.nodes.get("", node)?;
            node.metadata.labels.as_ref()?.get(ZONE).cloned()
        };
        let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in slices.iter().filter(|slice| is_ours(slice)) {
            let key = (pods::namespace(&slice.metadata), service_of(slice));
            by_service.entry(key).or_default().push(slice);
        }
        let mut plan = Plan::new();
        let selections = selections(&services, &pods);
        for selection in &selections {
            let existing = by_service.remove(&(selection.namespace(), selection.name()));
            plan.extend(keep(selection, &existing.unwrap_or_default(), &zone));
        }
        plan
    }
}

fn is_ours(slice: &EndpointSlice) -> bool {
    let labels = slice.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(MANAGED_BY))
        .map(String::as_str)
        == Some(MANAGER)
}

fn service_of(slice: &EndpointSlice) -> &str {
    let labels = slice.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(SERVICE_NAME))
        .map_or("", String::as_str)
}

/// Family and ports: what all endpoints of a slice have in common.
type Group = (String, Vec<Port>);

/// Brings the slices of a Service in line with its pods.
fn keep(
    selection: &Selection<'_>,
    existing: &[&EndpointSlice],
    zone: &impl Fn(&str) -> Option<String>,
) -> Vec<Write> {
    let mut groups: BTreeMap<Group, BTreeMap<String, Endpoint>> = BTreeMap::new();
    for family in selection.families() {
        for backend in backends(selection, family) {
            let uid = pods::uid(&backend.pod.metadata).to_owned();
            let endpoint = endpoint(&backend, zone);
            let group = (family.to_owned(), backend.ports);
            groups.entry(group).or_default().insert(uid, endpoint);
        }
        // A Service without pods has an empty slice, which says that somebody has looked.
        if !groups.keys().any(|(known, _)| known == family) {
            groups.entry((family.to_owned(), vec![])).or_default();
        }
    }
    let labels = selection.labels(&[(SERVICE_NAME, selection.name()), (MANAGED_BY, MANAGER)]);
    let mut writes = Vec::new();
    for slice in existing
        .iter()
        .filter(|slice| !groups.contains_key(&group_of(slice)))
    {
        writes.push(Write::delete(
            Target::of(*slice),
            &Precondition::same(*slice),
        ));
    }
    for (group, wanted) in groups {
        let here = existing.iter().filter(|slice| group_of(slice) == group);
        let here: Vec<&EndpointSlice> = here.copied().collect();
        let parts = distribute(&here, wanted);
        let all_empty = parts.iter().all(Vec::is_empty);
        for (index, endpoints) in parts.iter().enumerate() {
            let surplus = endpoints.is_empty() && (index > 0 || !all_empty);
            match here.get(index) {
                None => writes.push(
                    create(selection, &group, endpoints, &labels)
                        .about(format!("{} {group:?} {index}", selection.name())),
                ),
                Some(slice) if surplus => {
                    writes.push(Write::delete(
                        Target::of(*slice),
                        &Precondition::same(*slice),
                    ));
                }
                Some(slice) => writes.extend(change(slice, endpoints, &labels)),
            }
        }
    }
    writes
}

fn group_of(slice: &EndpointSlice) -> Group {
    let ports = slice.ports.iter().flatten().map(|port| Port {
        name: Some(port.name.clone().unwrap_or_default()),
        port: port.port.unwrap_or(0),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
        app_protocol: port.app_protocol.clone(),
    });
    let ports: BTreeSet<Port> = ports.collect();
    (slice.address_type.clone(), ports.into_iter().collect())
}

/// What every slice will hold, in the same order, and then new ones.
fn distribute(
    slices: &[&EndpointSlice],
    mut wanted: BTreeMap<String, Endpoint>,
) -> Vec<Vec<Endpoint>> {
    let uid = |endpoint: &Endpoint| {
        endpoint
            .target_ref
            .as_ref()
            .and_then(|target| target.uid.clone())
    };
    let mut parts: Vec<Vec<Endpoint>> = slices
        .iter()
        .map(|slice| {
            slice
                .endpoints
                .iter()
                .filter_map(|old| wanted.remove(&uid(old)?))
                .collect()
        })
        .collect();
    let mut rest = wanted.into_values();
    for part in &mut parts {
        part.extend(rest.by_ref().take(FULL.saturating_sub(part.len())));
    }
    let rest: Vec<Endpoint> = rest.collect();
    parts.extend(rest.chunks(FULL).map(<[Endpoint]>::to_vec));
    if parts.is_empty() {
        parts.push(Vec::new());
    }
    parts
}

fn change(slice: &EndpointSlice, endpoints: &[Endpoint], labels: &Labels) -> Option<Write> {
    if slice.endpoints == endpoints && slice.metadata.labels.as_ref() == Some(labels) {
        return None;
    }
    let labels = label_patch(slice.metadata.labels.as_ref(), labels);
    let patch = versioned(
        slice,
        json!({"metadata": {"labels": labels}, "endpoints": endpoints}),
    );
    Some(Write::patch(Target::of(slice), patch))
}

fn create(
    selection: &Selection<'_>,
    (family, ports): &Group,
    endpoints: &[Endpoint],
    labels: &Labels,
) -> Write {
    let (namespace, name) = (selection.namespace(), selection.name());
    let ports: Vec<EndpointPort> = ports.iter().map(slice_port).collect();
    let owner = json!({
        "apiVersion": "v1", "kind": "Service", "name": name, "uid": selection.service.metadata.uid,
        "controller": true, "blockOwnerDeletion": true,
    });
    let body: Value = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{name}-"), "namespace": namespace, "labels": labels, "ownerReferences": [owner],
        },
        "addressType": family, "endpoints": endpoints, "ports": ports,
    });
    Write::create(Target::all::<EndpointSlice>(Some(namespace)), body)
}

fn slice_port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: port.name.clone(),
        port: Some(port.port),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(backend: &Backend<'_>, zone: &impl Fn(&str) -> Option<String>) -> Endpoint {
    let node = pods::node_name(backend.pod);
    Endpoint {
        addresses: vec![backend.address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name: node.map(str::to_owned),
        target_ref: Some(reference(backend.pod)),
        zone: node.and_then(zone),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::testing::*, *};

    /// Every write as `+ fam ports: endpoints`, `~slice: endpoints` or `-slice`; endpoints as `address[r][s][t]`.
    fn outcome(
        service: &Arc<Service>,
        pods: &[Arc<Pod>],
        slices: &[Arc<EndpointSlice>],
    ) -> Vec<String> {
        let services = [service.clone()];
        let selections = selections(&services, pods);
        let existing: Vec<&EndpointSlice> = slices.iter().map(|slice| &**slice).collect();
        let zone = |node: &str| (node == "w1").then(|| "z1".to_owned());
        let writes = selections
            .iter()
            .flat_map(|selection| keep(selection, &existing, &zone));
        writes.map(|write| text(&write)).collect()
    }

    fn text(write: &Write) -> String {
        let text = write.to_string();
        let (path, body) = text.split_once(" {").unwrap();
        let body: Value = serde_json::from_str(&format!("{{{body}")).unwrap();
        let name = path.rsplit('/').next().unwrap();
        if path.starts_with("DELETE") {
            return format!("-{name}");
        }
        let flag = |e: &Value, key: &str| {
            if e["conditions"][key] == true {
                key[..1].to_owned()
            } else {
                String::new()
            }
        };
        let endpoints: Vec<String> = body["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| {
                let address = e["addresses"][0].as_str().unwrap();
                format!(
                    "{address}[{}{}{}]",
                    flag(e, "ready"),
                    flag(e, "serving"),
                    flag(e, "terminating")
                )
            })
            .collect();
        let endpoints = endpoints.join(" ");
        if path.starts_with("PATCH") {
            return format!("~{name}: {endpoints}");
        }
        let ports = body["ports"].as_array().unwrap().iter();
        let ports: Vec<String> = ports
            .map(|p| format!("{}={}", p["name"].as_str().unwrap(), p["port"]))
            .collect();
        format!(
            "+{} {}: {endpoints}",
            body["addressType"].as_str().unwrap(),
            ports.join(",")
        )
    }

    /// The slices that the writes make.
    fn made(service: &Arc<Service>, pods: &[Arc<Pod>]) -> Vec<Arc<EndpointSlice>> {
        let services = [service.clone()];
        let selections = selections(&services, pods);
        let writes = keep(&selections[0], &[], &|_| None);
        writes
            .iter()
            .enumerate()
            .map(|(index, write)| {
                let text = write.to_string();
                let mut body: Value =
                    serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
                body["metadata"]["name"] = format!("s{index}").into();
                serde_json::from_value(body).unwrap()
            })
            .collect()
    }

    #[test]
    fn pods_become_endpoints() {
        let plain = service(json!({}));
        let published = service(json!({"publishNotReadyAddresses": true}));
        let dual = service(json!({"ipFamilies": ["IPv6", "IPv4"]}));
        let named = service(json!({"ports": [{"name": "http", "port": 80, "targetPort": "web"}]}));
        type Case<'a> = (&'a str, &'a Arc<Service>, &'a [&'a str], &'a [&'a str]);
        let cases: [Case<'_>; 10] = [
            ("none", &plain, &[], &["+IPv4 : "]),
            (
                "a ready pod",
                &plain,
                &["a ready"],
                &["+IPv4 =8080: 10.0.0.1[rs]"],
            ),
            (
                "one that is not",
                &plain,
                &["a"],
                &["+IPv4 =8080: 10.0.0.1[]"],
            ),
            (
                "one that stops but still answers",
                &plain,
                &["a ready going"],
                &["+IPv4 =8080: 10.0.0.1[st]"],
            ),
            ("one without an address", &plain, &["a noip"], &["+IPv4 : "]),
            ("one that has ended", &plain, &["a ended"], &["+IPv4 : "]),
            (
                "one that is not selected",
                &plain,
                &["a ready other"],
                &["+IPv4 : "],
            ),
            (
                "published before it is ready",
                &published,
                &["a"],
                &["+IPv4 =8080: 10.0.0.1[r]"],
            ),
            (
                "both families",
                &dual,
                &["a ready"],
                &["+IPv4 =8080: 10.0.0.1[rs]", "+IPv6 =8080: fd00::1[rs]"],
            ),
            (
                "a port by name, different numbers",
                &named,
                &["a ready web=81", "b ready web=82", "c ready"],
                &[
                    "+IPv4 : 10.0.0.3[rs]",
                    "+IPv4 http=81: 10.0.0.1[rs]",
                    "+IPv4 http=82: 10.0.0.2[rs]",
                ],
            ),
        ];
        for (name, service, list, expected) in cases {
            assert_eq!(outcome(service, &pods(list), &[]), expected, "{name}");
        }
    }

    #[test]
    fn only_what_changed_is_written() {
        let plain = service(json!({}));
        let before = pods(&["a ready", "b ready"]);
        let slices = made(&plain, &before);
        assert_eq!(slices.len(), 1);
        let on = |list: &[&str]| outcome(&plain, &pods(list), &slices);
        // The node's zone is new: the endpoints of that node change.
        assert_eq!(on(&["a ready node=w2", "b ready node=w2"]).len(), 1);
        let slices = &made(&plain, &pods(&["a ready node=w2", "b ready node=w2"]));
        let on = |list: &[&str]| outcome(&plain, &pods(list), slices);
        assert_eq!(on(&["a ready node=w2", "b ready node=w2"]), [""; 0]);
        assert_eq!(
            on(&["a node=w2", "b ready node=w2"]),
            ["~s0: 10.0.0.1[] 10.0.0.2[rs]"]
        );
        assert_eq!(
            on(&["a ready other", "b ready node=w2"]),
            ["~s0: 10.0.0.2[rs]"]
        );
        // The last one goes, and with it the port: an empty slice takes the place.
        assert_eq!(on(&[]), ["-s0", "+IPv4 : "]);
    }

    #[test]
    fn slices_hold_a_hundred() {
        let plain = service(json!({}));
        let names: Vec<String> = (1..=250)
            .map(|n| format!("p{n:03} ready node=w2"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let slices = made(&plain, &pods(&names));
        let sizes: Vec<usize> = slices.iter().map(|slice| slice.endpoints.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
        let fewer = outcome(&plain, &pods(&names[..200]), &slices);
        assert_eq!(fewer, ["-s2"]);
    }

    #[test]
    fn services_of_others_are_left_alone() {
        let external = service(json!({"type": "ExternalName"}));
        let manual = service(json!({"selector": {}}));
        assert_eq!(outcome(&external, &pods(&["a ready"]), &[]), [""; 0]);
        assert_eq!(outcome(&manual, &pods(&["a ready"]), &[]), [""; 0]);
    }
}
