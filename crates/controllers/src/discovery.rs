//! Which kinds of objects the API has.

use kube::Client;

/// A kind that can be listed and deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// `apps/v1`.
    pub api_version: String,
    /// `DaemonSet`.
    pub kind: String,
    /// `daemonsets`.
    pub plural: String,
    pub namespaced: bool,
    /// Whether all objects of a namespace can be deleted with one request.
    pub delete_collection: bool,
    pub watchable: bool,
}

impl Kind {
    pub fn group(&self) -> &str {
        self.api_version
            .split_once('/')
            .map_or("", |(group, _)| group)
    }

    /// `daemonsets.apps`.
    pub fn resource(&self) -> String {
        match self.group() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }
}

/// Every kind that can be listed and deleted, each in one version.
///
/// # Errors
/// When any group cannot be read: a list with gaps would leave objects behind.
pub(crate) async fn kinds(client: &Client) -> Result<Vec<Kind>, kube::Error> {
    let mut kinds = resources(&client.list_core_api_resources("v1").await?);
    for group in client.list_api_groups().await?.groups {
        let preferred = group.preferred_version.map(|version| version.group_version);
        let others = group
            .versions
            .into_iter()
            .map(|version| version.group_version);
        for version in preferred.into_iter().chain(others) {
            for kind in resources(&client.list_api_group_resources(&version).await?) {
                let known = |k: &Kind| k.group() == kind.group() && k.plural == kind.plural;
                if !kinds.iter().any(known) {
                    kinds.push(kind);
                }
            }
        }
    }
    Ok(kinds)
}

fn resources(list: &k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList) -> Vec<Kind> {
    let usable = list.resources.iter().filter(|resource| {
        let can = |verb: &str| resource.verbs.iter().any(|v| v == verb);
        can("list") && can("delete") && !resource.name.contains('/')
    });
    usable
        .map(|resource| Kind {
            api_version: list.group_version.clone(),
            kind: resource.kind.clone(),
            plural: resource.name.clone(),
            namespaced: resource.namespaced,
            delete_collection: resource.verbs.iter().any(|v| v == "deletecollection"),
            watchable: resource.verbs.iter().any(|v| v == "watch"),
        })
        .collect()
}
