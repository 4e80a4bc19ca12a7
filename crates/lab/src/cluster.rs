//! The lab's view of the cluster, through the API like any user's.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
};
use serde_json::Value;

use crate::table::{self, Columns};

/// Tables need asking for.
const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
/// How often the lab looks whether what it waits for has come.
const LOOK: Duration = Duration::from_millis(50);

/// A client of the lab's API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// Reads the kubeconfig; connects when first used.
    pub async fn open(kubeconfig: &Path) -> Result<Self> {
        let file = Kubeconfig::read_from(kubeconfig)
            .with_context(|| format!("cannot read {}", kubeconfig.display()))?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .with_context(|| format!("cannot use {}", kubeconfig.display()))?;
        let client = Client::try_from(config).context("cannot make an API client")?;
        Ok(Self { client })
    }

    /// What `kubectl get` prints for a path.
    pub async fn table(&self, path: &str, show: Columns) -> Result<String> {
        let request = http::Request::get(path)
            .header(http::header::ACCEPT, AS_TABLE)
            .body(Vec::new())
            .context("cannot make a request")?;
        let answer: Value = self
            .client
            .request(request)
            .await
            .with_context(|| format!("cannot get {path}"))?;
        Ok(table::render(&answer, show))
    }

    /// Deletes the object at a path; absent is fine.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let request = http::Request::delete(path)
            .body(Vec::new())
            .context("cannot make a request")?;
        match self.client.request::<Value>(request).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other
                .map(drop)
                .with_context(|| format!("cannot delete {path}")),
        }
    }

    /// Merges a patch into what is at a path: an object, or its status.
    pub async fn merge(&self, path: &str, patch: &Value) -> Result<()> {
        let request = http::Request::patch(path)
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .body(patch.to_string().into_bytes())
            .context("cannot make a request")?;
        let patched = self.client.request::<Value>(request).await;
        patched
            .map(drop)
            .with_context(|| format!("cannot patch {path}"))
    }

    /// Creates every object of a manifest, or replaces it where it exists; returns `kind/name` of each.
    pub async fn apply(&self, manifest: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for document in documents(manifest)? {
            let object: DynamicObject =
                serde_json::from_value(document).context("not a Kubernetes object")?;
            names.push(self.apply_object(object).await?);
        }
        Ok(names)
    }

    async fn apply_object(&self, mut object: DynamicObject) -> Result<String> {
        let types = object.types.clone().context("an object without kind")?;
        let kind = GroupVersionKind::try_from(&types).context("an object without apiVersion")?;
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = match object.metadata.namespace.as_deref() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let name = object
            .metadata
            .name
            .clone()
            .context("an object without name")?;
        let label = format!("{}/{name}", types.kind.to_lowercase());
        let parameters = PostParams::default();
        let outcome = match api.create(&parameters, &object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let stored = api
                    .get(&name)
                    .await
                    .with_context(|| format!("cannot get {label}"))?;
                object.metadata.resource_version = stored.metadata.resource_version;
                api.replace(&name, &parameters, &object).await
            }
            other => other,
        };
        outcome.with_context(|| format!("cannot apply {label}"))?;
        Ok(label)
    }

    /// Waits until every one of `count` nodes is Ready.
    pub async fn nodes_ready(&self, count: usize, patience: Duration) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        wait(patience, "the nodes are not Ready", async || {
            let list = nodes.list(&ListParams::default()).await?;
            let waiting: Vec<String> = list.items.iter().filter_map(not_ready).collect();
            if waiting.is_empty() && list.items.len() >= count {
                return Ok(None);
            }
            Ok(Some(waiting.join("; ")))
        })
        .await
    }

    /// Waits until every pod with the label is Ready, and returns them.
    pub async fn pods_ready(
        &self,
        label: &str,
        count: usize,
        patience: Duration,
    ) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        let parameters = ListParams::default().labels(label);
        wait(patience, "the test pods are not Ready", async || {
            let list = pods.list(&parameters).await?;
            let ready = list.items.iter().filter(|pod| is_ready(pod)).count();
            Ok((ready < count).then(|| format!("{ready} of {count}")))
        })
        .await?;
        Ok(pods
            .list(&parameters)
            .await
            .context("cannot list the test pods")?
            .items)
    }
}

/// The documents of a YAML stream; empty ones are left out.
pub fn documents(manifest: &str) -> Result<Vec<Value>> {
    // What kubectl reads as octal is octal here, too: `defaultMode: 0644`.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let parsed: Vec<Value> = serde_saphyr::from_multiple_with_options(manifest, options)
        .context("cannot read the manifest")?;
    Ok(parsed
        .into_iter()
        .filter(|document| !document.is_null())
        .collect())
}

/// Looks until `look` finds nothing left to wait for; what it said last goes into the error.
async fn wait(
    patience: Duration,
    what: &str,
    look: impl AsyncFn() -> Result<Option<String>, kube::Error>,
) -> Result<()> {
    let begun = Instant::now();
    loop {
        let left = look().await.context("cannot ask the API server")?;
        let Some(left) = left else { return Ok(()) };
        if begun.elapsed() > patience {
            bail!("{what} after {} s: {left}", patience.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The node's name and message, unless it is Ready.
fn not_ready(node: &Node) -> Option<String> {
    let conditions = node
        .status
        .as_ref()?
        .conditions
        .as_deref()
        .unwrap_or_default();
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    let name = node.metadata.name.as_deref().unwrap_or("?");
    match ready {
        Some(condition) if condition.status == "True" => None,
        Some(condition) => Some(format!(
            "{name}: {}",
            condition.message.as_deref().unwrap_or("no reason given")
        )),
        None => Some(format!("{name}: no status yet")),
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    conditions
        .unwrap_or_default()
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}
