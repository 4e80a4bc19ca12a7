//! The embedded Kubernetes API server: storage, verbs, watches, authentication and authorization.

pub mod admission;
pub mod api;
pub mod attributes;
pub mod auth;
pub mod protobuf;
pub mod proxy;
pub mod server;
pub mod status;
pub mod store;
