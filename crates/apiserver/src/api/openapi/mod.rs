//! OpenAPI, as much of it as kubectl needs to create and apply: which kinds know the `fieldValidation` and `dryRun`
//! parameters of PATCH. There are no schemas (`kubectl explain` finds nothing).
//!
//! The PATCH operations deliberately do not list `application/strategic-merge-patch+json`: a client that saw it would
//! look for merge keys in schemas that are not there; without it, kubectl uses those of its built-in types.

mod v2;

use serde_json::{Map, Value, json};

pub use v2::v2_protobuf;

use super::resources::{Resource, group_versions, of};

const VERSION: &str = malha_core::KUBERNETES_VERSION;
const QUERY_PARAMETERS: [&str; 4] = ["dryRun", "fieldManager", "fieldValidation", "force"];

/// `GET /openapi/v3`: the index.
pub fn index() -> Value {
    let paths: Map<String, Value> = group_versions()
        .into_iter()
        .map(|(group, version)| {
            let path = path(group, version);
            let hash = hash(&path);
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// `GET /openapi/v3/PATH`, where PATH is `api/v1` or `apis/GROUP/VERSION`; none if there is no such version.
pub fn document(wanted: &str) -> Option<Value> {
    let (group, version) = group_versions()
        .into_iter()
        .find(|(group, version)| path(group, version) == wanted)?;
    let patchable = of(group, version).filter(|r| r.supports("patch"));
    let paths: Map<String, Value> = patchable.map(operation).collect();
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {"schemas": {}},
    }))
}

fn path(group: &str, version: &str) -> String {
    match group {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    }
}

/// The path of one object.
fn object_path(resource: &Resource) -> String {
    let prefix = path(resource.group, resource.version);
    let namespaces = match resource.namespaced {
        true => "namespaces/{namespace}/",
        false => "",
    };
    format!("/{prefix}/{namespaces}{}/{{name}}", resource.plural)
}

fn operation(resource: &Resource) -> (String, Value) {
    let parameters: Vec<_> = QUERY_PARAMETERS
        .iter()
        .map(|name| {
            json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}})
        })
        .collect();
    let gvk = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let patch = json!({
        "parameters": parameters,
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": gvk,
    });
    (object_path(resource), json!({"patch": patch}))
}

/// What clients cache a document by: FNV-1a over its text.
fn hash(path: &str) -> String {
    let text = document(path).map(|d| d.to_string()).unwrap_or_default();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_of_the_index_is_there() {
        let index = index();
        for (path, entry) in index["paths"].as_object().unwrap() {
            let url = entry["serverRelativeURL"].as_str().unwrap();
            assert!(url.starts_with(&format!("/openapi/v3/{path}?hash=")));
            assert_eq!(document(path).unwrap()["openapi"], "3.0.0");
        }
        assert_eq!(document("apis/foo/v1"), None);
    }

    #[test]
    fn patch_of_a_deployment_knows_field_validation() {
        let apps = document("apis/apps/v1").unwrap();
        let patch =
            &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "apps", "version": "v1", "kind": "Deployment"})
        );
        let parameters = patch["parameters"].as_array().unwrap();
        assert!(parameters.iter().any(|p| p["name"] == "fieldValidation"));
        assert_eq!(patch.get("requestBody"), None);
    }
}
