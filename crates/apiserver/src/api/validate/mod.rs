//! Validation: what is wrong with an object, all of it at once, in Kubernetes' words where people see them.
//!
//! This is not all that Kubernetes checks (its validation is longer than this program); it is what protects the parts
//! that read objects here, and what people get wrong. [`super::fields`] has already seen to it that every value is of
//! its field's type.

mod change;
mod cluster;
mod config;
mod container;
mod errors;
mod meta;
pub mod names;
mod network;
mod pod;
pub mod quantity;
mod rbac;
mod selectors;
mod service;
mod volume;
mod workload;

use serde_json::Value;

use self::errors::Errors;
use super::{errors::FieldError, resources::Resource, write::Target};

/// Everything that is wrong with a new object.
pub fn create(resource: &'static Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    meta::check(resource, object, &mut errors);
    whole(resource, object, &mut errors);
    errors.into_list()
}

/// Everything that is wrong with a change, immutable fields included.
pub fn update(target: &Target<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    meta::check(target.resource, new, &mut errors);
    meta::check_change(old, new, &mut errors);
    match target.subresource {
        "" => {
            change::check(target.resource, old, new, &mut errors);
            // What is stored may be older than a check; only what a change touches has to pass it.
            if !same_content(old, new) {
                whole(target.resource, new, &mut errors);
            }
        }
        "approval" => cluster::approval(new, &mut errors),
        _ => {}
    }
    errors.into_list()
}

fn same_content(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return false;
    };
    let content = |(key, _): &(&String, &Value)| *key != "metadata" && *key != "status";
    old.iter().filter(content).eq(new.iter().filter(content))
}

fn whole(resource: &Resource, object: &Value, errors: &mut Errors) {
    match resource.storage {
        ("", "configmaps") => config::config_map(object, errors),
        ("", "endpoints") => network::endpoints(object, errors),
        ("", "events") => cluster::event(object, errors),
        ("", "nodes") => cluster::node(object, errors),
        ("", "pods") => pod::pod(object, errors),
        ("", "secrets") => config::secret(object, errors),
        ("", "services") => service::service(object, errors),
        ("apps", "controllerrevisions") => workload::revision(object, errors),
        ("apps", "daemonsets") => workload::daemon_set(object, errors),
        ("apps", "deployments") => workload::deployment(object, errors),
        ("apps", "replicasets") => workload::replica_set(object, errors),
        ("certificates.k8s.io", _) => cluster::signing_request(object, errors),
        ("coordination.k8s.io", "leases") => cluster::lease(object, errors),
        ("discovery.k8s.io", "endpointslices") => network::endpoint_slice(object, errors),
        ("networking.k8s.io", "networkpolicies") => network::policy(object, errors),
        ("node.k8s.io", "runtimeclasses") => cluster::runtime_class(object, errors),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => {
            rbac::role(resource, object, errors);
        }
        ("rbac.authorization.k8s.io", _) => rbac::binding(resource, object, errors),
        ("scheduling.k8s.io", "priorityclasses") => cluster::priority_class(object, errors),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
