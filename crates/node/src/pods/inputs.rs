//! What a container's environment refers to, read before it is put together.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{
    downward::{self, Surroundings},
    env::{self, Lookup},
    sources::{Data, Sources},
};

type Texts = BTreeMap<String, String>;

/// Everything, as it was when it was read.
pub struct Inputs<'a> {
    pod: &'a Pod,
    around: &'a Surroundings,
    config_maps: BTreeMap<String, Texts>,
    secrets: BTreeMap<String, Texts>,
    /// Variables that announce services.
    pub services: Texts,
}

impl<'a> Inputs<'a> {
    /// Reads what `container` refers to.
    ///
    /// # Errors
    /// When the server cannot be asked; what does not exist is no error yet.
    pub async fn read(
        pod: &'a Pod,
        container: &Container,
        around: &'a Surroundings,
        sources: &Sources,
    ) -> Result<Self, kube::Error> {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let (maps, keys) = names(container);
        let mut inputs = Self {
            pod,
            around,
            config_maps: BTreeMap::new(),
            secrets: BTreeMap::new(),
            services: Texts::new(),
        };
        for name in maps {
            if let Some(data) = sources.config_map(&namespace, &name).await? {
                inputs.config_maps.insert(name, texts(data));
            }
        }
        for name in keys {
            if let Some(data) = sources.secret(&namespace, &name).await? {
                inputs.secrets.insert(name, texts(data));
            }
        }
        let links = pod.spec.as_ref().and_then(|s| s.enable_service_links) != Some(false);
        inputs.services = env::service_links(&sources.services(&namespace, links).await?);
        Ok(inputs)
    }
}

/// Names of ConfigMaps and of Secrets.
fn names(container: &Container) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for source in container.env_from.iter().flatten() {
        maps.extend(source.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|v| v.value_from.as_ref())
    {
        maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    (maps, secrets)
}

/// An environment holds text only.
fn texts(data: Data) -> Texts {
    data.into_iter()
        .filter_map(|(key, bytes)| Some((key, String::from_utf8(bytes).ok()?)))
        .collect()
}

impl Lookup for Inputs<'_> {
    fn config_map(&self, name: &str) -> Option<&Texts> {
        self.config_maps.get(name)
    }

    fn secret(&self, name: &str) -> Option<&Texts> {
        self.secrets.get(name)
    }

    fn field(&self, path: &str) -> Result<String, String> {
        downward::field(self.pod, self.around, path)
    }

    fn resource(
        &self,
        container: &str,
        resource: &str,
        divisor: Option<&str>,
    ) -> Result<String, String> {
        downward::resource(self.pod, self.around, container, resource, divisor)
    }
}
