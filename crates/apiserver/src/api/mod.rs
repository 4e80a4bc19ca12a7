//! The pure object logic of the API: what resources exist, what a write does to an object, how an answer looks.
//!
//! Nothing here does I/O or reads a clock: objects are `serde_json::Value`, `now` is passed in, refusals are
//! [`crate::status::Status`]. Objects are kept in the *stored* version of their resource; [`write`] takes a request's
//! body there and [`negotiate::Accept`] brings answers back to the version that was asked for.
//!
//! The way of a write through this module, with the server's own steps between:
//! - create: [`negotiate::Body::read`], [`write::accept`], [`write::prepare_create`], *admission*,
//!   [`write::finish_create`], *store*.
//! - update: the same with [`write::prepare_update`] and [`write::finish_update`], which get the stored object.
//! - patch: [`patch::apply`] gives the whole new object, then as an update (or a create, for apply).
//! - delete: [`delete::delete`] says whether to remove the object or to store it marked.

pub mod convert;
pub mod defaults;
pub mod delete;
pub mod discovery;
pub mod errors;
pub mod fields;
pub(crate) mod json;
pub mod meta;
pub mod negotiate;
pub mod openapi;
pub mod patch;
pub mod resources;
pub mod scale;
pub mod selector;
pub mod table;
pub mod validate;
pub mod write;

#[cfg(test)]
mod properties;
