//! Starting, stopping, and what keeps a server from it.

use super::*;

async fn refusal(config: Config) -> String {
    match Server::start(config).await {
        Ok(_) => panic!("started"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let h = Harness::new().await;
    let stored = h.create(MAPS, map("a")).await;
    let Harness { server, dir, pki } = h;
    let revision = server.inner.store.revision();
    server.shutdown().await;
    let server = Server::start(config(&pki, dir.path())).await.unwrap();
    let h = Harness { server, dir, pki };
    assert_eq!(h.get(&format!("{MAPS}/a")).await.is(200), stored);
    // Nothing is created anew; the endpoints have another port.
    assert!(h.server.inner.store.revision() <= revision + 2);
}

#[tokio::test]
async fn a_port_or_a_directory_in_use_is_named() {
    let h = Harness::new().await;
    let other = TempDir::new().unwrap();
    let mut same_port = config(&h.pki, other.path());
    same_port.listen = h.server.local_addr();
    let error = refusal(same_port).await;
    let address = h.server.local_addr();
    assert!(
        error.starts_with(&format!("cannot listen on {address}: ")),
        "{error}"
    );
    assert!(error.contains("another process has the port"), "{error}");
    let error = refusal(config(&h.pki, h.dir.path())).await;
    assert!(error.contains("in use by another process"), "{error}");
    // Refused, it left nothing behind: the directory of the first try is free.
    Server::start(config(&h.pki, other.path())).await.unwrap();
}

#[tokio::test]
async fn credentials_that_cannot_be_read_are_named() {
    let (dir, pki) = (TempDir::new().unwrap(), pki());
    type Spoil = fn(&mut Config);
    let table: [(&str, Spoil); 7] = [
        ("apiserver.crt", |c| c.serving_cert = "x".to_owned()),
        ("apiserver.key", |c| c.serving_key = "x".to_owned().into()),
        ("ca.crt", |c| c.client_ca = String::new()),
        ("sa.key", |c| c.service_account_key = "x".to_owned().into()),
        ("sa.pub", |c| {
            c.service_account_public_keys = vec!["x".to_owned()]
        }),
        ("apiserver-kubelet-client.crt", |c| {
            c.kubelet_client_cert = String::new()
        }),
        ("serving certificate and key", |c| {
            c.serving_key = c.kubelet_client_key.clone();
        }),
    ];
    for (name, spoil) in table {
        let mut config = config(&pki, dir.path());
        spoil(&mut config);
        let error = refusal(config).await;
        assert!(error.contains(name), "{name}: {error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
}

#[tokio::test]
async fn service_ranges_are_checked() {
    let (dir, pki) = (TempDir::new().unwrap(), pki());
    let table: [&[&str]; 4] = [
        &[],
        &["10.0.0.0/16", "10.1.0.0/16"],
        &["10.0.0.0/30"],
        &["10.0.0.0/16", "fd00::/112", "fd01::/112"],
    ];
    for ranges in table {
        let mut config = config(&pki, dir.path());
        config.service_ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        let error = refusal(config).await;
        assert!(error.starts_with("cannot use the service range"), "{error}");
    }
}

#[tokio::test]
async fn too_many_requests_are_told_to_come_again() {
    let h = Harness::new().await;
    let inner = h.server.inner.clone();
    let _all = inner
        .in_flight
        .acquire_many(u32::try_from(MAX_IN_FLIGHT).unwrap())
        .await
        .unwrap();
    let request = || {
        Request::get("/version")
            .body(Full::<Bytes>::default())
            .unwrap()
    };
    let peer = handle::Caller::Peer(None);
    let refused = handle::handle(inner.clone(), peer, request()).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    // The program's own parts do not wait for strangers.
    let own = handle::Caller::InProcess(auth::superuser("own"));
    let served = handle::handle(inner.clone(), own, request()).await;
    assert_eq!(served.status(), 200);
}

#[test]
fn a_refusal_keeps_its_warning_headers_clean() {
    let mut response = respond::refusal(&Status::bad_request("no"));
    respond::warn(&mut response, &["a \"b\"\r\nc\\".to_owned()]);
    assert_eq!(
        response.headers()["warning"],
        "299 - \"a \\\"b\\\"  c\\\\\""
    );
}
