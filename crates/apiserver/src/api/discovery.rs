//! Discovery documents: what the server has, the old way (a document per group and version) and the new (one for all).

use serde_json::{Value, json};

use super::{
    negotiate::DiscoveryFormat,
    resources::{Resource, Subresource, group_versions, of},
};

/// `GET /api`; `address` is `host:port` for clients.
pub fn api(format: DiscoveryFormat, address: &str) -> Value {
    match format {
        DiscoveryFormat::Aggregated(version) => aggregated(version, &[""]),
        DiscoveryFormat::Legacy => json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        }),
    }
}

/// `GET /apis`.
pub fn apis(format: DiscoveryFormat) -> Value {
    match format {
        DiscoveryFormat::Aggregated(version) => aggregated(version, &groups()),
        DiscoveryFormat::Legacy => {
            let groups: Vec<_> = groups().into_iter().filter_map(legacy_group).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
    }
}

/// `GET /apis/GROUP`; none if there is no such group.
pub fn group(group: &str) -> Option<Value> {
    let mut document = legacy_group(group)?;
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    Some(document)
}

/// `GET /api/v1` and `GET /apis/GROUP/VERSION`; none if there is no such version (404 as plain text).
pub fn resources(group: &str, version: &str) -> Option<Value> {
    if !group_versions().contains(&(group, version)) {
        return None;
    }
    let mut list = Vec::new();
    for resource in of(group, version) {
        list.push(legacy_resource(resource));
        list.extend(
            resource
                .subresources
                .iter()
                .map(|part| legacy_part(resource, part)),
        );
    }
    let group_version = api_version(group, version);
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list,
    }))
}

/// `GET /`: the paths below.
pub fn paths() -> Value {
    let mut paths: Vec<String> = [
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/openapi/v3",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    for (group, version) in group_versions() {
        match group {
            "" => paths.push(format!("/api/{version}")),
            group => paths.extend([format!("/apis/{group}"), format!("/apis/{group}/{version}")]),
        }
    }
    paths.sort();
    paths.dedup();
    json!({"paths": paths})
}

/// Every group but core, in the table's order.
fn groups() -> Vec<&'static str> {
    let mut groups: Vec<_> = group_versions()
        .into_iter()
        .map(|(group, _)| group)
        .collect();
    groups.dedup();
    groups.retain(|group| !group.is_empty());
    groups
}

fn versions(group: &str) -> Vec<&'static str> {
    let all = group_versions().into_iter();
    all.filter(|(g, _)| *g == group)
        .map(|(_, version)| version)
        .collect()
}

fn api_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    }
}

fn legacy_group(group: &str) -> Option<Value> {
    if group.is_empty() {
        return None;
    }
    let versions: Vec<_> = versions(group)
        .into_iter()
        .map(|version| json!({"groupVersion": api_version(group, version), "version": version}))
        .collect();
    let preferred = versions.first()?.clone();
    Some(json!({"name": group, "versions": versions, "preferredVersion": preferred}))
}

fn legacy_resource(resource: &Resource) -> Value {
    let mut document = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        document["shortNames"] = resource.short_names.into();
    }
    if !resource.categories.is_empty() {
        document["categories"] = resource.categories.into();
    }
    document
}

fn legacy_part(resource: &Resource, part: &Subresource) -> Value {
    let mut document = json!({
        "name": format!("{}/{}", resource.plural, part.name), "singularName": "",
        "namespaced": resource.namespaced, "kind": part.kind, "verbs": part.verbs,
    });
    if let Some((group, version)) = part.group_version {
        document["group"] = group.into();
        document["version"] = version.into();
    }
    document
}

fn aggregated(version: &str, groups: &[&str]) -> Value {
    let items: Vec<_> = groups
        .iter()
        .map(|group| {
            let versions: Vec<_> = versions(group)
                .into_iter()
                .map(|version| {
                    let resources: Vec<_> = of(group, version).map(aggregated_resource).collect();
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items,
    })
}

fn aggregated_resource(resource: &Resource) -> Value {
    let own = (resource.group, resource.version);
    let kind = |(group, version): (&str, &str), kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut document = json!({
        "resource": resource.plural,
        "responseKind": kind(own, resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        document["shortNames"] = resource.short_names.into();
    }
    if !resource.categories.is_empty() {
        document["categories"] = resource.categories.into();
    }
    let parts: Vec<_> = resource
        .subresources
        .iter()
        .map(|part| {
            json!({
                "subresource": part.name,
                "responseKind": kind(part.group_version.unwrap_or(own), part.kind),
                "verbs": part.verbs,
            })
        })
        .collect();
    if !parts.is_empty() {
        document["subresources"] = parts.into();
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_version_has_its_documents() {
        for (group_name, version) in group_versions() {
            let list = resources(group_name, version).unwrap();
            assert!(!list["resources"].as_array().unwrap().is_empty());
            if !group_name.is_empty() {
                assert_eq!(group(group_name).unwrap()["name"], group_name);
            }
        }
        assert_eq!(resources("foo", "v1"), None);
        assert_eq!(group("foo"), None);
        assert_eq!(group(""), None);
    }

    #[test]
    fn a_groups_preferred_version_is_the_stored_one() {
        let discovery = group("discovery.k8s.io").unwrap();
        assert_eq!(discovery["preferredVersion"]["version"], "v1");
        assert_eq!(discovery["versions"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn drain_finds_the_eviction_and_its_version() {
        let core = resources("", "v1").unwrap();
        let all = core["resources"].as_array().unwrap();
        let eviction = all.iter().find(|r| r["name"] == "pods/eviction").unwrap();
        assert_eq!(
            *eviction,
            json!({"name": "pods/eviction", "singularName": "", "namespaced": true, "kind": "Eviction",
                "verbs": ["create"], "group": "policy", "version": "v1"})
        );
    }

    #[test]
    fn aggregated_says_the_same_as_legacy() {
        let all = [
            api(DiscoveryFormat::Aggregated("v2"), ""),
            apis(DiscoveryFormat::Aggregated("v2")),
        ];
        let mut count = 0;
        for document in &all {
            for item in document["items"].as_array().unwrap() {
                for version in item["versions"].as_array().unwrap() {
                    let group = item["metadata"]["name"].as_str().unwrap();
                    let legacy = resources(group, version["version"].as_str().unwrap()).unwrap();
                    let new = version["resources"].as_array().unwrap();
                    let parts = |r: &Value| r["subresources"].as_array().map_or(0, Vec::len);
                    let total: usize = new.iter().map(|r| 1 + parts(r)).sum();
                    assert_eq!(legacy["resources"].as_array().unwrap().len(), total);
                    count += new.len();
                }
            }
        }
        assert_eq!(count, super::super::resources::RESOURCES.len());
        assert_eq!(all[1]["apiVersion"], "apidiscovery.k8s.io/v2");
    }
}
