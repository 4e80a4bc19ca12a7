use serde_json::{Value, json};

use super::{testing::*, *};
use crate::testing::{at, object};

/// What is shown, the set, the nodes, the pods, and what is done.
type Placed<'a> = (
    &'a str,
    &'a DaemonSet,
    &'a [&'a str],
    &'a [&'a str],
    &'a str,
);
/// The same on three nodes.
type Updated<'a> = (&'a str, &'a DaemonSet, &'a [&'a str], &'a str);

#[test]
fn every_fitting_node_runs_one_pod() {
    let plain = set(json!({}), json!({}));
    let ssd = set(json!({"nodeSelector": {"disk": "ssd"}}), json!({}));
    let anywhere = set(json!({"tolerations": [{"operator": "Exists"}]}), json!({}));
    let host = set(json!({"hostNetwork": true}), json!({}));
    let cases: [Placed<'_>; 14] = [
        (
            "missing pods are made",
            &plain,
            &["w1", "w2"],
            &["a w1"],
            "+w2",
        ),
        ("a pinned pod counts", &plain, &["w1"], &["a w1 pinned"], ""),
        (
            "one that goes is waited for",
            &plain,
            &["w1"],
            &["a w1 going"],
            "",
        ),
        (
            "the younger of two goes",
            &plain,
            &["w1"],
            &["a w1", "b w1"],
            "-b",
        ),
        (
            "only selected nodes",
            &ssd,
            &["w1", "w2 disk=ssd"],
            &["a w1"],
            "+w2 -a",
        ),
        (
            "a node that is not ready gets none",
            &plain,
            &["w1 not-ready:NoSchedule"],
            &[],
            "",
        ),
        (
            "but keeps its own",
            &plain,
            &["w1 not-ready:NoSchedule"],
            &["a w1"],
            "",
        ),
        (
            "also when it is unreachable",
            &plain,
            &["w1 unreachable:NoExecute"],
            &["a w1"],
            "",
        ),
        (
            "and new ones on a cordoned node",
            &plain,
            &["w1 unschedulable:NoSchedule"],
            &[],
            "+w1",
        ),
        (
            "a pod leaves what it does not tolerate",
            &plain,
            &["w1 custom:NoExecute"],
            &["a w1"],
            "-a",
        ),
        (
            "tolerations decide",
            &anywhere,
            &["w1 not-ready:NoSchedule custom:NoExecute"],
            &[],
            "+w1",
        ),
        (
            "no network, no pod",
            &plain,
            &["w1 network-unavailable:NoSchedule"],
            &[],
            "",
        ),
        (
            "unless it needs none",
            &host,
            &["w1 network-unavailable:NoSchedule"],
            &[],
            "+w1",
        ),
        (
            "pods of other nodes are not ours to judge",
            &plain,
            &["w1"],
            &["a w1", "b gone"],
            "",
        ),
    ];
    for (name, set, node_list, pod_list, expected) in cases {
        let (nodes, pods) = (nodes(node_list), pods(set, pod_list));
        assert_eq!(managed(set, &nodes, &pods), expected, "{name}");
    }
}

#[test]
fn updates_roll_as_the_strategy_says() {
    let rolling = |value: Value| {
        set(
            json!({}),
            json!({"type": "RollingUpdate", "rollingUpdate": value}),
        )
    };
    let one = rolling(json!({}));
    let half = rolling(json!({"maxUnavailable": "50%"}));
    let surge = rolling(json!({"maxSurge": 1, "maxUnavailable": 0}));
    let stuck = rolling(json!({"maxUnavailable": 0}));
    let on_delete = set(json!({}), json!({"type": "OnDelete"}));
    let three: &[&str] = &["w1", "w2", "w3"];
    let old: &[&str] = &["a w1 old ready", "b w2 old ready", "c w3 old ready"];
    let cases: [Updated<'_>; 11] = [
        ("one at a time", &one, old, "-a"),
        ("or half of them, rounded up", &half, old, "-a -b"),
        ("never none at all", &stuck, old, "-a"),
        (
            "not before the new one serves",
            &one,
            &["a w1", "b w2 old ready", "c w3 old ready"],
            "",
        ),
        (
            "then the next",
            &one,
            &["a w1 ready", "b w2 old ready", "c w3 old ready"],
            "-b",
        ),
        (
            "those that do not serve go at once",
            &one,
            &["a w1 old", "b w2 old", "c w3 old ready"],
            "-a -b",
        ),
        (
            "one that goes already is the one",
            &one,
            &["a w1 old going", "b w2 old ready", "c w3 old ready"],
            "",
        ),
        ("only when deleted by hand", &on_delete, old, ""),
        ("surge: first a new one", &surge, old, "+w1"),
        (
            "surge: which is waited for",
            &surge,
            &["a w1 old ready", "b w2 old ready", "c w3 old ready", "d w1"],
            "",
        ),
        (
            "surge: then the old one goes, and the next comes",
            &surge,
            &[
                "a w1 old ready",
                "b w2 old ready",
                "c w3 old ready",
                "d w1 ready",
            ],
            "+w2 -a",
        ),
    ];
    for (name, set, pod_list, expected) in cases {
        assert_eq!(
            managed(set, &nodes(three), &pods(set, pod_list)),
            expected,
            "{name}"
        );
    }
}

#[test]
fn failed_pods_are_replaced_more_and_more_slowly() {
    let set = set(json!({}), json!({}));
    let (nodes, mut failures) = (nodes(&["w1"]), Failures::default());
    let spec = set.spec.as_ref().unwrap();
    let mut look = |pod: &str, now: &str| {
        let pods = pods(&set, &[pod]);
        let mut plan = Plan::new();
        View::new(&set, spec, &nodes, &pods, at(now)).manage(&mut failures, &mut plan);
        (plan.actions.len(), plan.again.map(|t| t.to_string()))
    };
    let wait = |end: &str| (0, Some(end.to_owned()));
    assert_eq!(
        look("a w1 failed", "2026-11-25T12:00:00Z"),
        wait("2026-11-25T12:00:01Z")
    );
    assert_eq!(look("a w1 failed", "2026-11-25T12:00:01Z"), (1, None));
    assert_eq!(
        look("b w1 failed", "2026-11-25T12:00:10Z"),
        wait("2026-11-25T12:00:12Z")
    );
    assert_eq!(look("c w1 ready", "2026-11-25T12:00:20Z"), (0, None));
    assert_eq!(
        look("d w1 failed", "2026-11-25T12:00:30Z"),
        wait("2026-11-25T12:00:31Z")
    );
}

#[test]
fn a_daemon_pod_is_pinned_and_tolerant() {
    let set = set(json!({"nodeSelector": {"disk": "ssd"}}), json!({}));
    let spec = set.spec.as_ref().unwrap();
    let write = template::Maker::new(&set, spec, "hash")
        .create(&nodes(&["w1"])[0])
        .to_string();
    let (path, body) = write.split_once(" {").unwrap();
    assert_eq!(path, "POST /api/v1/namespaces/kube-system/pods");
    let pod: Value = serde_json::from_str(&format!("{{{body}")).unwrap();
    assert_eq!(
        pod["metadata"],
        json!({
            "generateName": "agent-", "namespace": "kube-system",
            "labels": {"app": "agent", "controller-revision-hash": "hash", "pod-template-generation": "2"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": "set",
                "controller": true, "blockOwnerDeletion": true,
            }],
        })
    );
    let pod: Pod = serde_json::from_value(pod).unwrap();
    assert_eq!(placement::target(&pod), Some("w1"));
    assert_eq!(pod.spec.unwrap().tolerations.unwrap().len(), 6);
}

#[test]
fn a_hash_names_a_template() {
    let hash = |pod: Value| template::hash(&set(pod, json!({})).spec.as_ref().unwrap().template);
    let first = hash(json!({"hostNetwork": true}));
    assert_eq!(first, hash(json!({"hostNetwork": true})));
    assert_ne!(first, hash(json!({"hostNetwork": false})));
    assert_eq!(first.len(), 10);
}

#[test]
fn the_status_counts() {
    let set = set(json!({}), json!({}));
    let spec = set.spec.as_ref().unwrap();
    let nodes = nodes(&["w1", "w2", "w3", "w4 custom:NoSchedule"]);
    let pods = pods(&set, &["a w1 ready", "b w2 old", "d w4"]);
    let view = View::new(&set, spec, &nodes, &pods, at(NOW));
    let mut plan = Plan::new();
    status::report(&view, &mut plan);
    assert_eq!(
        plan.actions[0].to_string(),
        concat!(
            r#"PATCH /apis/apps/v1/namespaces/kube-system/daemonsets/agent/status {"status":{"currentNumberScheduled":2,"#,
            r#""desiredNumberScheduled":3,"numberAvailable":1,"numberMisscheduled":1,"numberReady":1,"#,
            r#""numberUnavailable":2,"observedGeneration":2,"updatedNumberScheduled":1}}"#
        )
    );
}

#[test]
fn availability_takes_time() {
    let mut set = (*set(json!({}), json!({}))).clone();
    set.spec.as_mut().unwrap().min_ready_seconds = Some(60);
    let nodes = nodes(&["w1"]);
    let pods = pods(&set, &["a w1 ready"]);
    let view = View::new(&set, set.spec.as_ref().unwrap(), &nodes, &pods, at(NOW));
    let mut plan = Plan::new();
    status::report(&view, &mut plan);
    assert!(
        plan.actions[0]
            .to_string()
            .contains(r#""numberAvailable":0"#)
    );
    assert_eq!(plan.again, Some(at("2026-11-25T12:00:30Z")));
}

#[test]
fn templates_become_revisions() {
    let set = set(json!({}), json!({}));
    let spec = set.spec.as_ref().unwrap();
    let hash = template::hash(&spec.template);
    let nodes = nodes(&["w1"]);
    let pods = pods(&set, &["a w1 old"]);
    let revision = |hash: &str, number: i64| {
        object::<ControllerRevision>(json!({
            "metadata": {
                "name": format!("agent-{hash}"), "namespace": "kube-system", "uid": hash,
                "labels": {"controller-revision-hash": hash}, "ownerReferences": [owner(&set)],
            },
            "revision": number,
        }))
    };
    let outcome = |known: &[Arc<ControllerRevision>]| -> Vec<String> {
        let view = View::new(&set, spec, &nodes, &pods, at(NOW));
        let writes = history::keep(&view, known);
        writes
            .iter()
            .map(|write| write.to_string().replace(&hash, "HASH"))
            .collect()
    };
    let first = outcome(&[]);
    assert!(first[0].starts_with("POST /apis/apps/v1/namespaces/kube-system/controllerrevisions "));
    assert!(first[0].contains(r#""$patch":"replace""#) && first[0].contains(r#""revision":1"#));
    assert_eq!(outcome(&[revision(&hash, 1)]), [""; 0]);
    assert!(outcome(&[revision("x", 7)])[0].contains(r#""revision":8"#));
    let path = "/apis/apps/v1/namespaces/kube-system/controllerrevisions";
    assert_eq!(
        outcome(&[revision(&hash, 1), revision("x", 2)]),
        [format!(r#"PATCH {path}/agent-HASH {{"revision":3}}"#)]
    );
    // Ten old ones are kept, and the one that a pod still runs.
    let mut many: Vec<_> = (1..=11).map(|n| revision(&format!("r{n}"), n)).collect();
    many.push(revision("old", 12));
    many.push(revision(&hash, 13));
    let gone = outcome(&many);
    assert!(
        gone.len() == 1 && gone[0].starts_with(&format!("DELETE {path}/agent-r1 ")),
        "{gone:?}"
    );
}

#[test]
fn orphans_are_adopted_and_strangers_let_go() {
    let set = set(json!({}), json!({}));
    let mut pods = pods(&set, &["a w1 orphan", "b w2", "c w3 orphan going", "d w4"]);
    Arc::make_mut(&mut pods[3]).metadata.labels = None;
    let writes = claim(&set, set.spec.as_ref().unwrap(), &pods);
    let texts: Vec<String> = writes.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2);
    assert!(texts[0].starts_with("PATCH /api/v1/namespaces/kube-system/pods/a "));
    assert!(texts[0].contains(r#""uid":"set""#), "{}", texts[0]);
    assert_eq!(
        texts[1],
        r#"PATCH /api/v1/namespaces/kube-system/pods/d {"metadata":{"ownerReferences":[],"resourceVersion":"1"}}"#
    );
    // The node of the one that is let go gets another.
    assert_eq!(managed(&set, &nodes(&["w4"]), &pods[3..]), "+w4");
}
