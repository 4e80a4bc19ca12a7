//! The cluster under test, through kubectl and its hosts.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::command::{command, run, text, until};
use crate::description::{Description, Engines, Host};
use crate::probe::{self, Probe};

/// The manifest under test.
const MANIFEST: &str = include_str!("../../../deploy/malha.yaml");
/// The image that it names.
const MANIFEST_IMAGE: &str = concat!("localhost/malha:", env!("CARGO_PKG_VERSION"));

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    /// What was told of it.
    pub description: Description,
}

impl Cluster {
    /// The one that is described, whatever state it is in.
    #[must_use]
    pub fn open() -> Self {
        Self {
            description: Description::load(),
        }
    }

    /// With Malha as its network, every node Ready and every agent at work.
    #[must_use]
    pub fn with_network() -> Self {
        let cluster = Self::open();
        cluster.apply(&MANIFEST.replace(MANIFEST_IMAGE, &cluster.description.image));
        cluster.rolled_out();
        until("every node is Ready", || cluster.all_nodes_ready());
        cluster
    }

    /// The manifest, with other text in it.
    ///
    /// # Panics
    /// When the text is not there.
    #[must_use]
    pub fn manifest_with(&self, old: &str, new: &str) -> String {
        assert!(MANIFEST.contains(old), "the manifest does not say {old:?}");
        MANIFEST
            .replace(old, new)
            .replace(MANIFEST_IMAGE, &self.description.image)
    }

    /// Wait until the newest agents run everywhere.
    pub fn rolled_out(&self) {
        let status = [
            "-n",
            "kube-system",
            "rollout",
            "status",
            "daemonset",
            "malha",
            "--timeout=180s",
        ];
        self.kubectl(&status);
    }

    /// Whether the control plane says so of every node.
    #[must_use]
    pub fn all_nodes_ready(&self) -> bool {
        let nodes = self.get(&["nodes"]);
        let nodes = nodes["items"].as_array().expect("a list");
        let ready =
            |node: &Value| condition(node, "Ready").is_some_and(|now| now["status"] == "True");
        nodes.len() == self.description.hosts.len() && nodes.iter().all(ready)
    }

    /// Runs kubectl; it has to succeed.
    #[track_caller]
    pub fn kubectl(&self, words: &[&str]) -> String {
        run(&mut self.kubectl_command(words))
    }

    /// kubectl, not run yet.
    #[must_use]
    pub fn kubectl_command(&self, words: &[&str]) -> Command {
        command(&self.description.kubectl, words)
    }

    /// Objects as JSON: `get(&["pod", "a"])`.
    #[track_caller]
    #[must_use]
    pub fn get(&self, what: &[&str]) -> Value {
        let words = [&["get", "-o", "json"], what].concat();
        serde_json::from_str(&self.kubectl(&words)).expect("kubectl writes JSON")
    }

    /// Applies objects.
    ///
    /// # Panics
    /// When kubectl refuses.
    #[track_caller]
    pub fn apply(&self, objects: &str) {
        let mut child = self
            .kubectl_command(&["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(objects.as_bytes()).expect("kubectl reads");
        drop(input);
        let output = child.wait_with_output().expect("kubectl ends");
        let _ = text("kubectl apply", output);
    }

    /// The host of that name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn host(&self, name: &str) -> &Host {
        let found = self.description.hosts.iter().find(|host| host.name == name);
        found.unwrap_or_else(|| panic!("no host {name}"))
    }

    /// The container engines.
    ///
    /// # Panics
    /// When none are described.
    #[must_use]
    pub fn engines(&self) -> &Engines {
        let engines = self.description.engines.as_ref();
        engines.expect("the cluster's description has no engines: docs/e2e.md says what they are")
    }

    /// Runs a shell script on a host; it has to succeed.
    #[track_caller]
    pub fn sh(&self, host: &Host, script: &str) -> String {
        run(&mut command(&host.run, &["sh", "-ec", script]))
    }

    /// Runs `malha` on a host.
    #[must_use]
    pub fn malha_on(&self, host: &Host, words: &[&str]) -> Command {
        command(
            &host.run,
            &[&[self.description.malha.as_str()], words].concat(),
        )
    }

    /// Runs `malha` on the machine outside.
    #[must_use]
    pub fn malha_outside(&self, words: &[&str]) -> Command {
        let words = [&[self.description.malha.as_str()], words].concat();
        command(&self.description.outside.run, &words)
    }

    /// A test pod on every node, there and ready.
    #[must_use]
    pub fn probes(&self) -> Vec<Probe> {
        self.apply(&probe::daemon_set(&self.description.image));
        self.kubectl(&["rollout", "status", "daemonset", "probe", "--timeout=120s"]);
        let pods = self.get(&["pods", "-l", "app=probe"]);
        let pods = pods["items"].as_array().expect("a list");
        let living = pods
            .iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let mut probes: Vec<Probe> = living.map(Probe::new).collect();
        probes.sort_by(|a, b| a.node.cmp(&b.node));
        assert_eq!(
            probes.len(),
            self.description.hosts.len(),
            "a probe on every node"
        );
        probes
    }

    /// Runs `malha lab …` in a test pod.
    #[must_use]
    pub fn lab_in(&self, pod: &str, words: &[&str]) -> Command {
        let exec = ["exec", pod, "--", "/usr/bin/malha", "lab"];
        self.kubectl_command(&[&exec, words].concat())
    }

    /// What a test server answers to a pod.
    #[track_caller]
    pub fn fetch(&self, pod: &str, server: &str, path: &str) -> String {
        run(&mut self.lab_in(pod, &["fetch", server, path]))
            .trim()
            .to_owned()
    }
}

/// A condition of an object's status.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}
