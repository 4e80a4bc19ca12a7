//! kube-rs, which the controllers and the agents use, in the same process and over TLS.

mod common;

use std::{collections::BTreeMap, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher::{self, Event, watcher},
};
use malha_apiserver::{auth::superuser, server::Server};
use malha_bootstrap::pki::ClusterPki;
use tempfile::TempDir;
use tokio::time::timeout;

fn in_process(server: &Server) -> Client {
    Client::new(server.client_service(superuser("system:test")), "default")
}

async fn over_tls(pki: &ClusterPki, server: &Server) -> Client {
    // Two tests may come here at once; the first to install it wins.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = Kubeconfig::from_yaml(&common::admin_conf(pki, server)).unwrap();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options)
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

fn map(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map.data = Some(BTreeMap::from([("a".to_owned(), "1".to_owned())]));
    map
}

#[tokio::test]
async fn objects_come_and_go() {
    let (pki, dir) = (common::pki(), TempDir::new().unwrap());
    let server = common::start(&pki, dir.path()).await.unwrap();
    for client in [in_process(&server), over_tls(&pki, &server).await] {
        let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
        let made = api.create(&PostParams::default(), &map("a")).await.unwrap();
        let patch = serde_json::json!({"data": {"b": "2"}});
        let patched = api
            .patch("a", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
        assert_eq!(patched.data.unwrap().len(), 2);
        let stale = api.replace("a", &PostParams::default(), &made).await;
        let Err(kube::Error::Api(status)) = stale else {
            panic!("{stale:?}")
        };
        assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
        let list = api.list(&ListParams::default().limit(1)).await.unwrap();
        assert_eq!(list.items.len(), 1);
        assert!(api.get_metadata("a").await.unwrap().metadata.uid.is_some());
        assert_eq!(
            api.list_metadata(&ListParams::default())
                .await
                .unwrap()
                .items
                .len(),
            1
        );
        api.delete("a", &DeleteParams::default()).await.unwrap();
        assert!(api.get_opt("a").await.unwrap().is_none());
        let namespaces: Api<Namespace> = Api::all(client.clone());
        assert_eq!(
            namespaces
                .list(&ListParams::default())
                .await
                .unwrap()
                .items
                .len(),
            4
        );
        let version = client.apiserver_version().await.unwrap();
        assert_eq!(version.git_version, malha_core::KUBERNETES_VERSION);
        let groups = kube::Discovery::new(client.clone()).run().await.unwrap();
        assert!(groups.groups().any(|group| group.name() == "apps"));
        let groups = kube::Discovery::new(client).run_aggregated().await.unwrap();
        assert!(groups.groups().any(|group| group.name() == "apps"));
    }
    server.shutdown().await;
}

/// The next object a watcher shows, however it came to it; the end of its first list is `-`.
async fn next<S>(events: &mut S) -> String
where
    S: Stream<Item = watcher::Result<Event<ConfigMap>>> + Unpin,
{
    loop {
        let event = timeout(Duration::from_secs(60), events.next()).await;
        match event.expect("an event within a minute").unwrap() {
            // It goes on by itself, from where it was or from the beginning.
            Err(_) | Ok(Event::Init) => {}
            Ok(Event::InitDone) => return "-".to_owned(),
            Ok(Event::Apply(map) | Event::InitApply(map)) => return map.name_any(),
            Ok(Event::Delete(map)) => return format!("{} deleted", map.name_any()),
        }
    }
}

#[tokio::test]
async fn watchers_follow_in_both_ways() {
    let (pki, dir) = (common::pki(), TempDir::new().unwrap());
    let server = common::start(&pki, dir.path()).await.unwrap();
    let api: Api<ConfigMap> = Api::default_namespaced(in_process(&server));
    let remote: Api<ConfigMap> = Api::default_namespaced(over_tls(&pki, &server).await);
    api.create(&PostParams::default(), &map("a")).await.unwrap();
    let listing = watcher::Config::default;
    let streaming = || watcher::Config::default().streaming_lists();
    let mut watchers = Vec::new();
    for api in [&api, &remote] {
        for config in [listing(), streaming()] {
            watchers.push(watcher(api.clone(), config).boxed());
        }
    }
    for watcher in &mut watchers {
        assert_eq!(next(watcher).await, "a");
        assert_eq!(next(watcher).await, "-");
    }
    api.create(&PostParams::default(), &map("b")).await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    for watcher in &mut watchers {
        assert_eq!(next(watcher).await, "b");
        assert_eq!(next(watcher).await, "a deleted");
    }
}

#[tokio::test]
async fn a_watcher_outlives_the_server() {
    let (pki, dir) = (common::pki(), TempDir::new().unwrap());
    let server = common::start(&pki, dir.path()).await.unwrap();
    let address = server.local_addr();
    let client = over_tls(&pki, &server).await;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let mut events = watcher(api.clone(), watcher::Config::default()).boxed();
    assert_eq!(next(&mut events).await, "-");
    api.create(&PostParams::default(), &map("a")).await.unwrap();
    assert_eq!(next(&mut events).await, "a");
    server.shutdown().await;
    let mut config = common::config(&pki, dir.path());
    config.listen = address;
    let server = Server::start(config).await.unwrap();
    let api: Api<ConfigMap> = Api::default_namespaced(in_process(&server));
    api.create(&PostParams::default(), &map("b")).await.unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&"b".to_owned()) {
        seen.push(next(&mut events).await);
    }
    server.shutdown().await;
}

#[tokio::test]
async fn many_writers_and_a_watcher_agree() {
    let (pki, dir) = (common::pki(), TempDir::new().unwrap());
    let server = common::start(&pki, dir.path()).await.unwrap();
    let api: Api<ConfigMap> = Api::default_namespaced(in_process(&server));
    let events = watcher(api.clone(), watcher::Config::default());
    let names = (0..200).map(|i| format!("m{i}"));
    let writes = futures::stream::iter(names.map(move |name| {
        let api = api.clone();
        async move { api.create(&PostParams::default(), &map(&name)).await }
    }));
    let writing = tokio::spawn(writes.buffer_unordered(20).try_collect::<Vec<_>>());
    let mut seen = std::collections::BTreeSet::new();
    let mut events = events.boxed();
    while seen.len() < 200 {
        let name = next(&mut events).await;
        if name != "-" {
            assert!(seen.insert(name.clone()), "{name} twice");
        }
    }
    writing.await.unwrap().unwrap();
    server.shutdown().await;
}
