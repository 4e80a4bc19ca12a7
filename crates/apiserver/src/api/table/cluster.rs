//! Namespaces, events, leases, classes.

use jiff::Timestamp;
use serde_json::Value;

use super::{Printer, age, column::Column, name, number, or};
use crate::auth::fields::text;

pub(super) const NAMESPACES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Status", "Whether it is in use or going away."),
        Column::AGE,
    ],
    cells: |namespace, now| {
        vec![
            name(namespace),
            text(namespace, "/status/phase").into(),
            age::created(namespace, now),
        ]
    },
};

pub(super) const EVENTS: Printer = Printer {
    columns: &[
        Column::text("Last Seen", "Time since it happened last."),
        Column::text("Type", "Normal or Warning."),
        Column::text("Reason", "A word for machines."),
        Column::text("Object", "What it is about."),
        Column::text("Subobject", "The part it is about.").wide(),
        Column::text("Source", "Who reported it.").wide(),
        Column::text("Message", "A sentence for people."),
        Column::text("First Seen", "Time since it happened first.").wide(),
        Column::number("Count", "How often it happened.").wide(),
        Column::text("Name", "The event's name.").named().wide(),
    ],
    cells: event,
};

fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let time = |pointer| text(event, pointer);
    let first = or(time("/firstTimestamp"), time("/eventTime"));
    let last = match event.get("series") {
        Some(series) => text(series, "/lastObservedTime"),
        None => or(time("/lastTimestamp"), first),
    };
    let count = match event.get("series") {
        Some(series) => number(series, "/count"),
        None => number(event, "/count").max(1),
    };
    let kind = text(event, "/involvedObject/kind").to_lowercase();
    let object = match text(event, "/involvedObject/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let source = or(time("/source/component"), time("/reportingComponent"));
    let source = match or(time("/source/host"), time("/reportingInstance")) {
        "" => source.to_owned(),
        host => format!("{source}, {host}"),
    };
    vec![
        age::since(last, now).into(),
        text(event, "/type").into(),
        text(event, "/reason").into(),
        object.into(),
        text(event, "/involvedObject/fieldPath").into(),
        source.into(),
        text(event, "/message").trim().into(),
        age::since(first, now).into(),
        count.into(),
        name(event),
    ]
}

pub(super) const LEASES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Holder", "Who has it."),
        Column::AGE,
    ],
    cells: |lease, now| {
        vec![
            name(lease),
            text(lease, "/spec/holderIdentity").into(),
            age::created(lease, now),
        ]
    },
};

pub(super) const PRIORITY_CLASSES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::number("Value", "The priority of its pods."),
        Column::flag(
            "Global-Default",
            "Whether pods that name no class are of this one.",
        ),
        Column::AGE,
        Column::text("PreemptionPolicy", "Whether its pods push others out."),
    ],
    cells: |class, now| {
        vec![
            name(class),
            number(class, "/value").into(),
            (class["globalDefault"] == true).into(),
            age::created(class, now),
            or(text(class, "/preemptionPolicy"), "PreemptLowerPriority").into(),
        ]
    },
};

pub(super) const RUNTIME_CLASSES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Handler", "The runtime's name for it."),
        Column::AGE,
    ],
    cells: |class, now| {
        vec![
            name(class),
            text(class, "/handler").into(),
            age::created(class, now),
        ]
    },
};
