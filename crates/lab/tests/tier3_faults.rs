//! What breaks, and what must not break with it.
mod common;

use std::process::{Child, Stdio};

use common::{Lab, until};
use serde_json::Value;

/// A numbered stream from one pod to another, through every fault.
struct Stream(Child);

impl Stream {
    fn begin(lab: &Lab, to: &str, count: u32) -> Self {
        let to = format!("{to}:7070");
        let count = count.to_string();
        let command = [
            "exec",
            "probe-node1",
            "--",
            "/usr/bin/malha",
            "lab",
            "stream",
            &to,
            "--count",
            &count,
            "--interval-ms",
            "2",
        ];
        let child = lab
            .kubectl_command(&command)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn outcome(self) -> Value {
        let output = self.0.wait_with_output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }
}

/// The pids of processes on a machine whose command line begins so.
fn pids(lab: &Lab, machine: &str, command: &str) -> String {
    let script = format!(
        "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '{command}' && basename $p; done; true"
    );
    lab.sh(machine, &script)
}

fn kill(lab: &Lab, machine: &str, command: &str) {
    let found = pids(lab, machine, command);
    assert!(
        !found.trim().is_empty(),
        "{command} does not run on {machine}"
    );
    for pid in found.split_whitespace() {
        lab.sh(machine, &format!("kill -9 {pid} || true"));
    }
}

#[test]
fn killing_the_agent_loses_no_packet() {
    let lab = Lab::up(&["--nodes", "2"]);
    let stream = Stream::begin(&lab, &lab.pod_ip("probe-node2", false), 5000);
    for machine in ["node1", "node2"] {
        let before = pids(&lab, machine, "^[^ ]*malha agent");
        kill(&lab, machine, "^[^ ]*malha agent");
        until("a new agent runs", || {
            let now = pids(&lab, machine, "^[^ ]*malha agent");
            !now.trim().is_empty() && now != before
        });
    }
    let outcome = stream.outcome();
    assert_eq!(
        (&outcome["sent"], &outcome["lost"]),
        (&Value::from(5000), &Value::from(0)),
        "{outcome}"
    );
    until("the new agents are healthy", || {
        lab.command("node1", &["malha", "status"])
            .output()
            .unwrap()
            .status
            .success()
    });
}

#[test]
fn killing_the_control_plane_loses_no_write_and_no_packet() {
    let lab = Lab::up(&["--nodes", "2"]);
    let to = format!("[{}]:7070", lab.pod_ip("probe-node2", true));
    let flow = [
        "malha",
        "lab",
        "stream",
        &to,
        "--count",
        "5000",
        "--interval-ms",
        "2",
    ];
    let stream = Stream(
        lab.command("node1", &flow)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    for round in 0..5 {
        let name = format!("kept-{round}");
        lab.kubectl(&["create", "configmap", &name, "--from-literal=a=b"]);
        kill(&lab, "control", "^[^ ]*malha control-plane");
        lab.sh(
            "control",
            "setsid malha control-plane >>/var/log/malha/control-plane.log 2>&1 & true",
        );
        until("the API answers again", || {
            lab.kubectl_command(&["get", "--raw", "/readyz"])
                .output()
                .unwrap()
                .status
                .success()
        });
        lab.kubectl(&["get", "configmap", &name]);
    }
    assert_eq!(stream.outcome()["lost"], 0);
    until("the nodes stay Ready", || {
        !lab.kubectl(&["get", "nodes"]).contains("NotReady")
    });
}

#[test]
fn killing_the_node_agent_leaves_its_pods_running() {
    let lab = Lab::up(&["--nodes", "1"]);
    let before = pids(&lab, "node1", "^[^ ]*malha lab serve");
    kill(&lab, "node1", "^[^ ]*malha node --kubeconfig");
    assert_eq!(pids(&lab, "node1", "^[^ ]*malha lab serve"), before);
    lab.sh("node1", "setsid malha node --kubeconfig /etc/kubernetes/kubelet.conf --node-name node1 --node-ip 172.20.0.11,fd00:172:20::11 >>/var/log/malha/node.log 2>&1 & true");
    until("logs can be read again", || {
        lab.kubectl_command(&["logs", "probe-node1"])
            .output()
            .unwrap()
            .status
            .success()
    });
    assert_eq!(
        pids(&lab, "node1", "^[^ ]*malha lab serve"),
        before,
        "the pod was adopted, not started again"
    );
    assert_eq!(
        lab.get("pod", "probe-node1")["status"]["containerStatuses"][0]["restartCount"],
        0
    );
}

#[test]
fn the_world_outside_sees_the_node() {
    let lab = Lab::up(&["--nodes", "1"]);
    let serve = "setsid malha lab serve --http 8081 --tcp 7071 --udp 7071 >/dev/null 2>&1 & true";
    lab.sh("control", serve);
    for (six, server, node) in [
        (false, "172.20.0.10", "172.20.0.11"),
        (true, "fd00:172:20::10", "fd00:172:20::11"),
    ] {
        let host = if six {
            format!("[{server}]")
        } else {
            server.to_owned()
        };
        let seen = lab.kubectl(&[
            "exec",
            "probe-node1",
            "--",
            "/usr/bin/malha",
            "lab",
            "fetch",
            &format!("{host}:8081"),
            "/clientip",
        ]);
        assert_eq!(seen.trim(), node);
    }
}

#[test]
fn pods_that_come_and_go_leave_nothing() {
    let lab = Lab::up(&["--nodes", "1"]);
    let count = "ls /sys/class/net >/dev/null; ip -o link | wc -l; ip -4 route | wc -l; ip -6 route | wc -l; ip neigh show nud permanent | wc -l; ls /run/malha/state 2>/dev/null | wc -l";
    let before = lab.sh("node1", count);
    for round in 0..3 {
        for pod in 0..5 {
            lab.apply(&format!(
                r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"gone-{round}-{pod}","namespace":"default"}},"spec":{{"terminationGracePeriodSeconds":1,"containers":[{{"name":"c","image":"malha","command":["/usr/bin/malha","lab","serve"]}}]}}}}"#
            ));
        }
        lab.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "pod",
            "--all",
            "--timeout=30s",
        ]);
        for pod in 0..5 {
            lab.kubectl(&[
                "delete",
                "pod",
                &format!("gone-{round}-{pod}"),
                "--wait=true",
            ]);
        }
    }
    until(
        "links, routes, neighbours and records are as before",
        || lab.sh("node1", count) == before,
    );
}
