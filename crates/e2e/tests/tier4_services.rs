//! Beside kube-proxy: whatever it translates, on whichever node, finds its backend and the way back.
use std::process::Command;

use malha_e2e::{Cluster, HTTP, Probe, run, socket, until};
use serde_json::json;

/// kube-proxy on every host, until it is dropped.
struct KubeProxy<'a>(&'a Cluster);

impl<'a> KubeProxy<'a> {
    fn start(cluster: &'a Cluster) -> Self {
        if let Some(proxy) = &cluster.description.kube_proxy {
            run(Command::new(&proxy.start[0]).args(&proxy.start[1..]));
        }
        Self(cluster)
    }
}

impl Drop for KubeProxy<'_> {
    fn drop(&mut self) {
        if let Some(proxy) = &self.0.description.kube_proxy {
            let stopped = Command::new(&proxy.stop[0]).args(&proxy.stop[1..]).output();
            eprintln!("kube-proxy stopped: {stopped:?}");
        }
    }
}

/// A service whose only backend is this pod.
struct Service {
    name: String,
    /// One of each family at most, with its port.
    addresses: Vec<String>,
    node_port: u16,
}

fn serve(cluster: &Cluster, probe: &Probe) -> Service {
    let name = format!("only-{}", probe.node);
    cluster.kubectl(&[
        "label",
        "pod",
        &probe.name,
        &format!("only={name}"),
        "--overwrite",
    ]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "type": "NodePort", "selector": { "only": name }, "ipFamilyPolicy": "PreferDualStack",
            "ports": [{ "port": 80, "targetPort": HTTP }],
        },
    });
    cluster.apply(&service.to_string());
    let made = cluster.get(&["service", &name]);
    let addresses = made["spec"]["clusterIPs"].as_array().unwrap().iter();
    let node_port = made["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    Service {
        addresses: addresses
            .map(|address| socket(address.as_str().unwrap(), 80))
            .collect(),
        node_port: node_port as u16,
        name,
    }
}

#[test]
fn kube_proxys_services_work_from_pods_nodes_and_outside() {
    let cluster = Cluster::with_network();
    let probes = cluster.probes();
    let proxy = KubeProxy::start(&cluster);
    let services: Vec<(Service, &Probe)> = probes
        .iter()
        .map(|probe| (serve(&cluster, probe), probe))
        .collect();
    let last = &services.last().unwrap().0.addresses;
    let hosts = &cluster.description.hosts;
    for (host, last) in hosts
        .iter()
        .flat_map(|host| last.iter().map(move |last| (host, last)))
    {
        let knock = ["lab", "connect", last.as_str()];
        until("kube-proxy has its rules", || {
            cluster
                .malha_on(host, &knock)
                .output()
                .unwrap()
                .status
                .success()
        });
    }
    let mut failures = Vec::new();
    let mut ask = |from: &str, to: &str, backend: &str, mut command: Command| {
        let output = command.output().unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if answer != backend {
            failures.push(format!(
                "{from} to {to}: {answer:?} {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    };
    for (service, backend) in &services {
        let targets = hosts.iter().flat_map(|host| host.addresses());
        let targets = targets.map(|address| socket(address, service.node_port));
        for target in targets.chain(service.addresses.iter().cloned()) {
            let fetch = ["fetch", target.as_str(), "/hostname"];
            // Among them the backend itself.
            for probe in &probes {
                ask(
                    &probe.name,
                    &target,
                    &backend.name,
                    cluster.lab_in(&probe.name, &fetch),
                );
            }
            let fetch = ["lab", "fetch", target.as_str(), "/hostname"];
            for host in &cluster.description.hosts {
                ask(
                    &host.name,
                    &target,
                    &backend.name,
                    cluster.malha_on(host, &fetch),
                );
            }
            if !service.addresses.contains(&target) {
                ask(
                    "outside",
                    &target,
                    &backend.name,
                    cluster.malha_outside(&fetch),
                );
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // A pod that is translated to another pod is seen as itself.
    let (service, _) = &services[0];
    for address in &service.addresses {
        let seen = cluster.fetch(&probes[1].name, address, "/clientip");
        assert!(probes[1].addresses.contains(&seen), "{seen}");
    }
    for (service, _) in &services {
        cluster.kubectl(&["delete", "service", &service.name]);
    }
    drop(proxy);
}

#[test]
fn a_long_flow_through_a_service_survives_new_agents() {
    let cluster = Cluster::with_network();
    let probes = cluster.probes();
    let proxy = KubeProxy::start(&cluster);
    let name = "echo";
    cluster.kubectl(&["label", "pod", &probes[1].name, "only=echo", "--overwrite"]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "default" },
        "spec": { "selector": { "only": name }, "ports": [{ "port": 7070, "protocol": "UDP" }] },
    });
    cluster.apply(&service.to_string());
    let made = cluster.get(&["service", name]);
    let address = format!("{}:7070", made["spec"]["clusterIP"].as_str().unwrap());
    let knock = ["connect", address.as_str(), "--protocol", "udp"];
    until("kube-proxy has its rules", || {
        cluster
            .lab_in(&probes[0].name, &knock)
            .output()
            .unwrap()
            .status
            .success()
    });
    let words = [
        "stream",
        address.as_str(),
        "--count",
        "45000",
        "--interval-ms",
        "2",
    ];
    let stream = cluster
        .lab_in(&probes[0].name, &words)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    cluster.kubectl(&[
        "-n",
        "kube-system",
        "rollout",
        "restart",
        "daemonset",
        "malha",
    ]);
    cluster.rolled_out();
    let output = stream.wait_with_output().unwrap();
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcome["lost"], 0, "{outcome}");
    cluster.kubectl(&["delete", "service", name]);
    cluster.kubectl(&["label", "pod", &probes[1].name, "only-"]);
    drop(proxy);
}

#[test]
fn a_client_reaches_its_service_if_it_may_reach_the_backend() {
    let cluster = Cluster::with_network();
    let probes = cluster.probes();
    let _proxy = KubeProxy::start(&cluster);
    let (client, backend) = (&probes[0], probes.last().unwrap());
    let service = serve(&cluster, backend);
    let reaches = || {
        let mut addresses = service.addresses.iter();
        let connect = |address: &String| cluster.lab_in(&client.name, &["connect", address]);
        addresses.all(|address| malha_e2e::succeeds(&mut connect(address)))
    };
    until("kube-proxy knows the service", reaches);
    cluster.kubectl(&["label", "pod", &client.name, "role=client", "--overwrite"]);
    let policy = |backend: &str| {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": "client", "namespace": "default" },
            "spec": {
                "podSelector": { "matchLabels": { "role": "client" } }, "policyTypes": ["Ingress", "Egress"],
                "egress": [{ "to": [{ "podSelector": { "matchLabels": { "only": backend } } }], "ports": [{ "port": HTTP }] }],
            },
        });
        cluster.apply(&policy.to_string());
    };
    policy("somebody-else");
    until("its backend is closed to it", || !reaches());
    policy(&service.name);
    until("its backend is open to it", reaches);
    cluster.kubectl(&["delete", "networkpolicy", "client"]);
    cluster.kubectl(&["label", "pod", &client.name, "role-"]);
    cluster.kubectl(&["delete", "service", &service.name]);
}
