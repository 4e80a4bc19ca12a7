//! The Helm chart, rendered by Helm itself: the manifest is this chart, every value arrives, wrong ones are refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use malha_agent::Config;
use serde_json::{Value, json};

const MANIFEST: &str = include_str!("../../../deploy/malha.yaml");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn helm(arguments: &[&str]) -> Output {
    let found = Command::new(root().join("tools/helm"))
        .output()
        .expect("tools/helm");
    assert!(found.status.success(), "no Helm to be had: {found:?}");
    let path = String::from_utf8(found.stdout).unwrap();
    Command::new(path.trim())
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("helm")
}

fn template(namespace: &str, values: &[&str]) -> Output {
    let mut arguments = vec!["template", "malha", "deploy/helm/malha", "-n", namespace];
    values
        .iter()
        .for_each(|value| arguments.extend(["--set", value]));
    helm(&arguments)
}

fn render(namespace: &str, values: &[&str]) -> Vec<Value> {
    let output = template(namespace, values);
    assert!(output.status.success(), "{output:?}");
    documents(&String::from_utf8(output.stdout).unwrap())
}

fn documents(text: &str) -> Vec<Value> {
    let texts = text
        .split("---\n")
        .filter(|text| text.lines().any(|line| !line.starts_with('#')));
    texts
        .map(|text| serde_saphyr::from_str(text).expect("a YAML document"))
        .collect()
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let mut found = documents.iter().filter(|document| document["kind"] == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    first
}

#[test]
fn the_manifest_is_the_chart() {
    let output = Command::new(root().join("tools/manifest"))
        .arg("--check")
        .output()
        .expect("tools/manifest");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(documents(MANIFEST), render("kube-system", &[]));
    assert_eq!(
        MANIFEST.matches("---").count(),
        documents(MANIFEST).len(),
        "nothing is left between documents"
    );
}

#[test]
fn every_value_arrives() {
    let documents = render(
        "kube-system",
        &[
            "image.repository=10.0.0.1:5000/net/malha,image.tag=test,image.pullPolicy=Always",
            "routing=direct,vni=16777215,port=65535,mtu=1400,masquerade=false",
            "podCIDRs={10.244.0.0/16,fd00:10:244::/56}",
            "apiServers={https://172.20.0.10:6443,https://[fd00::1]:6443}",
            "log=info\\,malha_agent=debug",
            "resources.limits.memory=200Mi",
            "tolerations=null",
        ],
    );
    let data = &of_kind(&documents, "ConfigMap")["data"];
    let expected = json!({
        "MALHA_LOG": "info,malha_agent=debug",
        "MALHA_ROUTING": "direct",
        "MALHA_VNI": "16777215",
        "MALHA_VXLAN_PORT": "65535",
        "MALHA_MTU": "1400",
        "MALHA_MASQUERADE": "false",
        "MALHA_POD_CIDR": "10.244.0.0/16,fd00:10:244::/56",
        "MALHA_API_SERVER": "https://172.20.0.10:6443,https://[fd00::1]:6443",
    });
    assert_eq!(data, &expected);
    let pod = &of_kind(&documents, "DaemonSet")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "10.0.0.1:5000/net/malha:test");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["resources"]["limits"]["memory"], "200Mi");
    assert_eq!(container["resources"]["requests"]["memory"], "50Mi");
    assert!(pod["tolerations"].is_null());
}

#[test]
fn another_namespace_takes_all_but_the_role_for_kubeadms_settings() {
    for document in render("network", &[]) {
        let (kind, metadata) = (document["kind"].as_str().unwrap(), &document["metadata"]);
        let wanted = match kind {
            "ClusterRole" | "ClusterRoleBinding" => Value::Null,
            "Role" | "RoleBinding" => json!("kube-system"),
            _ => json!("network"),
        };
        assert_eq!(metadata["namespace"], wanted, "{kind}");
        if let Some(subjects) = document["subjects"].as_array() {
            assert_eq!(subjects[0]["namespace"], "network", "{kind}");
        }
    }
}

#[test]
fn other_settings_make_new_pods() {
    let annotation = |values: &[&str]| {
        let documents = render("kube-system", values);
        let metadata = &of_kind(&documents, "DaemonSet")["spec"]["template"]["metadata"];
        metadata["annotations"]["checksum/settings"].clone()
    };
    let usual = annotation(&[]);
    assert!(usual.is_string());
    assert_eq!(usual, annotation(&["resources=null"]));
    assert_ne!(usual, annotation(&["mtu=1400"]));
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (value, name) in [
        ("routing=tunnel", "routing"),
        ("vni=0", "vni"),
        ("vni=16777216", "vni"),
        ("port=65536", "port"),
        ("mtu=1279", "mtu"),
        ("masquerade=sometimes", "masquerade"),
        ("podCIDRs={10.0.0.0}", "podCIDRs"),
        ("apiServers={172.20.0.10:6443}", "apiServers"),
        ("image.pullPolicy=Perhaps", "pullPolicy"),
        ("vxlanPort=1", "vxlanPort"),
    ] {
        let output = template("kube-system", &[value]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{value} is taken");
        assert!(text.contains(name), "{value}: {text}");
    }
}

/// The values are documented as they are used: the agent's own defaults.
#[test]
fn the_values_are_the_agents_defaults() {
    let values = std::fs::read_to_string(root().join("deploy/helm/malha/values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    let defaults = Config::new("any");
    assert_eq!(values["routing"], defaults.routing.name());
    assert_eq!(values["vni"], defaults.vni);
    assert_eq!(values["port"], defaults.vxlan_port);
    assert_eq!(values["mtu"], defaults.mtu);
    assert_eq!(values["masquerade"], defaults.masquerade);
    let chart = std::fs::read_to_string(root().join("deploy/helm/malha/Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&chart).unwrap();
    for field in ["version", "appVersion"] {
        assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field}");
    }
}
