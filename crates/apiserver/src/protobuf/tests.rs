//! Bodies built by hand as a Go client writes them, and garbage.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A writer of the wire format, for tests only.
#[derive(Default, Clone)]
struct Writer(Vec<u8>);

impl Writer {
    fn varint(mut self, mut value: u64) -> Self {
        while value > 0x7f {
            self.0.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn number(self, field: u64, value: i64) -> Self {
        self.varint(field << 3).varint(value.cast_unsigned())
    }

    fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        let mut writer = self.varint(field << 3 | 2).varint(bytes.len() as u64);
        writer.0.extend_from_slice(bytes);
        writer
    }

    fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(self, field: u64, message: Writer) -> Self {
        self.bytes(field, &message.0)
    }
}

fn w() -> Writer {
    Writer::default()
}

fn enveloped(version: &str, kind: &str, raw: Writer) -> Vec<u8> {
    let unknown = w()
        .message(1, w().text(1, version).text(2, kind))
        .message(2, raw)
        .text(3, "")
        .text(4, "");
    [MAGIC, &unknown.0].concat()
}

/// ObjectMeta as Go writes it: with every field that is not a pointer.
fn meta(name: &str, namespace: &str) -> Writer {
    w().text(1, name)
        .text(2, "")
        .text(3, namespace)
        .text(4, "")
        .text(5, "")
        .text(6, "")
        .number(7, 0)
        .message(8, w())
}

#[test]
fn a_config_map_reads_as_its_json() {
    let body = w()
        .message(
            1,
            meta("c", "default").message(11, w().text(1, "k").text(2, "v")),
        )
        .message(2, w().text(1, "a").text(2, "1"))
        .message(2, w().text(1, "empty"))
        .message(3, w().text(1, "b").bytes(2, &[0, 255]));
    let expected = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "default", "labels": {"k": "v"}},
        "data": {"a": "1", "empty": ""}, "binaryData": {"b": "AP8="},
    });
    assert_eq!(decode(&enveloped("v1", "ConfigMap", body)), Ok(expected));
}

#[test]
fn a_pod_reads_as_its_json() {
    let container = w()
        .text(1, "c")
        .text(2, "malha:0.1.0")
        .text(3, "sh")
        .message(
            6,
            w().text(1, "").number(2, 0).number(3, 8080).text(4, "TCP"),
        )
        .message(
            8,
            w().message(1, w().text(1, "cpu").message(2, w().text(1, "100m"))),
        )
        .message(
            11,
            w().message(
                1,
                w().message(
                    2,
                    w().text(1, "/ok")
                        .message(2, w().number(1, 0).number(2, 80).text(3, "")),
                ),
            )
            .number(3, 5),
        );
    let spec = w()
        .message(
            1,
            w().text(1, "v")
                .message(2, w().message(2, w().text(1, "").message(2, w()))),
        )
        .message(
            1,
            w().text(1, "s")
                .message(2, w().message(6, w().text(1, "sec").number(3, 0o644))),
        )
        .message(2, container)
        .text(3, "Always")
        .number(4, 0);
    let body = w()
        .message(1, meta("p", ""))
        .message(2, spec)
        .message(3, w().text(1, ""));
    let expected = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {
            "volumes": [
                {"name": "v", "emptyDir": {}},
                {"name": "s", "secret": {"secretName": "sec", "defaultMode": 420}},
            ],
            "containers": [{
                "name": "c", "image": "malha:0.1.0", "command": ["sh"],
                "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "100m"}},
                "readinessProbe": {"httpGet": {"path": "/ok", "port": 80}, "timeoutSeconds": 5},
            }],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 0,
        },
    });
    assert_eq!(decode(&enveloped("v1", "Pod", body)), Ok(expected));
}

#[test]
fn an_empty_selector_is_not_an_absent_one() {
    let body = w()
        .message(1, meta("n", "default"))
        .message(2, w().message(1, w()).message(2, w()));
    let read = decode(&enveloped("networking.k8s.io/v1", "NetworkPolicy", body)).unwrap();
    assert_eq!(read["spec"], json!({"podSelector": {}, "ingress": [{}]}));
}

#[test]
fn times_numbers_and_extras_read_as_json() {
    let lease = w().message(1, meta("w1", "kube-node-lease")).message(
        2,
        w().text(1, "w1")
            .number(2, 40)
            .message(4, w().number(1, 1_700_000_000).number(2, 123_456_789)),
    );
    let read = decode(&enveloped("coordination.k8s.io/v1", "Lease", lease)).unwrap();
    assert_eq!(
        read["spec"],
        json!({"holderIdentity": "w1", "leaseDurationSeconds": 40, "renewTime": "2023-11-14T22:13:20.123456Z"})
    );
    let options = w()
        .number(1, 0)
        .message(2, w().text(1, "u"))
        .text(4, "Background");
    let read = decode(&enveloped("apps/v1", "DeleteOptions", options)).unwrap();
    assert_eq!(
        read,
        json!({
            "apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": "u"}, "propagationPolicy": "Background",
        })
    );
    let review = w().message(
        2,
        w().message(1, w().text(1, "default").text(2, "get").text(5, "pods"))
            .text(3, "x")
            .message(
                5,
                w().text(1, "scopes")
                    .message(2, w().text(1, "a").text(1, "b")),
            ),
    );
    let read = decode(&enveloped(
        "authorization.k8s.io/v1",
        "SubjectAccessReview",
        review,
    ))
    .unwrap();
    assert_eq!(read["spec"]["extra"], json!({"scopes": ["a", "b"]}));
    assert_eq!(
        read["spec"]["resourceAttributes"],
        json!({"namespace": "default", "verb": "get", "resource": "pods"})
    );
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let refused = |bytes: &[u8]| {
        let status = decode(bytes).unwrap_err();
        (status.code, status.message)
    };
    assert_eq!(refused(b"{}").0, 400);
    let (code, message) = refused(&enveloped("example.com/v1", "Widget", w()));
    assert_eq!((code, message.contains("Widget")), (415, true), "{message}");
    // A part of an object is no object.
    assert_eq!(refused(&enveloped("v1", "PodSpec", w())).0, 415);
    let (code, message) = refused(&enveloped("v1", "Namespace", w().number(1, 5)));
    assert_eq!(
        (code, message.contains("metadata")),
        (400, true),
        "{message}"
    );
    assert_eq!(
        refused(&enveloped("v1", "Namespace", w().bytes(1, &[0x0a, 0xff]))).0,
        400
    );
}

const KINDS: [(&str, &str); 8] = [
    ("v1", "Pod"),
    ("v1", "Node"),
    ("v1", "Secret"),
    ("v1", "Event"),
    ("apps/v1", "DaemonSet"),
    ("coordination.k8s.io/v1", "Lease"),
    ("certificates.k8s.io/v1", "CertificateSigningRequest"),
    ("apiregistration.k8s.io/v1", "DeleteOptions"),
];

/// Bytes with the shape of nested messages, so that garbage reaches deep into the tables.
fn nested() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12),
        (1u64..30, any::<i64>()).prop_map(|(field, value)| w().number(field, value).0),
    ];
    leaf.prop_recursive(12, 64, 5, |inner| {
        proptest::collection::vec((1u64..40, inner), 0..5).prop_map(|fields| {
            fields
                .iter()
                .fold(w(), |writer, (field, bytes)| writer.bytes(*field, bytes))
                .0
        })
    })
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = decode(&[MAGIC, &bytes].concat());
    }

    #[test]
    fn nested_garbage_never_panics(kind in 0..KINDS.len(), bytes in nested()) {
        let (version, kind) = KINDS[kind];
        let _ = decode(&enveloped(version, kind, Writer(bytes)));
    }

    #[test]
    fn a_cut_body_never_panics(cut in 0usize..200) {
        let body = w().message(1, meta("c", "default")).message(2, w().text(1, "a").text(2, "1"));
        let body = enveloped("v1", "ConfigMap", body);
        let _ = decode(&body[..cut.min(body.len())]);
    }
}
