//! The embedded Kubernetes API server: storage, verbs, watches, authentication and authorization.

pub mod attributes;
pub mod status;
