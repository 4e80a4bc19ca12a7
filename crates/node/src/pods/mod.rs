//! Pods: one worker each, which decides, acts and reports.

pub mod backoff;
pub mod container;
pub mod decide;
pub mod dns;
pub mod downward;
pub mod env;
pub mod image;
pub mod inputs;
pub mod observed;
pub mod resources;
pub mod sources;
pub mod status;
