//! The embedded Kubernetes API server: storage, verbs, watches, authentication and authorization.

pub mod admission;
pub mod attributes;
pub mod auth;
pub mod protobuf;
pub mod proxy;
pub mod status;
