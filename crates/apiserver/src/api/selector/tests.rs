use serde_json::{Value, json};

use super::*;
use crate::api::resources::find;

fn labelled(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

#[test]
fn label_selectors_select() {
    let object = labelled(json!({"app": "web", "tier": "front", "n": "7", "empty": ""}));
    for (selector, expected) in [
        ("", true),
        ("app", true),
        ("!app", false),
        ("!other", true),
        ("app=web", true),
        ("app==web,tier=front", true),
        ("app = web , tier = front", true),
        ("app!=web", false),
        ("other!=web", true),
        ("app in (web,db)", true),
        ("app in (db)", false),
        ("app notin (db)", true),
        ("other notin (db)", true),
        ("empty=", true),
        ("empty in ()", true),
        ("empty in (,x)", true),
        ("n>5,n<8", true),
        ("n>7", false),
        ("app>1", false),
        (
            "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name",
            true,
        ),
        ("in=x", false),
        ("app in (in, notin, web)", true),
    ] {
        let parsed = Labels::parse(selector).unwrap_or_else(|e| panic!("{selector}: {e}"));
        assert_eq!(parsed.matches(&object), expected, "{selector}");
    }
    assert!(Labels::parse("app=web").unwrap().matches(&object));
    assert!(
        !Labels::parse("app=web")
            .unwrap()
            .matches(&json!({"metadata": {}}))
    );
}

#[test]
fn malformed_label_selectors_get_kubernetes_texts() {
    for (selector, text) in [
        (
            "a in (",
            "unable to parse requirement: found '', expected: ',', ')' or identifier",
        ),
        (
            "a,",
            "unable to parse requirement: found '', expected: identifier after ','",
        ),
        (
            "=a",
            "unable to parse requirement: found '=', expected: !, identifier, or 'end of string'",
        ),
        (
            "a b",
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
        ),
        (
            "a=b c",
            "unable to parse requirement: found 'c', expected: ',' or 'end of string'",
        ),
        (
            "a in b",
            "unable to parse requirement: found 'b', expected: '('",
        ),
        (
            "a in (b c)",
            "unable to parse requirement: found 'c', expected: ',' or ')'",
        ),
        (
            "!",
            "unable to parse requirement: found '', expected: identifier",
        ),
    ] {
        assert_eq!(
            Labels::parse(selector).unwrap_err().message,
            text,
            "{selector}"
        );
    }
    let long = "x".repeat(64);
    assert_eq!(Labels::parse(&format!("{long}=a")).unwrap_err().code, 400);
    assert_eq!(Labels::parse(&format!("a={long}")).unwrap_err().code, 400);
}

#[test]
fn selector_objects() {
    let web = labelled(json!({"app": "web"}));
    let of = |selector: Value| Labels::of(&selector).matches(&web);
    assert!(of(json!({})));
    assert!(!of(Value::Null));
    assert!(of(json!({"matchLabels": {"app": "web"}})));
    assert!(!of(json!({"matchLabels": {"app": "db"}})));
    assert!(of(
        json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]})
    ));
    assert!(of(
        json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["web"]}]})
    ));
    assert!(of(
        json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]})
    ));
    assert!(!of(
        json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]})
    ));
    assert!(!of(
        json!({"matchExpressions": [{"key": "app", "operator": "Near"}]})
    ));
}

#[test]
fn field_selectors_select() {
    let pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"nodeName": "n1"},
        "status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}});
    let pods = find("", "v1", "pods").unwrap();
    for (selector, expected) in [
        ("", true),
        ("spec.nodeName=n1", true),
        (
            "spec.nodeName=n1,status.phase!=Succeeded,status.phase!=Failed",
            true,
        ),
        ("spec.nodeName==n2", false),
        ("metadata.name=p,metadata.namespace=d", true),
        ("status.phase=", true),
        ("spec.hostNetwork=false", true),
        ("status.podIPs=10.0.0.1\\,fd00::1", true),
    ] {
        let parsed = Fields::parse(pods, selector).unwrap();
        assert_eq!(parsed.matches(&pod), expected, "{selector}");
    }
    let pinned = Fields::parse(pods, "metadata.name=x,status.phase!=Failed").unwrap();
    assert_eq!(pinned.pinned_name(), Some("x"));
    assert_eq!(
        Fields::parse(pods, "metadata.name!=x")
            .unwrap()
            .pinned_name(),
        None
    );
    let nodes = find("", "v1", "nodes").unwrap();
    let schedulable = Fields::parse(nodes, "spec.unschedulable=false").unwrap();
    assert!(schedulable.matches(&json!({"spec": {}})));
    assert!(!schedulable.matches(&json!({"spec": {"unschedulable": true}})));
}

#[test]
fn both_event_apis_select_by_their_own_names() {
    let event = json!({"involvedObject": {"name": "n1"}, "source": {"component": "kubelet"}});
    let core = Fields::parse(
        find("", "v1", "events").unwrap(),
        "involvedObject.name=n1,source=kubelet",
    );
    assert!(core.unwrap().matches(&event));
    let new = Fields::parse(
        find("events.k8s.io", "v1", "events").unwrap(),
        "regarding.name=n1",
    );
    assert!(new.unwrap().matches(&event));
}

#[test]
fn malformed_field_selectors() {
    let maps = find("", "v1", "configmaps").unwrap();
    let error = |text| Fields::parse(maps, text).unwrap_err().message;
    assert_eq!(
        error("spec.foo=bar"),
        "\"spec.foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
    assert_eq!(
        error("metadata.name"),
        "invalid selector: 'metadata.name'; can't understand 'metadata.name'"
    );
    assert!(error("metadata.name=a\\b").contains("invalid escape sequence"));
}
