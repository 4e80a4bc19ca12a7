//! What every cluster starts with: created where it is missing, by the same way as everything else.

use std::{net::IpAddr, sync::Arc};

use futures::future::try_join_all;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::{
    Inner,
    config::StartError,
    handle::{Caller, handle},
};
use crate::{
    api::resources::{self, Resource},
    auth::{self, fields::text},
};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates namespaces, RBAC defaults, priority classes and the `kubernetes` Service with its endpoints.
///
/// # Errors
/// When something cannot be created.
pub(super) async fn run(inner: &Arc<Inner>, endpoint: (IpAddr, u16)) -> Result<(), StartError> {
    let namespace =
        |name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    ensure_all(inner, NAMESPACES.map(namespace).into()).await?;
    ensure_all(inner, auth::default_objects()).await?;
    ensure_all(inner, vec![service(inner, endpoint.1)]).await?;
    for object in endpoints(endpoint) {
        put(inner, &object).await?;
    }
    Ok(())
}

/// The Service that pods know the API server by.
fn service(inner: &Inner, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": inner.services.first(),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    })
}

/// Where that Service leads: this server.
fn endpoints((address, port): (IpAddr, u16)) -> [Value; 2] {
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let metadata = |labels| json!({"name": "kubernetes", "namespace": "default", "labels": labels});
    [
        json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": metadata(json!({"endpointslice.kubernetes.io/skip-mirror": "true"})),
            "subsets": [{"addresses": [{"ip": address}], "ports": ports}],
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": metadata(json!({"kubernetes.io/service-name": "kubernetes"})),
            "addressType": family, "ports": ports,
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        }),
    ]
}

async fn ensure_all(inner: &Arc<Inner>, objects: Vec<Value>) -> Result<(), StartError> {
    // Together, so that they share a few writes to the disk.
    try_join_all(objects.iter().map(|object| ensure(inner, object))).await?;
    Ok(())
}

async fn ensure(inner: &Arc<Inner>, object: &Value) -> Result<(), StartError> {
    let place = Place::of(object)?;
    let (group, plural) = place.resource.storage;
    let objects: &dyn crate::attributes::Objects = &inner.objects;
    if objects
        .get(group, plural, place.namespace, place.name)
        .is_some()
    {
        return Ok(());
    }
    send(inner, Method::POST, &place.collection(), object).await
}

/// Creates an object or brings it up to date: the address of this server may be another than last time.
async fn put(inner: &Arc<Inner>, object: &Value) -> Result<(), StartError> {
    let place = Place::of(object)?;
    let (group, plural) = place.resource.storage;
    let objects: &dyn crate::attributes::Objects = &inner.objects;
    if objects
        .get(group, plural, place.namespace, place.name)
        .is_none()
    {
        return send(inner, Method::POST, &place.collection(), object).await;
    }
    let path = format!("{}/{}", place.collection(), place.name);
    send(inner, Method::PUT, &path, object).await
}

struct Place<'a> {
    resource: &'static Resource,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Place<'a> {
    fn of(object: &'a Value) -> Result<Self, StartError> {
        let resource = resources::find_kind(text(object, "/apiVersion"), text(object, "/kind"));
        let resource = resource.ok_or_else(|| StartError::Bootstrap {
            what: describe(object),
            why: "there is no such resource".to_owned(),
        })?;
        Ok(Self {
            resource,
            namespace: text(object, "/metadata/namespace"),
            name: text(object, "/metadata/name"),
        })
    }

    fn collection(&self) -> String {
        let Resource {
            group,
            version,
            plural,
            ..
        } = self.resource;
        let root = match *group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        match self.namespace {
            "" => format!("{root}/{plural}"),
            namespace => format!("{root}/namespaces/{namespace}/{plural}"),
        }
    }
}

fn describe(object: &Value) -> String {
    format!(
        "{} {}",
        text(object, "/kind"),
        text(object, "/metadata/name")
    )
}

async fn send(
    inner: &Arc<Inner>,
    method: Method,
    path: &str,
    object: &Value,
) -> Result<(), StartError> {
    let failed = |why: String| StartError::Bootstrap {
        what: describe(object),
        why,
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Full::from(object.to_string()))
        .map_err(|e| failed(e.to_string()))?;
    let caller = Caller::InProcess(auth::superuser("system:apiserver"));
    let response = handle(inner.clone(), caller, request).await;
    if response.status().is_success() {
        return Ok(());
    }
    let body = response.into_body().collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let status: Value = serde_json::from_slice(&body).unwrap_or_default();
    Err(failed(text(&status, "/message").to_owned()))
}
