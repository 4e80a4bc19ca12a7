//! `malha explain` and `malha policy check`, on a cluster in a file.

use std::{
    fs,
    process::{Command, Output},
};

const CLUSTER: &str = r#"
{kind: Namespace, apiVersion: v1, metadata: {name: shop, labels: {team: blue}}}
---
apiVersion: v1
kind: List
items:
- {kind: Namespace, apiVersion: v1, metadata: {name: data}}
- kind: Pod
  apiVersion: v1
  metadata: {name: cart, namespace: shop, labels: {app: cart}}
  spec: {nodeName: one, containers: [{name: c, image: i}]}
  status: {phase: Running, podIPs: [{ip: 10.244.1.2}, {ip: 'fd00:10:244:1::2'}]}
- kind: Pod
  apiVersion: v1
  metadata: {name: db, namespace: data, labels: {app: db}}
  spec: {nodeName: two, containers: [{name: c, image: i, ports: [{name: sql, containerPort: 5432}]}]}
  status: {phase: Running, podIPs: [{ip: 10.244.2.2}, {ip: 'fd00:10:244:2::2'}]}
"#;

const POLICY: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-the-shop, namespace: data}
spec:
  podSelector: {}
  ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}], ports: [{port: sql}]}]
"#;

struct World(tempfile::TempDir);

impl World {
    fn new(cluster: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("cluster.yaml"), cluster).expect("written");
        fs::write(directory.path().join("policy.yaml"), POLICY).expect("written");
        Self(directory)
    }

    fn malha(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_malha"));
        command
            .current_dir(self.0.path())
            .args(arguments)
            .output()
            .expect("malha runs")
    }

    /// What it prints, and its exit code.
    fn says(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let output = self.malha(arguments);
        let text = [output.stdout, output.stderr].concat();
        (
            String::from_utf8_lossy(&text).into_owned(),
            output.status.code(),
        )
    }
}

#[test]
fn a_flow_is_explained_in_every_family() {
    let world = World::new(&format!("{CLUSTER}\n---\n{POLICY}"));
    let explain = |to: &str| {
        world.says(&[
            "explain",
            "--cluster",
            "cluster.yaml",
            "--from",
            "shop/cart",
            "--to",
            to,
        ])
    };
    let (text, code) = explain("data/db:5432");
    assert_eq!(code, Some(0), "{text}");
    for wanted in [
        "allowed: pod shop/cart (10.244.1.2) to pod data/db (10.244.2.2)",
        "(fd00:10:244:1::2)",
        "NetworkPolicy data/only-the-shop, spec.ingress[0]",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let (text, code) = explain("data/db:80");
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("isolation: NetworkPolicy data/only-the-shop"),
        "{text}"
    );
    let (text, code) = explain("data/nobody:80");
    assert_eq!(code, Some(1));
    assert!(text.contains("there is no pod data/nobody"), "{text}");
}

#[test]
fn a_policy_is_checked_before_it_is_applied() {
    let world = World::new(CLUSTER);
    let (text, code) = world.says(&[
        "policy",
        "check",
        "--cluster",
        "cluster.yaml",
        "policy.yaml",
    ]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("loses") && !text.contains("gains"), "{text}");
    assert!(
        !text
            .lines()
            .any(|line| line.contains("5432/TCP") && line.contains("shop/cart")),
        "{text}"
    );
    fs::write(
        world.0.path().join("policy.yaml"),
        POLICY.replace("port: sql", "port: 99999"),
    )
    .expect("written");
    let (text, code) = world.says(&[
        "policy",
        "check",
        "--cluster",
        "cluster.yaml",
        "policy.yaml",
        "-o",
        "json",
    ]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("spec.ingress[0]"), "{text}");
    fs::write(world.0.path().join("policy.yaml"), "kind: Pod").expect("written");
    let (text, code) = world.says(&[
        "policy",
        "check",
        "--cluster",
        "cluster.yaml",
        "policy.yaml",
    ]);
    assert_eq!(code, Some(1));
    assert!(text.contains("give NetworkPolicies"), "{text}");
}
