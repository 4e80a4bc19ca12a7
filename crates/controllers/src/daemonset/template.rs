//! From a template to a pod for one node.

use k8s_openapi::api::{
    apps::v1::{DaemonSet, DaemonSetSpec},
    core::v1::{Node, Pod, PodTemplateSpec, Toleration},
};
use serde_json::{Value, json};

use super::{COMPONENT, HASH_LABEL, owner};
use crate::{
    frame::{Note, Severity, Target, Write},
    matching::{NO_EXECUTE, NO_SCHEDULE},
    pods,
};

/// Letters of Kubernetes' generated names: no vowels, so no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// What every daemon pod tolerates: it belongs to its node, also in bad times.
const TOLERATED: [(&str, &str); 6] = [
    ("not-ready", NO_EXECUTE),
    ("unreachable", NO_EXECUTE),
    ("disk-pressure", NO_SCHEDULE),
    ("memory-pressure", NO_SCHEDULE),
    ("pid-pressure", NO_SCHEDULE),
    ("unschedulable", NO_SCHEDULE),
];

/// The tolerations of the set's pods.
pub(super) fn tolerations(spec: &DaemonSetSpec) -> Vec<Toleration> {
    let pod = spec.template.spec.as_ref();
    let host_network = pod.is_some_and(|pod| pod.host_network == Some(true));
    // Only pods that do without the pod network can start before it is there.
    let network = host_network.then_some(("network-unavailable", NO_SCHEDULE));
    let own = pod
        .and_then(|pod| pod.tolerations.clone())
        .unwrap_or_default();
    let added = TOLERATED
        .into_iter()
        .chain(network)
        .map(|(key, effect)| Toleration {
            key: Some(format!("node.kubernetes.io/{key}")),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        });
    let added: Vec<Toleration> = added
        .filter(|toleration| !own.contains(toleration))
        .collect();
    own.into_iter().chain(added).collect()
}

/// Names a template by its content; independent of the order and the kinds of fields that this version knows.
pub(super) fn hash(template: &PodTemplateSpec) -> String {
    let mut state = Fnv(0xcbf2_9ce4_8422_2325);
    state.value(&json!(template));
    let mut rest = state.0 ^ (state.0 >> 32);
    let mut text = String::with_capacity(10);
    for _ in 0..10 {
        text.push(char::from(ALPHABET[(rest % 27) as usize]));
        rest /= 27;
    }
    text
}

/// FNV-1a over a JSON value, objects by sorted keys.
struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(key, _)| *key);
                self.bytes(b"{");
                for (key, value) in fields {
                    self.bytes(key.as_bytes());
                    self.bytes(b":");
                    self.value(value);
                }
                self.bytes(b"}");
            }
            Value::Array(items) => {
                self.bytes(b"[");
                items.iter().for_each(|item| self.value(item));
                self.bytes(b"]");
            }
            simple => {
                self.bytes(simple.to_string().as_bytes());
                self.bytes(b",");
            }
        }
    }
}

/// Makes the pods of one set.
pub(super) struct Maker<'a> {
    set: &'a DaemonSet,
    pod: Value,
}

impl<'a> Maker<'a> {
    pub fn new(set: &'a DaemonSet, spec: &DaemonSetSpec, hash: &str) -> Self {
        let name = pods::name(&set.metadata);
        let template = json!(spec.template);
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": template["metadata"], "spec": template["spec"],
        });
        if !pod["metadata"].is_object() {
            pod["metadata"] = json!({});
        }
        pod["metadata"]["generateName"] = format!("{name}-").into();
        pod["metadata"]["namespace"] = pods::namespace(&set.metadata).into();
        pod["metadata"]["ownerReferences"] = json!([owner(set)]);
        pod["metadata"]["labels"][HASH_LABEL] = hash.into();
        let generation = set.metadata.generation.unwrap_or(1);
        pod["metadata"]["labels"]["pod-template-generation"] = generation.to_string().into();
        pod["spec"]["tolerations"] = json!(tolerations(spec));
        Self { set, pod }
    }

    /// A pod pinned to a node: the scheduler binds it, and so respects resources and ports.
    pub fn create(&self, node: &Node) -> Write {
        let name = pods::name(&node.metadata);
        let mut pod = self.pod.clone();
        // The node has met the template's own terms already.
        pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!({
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}],
        });
        let note = |severity, reason, message: &str| {
            Note::new(self.set, severity, reason, message).by(COMPONENT)
        };
        let namespace = pods::namespace(&self.set.metadata);
        Write::create(Target::all::<Pod>(Some(namespace)), pod)
            .about(format!("{} on {name}", pods::name(&self.set.metadata)))
            .note(note(
                Severity::Normal,
                "SuccessfulCreate",
                "Created pod: {}",
            ))
            .complaint(note(
                Severity::Warning,
                "FailedCreate",
                "Error creating: {}",
            ))
    }
}
