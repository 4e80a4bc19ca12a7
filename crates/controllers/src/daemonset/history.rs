//! Revisions: every template a set has had, for `kubectl rollout history` and `undo`.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::json;

use super::{HASH_LABEL, View, owner};
use crate::{
    frame::{Precondition, Target, Write},
    pods,
};

/// Old revisions kept unless the set says otherwise.
const KEPT: i32 = 10;

/// Records the current template as the newest revision and forgets the oldest ones.
pub(super) fn keep(view: &View<'_>, all: &[Arc<ControllerRevision>]) -> Vec<Write> {
    let set = &view.set.metadata;
    let ours = all.iter().filter(|revision| {
        let meta = &revision.metadata;
        pods::namespace(meta) == pods::namespace(set)
            && pods::controller_of(meta).is_some_and(|owner| owner.uid == pods::uid(set))
    });
    let mut ours: Vec<&ControllerRevision> = ours.map(|revision| &**revision).collect();
    ours.sort_by_key(|revision| revision.revision);
    let name = format!("{}-{}", pods::name(set), view.hash);
    let newest = ours.last().map_or(0, |revision| revision.revision);
    let mut writes = Vec::new();
    match ours
        .iter()
        .find(|revision| pods::name(&revision.metadata) == name)
    {
        None => writes.push(record(view, &name, newest + 1)),
        // The set has gone back to an earlier template.
        Some(known) if known.revision < newest => {
            let patch = json!({"revision": newest + 1});
            writes.push(Write::patch(Target::of(*known), patch));
        }
        Some(_) => {}
    }
    let kept = view.spec.revision_history_limit.unwrap_or(KEPT);
    let old = ours
        .iter()
        .filter(|revision| pods::name(&revision.metadata) != name);
    let old: Vec<_> = old.filter(|revision| !is_used(view, revision)).collect();
    let surplus = old.len().saturating_sub(usize::try_from(kept).unwrap_or(0));
    writes.extend(
        old.into_iter()
            .take(surplus)
            .map(|revision| Write::delete(Target::of(*revision), &Precondition::same(*revision))),
    );
    writes
}

fn is_used(view: &View<'_>, revision: &ControllerRevision) -> bool {
    let hash = |labels: &Option<crate::matching::Labels>| labels.as_ref()?.get(HASH_LABEL).cloned();
    let wanted = hash(&revision.metadata.labels);
    let mut pods = view.nodes.iter().flat_map(|(_, _, pods)| pods);
    pods.any(|pod| hash(&pod.metadata.labels) == wanted)
}

fn record(view: &View<'_>, name: &str, revision: i64) -> Write {
    let template = &view.spec.template;
    let labels = template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.clone());
    let mut labels = labels.unwrap_or_default();
    labels.insert(HASH_LABEL.into(), view.hash.clone());
    let mut data = json!({"spec": {"template": template}});
    // `kubectl rollout undo` applies the data as a strategic merge patch.
    data["spec"]["template"]["$patch"] = "replace".into();
    let namespace = pods::namespace(&view.set.metadata);
    let body = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {
            "name": name, "namespace": namespace, "labels": labels,
            "annotations": view.set.metadata.annotations, "ownerReferences": [owner(view.set)],
        },
        "data": data, "revision": revision,
    });
    Write::create(Target::all::<ControllerRevision>(Some(namespace)), body).about(name)
}
