//! Deployments, replica sets, daemon sets and their revisions.

use jiff::Timestamp;
use serde_json::Value;

use super::{Printer, age, column::Column, labels, name, number, or, selector};
use crate::auth::fields::{items, text};

const CONTAINERS: Column = Column::text("Containers", "Names of the containers.").wide();
const IMAGES: Column = Column::text("Images", "Images of the containers.").wide();
const SELECTOR: Column = Column::text("Selector", "Selects the pods.").wide();

/// The three wide columns that all workloads end with.
fn template(workload: &Value) -> [Value; 3] {
    let containers = items(workload, "/spec/template/spec/containers").iter();
    let all = |field| {
        let texts: Vec<_> = containers.clone().map(|c| text(c, field)).collect();
        Value::from(texts.join(","))
    };
    [
        all("/name"),
        all("/image"),
        selector(&workload["spec"]["selector"]).into(),
    ]
}

pub(super) const DAEMON_SETS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::number("Desired", "The nodes that should run the pod."),
        Column::number("Current", "The nodes that run the pod."),
        Column::number("Ready", "The nodes whose pod is ready."),
        Column::number(
            "Up-to-date",
            "The nodes whose pod is of the newest template.",
        ),
        Column::number(
            "Available",
            "The nodes whose pod has been ready long enough.",
        ),
        Column::text("Node Selector", "Selects the nodes."),
        Column::AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: daemon_set,
};

fn daemon_set(set: &Value, now: Timestamp) -> Vec<Value> {
    let status = |field: &str| Value::from(number(set, &format!("/status/{field}")));
    let mut cells = vec![
        name(set),
        status("desiredNumberScheduled"),
        status("currentNumberScheduled"),
        status("numberReady"),
        status("updatedNumberScheduled"),
        status("numberAvailable"),
        labels(&set["spec"]["template"]["spec"]["nodeSelector"]).into(),
        age::created(set, now),
    ];
    cells.extend(template(set));
    cells
}

pub(super) const DEPLOYMENTS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Ready", "The replicas that are ready, of those wanted."),
        Column::number("Up-to-date", "The replicas of the newest template."),
        Column::number(
            "Available",
            "The replicas that have been ready long enough.",
        ),
        Column::AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: deployment,
};

fn deployment(deployment: &Value, now: Timestamp) -> Vec<Value> {
    let status = |field: &str| number(deployment, &format!("/status/{field}"));
    let wanted = number(deployment, "/spec/replicas");
    let mut cells = vec![
        name(deployment),
        format!("{}/{wanted}", status("readyReplicas")).into(),
        status("updatedReplicas").into(),
        status("availableReplicas").into(),
        age::created(deployment, now),
    ];
    cells.extend(template(deployment));
    cells
}

pub(super) const REPLICA_SETS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::number("Desired", "The replicas that are wanted."),
        Column::number("Current", "The replicas that exist."),
        Column::number("Ready", "The replicas that are ready."),
        Column::AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |set, now| {
        let mut cells = vec![
            name(set),
            number(set, "/spec/replicas").into(),
            number(set, "/status/replicas").into(),
            number(set, "/status/readyReplicas").into(),
            age::created(set, now),
        ];
        cells.extend(template(set));
        cells
    },
};

pub(super) const CONTROLLER_REVISIONS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Controller", "The workload it is a revision of."),
        Column::number("Revision", "Its number."),
        Column::AGE,
    ],
    cells: |revision, now| {
        vec![
            name(revision),
            controller(revision).into(),
            number(revision, "/revision").into(),
            age::created(revision, now),
        ]
    },
};

fn controller(object: &Value) -> String {
    let mut owners = items(object, "/metadata/ownerReferences").iter();
    let Some(owner) = owners.find(|owner| owner["controller"] == true) else {
        return "<none>".to_owned();
    };
    let kind = text(owner, "/kind").to_lowercase();
    let group = text(owner, "/apiVersion").split_once('/').map(|(g, _)| g);
    let suffix = group.map(|group| format!(".{group}")).unwrap_or_default();
    or(
        &format!("{kind}{suffix}/{}", text(owner, "/name")),
        "<none>",
    )
    .to_owned()
}
