//! Namespace deletion: a namespace that is being deleted is emptied, and then let go.
//!
//! Which kinds there are is asked anew for every round, so nothing is left behind, whatever was installed meanwhile.
//! Objects may stay for a while: pods stop gracefully, and finalizers want their work done. Meanwhile the conditions of
//! the namespace say what it is waiting for.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::Time};
use kube::core::PartialObjectMeta;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    discovery::{self, Kind},
    frame::{
        ActError, Action, Api, Controller, Input, Plan, Precondition, Store, Target, Write,
        versioned,
    },
    pods,
    world::World,
};

/// The finalizer that this controller takes away.
const FINALIZER: &str = "kubernetes";

pub(crate) struct NamespaceCleaner {
    namespaces: Store<Namespace>,
}

impl NamespaceCleaner {
    pub fn new(world: &World) -> Self {
        Self {
            namespaces: world.namespaces.clone(),
        }
    }
}

impl Controller for NamespaceCleaner {
    type Action = Empty;
    const NAME: &'static str = "namespace-cleaner";

    fn inputs(&self) -> Vec<Input> {
        vec![self.namespaces.lifecycle()]
    }

    fn decide(&mut self, _now: Timestamp) -> Plan<Empty> {
        let mut plan = Plan::new();
        let namespaces = self.namespaces.list();
        plan.extend(namespaces.into_iter().filter(|n| is_doomed(n)).map(Empty));
        plan
    }
}

/// Deleted, and still held by us.
fn is_doomed(namespace: &Namespace) -> bool {
    let spec = namespace.spec.as_ref();
    let held = spec.is_some_and(|spec| spec.finalizers.iter().flatten().any(|f| f == FINALIZER));
    pods::is_terminating(&namespace.metadata) && held
}

/// Empty the namespace, then let it go.
pub(crate) struct Empty(Arc<Namespace>);

/// What is left of one kind.
#[derive(Debug, Default, PartialEq)]
struct Rest {
    objects: usize,
    /// Finalizers, and how many objects wait for each.
    finalizers: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<PartialObjectMeta>,
}

impl Action for Empty {
    fn key(&self) -> String {
        pods::name(&self.0.metadata).to_owned()
    }

    async fn perform(&self, api: &Api) -> Result<(), ActError> {
        let namespace = pods::name(&self.0.metadata);
        let kinds = discovery::kinds(&api.client()).await?;
        let mut left = BTreeMap::new();
        for kind in kinds.iter().filter(|kind| kind.namespaced) {
            let rest = clear(api, kind, namespace).await?;
            if rest.objects > 0 {
                left.insert(kind.resource(), rest);
            }
        }
        if left.is_empty() {
            return self.let_go(api).await;
        }
        self.explain(api, &left).await?;
        Err(ActError::NotYet(remaining(&left)))
    }
}

/// Deletes every object of a kind and says what is left.
async fn clear(api: &Api, kind: &Kind, namespace: &str) -> Result<Rest, ActError> {
    let all = Target::dynamic(&kind.api_version, &kind.plural, Some(namespace));
    let List { items } = api.look(&all).await?.unwrap_or(List { items: vec![] });
    let doomed: Vec<_> = items
        .iter()
        .filter(|item| !pods::is_terminating(&item.metadata))
        .collect();
    if doomed.is_empty() {
        return Ok(rest(&items));
    }
    if kind.delete_collection {
        let delete = Write::delete(all.clone(), &Precondition::default()).propagate("Background");
        api.write(&delete).await?;
    } else {
        for item in doomed {
            let target = all.clone().named(pods::name(&item.metadata));
            let delete = Write::delete(target, &Precondition::default()).propagate("Background");
            api.write(&delete).await?;
        }
    }
    let after: List = api.look(&all).await?.unwrap_or(List { items: vec![] });
    Ok(rest(&after.items))
}

fn rest(items: &[PartialObjectMeta]) -> Rest {
    let mut rest = Rest {
        objects: items.len(),
        ..Rest::default()
    };
    for finalizer in items
        .iter()
        .flat_map(|item| item.metadata.finalizers.iter().flatten())
    {
        *rest.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    rest
}

/// `Some resources are remaining: pods. has 2 resource instances`: Kubernetes' words, as users search for them.
fn remaining(left: &BTreeMap<String, Rest>) -> String {
    let kinds: Vec<String> = left
        .iter()
        .map(|(resource, rest)| {
            let dot = if resource.contains('.') { "" } else { "." };
            format!("{resource}{dot} has {} resource instances", rest.objects)
        })
        .collect();
    format!("Some resources are remaining: {}", kinds.join(", "))
}

fn finalizers(left: &BTreeMap<String, Rest>) -> String {
    let mut all: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, count) in left.values().flat_map(|rest| &rest.finalizers) {
        *all.entry(finalizer).or_default() += count;
    }
    let texts: Vec<String> = all
        .iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    format!(
        "Some content in the namespace has finalizers remaining: {}",
        texts.join(", ")
    )
}

impl Empty {
    async fn let_go(&self, api: &Api) -> Result<(), ActError> {
        let mut namespace = (*self.0).clone();
        if let Some(spec) = &mut namespace.spec {
            let others = spec.finalizers.take().unwrap_or_default();
            spec.finalizers = Some(others.into_iter().filter(|f| f != FINALIZER).collect());
        }
        // Our own conditions have given it a new version since; nobody else takes finalizers away from under us.
        namespace.metadata.resource_version = None;
        let target = Target::of(&*self.0).sub("finalize");
        let body =
            serde_json::to_value(&namespace).map_err(|e| ActError::Impossible(e.to_string()))?;
        api.write(&Write::replace(target, body)).await.map(drop)
    }

    /// Says in the namespace's status what it is waiting for.
    async fn explain(&self, api: &Api, left: &BTreeMap<String, Rest>) -> Result<(), ActError> {
        let target = Target::of(&*self.0);
        let Some(current) = api.look::<Namespace>(&target).await? else {
            return Ok(());
        };
        let conditions = conditions(&current, left, Timestamp::now());
        let old = current
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref());
        if json!(old) == conditions {
            return Ok(());
        }
        let patch = versioned(&current, json!({"status": {"conditions": conditions}}));
        api.write(&Write::patch(target.sub("status"), patch))
            .await
            .map(drop)
    }
}

/// The conditions of a namespace that waits.
fn conditions(namespace: &Namespace, left: &BTreeMap<String, Rest>, now: Timestamp) -> Value {
    let has_finalizers = left.values().any(|rest| !rest.finalizers.is_empty());
    let wanted = [
        (
            "NamespaceContentRemaining",
            true,
            "SomeResourcesRemain",
            remaining(left),
        ),
        (
            "NamespaceFinalizersRemaining",
            has_finalizers,
            "SomeFinalizersRemain",
            finalizers(left),
        ),
    ];
    let old = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    let old = old.unwrap_or_default();
    let mut all: Vec<Value> = old
        .iter()
        .filter(|condition| wanted.iter().all(|(kind, ..)| condition.type_ != *kind))
        .map(|condition| json!(condition))
        .collect();
    for (kind, holds, reason, message) in wanted {
        let status = if holds { "True" } else { "False" };
        let known = old.iter().find(|condition| condition.type_ == kind);
        let since = known
            .filter(|k| k.status == status)
            .and_then(|k| k.last_transition_time.clone());
        let (reason, message) = match holds {
            true => (reason, message),
            false => (
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished".into(),
            ),
        };
        all.push(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since.unwrap_or(Time(now)),
        }));
    }
    json!(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, object};

    fn namespace(deleted: bool, finalizers: &[&str]) -> Arc<Namespace> {
        let mut value = json!({"metadata": {"name": "x"}, "spec": {"finalizers": finalizers}});
        if deleted {
            value["metadata"]["deletionTimestamp"] = "2026-11-25T11:00:00Z".into();
        }
        object(value)
    }

    #[test]
    fn only_deleted_namespaces_are_emptied() {
        assert!(is_doomed(&namespace(true, &["kubernetes"])));
        assert!(!is_doomed(&namespace(false, &["kubernetes"])));
        assert!(!is_doomed(&namespace(true, &["example.com/other"])));
    }

    #[test]
    fn the_conditions_say_what_is_left() {
        let mut left = BTreeMap::new();
        left.insert(
            "pods".to_owned(),
            Rest {
                objects: 2,
                ..Rest::default()
            },
        );
        let odd = BTreeMap::from([("example.com/x".to_owned(), 1)]);
        left.insert(
            "configmaps.example.com".to_owned(),
            Rest {
                objects: 1,
                finalizers: odd,
            },
        );
        let now = at("2026-11-25T12:00:00Z");
        let first = conditions(&namespace(true, &[]), &left, now);
        assert_eq!(
            first[0]["message"],
            "Some resources are remaining: configmaps.example.com has 1 resource instances, pods. has 2 resource instances"
        );
        assert_eq!(
            first[1]["message"],
            "Some content in the namespace has finalizers remaining: example.com/x in 1 resource instances"
        );
        let mut known = (*namespace(true, &[])).clone();
        known.status = serde_json::from_value(json!({ "conditions": first })).unwrap();
        assert_eq!(conditions(&known, &left, at("2026-11-25T12:00:05Z")), first);
        left.values_mut().for_each(|rest| rest.finalizers.clear());
        let second = conditions(&known, &left, at("2026-11-25T12:00:05Z"));
        assert_eq!(second[0]["lastTransitionTime"], "2026-11-25T12:00:00Z");
        assert_eq!(
            (&second[1]["status"], &second[1]["lastTransitionTime"]),
            (&json!("False"), &json!("2026-11-25T12:00:05Z"))
        );
    }
}
