//! Network policy on a Kubernetes that nobody here wrote.
use malha_e2e::{Cluster, HTTP, Probe, run, succeeds, until};
use serde_json::{Value, json};

/// A policy of namespace default, until it is dropped.
struct Policy<'a>(&'a Cluster, &'static str);

impl<'a> Policy<'a> {
    fn apply(cluster: &'a Cluster, name: &'static str, spec: Value) -> Self {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": name, "namespace": "default" }, "spec": spec,
        });
        cluster.apply(&policy.to_string());
        Self(cluster, name)
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        let _ = self
            .0
            .kubectl_command(&["delete", "networkpolicy", self.1])
            .output();
    }
}

/// Which of the pods reach this one, at every address.
fn who_reaches(cluster: &Cluster, probes: &[Probe], to: &Probe) -> Vec<bool> {
    let reaches = |from: &Probe| {
        let mut doors = to.at(HTTP);
        doors.all(|door| succeeds(&mut cluster.lab_in(&from.name, &["connect", &door])))
    };
    probes.iter().map(reaches).collect()
}

#[test]
fn only_who_may_reaches_an_isolated_pod() {
    let cluster = Cluster::with_network();
    let probes = cluster.probes();
    let [server, friend, ..] = probes.as_slice() else {
        panic!("two hosts at least");
    };
    let all = vec![true; probes.len()];
    assert_eq!(who_reaches(&cluster, &probes, server), all);
    cluster.kubectl(&["label", "pod", &server.name, "role=server", "--overwrite"]);
    let _policy = Policy::apply(
        &cluster,
        "only-friends",
        json!({
            "podSelector": { "matchLabels": { "role": "server" } },
            "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "role": "friend" } } }], "ports": [{ "port": HTTP }] }],
        }),
    );
    // A pod reaches itself whatever happens.
    let only = |friends: &[&Probe]| -> Vec<bool> {
        let may = |probe: &Probe| {
            probe.name == server.name || friends.iter().any(|friend| friend.name == probe.name)
        };
        probes.iter().map(may).collect()
    };
    until("nobody is a friend", || {
        who_reaches(&cluster, &probes, server) == only(&[])
    });
    cluster.kubectl(&["label", "pod", &friend.name, "role=friend", "--overwrite"]);
    until("one friend", || {
        who_reaches(&cluster, &probes, server) == only(&[friend])
    });
    // Its own node looks after it.
    for door in server.at(HTTP) {
        let host = cluster.host(&server.node);
        run(&mut cluster.malha_on(host, &["lab", "connect", &door]));
    }
    cluster.kubectl(&["label", "pod", &friend.name, "role-"]);
    until("no friend any more", || {
        who_reaches(&cluster, &probes, server) == only(&[])
    });
    drop(_policy);
    until("no policy any more", || {
        who_reaches(&cluster, &probes, server) == all
    });
    cluster.kubectl(&["label", "pod", &server.name, "role-"]);
}
