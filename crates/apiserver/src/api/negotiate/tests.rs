use serde_json::{Value, json};

use super::*;
use crate::api::{resources::find, table::Include};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

fn parse(header: &str) -> Accept {
    Accept::parse(Some(header), None).unwrap()
}

#[test]
fn headers_of_real_clients() {
    let json = Accept {
        format: Format::Json,
        view: View::Object,
    };
    let table = View::Table {
        version: "v1",
        include: Include::Metadata,
    };
    let metadata = View::Metadata { version: "v1" };
    assert_eq!(Accept::parse(None, None).unwrap(), json);
    for header in [
        "*/*",
        "application/json, */*",
        "application/vnd.kubernetes.protobuf,application/json",
        "application/vnd.kubernetes.protobuf, */*",
        "application/json;stream=watch",
        "application/json;as=Unknown;v=v1;g=meta.k8s.io,application/json",
        "application/cbor;q=0.9,application/json",
    ] {
        assert_eq!(parse(header), json, "{header}");
    }
    assert_eq!(parse(TABLE).view, table);
    assert_eq!(
        parse("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").view,
        metadata
    );
    assert_eq!(
        parse("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json").view,
        metadata
    );
    assert_eq!(parse("application/yaml").format, Format::Yaml);
    assert_eq!(
        Accept::parse(Some("text/html"), None).unwrap_err().code,
        406
    );
    assert_eq!(
        Accept::parse(Some(TABLE), Some("All")).unwrap_err().code,
        400
    );
}

#[test]
fn discovery_forms() {
    let parse = |header| DiscoveryFormat::parse(Some(header));
    assert_eq!(
        parse(
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
        ),
        DiscoveryFormat::Aggregated("v2")
    );
    assert_eq!(
        parse(
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
        ),
        DiscoveryFormat::Aggregated("v2beta1")
    );
    assert_eq!(parse("application/json, */*"), DiscoveryFormat::Legacy);
    assert_eq!(DiscoveryFormat::parse(None), DiscoveryFormat::Legacy);
}

#[test]
fn bodies_are_read_and_duplicates_noted() {
    let text = br#"{"a": 1, "b": [{"c": 1, "c": 2}], "a": 3}"#;
    let body = Body::read(Some("application/json; charset=utf-8"), text, "X").unwrap();
    assert_eq!(body.value, json!({"a": 3, "b": [{"c": 2}]}));
    assert_eq!(body.duplicates, ["b[0].c", "a"]);
    let body = Body::read(Some("application/yaml"), b"mode: 0644\nyes: no\n", "X").unwrap();
    assert_eq!(body.value["mode"], 420);
    assert_eq!(Body::read(None, b"", "X").unwrap().value, Value::Null);
    assert_eq!(
        Body::read(Some("text/plain"), b"{}", "X").unwrap_err().code,
        415
    );
    assert_eq!(
        Body::read(Some("application/cbor"), b"{}", "X")
            .unwrap_err()
            .code,
        415
    );
    let error = Body::read(None, b"{bad", "ConfigMap").unwrap_err();
    assert!(error.message.starts_with(
        "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: "
    ));
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    let text = "[".repeat(100_000);
    assert_eq!(
        Body::read(None, text.as_bytes(), "X").unwrap_err().code,
        400
    );
}

#[test]
fn objects_are_shown_as_asked() {
    let resource = find("", "v1", "configmaps").unwrap();
    let object = json!({"kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": "s1", "resourceVersion": "5"}, "data": {"a": "yes"}});
    let now = "2026-11-23T06:54:42Z".parse().unwrap();
    let metadata = parse("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    assert_eq!(
        *metadata.object(resource, &object, now),
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"name": "s1", "resourceVersion": "5"}})
    );
    let list = parse("*/*").list(resource, [&object], 9, now);
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["metadata"]["resourceVersion"], "9");
    for items in [vec![], vec![&object], vec![&object, &object]] {
        for accept in ["*/*", "application/yaml", TABLE] {
            let list = parse(accept).list(resource, items.clone(), 9, now);
            let bytes = parse(accept).encode_list(resource, items.clone(), 9, now);
            assert_eq!(bytes, parse(accept).encode(&list), "{accept}");
        }
    }
    let yaml = String::from_utf8(parse("application/yaml").encode(&object)).unwrap();
    assert!(yaml.contains("a: \"yes\""), "{yaml}");
    assert_eq!(
        parse("*/*").bookmark(resource, 7, true),
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": "7",
            "annotations": {"k8s.io/initial-events-end": "true"}}})
    );
}
