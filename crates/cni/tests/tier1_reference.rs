//! The runtime with the reference plugins (Debian's `containernetworking-plugins`), on a node that is a namespace:
//! afterwards nothing of a pod is left on it.
mod common;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use common::{Bench, Namespace, attachment, names};
use malha_cni::{
    loopback,
    runtime::{Attachment, Options, Runtime, load_file},
    types::NetworkList,
};
use serde_json::json;
use std::os::fd::AsFd;

const PLUGINS: &str = "/usr/lib/cni";

struct Node {
    namespace: Namespace,
    bench: Bench,
    runtime: Runtime,
}

impl Node {
    fn new() -> Self {
        let plugins = Path::new(PLUGINS).join("bridge");
        assert!(
            plugins.exists(),
            "{} is missing: apt-get install -y containernetworking-plugins",
            plugins.display()
        );
        let namespace = Namespace::new();
        loopback::up(namespace.file().as_fd()).expect("lo");
        let bench = Bench::new();
        let options = Options {
            bin_dirs: vec![PLUGINS.into()],
            cache_dir: bench.path("cache"),
            limit: Duration::from_secs(60),
        };
        Self {
            namespace,
            bench,
            runtime: Runtime::new(options),
        }
    }

    /// bridge with masquerade, host-local for both families, portmap.
    fn list(&self, version: &str) -> NetworkList {
        let text = json!({
            "cniVersion": version,
            "name": "reference",
            "plugins": [
                {
                    "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": self.bench.path("addresses"),
                        "ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "fd00:88::/64"}]],
                        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
                    }
                },
                {"type": "portmap", "capabilities": {"portMappings": true}}
            ]
        });
        let path = self.bench.path("10-reference.conflist");
        fs::write(&path, text.to_string()).expect("a list");
        load_file(&path).expect("a list")
    }

    fn add(&self, list: &NetworkList, pod: &Attachment) -> malha_cni::types::Success {
        self.namespace
            .enter(|| self.runtime.add(list, pod))
            .unwrap_or_else(|e| panic!("ADD: {e}"))
    }

    fn del(&self, list: &NetworkList, pod: &Attachment) {
        self.namespace
            .enter(|| self.runtime.del(list, pod))
            .unwrap_or_else(|e| panic!("DEL: {e}"));
    }

    /// Everything on the node that could be a pod's: ports of the bridge, rules, addresses, records.
    fn traces(&self) -> String {
        let ports = "ip -o link show type veth; ip -o route show table all | grep 10.88.0.1 | sed 's/ linkdown//' || true";
        let rules = "for t in iptables-save ip6tables-save; do $t | grep -E 'c1|c2|10.88.0.[2-9]|8080' || true; done";
        let mut addresses: Vec<String> = names(&self.bench.path("addresses/reference"));
        addresses.retain(|name| !name.starts_with("last_reserved") && name != "lock");
        format!(
            "{}{}{addresses:?}{:?}",
            self.namespace.sh(ports),
            self.namespace.sh(rules),
            self.bench.records()
        )
    }
}

/// A TCP connection from one namespace to an address of another.
fn connects(server: &Namespace, client: &Namespace, address: &str) {
    let listener = server
        .enter(|| TcpListener::bind((address, 0)))
        .expect("a listener");
    let target = listener.local_addr().expect("its address");
    let connected = client.enter(|| TcpStream::connect_timeout(&target, Duration::from_secs(10)));
    connected.unwrap_or_else(|e| panic!("{target}: {e}"));
}

fn pod(container: &str, netns: Option<PathBuf>) -> Attachment {
    let ports =
        json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
    Attachment {
        capabilities: ports.as_object().expect("an object").clone(),
        ..attachment(container, netns)
    }
}

#[test]
fn pods_come_and_go_without_a_trace() {
    let node = Node::new();
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let list = node.list(version);
        // The first pod makes what stays: the bridge, the plugins' own chains.
        let first = Namespace::new();
        node.add(&list, &attachment("c0", Some(first.path())));
        node.del(&list, &attachment("c0", Some(first.path())));
        let before = node.traces();

        let (one, two) = (Namespace::new(), Namespace::new());
        let result = node.add(&list, &pod("c1", Some(one.path())));
        node.add(&list, &attachment("c2", Some(two.path())));
        assert_eq!(result.ips.len(), 2);
        assert_ne!(node.traces(), before, "the traces can be seen at all");
        connects(&node.namespace, &one, "10.88.0.1");
        if version != "0.3.1" {
            // The pod without ports: portmap 1.1.1 finds its own rules wanting when there are any.
            let plain = attachment("c2", Some(two.path()));
            let check = || node.namespace.enter(|| node.runtime.check(&list, &plain));
            check().unwrap_or_else(|e| panic!("CHECK {version}: {e}"));
            two.sh("ip route del default");
            assert!(
                check().is_err(),
                "CHECK {version} of a pod without its route"
            );
        }
        node.del(&list, &pod("c1", Some(one.path())));
        node.del(&list, &pod("c1", Some(one.path())));
        node.del(&list, &attachment("c2", Some(two.path())));
        assert_eq!(node.traces(), before, "cniVersion {version}");
    }
}

#[test]
fn a_failed_chain_leaves_nothing() {
    let node = Node::new();
    let mut list = node.list("1.0.0");
    let warm = Namespace::new();
    node.add(&list, &attachment("c0", Some(warm.path())));
    node.del(&list, &attachment("c0", Some(warm.path())));
    let before = node.traces();
    list.plugins.push(
        malha_cni::types::PluginEntry::parse(
            br#"{"type":"tuning","sysctl":{"net.ipv4.no_such_key":"1"}}"#,
        )
        .expect("a plugin"),
    );
    let netns = Namespace::new();
    let failed = node
        .namespace
        .enter(|| node.runtime.add(&list, &pod("c1", Some(netns.path()))));
    let error = failed.expect_err("tuning fails").to_string();
    assert!(
        error.contains("tuning") && !error.contains("cleaning up"),
        "{error}"
    );
    assert_eq!(node.traces(), before);
}

#[test]
fn gc_gives_back_what_a_lost_pod_held() {
    let node = Node::new();
    let list = node.list("1.0.0");
    let warm = Namespace::new();
    node.add(&list, &attachment("c0", Some(warm.path())));
    node.del(&list, &attachment("c0", Some(warm.path())));
    let before = node.traces();
    let netns = Namespace::new();
    // Without ports: portmap 1.1.1 needs no more than the container's ID for them, but bridge 1.1.1 needs the
    // namespace for its masquerade rules, which is its defect, not the runtime's.
    let mut plain = list.clone();
    plain.plugins[0].raw.insert("ipMasq".into(), false.into());
    node.add(&plain, &pod("c1", Some(netns.path())));
    drop(netns);
    common::until("the pod's link is gone", || {
        node.namespace.sh("ip -o link show type veth").is_empty()
    });
    node.namespace
        .enter(|| node.runtime.gc(&plain, &[]))
        .expect("collected");
    assert_eq!(node.traces(), before);
}

#[test]
fn the_reference_loopback_and_ours_do_the_same() {
    let list = common::list("1.0.0", &json!([{"type": "loopback"}]));
    let node = Node::new();
    let (theirs, ours) = (Namespace::new(), Namespace::new());
    let mut pod = attachment("c1", Some(theirs.path()));
    pod.id.ifname = "lo".into();
    let result = node.add(&list, &pod);
    assert!(!loopback::look(ours.file().as_fd()).expect("lo").up);
    let state = loopback::up(ours.file().as_fd()).expect("lo");
    assert_eq!(loopback::look(theirs.file().as_fd()).expect("lo"), state);
    assert_eq!(result.ips.len(), if state.v6 { 2 } else { 1 });
    connects(&ours, &ours, "127.0.0.1");
    node.del(&list, &pod);
}

#[test]
fn versions_are_what_the_plugin_says() {
    let node = Node::new();
    let versions = node.runtime.versions("bridge").expect("versions");
    assert!(versions.contains(&"1.0.0".to_owned()), "{versions:?}");
}
