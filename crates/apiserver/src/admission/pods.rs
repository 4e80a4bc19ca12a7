//! Priority and DefaultTolerationSeconds: what a new pod gets filled in besides its service account.

use serde_json::{Value, json};

use super::{CLUSTER_CRITICAL, NODE_CRITICAL, Request, service_account::push};
use crate::{
    auth::fields::{items, text},
    status::Status,
};

const SCHEDULING: &str = "scheduling.k8s.io";
/// How long a pod stays bound to a node that is not ready or cannot be reached, in seconds.
const TOLERATION_SECONDS: u32 = 300;

/// Turns the priority class into the number the scheduler and the node compare.
pub(super) fn set_priority(request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    if request.creates(SCHEDULING, "priorityclasses") {
        return check_class(request, pod);
    }
    if !request.creates("", "pods") || !pod.get("spec").is_some_and(Value::is_object) {
        return Ok(());
    }
    let (name, value, policy) = class(request, pod)?;
    if let Some(asked) = pod
        .pointer("/spec/priority")
        .and_then(Value::as_i64)
        .filter(|p| *p != value)
    {
        return Err(request.forbid(
            pod,
            format!(
                "the integer value of priority ({asked}) must not be provided in pod spec; \
                 priority admission controller computed {value} from the given PriorityClass name"
            ),
        ));
    }
    if !name.is_empty() {
        pod["spec"]["priorityClassName"] = name.into();
    }
    pod["spec"]["priority"] = value.into();
    if text(pod, "/spec/preemptionPolicy").is_empty() {
        pod["spec"]["preemptionPolicy"] = policy.into();
    }
    Ok(())
}

/// Name, value and preemption policy of the pod's priority class, the default class or none.
fn class(request: &Request<'_>, pod: &Value) -> Result<(String, i64, String), Status> {
    let read = |class: &Value| {
        let policy = match text(class, "/preemptionPolicy") {
            "" => "PreemptLowerPriority",
            policy => policy,
        };
        let value = class.get("value").and_then(Value::as_i64).unwrap_or(0);
        (
            text(class, "/metadata/name").to_owned(),
            value,
            policy.to_owned(),
        )
    };
    let name = text(pod, "/spec/priorityClassName");
    let built_in = |value| Ok((name.to_owned(), value, "PreemptLowerPriority".to_owned()));
    match name {
        "" => {
            let classes = request.objects.list(SCHEDULING, "priorityclasses", "");
            let default = classes
                .iter()
                .filter(|c| c["globalDefault"] == true)
                .map(|c| read(c));
            let none = || (String::new(), 0, "PreemptLowerPriority".to_owned());
            Ok(default.min_by_key(|class| class.1).unwrap_or_else(none))
        }
        "system-node-critical" => built_in(NODE_CRITICAL),
        "system-cluster-critical" => built_in(CLUSTER_CRITICAL),
        name => match request.objects.get(SCHEDULING, "priorityclasses", "", name) {
            Some(class) => Ok(read(&class)),
            None => {
                Err(request.forbid(pod, format!("no PriorityClass with name {name} was found")))
            }
        },
    }
}

/// Numbers above a thousand million are the system's.
fn check_class(request: &Request<'_>, class: &Value) -> Result<(), Status> {
    let system = ["system-node-critical", "system-cluster-critical"]
        .contains(&text(class, "/metadata/name"));
    let value = class.get("value").and_then(Value::as_i64).unwrap_or(0);
    if !system && value > 1_000_000_000 {
        return Err(request.forbid(
            class,
            "maximum allowed value of a user defined priority is 1000000000",
        ));
    }
    Ok(())
}

/// A pod that says nothing about lost nodes leaves them after five minutes.
pub(super) fn default_tolerations(request: &Request<'_>, pod: &mut Value) {
    if !request.creates("", "pods") || !pod.get("spec").is_some_and(Value::is_object) {
        return;
    }
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let tolerated = items(pod, "/spec/tolerations").iter().any(|toleration| {
            ["", key].contains(&text(toleration, "/key"))
                && ["", "NoExecute"].contains(&text(toleration, "/effect"))
        });
        if !tolerated {
            let toleration = json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATION_SECONDS,
            });
            push(&mut pod["spec"]["tolerations"], toleration);
        }
    }
}
