//! Debian's kubectl against the lab, command by command, with pods that run.
mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::{Lab, run, until};

const CONFIG: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  colour: blue\n";

#[test]
fn what_people_type() {
    let lab = Lab::up(&["--nodes", "2"]);
    reads(&lab);
    writes(&lab);
    nodes(&lab);
    pods(&lab);
    watches(&lab);
}

fn reads(lab: &Lab) {
    let nodes = lab.kubectl(&["get", "nodes"]);
    assert!(nodes.starts_with("NAME "), "{nodes}");
    assert!(nodes.contains("v1.31"), "{nodes}");
    let wide = lab.kubectl(&["get", "pods", "-A", "-o", "wide"]);
    for word in ["kube-system", "probe-node1", "Running", "10.244."] {
        assert!(wide.contains(word), "{word}: {wide}");
    }
    let yaml = lab.kubectl(&["get", "pod", "probe-node1", "-o", "yaml"]);
    assert!(yaml.contains("kind: Pod"), "{yaml}");
    let path = "jsonpath={.status.hostIP}";
    assert_eq!(
        lab.kubectl(&["get", "pod", "probe-node1", "-o", path]),
        "172.20.0.11"
    );
    let described = lab.kubectl(&["describe", "pod", "probe-node1"]);
    assert!(
        described.contains("Scheduled") && described.contains("Started"),
        "{described}"
    );
    let resources = lab.kubectl(&["api-resources"]);
    for name in [
        "daemonsets",
        "networkpolicies",
        "leases",
        "certificatesigningrequests",
    ] {
        assert!(resources.contains(name), "{name}: {resources}");
    }
    assert_eq!(
        lab.kubectl(&["auth", "can-i", "delete", "pods"]).trim(),
        "yes"
    );
    let refused = lab
        .kubectl_command(&["auth", "can-i", "delete", "nodes", "--as", "somebody"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&refused.stdout).trim(), "no");
}

fn writes(lab: &Lab) {
    assert_eq!(lab.apply(CONFIG).trim(), "configmap/settings created");
    assert_eq!(lab.apply(CONFIG).trim(), "configmap/settings unchanged");
    assert_eq!(
        lab.apply(&CONFIG.replace("blue", "red")).trim(),
        "configmap/settings configured"
    );
    assert_eq!(lab.get("configmap", "settings")["data"]["colour"], "red");
    lab.kubectl(&["label", "configmap", "settings", "tier=front"]);
    lab.kubectl(&["annotate", "configmap", "settings", "note=hello"]);
    lab.kubectl(&[
        "patch",
        "configmap",
        "settings",
        "-p",
        r#"{"data":{"size":"big"}}"#,
    ]);
    let stored = lab.get("configmap", "settings");
    assert_eq!(stored["metadata"]["labels"]["tier"], "front");
    assert_eq!(stored["metadata"]["annotations"]["note"], "hello");
    assert_eq!(stored["data"]["size"], "big");
    lab.kubectl(&["delete", "configmap", "settings"]);
    let gone = lab
        .kubectl_command(&["get", "configmap", "settings"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&gone.stderr);
    assert!(
        said.contains(r#"configmaps "settings" not found"#),
        "{said}"
    );
    let unserved = lab
        .kubectl_command(&["create", "job", "work", "--image=x"])
        .output()
        .unwrap();
    assert!(
        !unserved.status.success(),
        "jobs are not served and must be refused"
    );
}

fn nodes(lab: &Lab) {
    lab.kubectl(&["cordon", "node2"]);
    assert!(
        lab.kubectl(&["get", "node", "node2"])
            .contains("SchedulingDisabled")
    );
    lab.kubectl(&["uncordon", "node2"]);
    lab.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "node/node2",
        "--timeout=10s",
    ]);
}

fn pods(lab: &Lab) {
    let log = lab.kubectl(&["logs", "probe-node1"]);
    assert!(log.contains("serving http 8080"), "{log}");
    let output = lab.kubectl(&["exec", "probe-node2", "--", "/usr/bin/malha", "--version"]);
    assert!(output.starts_with("malha "), "{output}");
    let failed = lab
        .kubectl_command(&[
            "exec",
            "probe-node2",
            "--",
            "/usr/bin/malha",
            "lab",
            "connect",
            "127.0.0.1:1",
        ])
        .output()
        .unwrap();
    assert_eq!(
        failed.status.code(),
        Some(1),
        "the command's exit code comes back"
    );
    assert_eq!(String::from_utf8_lossy(&failed.stdout), "REFUSED\n");
    lab.kubectl(&["delete", "pod", "probe-node2"]);
    assert!(lab.kubectl(&["get", "pods"]).contains("probe-node1"));
    assert!(!lab.kubectl(&["get", "pods"]).contains("probe-node2"));
}

fn watches(lab: &Lab) {
    let mut watch = lab
        .kubectl_command(&["get", "configmaps", "-w"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("NAME"));
    lab.apply(CONFIG);
    assert!(lines.any(|line| line.unwrap().starts_with("settings ")));
    watch.kill().unwrap();
    watch.wait().unwrap();
    until("the newer kubectl answers, too", || {
        // The one on this machine's PATH, whichever version it is.
        let mut newer = std::process::Command::new("kubectl");
        newer.env("KUBECONFIG", "/var/lib/malha-lab/kubeconfig");
        run(newer.args(["get", "nodes"])).contains("node1")
    });
}
