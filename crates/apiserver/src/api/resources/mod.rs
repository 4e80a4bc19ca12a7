//! Every resource this server has: one table that routing, discovery, authorization and storage read.
//!
//! An API whose controller does not exist here is one of three things. Left out: `jobs`, `statefulsets`, `ingresses`,
//! webhooks, custom resource definitions; storing them and doing nothing would be a lie. Read only and always empty
//! ([`READ_ONLY`]), because clients list it on their way to something else. Or stored with a warning to whoever creates
//! one ([`Resource::notice`]), where its controller is still to come.

mod list;

pub use list::RESOURCES;

/// The verbs of an ordinary resource.
pub const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// The verbs of a resource that nothing can be stored in.
pub const READ_ONLY: &[&str] = &["get", "list", "watch"];
/// The verb of reviews, which are answered and never stored.
pub const CREATE_ONLY: &[&str] = &["create"];

/// A part of a resource with a path of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Subresource {
    /// For example `status`.
    pub name: &'static str,
    /// The kind it speaks, in the resource's own group-version unless `group_version` says otherwise.
    pub kind: &'static str,
    /// `(group, version)` of the kind where it differs from the resource's.
    pub group_version: Option<(&'static str, &'static str)>,
    /// What can be done to it.
    pub verbs: &'static [&'static str],
}

/// One resource in one version.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for core.
    pub group: &'static str,
    /// For example `v1`.
    pub version: &'static str,
    /// As in URLs.
    pub plural: &'static str,
    /// As people may type it.
    pub singular: &'static str,
    /// For example `Pod`.
    pub kind: &'static str,
    /// `po`, …
    pub short_names: &'static [&'static str],
    /// `all`, …
    pub categories: &'static [&'static str],
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// What can be done to it.
    pub verbs: &'static [&'static str],
    /// Its parts.
    pub subresources: &'static [Subresource],
    /// Whether `metadata.generation` counts changes of the spec.
    pub has_generation: bool,
    /// Whether PUT of an object that does not exist creates it.
    pub create_on_update: bool,
    /// Whether PUT may leave out `metadata.resourceVersion`.
    pub unconditional_update: bool,
    /// `(group, plural)` under which objects are stored; the same for resources that share a store.
    pub storage: (&'static str, &'static str),
}

impl Resource {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The resource as texts name it: `pods`, `daemonsets.apps`.
    pub fn qualified(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// `PodList`.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// Whether `/status` is a part of its own, written separately.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Whether objects are stored at all; reviews are not.
    pub fn is_stored(&self) -> bool {
        self.supports("get")
    }

    /// What whoever creates one must be told: no controller acts on it.
    pub fn notice(&self) -> Option<String> {
        // Their controllers are still to come; take them out here when they do.
        let idle = self.group == "apps" && ["deployments", "replicasets"].contains(&self.plural);
        idle.then(|| {
            format!(
                "{} are stored, but this control plane does not run them yet: no pods will be created",
                self.plural
            )
        })
    }

    /// A part by its name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether the resource has this verb.
    pub fn supports(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// The resource in the version objects are stored in; itself for most.
    pub fn stored(&'static self) -> &'static Resource {
        RESOURCES
            .iter()
            .find(|r| (r.group, r.plural) == self.storage)
            .unwrap_or(self)
    }
}

/// A resource by group, version and plural name.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES
        .iter()
        .find(|r| r.group == group && r.version == version && r.plural == plural)
}

/// A resource by `apiVersion` and kind.
pub fn find_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    RESOURCES
        .iter()
        .find(|r| r.group == group && r.version == version && r.kind == kind)
}

/// The stored resource of a group and plural name, whatever its version.
pub fn stored(group: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES
        .iter()
        .find(|r| r.group == group && r.plural == plural)
        .map(Resource::stored)
}

/// Every `(group, version)`, core first, a group's preferred version before its others.
pub fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut all = Vec::new();
    for r in RESOURCES {
        if !all.contains(&(r.group, r.version)) {
            all.push((r.group, r.version));
        }
    }
    all
}

/// The resources of one group-version; empty if there is no such group-version.
pub fn of(group: &str, version: &str) -> impl Iterator<Item = &'static Resource> {
    RESOURCES
        .iter()
        .filter(move |r| r.group == group && r.version == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_is_there_once_and_has_a_store() {
        for (i, r) in RESOURCES.iter().enumerate() {
            let twin =
                |o: &Resource| (o.group, o.version, o.plural) == (r.group, r.version, r.plural);
            assert!(!RESOURCES[..i].iter().any(twin), "{} twice", r.qualified());
            assert_eq!(r.stored().storage, r.storage);
        }
    }

    #[test]
    fn versions_of_one_thing_share_a_store() {
        let old = find("discovery.k8s.io", "v1beta1", "endpointslices").unwrap();
        assert_eq!(old.stored().version, "v1");
        let new_events = find("events.k8s.io", "v1", "events").unwrap();
        assert_eq!(new_events.stored().api_version(), "v1");
        assert_eq!(
            find_kind("apps/v1", "DaemonSet").unwrap().plural,
            "daemonsets"
        );
    }
}
