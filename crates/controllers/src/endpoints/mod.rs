//! Where Services lead: Endpoints and EndpointSlices for every Service that selects pods.

mod backends;
mod legacy;
mod slices;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServiceSpec};

pub(crate) use legacy::EndpointsKeeper;
pub(crate) use slices::SliceKeeper;

use crate::{matching::Labels, pods};

/// On everything made for a headless Service.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// A Service with the pods it selects.
struct Selection<'a> {
    service: &'a Service,
    spec: &'a ServiceSpec,
    pods: Vec<&'a Pod>,
}

/// Every Service that selects pods.
fn selections<'a>(services: &'a [Arc<Service>], pods: &'a [Arc<Pod>]) -> Vec<Selection<'a>> {
    let mut by_namespace: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in pods {
        by_namespace
            .entry(pods::namespace(&pod.metadata))
            .or_default()
            .push(pod);
    }
    let living = services
        .iter()
        .filter(|service| !pods::is_terminating(&service.metadata));
    let selecting = living.filter_map(|service| {
        let spec = service.spec.as_ref()?;
        let selector = spec
            .selector
            .as_ref()
            .filter(|selector| !selector.is_empty())?;
        let leads = spec.type_.as_deref() != Some("ExternalName");
        leads.then(|| {
            let here = by_namespace.get(pods::namespace(&service.metadata));
            let matches =
                |pod: &&&Pod| crate::matching::contains(pod.metadata.labels.as_ref(), selector);
            Selection {
                service,
                spec,
                pods: here
                    .into_iter()
                    .flatten()
                    .filter(matches)
                    .copied()
                    .collect(),
            }
        })
    });
    selecting.collect()
}

impl Selection<'_> {
    fn namespace(&self) -> &str {
        pods::namespace(&self.service.metadata)
    }

    fn name(&self) -> &str {
        pods::name(&self.service.metadata)
    }

    fn is_headless(&self) -> bool {
        self.spec.cluster_ip.as_deref() == Some("None")
    }

    /// `IPv4`, `IPv6` or both, the primary one first.
    fn families(&self) -> Vec<&str> {
        match self.spec.ip_families.as_deref() {
            Some(families) if !families.is_empty() => families.iter().map(String::as_str).collect(),
            _ => vec!["IPv4"],
        }
    }

    /// The Service's labels and those that say what the object is for.
    fn labels(&self, own: &[(&str, &str)]) -> Labels {
        let mut labels = self.service.metadata.labels.clone().unwrap_or_default();
        labels.remove(HEADLESS);
        if self.is_headless() {
            labels.insert(HEADLESS.to_owned(), String::new());
        }
        labels.extend(
            own.iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
        labels
    }
}

/// A merge patch of labels: null takes one away.
fn label_patch(old: Option<&Labels>, new: &Labels) -> serde_json::Value {
    let gone = old
        .into_iter()
        .flatten()
        .filter(|(key, _)| !new.contains_key(*key));
    let gone = gone.map(|(key, _)| (key.clone(), serde_json::Value::Null));
    let kept = new
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().into()));
    gone.chain(kept).collect::<serde_json::Map<_, _>>().into()
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod testing;
