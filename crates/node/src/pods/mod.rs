//! Pods: one worker each, which decides, acts and reports.
//!
//! [`manager`] follows the API server; [`worker`] owns one pod. What it knows is [`observed`], what it does next is
//! [`decide`], what it says is [`status`]: those are pure. `actions` does it.

mod actions;
mod adopt;
pub mod backoff;
pub mod container;
pub mod context;
pub mod decide;
pub mod dns;
pub mod downward;
mod ended;
pub mod env;
mod happenings;
pub mod image;
pub mod inputs;
pub mod manager;
pub mod observed;
mod preparation;
pub mod prepare;
pub mod report;
pub mod resources;
pub mod sources;
pub mod status;
pub mod stop;
pub mod worker;

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

/// Where a pod's logs are: `NAMESPACE_NAME_UID`, as every tool expects it.
pub fn logs_dir(log_dir: &Path, pod: &Pod) -> PathBuf {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let m = &pod.metadata;
    log_dir.join(format!(
        "{}_{}_{}",
        text(&m.namespace),
        text(&m.name),
        text(&m.uid)
    ))
}

/// Where the log of a container's run is.
pub fn log_file(log_dir: &Path, pod: &Pod, container: &str, attempt: u32) -> PathBuf {
    logs_dir(log_dir, pod)
        .join(container)
        .join(format!("{attempt}.log"))
}

/// The directories of logs of a pod of which nothing but the uid is known.
pub fn logs_of_uid(log_dir: &Path, uid: &str) -> Vec<PathBuf> {
    let suffix = format!("_{uid}");
    let entries = std::fs::read_dir(log_dir).into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_name().to_string_lossy().ends_with(&suffix))
        .map(|e| e.path())
        .collect()
}
