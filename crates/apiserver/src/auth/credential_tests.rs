//! Credentials, good and bad: certificates, bootstrap tokens, service account tokens, impersonation.

use http::{HeaderMap, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use malha_bootstrap::{
    names::Subject,
    pki::{CertificateAuthority, Issue, Purpose, SigningKeyPair},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};

use super::{
    AuthConfig, DEFAULT_ISSUER, ServiceAccountKeys, authenticate, reviews,
    testing::{Memory, node, user},
    token_request,
};
use crate::attributes::UserInfo;

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn config(ca: &CertificateAuthority) -> AuthConfig {
    let keys = SigningKeyPair::generate().unwrap();
    let keys =
        ServiceAccountKeys::new(DEFAULT_ISSUER, &keys.private_pem, &[&keys.public_pem]).unwrap();
    AuthConfig::new(&ca.cert_pem(), keys).unwrap()
}

fn ca() -> CertificateAuthority {
    CertificateAuthority::generate("kubernetes", now()).unwrap()
}

fn certificate(
    ca: &CertificateAuthority,
    purpose: Purpose,
    at: Timestamp,
) -> CertificateDer<'static> {
    let issue = Issue {
        subject: Subject::member("jane", &["developers", "admins"]),
        purpose,
        dns_names: &[],
        ip_addresses: &[],
    };
    let pem = ca.issue_keyed(&issue, at).unwrap().cert_pem;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn bearer(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    HeaderMap::from_iter([(http::header::AUTHORIZATION, value)])
}

/// The user's name, or the refusal's code.
fn name(result: Result<UserInfo, crate::status::Status>) -> Result<String, u16> {
    result.map(|user| user.name).map_err(|status| status.code)
}

#[test]
fn a_certificate_names_its_user_and_every_group() {
    let ca = ca();
    let config = config(&ca);
    let store = Memory::default();
    let good = certificate(&ca, Purpose::Client, now());
    let jane = authenticate(&config, Some(&good), &HeaderMap::new(), &store, now()).unwrap();
    assert_eq!(jane.name, "jane");
    for group in ["developers", "admins", "system:authenticated"] {
        assert!(
            jane.groups.iter().any(|g| g == group),
            "{group} in {:?}",
            jane.groups
        );
    }
    let foreign = CertificateAuthority::generate("kubernetes", now()).unwrap();
    let table = [
        (
            "of another CA of the same name",
            certificate(&foreign, Purpose::Client, now()),
            now(),
        ),
        (
            "for servers",
            certificate(&ca, Purpose::Server, now()),
            now(),
        ),
        ("expired", good.clone(), after(366 * 24 * 3600)),
        ("not valid yet", good.clone(), after(-3600)),
        (
            "garbage",
            CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]),
            now(),
        ),
        ("with a changed byte", tampered(&good), now()),
    ];
    for (what, cert, at) in table {
        let result = authenticate(&config, Some(&cert), &HeaderMap::new(), &store, at);
        assert_eq!(name(result), Err(401), "certificate {what}");
    }
}

/// The same certificate with one letter of its user changed.
fn tampered(cert: &CertificateDer<'_>) -> CertificateDer<'static> {
    let mut bytes = cert.to_vec();
    let at = bytes
        .windows(4)
        .position(|window| window == b"jane")
        .unwrap();
    bytes[at] = b'k';
    CertificateDer::from(bytes)
}

fn token_secret() -> Value {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let data = [
        ("token-id", "abcdef".to_owned()),
        ("token-secret", "0123456789abcdef".to_owned()),
        ("expiration", after(3600).to_string()),
        ("usage-bootstrap-authentication", "true".to_owned()),
        (
            "auth-extra-groups",
            "system:bootstrappers:kubeadm:default-node-token".to_owned(),
        ),
    ];
    let data: serde_json::Map<_, _> = data
        .into_iter()
        .map(|(key, value)| (key.to_owned(), STANDARD.encode(value).into()))
        .collect();
    json!({
        "metadata": {"namespace": "kube-system", "name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token", "data": data,
    })
}

/// Something done to a token's Secret.
type Change<'a> = &'a dyn Fn(&mut Value);

#[test]
fn a_bootstrap_token_works_by_every_rule() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let config = config(&ca());
    let mut store = Memory::default();
    let token = "abcdef.0123456789abcdef";
    let with =
        |store: &Memory, token: &str, at| authenticate(&config, None, &bearer(token), store, at);
    assert_eq!(name(with(&store, token, now())), Err(401), "unknown token");
    store.put("", "secrets", token_secret());
    let found = with(&store, token, now()).unwrap();
    assert_eq!(found.name, "system:bootstrap:abcdef");
    assert_eq!(
        found.groups,
        [
            "system:bootstrappers",
            "system:bootstrappers:kubeadm:default-node-token",
            "system:authenticated"
        ]
    );
    assert!(with(&store, token, after(3599)).is_ok());
    assert_eq!(
        name(with(&store, token, after(3600))),
        Err(401),
        "expired at once"
    );
    for wrong in [
        "abcdef.0123456789abcdee",
        "abcdef.0123456789abcde",
        "abcdee.0123456789abcdef",
        "abcdef.",
    ] {
        assert_eq!(name(with(&store, wrong, now())), Err(401), "{wrong}");
    }
    let changes: [(&str, Change); 8] = [
        ("no authentication usage", &|s| {
            s["data"]
                .as_object_mut()
                .unwrap()
                .remove("usage-bootstrap-authentication");
        }),
        ("usage not exactly true", &|s| {
            s["data"]["usage-bootstrap-authentication"] = STANDARD.encode("True").into();
        }),
        ("unreadable expiration", &|s| {
            s["data"]["expiration"] = STANDARD.encode("tomorrow").into()
        }),
        ("wrong type", &|s| s["type"] = "Opaque".into()),
        ("being deleted", &|s| {
            s["metadata"]["deletionTimestamp"] = "2026-11-23T11:59:00Z".into()
        }),
        ("id differs", &|s| {
            s["data"]["token-id"] = STANDARD.encode("abcdeg").into()
        }),
        ("no secret", &|s| s["data"]["token-secret"] = "".into()),
        ("group out of bounds", &|s| {
            s["data"]["auth-extra-groups"] = STANDARD.encode("system:masters").into()
        }),
    ];
    for (what, change) in changes {
        let mut secret = token_secret();
        change(&mut secret);
        store.put("", "secrets", secret);
        assert_eq!(name(with(&store, token, now())), Err(401), "{what}");
    }
    let mut forever = token_secret();
    forever["data"]
        .as_object_mut()
        .unwrap()
        .remove("expiration");
    store.put("", "secrets", forever);
    assert!(with(&store, token, after(1_000_000_000)).is_ok());
    store.remove("", "secrets", "kube-system", "bootstrap-token-abcdef");
    assert_eq!(name(with(&store, token, now())), Err(401), "deleted");
}

#[test]
fn nobody_and_nonsense() {
    let config = config(&ca());
    let store = Memory::default();
    let with = |headers: &HeaderMap| authenticate(&config, None, headers, &store, now());
    let anonymous = with(&HeaderMap::new()).unwrap();
    assert_eq!(anonymous.name, "system:anonymous");
    assert_eq!(anonymous.groups, ["system:unauthenticated"]);
    for token in ["x", "a.b", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."] {
        assert_eq!(name(with(&bearer(token))), Err(401), "{token}");
    }
    let odd = HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap();
    assert_eq!(
        name(with(&HeaderMap::from_iter([(
            http::header::AUTHORIZATION,
            odd
        )]))),
        Err(401)
    );
}

fn cluster() -> Memory {
    let mut store = Memory::with_defaults();
    let account = |name: &str| json!({"metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}")}});
    store.put("", "serviceaccounts", account("runner"));
    store.put("", "serviceaccounts", account("other"));
    store.put(
        "",
        "nodes",
        json!({"metadata": {"name": "w1", "uid": "uid-w1"}}),
    );
    store.put("", "pods", pod());
    store
}

fn pod() -> Value {
    json!({
        "metadata": {"namespace": "default", "name": "p", "uid": "uid-p"},
        "spec": {"serviceAccountName": "runner", "nodeName": "w1"},
    })
}

fn request_token(
    config: &AuthConfig,
    store: &Memory,
    account: &str,
    spec: Value,
) -> Result<Value, crate::status::Status> {
    let account = json!({"metadata": {"namespace": "default", "name": account, "uid": format!("uid-{account}")}});
    token_request(config, &account, json!({"spec": spec}), store, now())
}

fn pod_token(config: &AuthConfig, store: &Memory) -> String {
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "uid-p"});
    let answer = request_token(
        config,
        store,
        "runner",
        json!({"boundObjectRef": bound, "expirationSeconds": 3607}),
    );
    let answer = answer.unwrap();
    assert_eq!(
        answer["status"]["expirationTimestamp"],
        after(3607).to_string()
    );
    assert_eq!(answer["spec"]["audiences"], json!([DEFAULT_ISSUER]));
    answer["status"]["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_service_account_token_lives_as_long_as_what_it_is_bound_to() {
    let config = config(&ca());
    let mut store = cluster();
    let token = pod_token(&config, &store);
    let with = |store: &Memory, at| authenticate(&config, None, &bearer(&token), store, at);
    let found = with(&store, now()).unwrap();
    assert_eq!(found.name, "system:serviceaccount:default:runner");
    assert_eq!(found.uid, "uid-runner");
    assert_eq!(
        found.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ]
    );
    assert_eq!(found.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(
        found.extra["authentication.kubernetes.io/node-name"],
        ["w1"]
    );
    assert_eq!(name(with(&store, after(3607))), Err(401), "expired");
    assert_eq!(name(with(&store, after(-1))), Err(401), "not valid yet");

    let mut deleted = pod();
    deleted["metadata"]["deletionTimestamp"] = now().to_string().into();
    store.put("", "pods", deleted);
    assert!(
        with(&store, after(59)).is_ok(),
        "a pod that ends may still talk"
    );
    assert_eq!(
        name(with(&store, after(60))),
        Err(401),
        "deleted a minute ago"
    );

    let mut again = pod();
    again["metadata"]["uid"] = "uid-q".into();
    store.put("", "pods", again);
    assert_eq!(
        name(with(&store, now())),
        Err(401),
        "another pod of the same name"
    );
    store.remove("", "pods", "default", "p");
    assert_eq!(name(with(&store, now())), Err(401), "pod gone");
    store.put("", "pods", pod());
    store.remove("", "nodes", "", "w1");
    assert!(with(&store, now()).is_ok(), "the node is information only");
    store.put(
        "",
        "serviceaccounts",
        json!({"metadata": {"namespace": "default", "name": "runner", "uid": "new"}}),
    );
    assert_eq!(name(with(&store, now())), Err(401), "account made anew");
}

#[test]
fn tokens_of_other_keys_audiences_and_issuers_are_refused() {
    let ca = ca();
    let (ours, theirs) = (config(&ca), config(&ca));
    let store = cluster();
    let foreign = pod_token(&theirs, &store);
    assert_eq!(
        name(authenticate(&ours, None, &bearer(&foreign), &store, now())),
        Err(401)
    );
    let answer = request_token(&ours, &store, "runner", json!({"audiences": ["vault"]})).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    assert_eq!(
        name(authenticate(&ours, None, &bearer(token), &store, now())),
        Err(401)
    );
    let review = |audiences: Value| {
        let body = json!({"spec": {"token": token, "audiences": audiences}});
        reviews::token_review(&ours, body, &store, now()).unwrap()["status"].clone()
    };
    assert_eq!(review(json!(["vault", "x"]))["audiences"], json!(["vault"]));
    assert_eq!(
        review(json!(["vault"]))["user"]["username"],
        "system:serviceaccount:default:runner"
    );
    assert_eq!(review(json!([])).get("authenticated"), None);
    // A token whose payload was changed, with the signature kept.
    let good = pod_token(&ours, &store);
    let parts: Vec<_> = good.split('.').collect();
    let other: Vec<_> = token.split('.').collect();
    let mixed = format!("{}.{}.{}", parts[0], other[1], parts[2]);
    assert_eq!(
        name(authenticate(&ours, None, &bearer(&mixed), &store, now())),
        Err(401)
    );
}

#[test]
fn token_requests_are_checked() {
    let config = config(&ca());
    let store = cluster();
    let pod = |name: &str, uid: &str| json!({"boundObjectRef": {"kind": "Pod", "name": name, "uid": uid}});
    let table = [
        ("runner", json!({"expirationSeconds": 599}), 422),
        ("runner", json!({"expirationSeconds": "x"}), 400),
        ("runner", pod("gone", "uid-p"), 404),
        ("runner", pod("p", "uid-q"), 409),
        ("other", pod("p", "uid-p"), 400),
        (
            "runner",
            json!({"boundObjectRef": {"kind": "Deployment", "name": "d"}}),
            400,
        ),
    ];
    for (account, spec, code) in table {
        let status = request_token(&config, &store, account, spec.clone()).unwrap_err();
        assert_eq!(status.code, code, "{account} {spec}: {status}");
    }
}

#[test]
fn rsa_keys_sign_too() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let keys = ServiceAccountKeys::new("https://x", &key.serialize_pem(), &[&key.public_key_pem()])
        .unwrap();
    let config = AuthConfig {
        client_ca: super::ClientCa::from_pem(&ca().cert_pem()).unwrap(),
        service_account: keys,
    };
    let store = cluster();
    let answer = request_token(&config, &store, "runner", json!({})).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    assert!(authenticate(&config, None, &bearer(token), &store, now()).is_ok());
}

fn acting_as(headers: &[(&'static str, &str)], token: &str) -> HeaderMap {
    let mut all = bearer(token);
    for (name, value) in headers {
        all.append(*name, HeaderValue::from_str(value).unwrap());
    }
    all
}

#[test]
fn impersonation_needs_the_right_to_each_part() {
    let config = config(&ca());
    let mut store = cluster();
    let token = pod_token(&config, &store);
    let with = |store: &Memory, headers: &[(&'static str, &str)]| {
        authenticate(&config, None, &acting_as(headers, &token), store, now())
    };
    let jane = [("impersonate-user", "jane")];
    let jane_master = [
        ("impersonate-user", "jane"),
        ("impersonate-group", "system:masters"),
    ];
    assert_eq!(name(with(&store, &jane)), Err(403));
    let group = "rbac.authorization.k8s.io";
    store.put(group, "clusterroles", json!({"metadata": {"name": "i"}, "rules": [
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"]},
    ]}));
    store.put(
        group,
        "clusterrolebindings",
        json!({
            "metadata": {"name": "i"}, "roleRef": {"kind": "ClusterRole", "name": "i"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "runner"}],
        }),
    );
    let found = with(&store, &jane).unwrap();
    assert_eq!(
        (found.name.as_str(), found.groups.as_slice()),
        ("jane", &["system:authenticated".to_owned()][..])
    );
    assert_eq!(
        name(with(&store, &jane_master)),
        Err(403),
        "groups need their own right"
    );
    assert_eq!(name(with(&store, &[("impersonate-user", "joe")])), Err(403));
    assert_eq!(
        name(with(&store, &[("impersonate-group", "system:masters")])),
        Err(500),
        "no user named"
    );
    let extra = [
        ("impersonate-user", "jane"),
        ("impersonate-extra-scopes", "all"),
    ];
    assert_eq!(name(with(&store, &extra)), Err(403));
}

#[test]
fn reviews_answer_as_the_authorizers_would() {
    let store = Memory::with_defaults();
    let ask = |who: &UserInfo, attributes: Value| {
        let body = json!({"spec": {"resourceAttributes": attributes}});
        reviews::self_subject_access_review(who, body, &store).unwrap()["status"].clone()
    };
    let pods = json!({"verb": "list", "resource": "pods"});
    assert_eq!(ask(&node("w1"), pods.clone()), json!({"allowed": true}));
    assert_eq!(ask(&user("x", &[]), pods), json!({"allowed": false}));
    let secret = json!({"verb": "get", "resource": "secrets", "namespace": "default", "name": "s"});
    assert_eq!(
        ask(&node("w1"), secret.clone())["reason"],
        "no relationship found between node 'w1' and this object"
    );
    let sar = json!({"spec": {"user": "system:node:w1", "groups": ["system:nodes"], "resourceAttributes": secret}});
    assert_eq!(
        reviews::subject_access_review(sar.clone(), &store).unwrap()["status"]["allowed"],
        false
    );
    assert_eq!(
        reviews::local_subject_access_review("other", sar, &store)
            .unwrap_err()
            .code,
        422
    );
    let nothing = json!({"spec": {}});
    assert_eq!(
        reviews::self_subject_access_review(&user("x", &[]), nothing, &store)
            .unwrap_err()
            .code,
        422
    );
    let rules = reviews::self_subject_rules_review(
        &user("x", &[]),
        json!({"spec": {"namespace": "default"}}),
        &store,
    );
    let rules = rules.unwrap();
    assert_eq!(rules["status"]["incomplete"], false);
    assert!(
        !rules["status"]["nonResourceRules"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let who = reviews::self_subject_review(&user("x", &["g"]), json!({})).unwrap();
    assert_eq!(
        who["status"]["userInfo"],
        json!({"username": "x", "groups": ["g", "system:authenticated"]})
    );
}
