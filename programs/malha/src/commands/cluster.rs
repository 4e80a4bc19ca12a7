//! A cluster as policy sees it: from its API, or from files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::{core::v1 as core, networking::v1::NetworkPolicy};
use kube::{Api, Client, api::ListParams};
use malha_join::{paths::Paths, token::Access};
use malha_policy::model::{Cluster, Namespace, Node, Pod, Policy};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Where a cluster is read from.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// The kubeconfig to use [default: $KUBECONFIG, else /etc/kubernetes/admin.conf].
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Read the cluster from files instead, as `kubectl get namespaces,nodes,pods,networkpolicies -A -o yaml` prints it.
    #[arg(long, value_name = "FILE", conflicts_with = "kubeconfig")]
    cluster: Vec<PathBuf>,
}

impl Source {
    /// Namespaces, nodes, pods, and the policies that are enforced.
    pub async fn read(&self) -> Result<Cluster> {
        let mut cluster = Cluster::default();
        if !self.cluster.is_empty() {
            for file in &self.cluster {
                objects(file)?
                    .into_iter()
                    .try_for_each(|object| add(&mut cluster, object))?;
            }
            return Ok(cluster);
        }
        let access = Access {
            kubeconfig: self.kubeconfig.clone(),
        };
        let client = access.client(&Paths::default()).await?;
        for object in all::<core::Namespace>(&client).await? {
            add_namespace(&mut cluster, &object);
        }
        for object in all::<core::Node>(&client).await? {
            add_node(&mut cluster, &object);
        }
        for object in all::<core::Pod>(&client).await? {
            add_pod(&mut cluster, &object);
        }
        for object in all::<NetworkPolicy>(&client).await? {
            cluster.set_policy(Policy::Namespaced(object));
        }
        Ok(cluster)
    }
}

/// The policies in files; whatever else is in them is an error.
pub fn policies(files: &[PathBuf]) -> Result<Vec<Policy>> {
    let mut found = Vec::new();
    for file in files {
        for object in objects(file)? {
            match kind(&object) {
                "NetworkPolicy" => found.push(Policy::Namespaced(typed(object)?)),
                other => bail!(
                    "{}: {other:?} is no kind of policy that is enforced; give NetworkPolicies",
                    file.display()
                ),
            }
        }
    }
    Ok(found)
}

async fn all<K>(client: &Client) -> Result<Vec<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let list = Api::<K>::all(client.clone())
        .list(&ListParams::default())
        .await;
    let list = list.with_context(|| format!("cannot list {}", K::plural(&())))?;
    Ok(list.items)
}

/// Every object in a file of YAML or JSON; lists are opened.
fn objects(file: &Path) -> Result<Vec<Value>> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => fs::read_to_string(file),
    };
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
        .with_context(|| format!("{} is no YAML", file.display()))?;
    let open = |document: Value| match document {
        Value::Object(mut object) if object.get("items").is_some_and(Value::is_array) => {
            serde_json::from_value(object["items"].take()).unwrap_or_default()
        }
        Value::Null => Vec::new(),
        other => vec![other],
    };
    Ok(documents.into_iter().flat_map(open).collect())
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

fn typed<T: DeserializeOwned>(object: Value) -> Result<T> {
    let what = format!("{} {}", kind(&object), object["metadata"]["name"]);
    T::deserialize(object).with_context(|| format!("{what} cannot be read"))
}

fn add(cluster: &mut Cluster, object: Value) -> Result<()> {
    match kind(&object) {
        "Namespace" => add_namespace(cluster, &typed(object)?),
        "Node" => add_node(cluster, &typed(object)?),
        "Pod" => add_pod(cluster, &typed(object)?),
        "NetworkPolicy" => cluster.set_policy(Policy::Namespaced(typed(object)?)),
        _ => {}
    }
    Ok(())
}

fn add_namespace(cluster: &mut Cluster, object: &core::Namespace) {
    let namespace = Namespace::read(object);
    cluster.namespaces.insert(namespace.name.clone(), namespace);
}

fn add_node(cluster: &mut Cluster, object: &core::Node) {
    let node = Node::read(object);
    cluster.nodes.insert(node.name.clone(), node);
    let ranges = object
        .spec
        .iter()
        .flat_map(|spec| spec.pod_cidrs.iter().flatten());
    cluster
        .settings
        .pod_ranges
        .extend(ranges.filter_map(|range| range.parse::<ipnet::IpNet>().ok()));
}

fn add_pod(cluster: &mut Cluster, object: &core::Pod) {
    if let Some(pod) = Pod::read(object) {
        cluster.pods.insert(pod.key(), pod);
    }
}
