//! Workloads: selectors that fit their templates, and strategies.

use serde_json::Value;

use super::{errors::Errors, pod, selectors};
use crate::{
    api::{errors::FieldError, selector::Labels},
    auth::fields::text,
};

pub(super) fn daemon_set(set: &Value, errors: &mut Errors) {
    let spec = &set["spec"];
    template(spec, errors);
    errors.at_least("spec", spec, "minReadySeconds", 0);
    errors.at_least("spec", spec, "revisionHistoryLimit", 0);
    strategy(
        "spec.updateStrategy",
        &spec["updateStrategy"],
        &["RollingUpdate", "OnDelete"],
        errors,
    );
}

pub(super) fn deployment(deployment: &Value, errors: &mut Errors) {
    let spec = &deployment["spec"];
    template(spec, errors);
    for key in [
        "replicas",
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ] {
        errors.at_least("spec", spec, key, 0);
    }
    strategy(
        "spec.strategy",
        &spec["strategy"],
        &["Recreate", "RollingUpdate"],
        errors,
    );
}

pub(super) fn replica_set(set: &Value, errors: &mut Errors) {
    let spec = &set["spec"];
    template(spec, errors);
    errors.at_least("spec", spec, "replicas", 0);
    errors.at_least("spec", spec, "minReadySeconds", 0);
}

pub(super) fn revision(revision: &Value, errors: &mut Errors) {
    errors.at_least("", revision, "revision", 0);
}

fn template(spec: &Value, errors: &mut Errors) {
    let selector = &spec["selector"];
    let template = &spec["template"];
    if selector.is_null() {
        errors.required("spec.selector");
    } else {
        selectors::check("spec.selector", selector, errors);
        if Labels::of(selector).is_empty() {
            errors.invalid("spec.selector", selector, "empty selector is invalid");
        } else if !Labels::of(selector).matches(template) {
            let labels = &template["metadata"]["labels"];
            let why = "`selector` does not match template `labels`";
            errors.invalid("spec.template.metadata.labels", labels, why);
        }
    }
    pod::template(template, errors);
    let policy = text(template, "/spec/restartPolicy");
    if !["", "Always"].contains(&policy) {
        errors.push(FieldError::not_supported(
            "spec.template.spec.restartPolicy",
            &policy.into(),
            &["Always"],
        ));
    }
}

fn strategy(field: &str, strategy: &Value, types: &[&str], errors: &mut Errors) {
    errors.one_of(field, strategy, "type", types);
    let Some(rolling) = strategy.get("rollingUpdate") else {
        return;
    };
    if text(strategy, "/type") != "RollingUpdate" {
        let why = "may not be specified when strategy `type` is not 'RollingUpdate'";
        errors.forbidden(format!("{field}.rollingUpdate"), why);
        return;
    }
    let mut all_zero = true;
    for key in ["maxUnavailable", "maxSurge"] {
        let value = &rolling[key];
        match share(value) {
            Some(share) => all_zero &= share == 0,
            None => {
                let why = "must be a whole number, or a percentage (e.g. '25%'), of at least 0";
                errors.invalid(format!("{field}.rollingUpdate.{key}"), value, why);
            }
        }
    }
    if all_zero {
        let why = "may not be 0 when `maxSurge` is 0";
        let field = format!("{field}.rollingUpdate.maxUnavailable");
        errors.invalid(field, &rolling["maxUnavailable"], why);
    }
}

/// A number or a percentage, without its unit.
fn share(value: &Value) -> Option<u64> {
    match value {
        Value::Null => Some(0),
        Value::String(text) => text.strip_suffix('%')?.parse().ok(),
        value => value.as_u64(),
    }
}
