use super::*;
use crate::api::resources::find;

const NOW: &str = "2026-11-23T06:54:42Z";

fn decide(plural: &str, object: &Value, options: &DeleteOptions) -> Deletion {
    let resource = find("", "v1", plural).unwrap();
    delete(resource, object, options, NOW.parse().unwrap()).unwrap()
}

fn grace(seconds: i64) -> DeleteOptions {
    DeleteOptions {
        grace_period_seconds: Some(seconds),
        ..DeleteOptions::default()
    }
}

fn marked(deletion: Deletion) -> Value {
    match deletion {
        Deletion::Mark(object) => object,
        other => panic!("expected a mark, got {other:?}"),
    }
}

#[test]
fn a_running_pod_gets_its_grace_and_can_lose_it() {
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 60}});
    let first = marked(decide("pods", &pod, &DeleteOptions::default()));
    assert_eq!(
        first["metadata"]["deletionTimestamp"],
        "2026-11-23T06:55:42Z"
    );
    assert_eq!(first["metadata"]["deletionGracePeriodSeconds"], 60);
    assert_eq!(
        decide("pods", &first, &DeleteOptions::default()),
        Deletion::Pending
    );
    assert_eq!(decide("pods", &first, &grace(90)), Deletion::Pending);
    let shorter = marked(decide("pods", &first, &grace(10)));
    assert_eq!(
        shorter["metadata"]["deletionTimestamp"],
        "2026-11-23T06:54:52Z"
    );
    assert_eq!(decide("pods", &shorter, &grace(0)), Deletion::Remove);
}

#[test]
fn a_pod_that_runs_nowhere_goes_at_once() {
    let unscheduled = json!({"metadata": {"name": "p"}, "spec": {}});
    assert_eq!(
        decide("pods", &unscheduled, &DeleteOptions::default()),
        Deletion::Remove
    );
    let done = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Failed"}});
    assert_eq!(
        decide("pods", &done, &DeleteOptions::default()),
        Deletion::Remove
    );
}

#[test]
fn finalizers_hold_and_then_let_go() {
    let object = json!({"metadata": {"name": "c", "finalizers": ["a/b"]}});
    let held = marked(decide("configmaps", &object, &DeleteOptions::default()));
    assert_eq!(held["metadata"]["deletionTimestamp"], NOW);
    assert_eq!(
        decide("configmaps", &held, &DeleteOptions::default()),
        Deletion::Pending
    );
    let mut free = held;
    free["metadata"]["finalizers"] = json!([]);
    assert!(is_finished(find("", "v1", "configmaps").unwrap(), &free));
}

#[test]
fn propagation_asks_the_collector_by_finalizer() {
    let object = json!({"metadata": {"name": "c"}});
    for (propagation, finalizer) in [
        (Propagation::Orphan, "orphan"),
        (Propagation::Foreground, "foregroundDeletion"),
    ] {
        let options = DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        let held = marked(decide("configmaps", &object, &options));
        assert_eq!(held["metadata"]["finalizers"], json!([finalizer]));
        let background = DeleteOptions {
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        assert_eq!(decide("configmaps", &held, &background), Deletion::Remove);
    }
}

#[test]
fn a_namespace_waits_for_its_content() {
    let namespace = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
    let mut going = marked(decide("namespaces", &namespace, &DeleteOptions::default()));
    assert_eq!(going["status"]["phase"], "Terminating");
    assert_eq!(
        decide("namespaces", &going, &DeleteOptions::default()),
        Deletion::Pending
    );
    going["spec"]["finalizers"] = json!([]);
    assert!(is_finished(find("", "v1", "namespaces").unwrap(), &going));
}

#[test]
fn options_come_from_the_body_or_the_query() {
    let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background",
        "preconditions": {"uid": "u"}, "dryRun": ["All"]});
    let query = [("gracePeriodSeconds".to_owned(), "5".to_owned())];
    let options = DeleteOptions::parse(&body, &query).unwrap();
    assert_eq!(
        options,
        DeleteOptions {
            grace_period_seconds: Some(5),
            uid: Some("u".to_owned()),
            resource_version: None,
            propagation: Some(Propagation::Background),
            dry_run: true,
        }
    );
    assert_eq!(
        DeleteOptions::parse(&Value::Null, &[]).unwrap(),
        DeleteOptions::default()
    );
    let bad = [("propagationPolicy".to_owned(), "Sideways".to_owned())];
    assert_eq!(
        DeleteOptions::parse(&Value::Null, &bad).unwrap_err().code,
        422
    );
}

#[test]
fn another_uid_is_a_conflict() {
    let options = DeleteOptions {
        uid: Some("v".to_owned()),
        ..DeleteOptions::default()
    };
    let object = json!({"metadata": {"name": "c", "uid": "u"}});
    let error = delete(
        find("", "v1", "configmaps").unwrap(),
        &object,
        &options,
        NOW.parse().unwrap(),
    );
    assert_eq!(error.unwrap_err().code, 409);
}
