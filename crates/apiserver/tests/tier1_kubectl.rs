//! Real kubectl, old and new, against a server on a loopback port: everything that needs no pods to run.

mod common;
mod kubectl;

use std::io::{BufRead, BufReader};

use kubectl::{Kubectl, with_each, words};

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: w1, labels: {kubernetes.io/hostname: w1, node-role.kubernetes.io/worker: ''}}
";
const NODE_STATUS: &str = r#"{
  "apiVersion": "v1", "kind": "Node", "metadata": {"name": "w1", "labels": {"kubernetes.io/hostname": "w1", "node-role.kubernetes.io/worker": ""}},
  "status": {
    "conditions": [{"type": "Ready", "status": "READY", "reason": "R", "message": "m",
      "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
    "nodeInfo": {"kubeletVersion": "v1.31.4+malha", "osImage": "Debian", "kernelVersion": "6.1",
      "containerRuntimeVersion": "malha://1", "machineID": "", "systemUUID": "", "bootID": "",
      "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64"},
    "capacity": {"cpu": "2", "memory": "4Gi", "pods": "110"},
    "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"}
  }
}"#;
const DAEMON_SET: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: kube-system}
data: {mode: VALUE}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: kube-system, labels: {app: agent}}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      hostNetwork: true
      tolerations: [{operator: Exists}]
      containers:
      - name: agent
        image: malha:1
        env: [{name: MODE, value: VALUE}]
        volumeMounts: [{name: run, mountPath: /run/malha}]
      - {name: second, image: 'malha:1'}
      volumes: [{name: run, hostPath: {path: /run/malha}}]
";

fn add_node(k: &Kubectl, ready: &str) {
    k.pipe("create -f -", NODE).says("node/w1 created");
    set_ready(k, ready);
}

fn set_ready(k: &Kubectl, ready: &str) {
    let status = NODE_STATUS.replace("READY", ready);
    k.pipe("replace --raw /api/v1/nodes/w1/status -f -", &status)
        .ok();
}

#[test]
fn nodes_are_printed_in_every_form() {
    with_each(|k| {
        add_node(k, "False");
        let table = k.run("get nodes").ok();
        let table = words(&table);
        assert_eq!(table[0], ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]);
        assert_eq!(table[1][..3], ["w1", "NotReady", "worker"]);
        assert_eq!(table[1][4], "v1.31.4+malha");
        set_ready(k, "True");
        let wide = k.run("get no w1 -o wide").ok();
        assert!(
            wide.contains("INTERNAL-IP") && wide.contains("192.0.2.1"),
            "{wide}"
        );
        assert!(wide.contains("malha://1"), "{wide}");
        assert_eq!(words(&wide)[1][1], "Ready");
        let yaml = k.run("get node w1 -o yaml").ok();
        assert!(yaml.contains("kind: Node\n"), "{yaml}");
        assert!(yaml.contains("kubelet"), "{yaml}");
        let json = k.run("get node w1 -o json").ok();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["metadata"]["name"], "w1");
        k.run("get nodes -o jsonpath={.items[*].status.addresses[0].address}")
            .says("192.0.2.1");
        k.run("get nodes -o name").says("node/w1");
        k.run("get nodes --no-headers -o custom-columns=N:.metadata.name -l kubernetes.io/hostname=w1")
            .says("w1");
        let all = k.run("get all,ep,cm,ns -A").ok();
        assert!(all.contains("service/kubernetes"), "{all}");
        assert!(all.contains("namespace/kube-node-lease"), "{all}");
        let missing = k.run("get node w2").failed();
        assert_eq!(
            missing.trim(),
            "Error from server (NotFound): nodes \"w2\" not found"
        );
        let nothing = k.run("get pods -A").err;
        assert_eq!(nothing.trim(), "No resources found");
    });
}

#[test]
fn manifests_are_applied_once_and_changed_as_they_change() {
    with_each(|k| {
        let first = DAEMON_SET.replace("VALUE", "a");
        let created = "configmap/settings created\ndaemonset.apps/agent created";
        let dry = k.pipe("apply --dry-run=client -f -", &first).ok();
        assert!(dry.contains("(dry run)"), "{dry}");
        k.run("get ds -n kube-system agent").failed();
        k.pipe("apply -f -", &first).says(created);
        k.pipe("apply -f -", &first)
            .says("configmap/settings unchanged\ndaemonset.apps/agent unchanged");
        let second = DAEMON_SET.replace("VALUE", "b");
        k.pipe("apply -f -", &second)
            .says("configmap/settings configured\ndaemonset.apps/agent configured");
        let env = "{.spec.template.spec.containers[*].env[*].value} {.metadata.generation}";
        let jsonpath = format!("-ojsonpath={env}");
        k.arguments(&["get", "-n", "kube-system", "ds", "agent", &jsonpath], "")
            .says("b 2");
        // What is taken out of the manifest goes: a list's item by its merge key, a label, a value.
        let third = second
            .replace("      - {name: second, image: 'malha:1'}\n", "")
            .replace(", labels: {app: agent}}\nspec", "}\nspec")
            .replace("data: {mode: b}", "data: {}");
        k.pipe("apply -f -", &third)
            .says("configmap/settings configured\ndaemonset.apps/agent configured");
        let jsonpath = "-ojsonpath={.spec.template.spec.containers[*].name}{.metadata.labels}";
        k.arguments(&["get", "-n", "kube-system", "ds", "agent", jsonpath], "")
            .says("agent");
        k.run("get cm settings -n kube-system -o jsonpath={.data.mode}")
            .says("");
        k.pipe("delete -f -", &third)
            .says("configmap \"settings\" deleted\ndaemonset.apps \"agent\" deleted");
        let again = k.pipe("delete -f -", &third).failed();
        assert!(again.contains("NotFound"), "{again}");
        k.pipe("delete --ignore-not-found -f -", &third).says("");
    });
}

#[test]
fn objects_are_made_from_the_command_line() {
    with_each(|k| {
        k.run("create namespace shop")
            .says("namespace/shop created");
        k.run("create configmap c --from-literal=a=b -n shop")
            .says("configmap/c created");
        let again = k.run("create configmap c -n shop").failed();
        assert!(again.contains("configmaps \"c\" already exists"), "{again}");
        k.run("create secret generic s --from-literal=p=q -n shop")
            .says("secret/s created");
        k.run("get secret s -n shop -o jsonpath={.type}:{.data.p}")
            .says("Opaque:cQ==");
        k.run("create serviceaccount robot -n shop")
            .says("serviceaccount/robot created");
        k.run("create deployment web --image=x -n shop")
            .says("deployment.apps/web created");
        k.run("scale deployment web --replicas=3 -n shop")
            .says("deployment.apps/web scaled");
        let deployments = k.run("get deploy -n shop").ok();
        assert_eq!(words(&deployments)[1][..2], ["web", "0/3"]);
        k.run("set image deployment/web x=y -n shop").ok();
        k.run("expose deployment web --port=80 -n shop")
            .says("service/web exposed");
        let services = k.run("get svc -n shop").ok();
        assert_eq!(words(&services)[1][..2], ["web", "ClusterIP"]);
        assert!(words(&services)[1][2].starts_with("10.96."), "{services}");
        k.run("create role r --verb=get --resource=pods -n shop")
            .ok();
        k.run("create clusterrolebinding b --clusterrole=view --user=eve")
            .ok();
        k.run("delete deployment,svc web -n shop").ok();
        k.run("delete ns shop --wait=false")
            .says("namespace \"shop\" deleted");
        let namespaces = k.run("get ns shop").ok();
        assert_eq!(words(&namespaces)[1][..2], ["shop", "Terminating"]);
    });
}

#[test]
fn labels_annotations_patches_and_taints() {
    with_each(|k| {
        add_node(k, "True");
        k.run("label node w1 zone=a").says("node/w1 labeled");
        let twice = k.run("label node w1 zone=b").failed();
        assert!(twice.contains("already has a value"), "{twice}");
        k.run("label node w1 zone=b --overwrite")
            .says("node/w1 labeled");
        k.run("get nodes -l zone=b -o name").says("node/w1");
        k.run("label node w1 zone-").ok();
        k.run("get nodes -l zone -o name").says("");
        k.run("annotate node w1 why=so").says("node/w1 annotated");
        k.run("get node w1 -o jsonpath={.metadata.annotations.why}")
            .says("so");
        k.run("annotate node w1 why-").says("node/w1 annotated");

        k.run("cordon w1").says("node/w1 cordoned");
        let table = k.run("get nodes").ok();
        assert_eq!(words(&table)[1][1], "Ready,SchedulingDisabled");
        k.run("uncordon w1").says("node/w1 uncordoned");
        k.run("taint node w1 a=b:NoSchedule")
            .says("node/w1 tainted");
        k.run("taint node w1 a=b:NoSchedule-")
            .says("node/w1 untainted");
        let drained = k.run("drain w1").ok();
        assert!(
            drained.contains("w1 drained") || drained.contains("evicted"),
            "{drained}"
        );

        k.run("create cm c --from-literal=a=1").ok();
        k.run(r#"patch cm c -p {"data":{"b":"2"}}"#)
            .says("configmap/c patched");
        k.run(r#"patch cm c --type=merge -p {"data":{"a":null}}"#)
            .says("configmap/c patched");
        k.run(r#"patch cm c --type=json -p [{"op":"add","path":"/data/d","value":"3"}]"#)
            .says("configmap/c patched");
        let data = k.run("get cm c -o jsonpath={.data}").ok();
        assert_eq!(
            data.replace("map[b:2 d:3]", r#"{"b":"2","d":"3"}"#),
            r#"{"b":"2","d":"3"}"#
        );
        k.run(r#"patch cm c -p {"data":{"b":"2"}}"#)
            .says("configmap/c patched (no change)");
        let bad = k
            .run(r#"patch cm c --type=json -p [{"op":"test","path":"/data/d","value":"4"}]"#)
            .failed();
        assert!(bad.contains("value did not match"), "{bad}");
    });
}

#[test]
fn changes_are_watched_and_waited_for() {
    with_each(|k| {
        add_node(k, "False");
        let mut watch = k.start("get nodes -w --no-headers");
        let output = BufReader::new(watch.stdout.take().unwrap());
        let mut lines = output.lines().map(|line| {
            let line = line.unwrap();
            line.split_whitespace().nth(1).unwrap_or("").to_owned()
        });
        assert_eq!(lines.next().as_deref(), Some("NotReady"));
        let mut wait = k.start("wait --for=condition=Ready node/w1 --timeout=60s");
        set_ready(k, "True");
        assert_eq!(lines.next().as_deref(), Some("Ready"));
        assert!(wait.wait().unwrap().success());
        k.run("cordon w1").ok();
        assert_eq!(lines.next().as_deref(), Some("Ready,SchedulingDisabled"));
        watch.kill().unwrap();
        watch.wait().unwrap();

        let late = k
            .run("wait --for=condition=Ready=false node/w1 --timeout=1s")
            .failed();
        assert!(
            late.contains("timed out waiting for the condition"),
            "{late}"
        );
        k.run("create cm c").ok();
        k.run("delete cm c").says("configmap \"c\" deleted");
        // A finalizer: deletion is waited for too.
        k.run("create cm held").ok();
        k.run(r#"patch cm held -p {"metadata":{"finalizers":["example.com/x"]}}"#)
            .ok();
        let mut delete = k.start("delete cm held");
        let mut held = k.run("get cm held -o jsonpath={.metadata.deletionTimestamp}");
        while held.ok().is_empty() {
            held = k.run("get cm held -o jsonpath={.metadata.deletionTimestamp}");
        }
        k.run(r#"patch cm held --type=merge -p {"metadata":{"finalizers":null}}"#)
            .ok();
        assert!(delete.wait().unwrap().success());
    });
}

#[test]
fn things_are_described() {
    with_each(|k| {
        add_node(k, "True");
        let node = k.run("describe node w1").ok();
        for part in [
            "Name:",
            "Roles:",
            "worker",
            "InternalIP:",
            "192.0.2.1",
            "malha://1",
            "Events:",
        ] {
            assert!(node.contains(part), "{part}: {node}");
        }
        k.pipe("apply -f -", &DAEMON_SET.replace("VALUE", "a")).ok();
        let set = k.run("describe ds agent -n kube-system").ok();
        assert!(
            set.contains("Selector:") && set.contains("app=agent"),
            "{set}"
        );
        let service = k.run("describe svc kubernetes").ok();
        assert!(service.contains("10.96.0.1"), "{service}");
        for what in [
            "ns default",
            "cm settings -n kube-system",
            "clusterrole view",
            "pc system-node-critical",
        ] {
            k.run(&format!("describe {what}")).ok();
        }
        k.run("create sa default").ok();
        k.pipe(
            "create -f -",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}\n",
        )
        .says("pod/p created");
        let pods = k.run("get pods -o wide").ok();
        assert_eq!(words(&pods)[1][..4], ["p", "0/1", "Pending", "0"]);
        let pod = k.run("describe pod p").ok();
        assert!(
            pod.contains("Service Account:  default") || pod.contains("QoS Class:"),
            "{pod}"
        );
        k.run("delete pod p").says("pod \"p\" deleted");
        k.run("get events -A").ok();
    });
}

#[test]
fn rights_are_asked_for() {
    with_each(|k| {
        k.run("auth can-i create pods").says("yes");
        let no = k.run("auth can-i create pods --as=eve");
        assert!(!no.ok && no.out.trim() == "no", "{}{}", no.out, no.err);
        k.run("create clusterrolebinding eve --clusterrole=view --user=eve")
            .ok();
        k.run("auth can-i list pods --as=eve").says("yes");
        let no = k.run("auth can-i get secrets --as=eve");
        assert_eq!(no.out.trim(), "no");
        let list = k.run("auth can-i --list").ok();
        assert!(list.contains("*.*"), "{list}");
        let refused = k.run("get secrets --as=eve").failed();
        assert!(
            refused.contains("User \"eve\" cannot list resource \"secrets\""),
            "{refused}"
        );
        k.run("create sa robot").ok();
        if k.minor >= 24 {
            let token = k.run("create token robot").ok();
            assert_eq!(token.trim().split('.').count(), 3, "{token}");
            let whose = ["--token", token.trim(), "auth", "can-i", "get", "pods"];
            // A client certificate in the kubeconfig comes first; the token alone shows through --kubeconfig.
            k.arguments(&whose, "").says("yes");
        }
        if k.minor >= 27 {
            let me = k.run("auth whoami").ok();
            assert!(me.contains("kubernetes-admin"), "{me}");
        }
    });
}

#[test]
fn what_the_server_has_is_listed() {
    with_each(|k| {
        let resources = k.run("api-resources").ok();
        for part in [
            "configmaps",
            "daemonsets",
            "ds",
            "DaemonSet",
            "networkpolicies",
            "leases",
        ] {
            assert!(resources.contains(part), "{part}: {resources}");
        }
        let versions = k.run("api-versions").ok();
        assert!(versions.lines().any(|line| line == "apps/v1"), "{versions}");
        let version = k.run("version -o json").ok();
        assert!(version.contains("v1.31.4+malha"), "{version}");
        assert_eq!(k.run("get --raw /readyz").ok(), "ok");
        k.run("cluster-info").ok();
        let unknown = k.run("get statefulsets").failed();
        assert!(
            unknown.contains("the server doesn't have a resource type"),
            "{unknown}"
        );
    });
}

#[test]
fn mistakes_are_explained() {
    with_each(|k| {
        let typo = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: t}\ndota: {a: b}\n";
        let said = k.pipe("apply -f -", typo);
        if k.minor >= 25 {
            let error = said.failed();
            assert!(error.contains("unknown field \"dota\""), "{error}");
        } else {
            // It does not ask for strictness; the server warns.
            let warning = said.err.clone();
            said.says("configmap/t created");
            assert!(warning.contains("unknown field \"dota\""), "{warning}");
        }
        let nameless = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad_Name}\n";
        let error = k.pipe("create -f -", nameless).failed();
        assert!(
            error.contains("a lowercase RFC 1123 subdomain must consist of"),
            "{error}"
        );
        let unserved = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\n";
        let error = k.pipe("create -f -", unserved).failed();
        assert!(error.contains("no matches for kind \"Job\""), "{error}");
        let elsewhere =
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: nowhere}\n";
        let error = k.pipe("create -f -", elsewhere).failed();
        assert!(
            error.contains("namespaces \"nowhere\" not found"),
            "{error}"
        );
        let error = k.run("delete ns kube-system").failed();
        assert!(
            error.contains("this namespace may not be deleted"),
            "{error}"
        );
    });
}
