//! What can be done to stored objects.

mod create;
mod delete;
mod read;
mod update;
mod watch;

pub(super) use create::create;
pub(super) use delete::{delete, delete_collection, remove};
pub(super) use read::{get, list};
pub(super) use update::{modify, patch, update};
pub(super) use watch::watch;

use crate::{
    api::selector::{Fields, Labels},
    attributes::Attributes,
    server::{call::Call, params::Params},
    status::Status,
};

/// How often a write is tried again after losing against another one.
const ATTEMPTS: usize = 64;

/// Which objects of a collection a request is about.
pub(super) struct Selection {
    labels: Labels,
    fields: Fields,
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// 400 for what cannot be read, or a field nothing can be selected by.
    pub fn parse(
        resource: &'static crate::api::resources::Resource,
        params: &Params,
    ) -> Result<Self, Status> {
        Ok(Self {
            labels: Labels::parse(params.get("labelSelector").unwrap_or(""))?,
            fields: Fields::parse(resource, params.get("fieldSelector").unwrap_or(""))?,
        })
    }

    fn of(call: &Call) -> Result<Self, Status> {
        Self::parse(call.resource, &call.params)
    }

    /// A pinned name counts as the request's name: that is how a node may watch one Secret.
    pub fn pin(&self, attributes: &mut Attributes) {
        let collective = ["list", "watch", "deletecollection"];
        if let Some(name) = self.fields.pinned_name()
            && attributes.name.is_empty()
            && collective.contains(&attributes.verb.as_str())
        {
            attributes.name = name.to_owned();
        }
    }

    fn matches(&self, object: &serde_json::Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }
}
