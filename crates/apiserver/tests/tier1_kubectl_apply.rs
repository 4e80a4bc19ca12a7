//! Real kubectl, old and new: what it leaves to the server, and what the server cannot do and says so.

mod common;
#[allow(dead_code)]
mod kubectl;

use kubectl::with_each;

fn config_map(value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {{a: '{value}'}}\n")
}

#[test]
fn a_difference_is_shown_and_nothing_is_stored() {
    with_each(|k| {
        let (one, two) = (config_map("1"), config_map("2"));
        k.pipe("apply -f -", &one).says("configmap/c created");
        k.pipe("diff -f -", &one).says("");
        let said = k.pipe("diff -f -", &two);
        assert!(!said.ok, "a difference is exit code 1");
        let changes: Vec<_> = said
            .out
            .lines()
            .filter(|l| l.starts_with("-  ") || l.starts_with("+  "))
            .collect();
        assert_eq!(changes, ["-  a: \"1\"", "+  a: \"2\""], "{}", said.out);
        k.pipe("apply --dry-run=server -f -", &two)
            .says("configmap/c configured (server dry run)");
        let other = two.replace("name: c", "name: d");
        k.pipe("create --dry-run=server -f -", &other)
            .says("configmap/d created (server dry run)");
        k.run("get cm c -o jsonpath={.data.a}").says("1");
        k.run("get cm d").failed();
    });
}

#[test]
fn server_side_apply_merges_and_says_what_it_cannot() {
    with_each(|k| {
        let (one, two) = (config_map("1"), config_map("2"));
        for _ in 0..2 {
            let said = k.pipe("apply --server-side -f -", &one);
            assert!(
                said.err.contains("Warning: server-side apply here"),
                "{}",
                said.err
            );
            said.says("configmap/c serverside-applied");
        }
        let conflict = k.pipe("apply --server-side -f -", &two).failed();
        assert!(
            conflict.contains("Apply failed with 1 conflict"),
            "{conflict}"
        );
        assert!(conflict.contains(".data.a"), "{conflict}");
        k.run("get cm c -o jsonpath={.data.a}").says("1");
        k.pipe("apply --server-side --force-conflicts -f -", &two)
            .says("configmap/c serverside-applied");
        k.run("get cm c -o jsonpath={.data.a}").says("2");
    });
}

#[test]
fn objects_are_replaced() {
    with_each(|k| {
        k.pipe("create -f -", &config_map("1"))
            .says("configmap/c created");
        k.pipe("replace -f -", &config_map("2"))
            .says("configmap/c replaced");
        k.pipe("replace --force -f -", &config_map("3"))
            .says("configmap \"c\" deleted\nconfigmap/c replaced");
        k.run("get cm c -o jsonpath={.data.a}").says("3");
        let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r, namespace: default}\n\
            rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]\n";
        let reconciled = k.pipe("auth reconcile -f -", role).ok();
        assert!(
            reconciled.starts_with("role.rbac.authorization.k8s.io/r reconciled"),
            "{reconciled}"
        );
    });
}

#[test]
fn a_pod_is_filled_in() {
    with_each(|k| {
        k.run("create sa default").ok();
        k.run("run p --image=nginx --restart=Never")
            .says("pod/p created");
        let path = "{.spec.containers[0].imagePullPolicy} {.spec.dnsPolicy} {.spec.serviceAccountName} {.status.qosClass}";
        let path = format!("-ojsonpath={path}");
        k.arguments(&["get", "pod", "p", &path], "")
            .says("Always ClusterFirst default BestEffort");
    });
}

#[test]
fn what_is_served_without_a_controller_says_so() {
    with_each(|k| {
        let said = k.run("create deployment d --image=x");
        assert!(
            said.err.contains("deployments are stored, but"),
            "{}",
            said.err
        );
        said.says("deployment.apps/d created");
        let refused = k.run("create quota q --hard=pods=1").failed();
        assert!(refused.contains("does not allow this method"), "{refused}");
        k.run("get quota,limits,pdb,rc,pvc,pv").ok();
        let refused = k.run("create job j --image=x").failed();
        assert!(
            refused.contains("could not find the requested resource"),
            "{refused}"
        );
    });
}

#[test]
fn one_store_is_shown_in_every_version() {
    with_each(|k| {
        for version in ["v1", "v1beta1"] {
            let resource = format!("endpointslices.{version}.discovery.k8s.io");
            let path = "-ojsonpath={.apiVersion}:{.endpoints[0].addresses[0]}";
            k.arguments(&["get", &resource, "kubernetes", path], "")
                .says(&format!("discovery.k8s.io/{version}:127.0.0.1"));
        }
        let event = "apiVersion: v1\nkind: Event\nmetadata: {name: e}\ninvolvedObject: {kind: Node, name: w1}\n\
            reason: Because\nmessage: hello\ntype: Normal\n";
        k.pipe("create -f -", event).says("event/e created");
        let path = "-ojsonpath={.regarding.name} {.note}";
        k.arguments(&["get", "events.v1.events.k8s.io", "e", path], "")
            .says("w1 hello");
    });
}

#[test]
fn invalid_objects_are_refused_with_the_field() {
    with_each(|k| {
        for (manifest, complaint) in [
            (
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\n\
                 spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}\n",
                "The NetworkPolicy \"p\" is invalid: spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.0/33\": \
                 must be a valid CIDR value",
            ),
            (
                "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 70000}]}\n",
                "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
            (
                "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: d}\n\
                 spec: {selector: {matchLabels: {a: b}}, template: {spec: {containers: [{name: c, image: i}]}}}\n",
                "`selector` does not match template `labels`",
            ),
            (
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: t}\ndata: {a: {b: c}}\n",
                "cannot unmarshal object into Go struct field ConfigMap.data.a of type string",
            ),
        ] {
            let error = k.pipe("create -f -", manifest).failed();
            assert!(error.contains(complaint), "{error}");
        }
        let error = k.run("get pods -l a=@").failed();
        assert!(error.contains("unable to parse requirement"), "{error}");
        let error = k.run("get cm --field-selector=spec.foo=bar").failed();
        assert!(
            error.contains("is not a known field selector: only"),
            "{error}"
        );
    });
}
