//! `malha join` in place of `kubeadm join`, on a control plane that real kubeadm made, with real kubelets.

mod common;

use std::collections::BTreeMap;

use common::{control_plane, host, join, malha, say};
use malha_peer::{ControlPlane, Entry, Host, Joiner, NETWORK, Switch, TOKEN, Tree};

/// What both programs write, and what the kubelet does with it.
const PLACES: [&str; 4] = [
    "/etc/kubernetes",
    "/var/lib/kubelet",
    "/etc/systemd",
    "/etc/default",
];

/// Differences to `kubeadm join` that are intended, and why. All others fail the test.
const INTENDED: [(&str, &str); 1] = [(
    "/var/lib/kubelet/pki/kubelet-client-DATE.pem",
    "the key is written as PKCS #8, not as SEC 1: the same key, which the kubelet replaces when it rotates",
)];

/// Files by a name without dates, texts without what is random or the node's own.
fn comparable(host: &Host) -> Tree {
    let tree = host.tree(&PLACES).expect("readable");
    let entries = tree.into_iter().map(|(path, mut entry)| {
        let secret = path.ends_with(".pem") || path.ends_with(".key") || path.ends_with("kubelet.crt");
        if entry.kind == "file" && secret {
            let shown = "sed -n 's/^-----BEGIN/&/p' \"$0\"; openssl x509 -in \"$0\" -noout -subject -issuer -ext keyUsage,extendedKeyUsage 2>/dev/null || :";
            let output = host.output("sh", &["-c", shown, &path]).expect("openssl");
            entry.content = String::from_utf8_lossy(&output.stdout).into_owned();
        }
        // Elsewhere a short name may be part of something encoded.
        if secret || path.ends_with(".env") {
            entry.content = undated(&entry.content).replace(&host.name, "NODE");
        }
        (undated(&path), entry)
    });
    entries.collect()
}

/// `kubelet-client-2026-11-25-06-48-01.pem` as `kubelet-client-DATE.pem`; `@1764052081` of a self-signed certificate.
fn undated(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, name) in [("9999-99-99-99-99-99", "DATE"), ("@9999999999", "@TIME")] {
        let digit = |c: char| if c.is_ascii_digit() { '9' } else { c };
        while let Some(at) = text.chars().map(digit).collect::<String>().find(pattern) {
            text.replace_range(at..at + pattern.len(), name);
        }
    }
    text
}

/// A line for each difference.
fn differences(theirs: &Tree, ours: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    let shown = |entry: Option<&Entry>| match entry {
        None => "nothing".to_owned(),
        Some(e) => format!("{} {:o} of {}:{}", e.kind, e.mode, e.owner.0, e.owner.1),
    };
    let mut paths: Vec<&String> = theirs.keys().chain(ours.keys()).collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        let (theirs, ours) = (theirs.get(path), ours.get(path));
        if INTENDED.iter().any(|(intended, _)| intended == path) || theirs == ours {
            continue;
        }
        if shown(theirs) == shown(ours) {
            let [ours, theirs] = [ours, theirs].map(|e| e.map_or("", |e| e.content.as_str()));
            let same = ours
                .bytes()
                .zip(theirs.bytes())
                .take_while(|(a, b)| a == b)
                .count();
            let from = |text: &str| String::from_utf8_lossy(&text.as_bytes()[same..]).into_owned();
            lines.push(format!(
                "{path}: from byte {same} on {:?}, not {:?}",
                from(ours),
                from(theirs)
            ));
        } else {
            lines.push(format!("{path}: {}, not {}", shown(ours), shown(theirs)));
        }
    }
    lines
}

/// What the cluster knows of a node, whichever it is.
fn node(control_plane: &ControlPlane, name: &str) -> String {
    let parts = "{.metadata.annotations}\n{.metadata.labels}\n{.spec.taints}\n{.status.nodeInfo.kubeletVersion}\n\
                 {.status.addresses[*].type}";
    let path = format!("jsonpath={parts}");
    let text = control_plane.kubectl(&["get", "node", name, "-o", &path]);
    let text = text.expect("the node is registered");
    // The node controller's own note comes when it gets round to it.
    text.replace(name, "NODE")
        .replace("\"node.alpha.kubernetes.io/ttl\":\"0\",", "")
}

fn same_in_the_end(theirs: &Host, ours: &Host) {
    let mut last = Vec::new();
    let outcome = ours.until("both have the same files", || {
        last = differences(&comparable(theirs), &comparable(ours));
        Ok(last.is_empty())
    });
    assert!(outcome.is_ok(), "{last:#?}");
}

#[test]
fn the_files_and_the_node_are_those_of_kubeadm() {
    let control_plane = control_plane();
    let theirs = host(&control_plane, 1, true);
    let ours = host(&control_plane, 2, true);
    join(&control_plane, &theirs, &Joiner::Kubeadm, &[]);
    let said = join(&control_plane, &ours, &malha(), &[]);
    assert!(said.contains("This node has joined the cluster"), "{said}");
    same_in_the_end(&theirs, &ours);
    let nodes = BTreeMap::from([
        (node(&control_plane, "w1"), "kubeadm"),
        (node(&control_plane, "w2"), "malha"),
    ]);
    assert_eq!(nodes.len(), 1, "{nodes:#?}");
}

#[test]
fn a_kubelet_that_nobody_else_starts_and_that_takes_its_time() {
    let control_plane = control_plane();
    let host = host(&control_plane, 1, false);
    // The kubelet asks for a cloud's credentials at its start, and waits twelve seconds for an answer.
    host.shell("iptables -A OUTPUT -d 169.254.169.254 -j DROP")
        .expect("iptables");
    join(&control_plane, &host, &malha(), &[]);
    node(&control_plane, "w1");
    assert!(say(&host, &malha(), &["reset", "--force"]).success);
    let left = host
        .shell("pgrep -x kubelet || :; ls -A /etc/kubernetes /var/lib/kubelet 2>/dev/null || :");
    let left = left.expect("a shell");
    assert!(
        !left
            .lines()
            .any(|line| !line.is_empty() && !line.ends_with(':')),
        "{left}"
    );
}

/// The same node by each version of the file; a list of flags since v1beta4.
fn configuration(control_plane: &ControlPlane, version: &str, name: &str) -> String {
    let flags = match version {
        "v1beta4" => "[{name: node-labels, value: x=y}, {name: v, value: '1'}]",
        _ => "{node-labels: x=y, v: '1'}",
    };
    format!(
        "apiVersion: kubeadm.k8s.io/{version}\nkind: JoinConfiguration\nnodeRegistration:\n  name: {name}\n  \
         criSocket: /run/containerd/containerd.sock\n  kubeletExtraArgs: {flags}\n  \
         taints: [{{key: a, value: b, effect: NoSchedule}}]\n  ignorePreflightErrors: [CRI, FileExisting-crictl]\ndiscovery:\n  \
         bootstrapToken:\n    apiServerEndpoint: {}\n    token: {TOKEN}\n    caCertHashes: ['{}']\n",
        control_plane.endpoint(),
        control_plane.pin
    )
}

#[test]
fn configuration_files_of_every_version() {
    let control_plane = control_plane();
    let mut flags = Vec::new();
    for (number, joiner, version) in [
        (1, Joiner::Kubeadm, "v1beta2"),
        (2, malha(), "v1beta2"),
        (3, malha(), "v1beta3"),
        (4, malha(), "v1beta4"),
    ] {
        let host = host(&control_plane, number, true);
        let name = format!("named-{number}");
        host.write(
            "/etc/join.yaml",
            &configuration(&control_plane, version, &name),
        )
        .expect("written");
        say(&host, &joiner, &["join", "--config", "/etc/join.yaml"]).ok();
        let text = host
            .read("/var/lib/kubelet/kubeadm-flags.env")
            .expect("written");
        let known = node(&control_plane, &name);
        assert!(
            known.contains("\"x\":\"y\"") && known.contains("\"key\":\"a\""),
            "{known}"
        );
        flags.push((
            text.replace(&name, "NODE"),
            known.replace(&host.name, "HOST"),
        ));
    }
    let (first, others) = flags.split_first().expect("four");
    for other in others {
        assert_eq!(other, first);
    }
}

#[test]
fn discovery_by_file_by_two_tokens_and_a_name_of_its_own() {
    let control_plane = control_plane();
    let both = [
        "--tls-bootstrap-token",
        TOKEN,
        "--cri-socket",
        "/run/containerd/containerd.sock",
    ];
    let endpoint = control_plane.endpoint();
    let file = [
        "--discovery-file",
        "/etc/discovery.conf",
        "--node-name",
        "by-file",
    ];
    let tokens = [
        &endpoint,
        "--discovery-token",
        TOKEN,
        "--discovery-token-ca-cert-hash",
        &control_plane.pin,
        "--node-name",
        "by-tokens",
    ];
    for (first, way) in [(1, file.as_slice()), (3, tokens.as_slice())] {
        let hosts = [(first, Joiner::Kubeadm), (first + 1, malha())].map(|(number, joiner)| {
            let host = host(&control_plane, number, true);
            let info = "kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-public get configmap cluster-info -o jsonpath={.data.kubeconfig}";
            let info = control_plane.host.shell(info).expect("cluster-info");
            host.write("/etc/discovery.conf", &info).expect("written");
            let words = ["join", "--ignore-preflight-errors=all"];
            let words = [words.as_slice(), way, &both].concat();
            say(&host, &joiner, &words).ok();
            let found = node(&control_plane, way[way.len() - 1]);
            control_plane.kubectl(&["delete", "node", way[way.len() - 1]]).expect("deleted");
            (host, found)
        });
        let [(theirs, their_node), (ours, our_node)] = &hosts;
        assert_eq!(
            their_node.replace(&theirs.name, "HOST"),
            our_node.replace(&ours.name, "HOST")
        );
        same_in_the_end(theirs, ours);
    }
}

#[test]
fn a_rehearsal_changes_nothing() {
    let control_plane = control_plane();
    let host = host(&control_plane, 1, true);
    let everything = [
        "/etc",
        "/var/lib/kubelet",
        "/var/lib/malha",
        "/run/malha",
        "/var/log/malha",
        "/opt/cni",
    ];
    let look = || {
        let objects = control_plane.kubectl(&["get", "nodes,csr,secrets", "-A", "-o", "name"]);
        (
            host.tree(&everything).expect("readable"),
            objects.expect("listed"),
        )
    };
    let before = look();
    let said = join(&control_plane, &host, &malha(), &["--dry-run"]);
    assert!(said.contains("[dryrun] Would start kubelet"), "{said}");
    assert!(!said.contains("0123456789abcdef"), "{said}");
    assert_eq!(look(), before);
}

#[test]
fn tokens_are_shared_with_kubeadm() {
    let control_plane = control_plane();
    let tokens = |joiner: &Joiner, words: &[&str]| {
        let words = [
            &["token"],
            words,
            &["--kubeconfig", "/etc/kubernetes/admin.conf"],
        ]
        .concat();
        say(&control_plane.host, joiner, &words)
    };
    let table = |text: &str| {
        let words = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        words.collect::<Vec<_>>()
    };
    let made = tokens(
        &malha(),
        &["create", "--ttl", "2h", "--description", "of malha"],
    )
    .ok();
    let of_kubeadm = tokens(&Joiner::Kubeadm, &["create", "--ttl", "3h"]).ok();
    let (ours, theirs) = (
        tokens(&malha(), &["list"]).ok(),
        tokens(&Joiner::Kubeadm, &["list"]).ok(),
    );
    assert_eq!(table(&ours), table(&theirs));
    for token in [made.trim(), of_kubeadm.trim(), TOKEN] {
        assert!(ours.contains(token), "{ours}");
    }
    let command = tokens(&malha(), &["create", "--print-join-command"]).ok();
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    // Each joins with the other's.
    let first = host(&control_plane, 1, true);
    let ignoring = [words.as_slice(), &["--ignore-preflight-errors=all"]].concat();
    say(&first, &Joiner::Kubeadm, &ignoring).ok();
    let second = host(&control_plane, 2, true);
    let with = |token: &'static str| {
        [
            words[..2].to_vec(),
            vec!["--token", token],
            words[4..].to_vec(),
        ]
        .concat()
    };
    let of_kubeadm: &'static str = Box::leak(of_kubeadm.trim().to_owned().into_boxed_str());
    say(&second, &malha(), &with(of_kubeadm)).ok();
    for name in ["w1", "w2"] {
        node(&control_plane, name);
    }
    let id = made.trim().split('.').next().expect("an ID");
    assert!(tokens(&malha(), &["delete", id]).ok().contains("deleted"));
    assert!(!tokens(&Joiner::Kubeadm, &["list"]).ok().contains(id));
}

#[test]
fn kubeadm_and_the_real_kubelet_join_malhas_control_plane() {
    let switch = Switch::new().expect("a switch");
    let control = Host::start(&switch, "control", &format!("{NETWORK}.10")).expect("a host");
    say(&control, &malha(), &["init"]).ok();
    let command = say(
        &control,
        &malha(),
        &["token", "create", "--print-join-command"],
    )
    .ok();
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    for (number, joiner) in [(1, Joiner::Kubeadm), (2, malha())] {
        let address = format!("{NETWORK}.{}", 10 + number);
        let host = Host::start(&switch, &format!("w{number}"), &address).expect("a host");
        host.start_containerd().expect("a container runtime");
        host.watch_kubelet().expect("a supervisor");
        let mut words = words.clone();
        words.push("--ignore-preflight-errors=all");
        let outcome = say(&host, &joiner, &words);
        if joiner == Joiner::Kubeadm {
            println!("{}", outcome.err);
            continue;
        }
        outcome.ok();
        let nodes = control
            .shell("kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes")
            .expect("nodes");
        assert!(nodes.contains(&host.name), "{nodes}");
    }
}
