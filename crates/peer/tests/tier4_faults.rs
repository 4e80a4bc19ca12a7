//! Joins that fail on a real control plane: each in under ten seconds, in one line that names cause and remedy, and with
//! nothing changed. The rows are those of docs/join.md, as far as a host can be given such a fault.

mod common;

use common::{Outcome, control_plane, host, malha, say};
use malha_peer::{
    ControlPlane, Host, TOKEN,
    faults::{Row, rows},
};

/// What a failed join may not take. `malha_join::join::LIMIT`.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// A fault: what is done to the host before and after, with what words it joins, and what the line has to hold.
struct Fault {
    cause: &'static str,
    before: String,
    after: String,
    /// What comes before the program, in a shell.
    prefix: &'static str,
    words: Vec<String>,
    says: Vec<String>,
}

struct Bench<'a> {
    control_plane: &'a ControlPlane,
    host: &'a Host,
    /// Another cluster, in whose place it could answer.
    other: &'a Host,
    rows: Vec<Row>,
}

impl Bench<'_> {
    /// A fault of the host: a join with the right words.
    fn of_host(&self, cause: &'static str, before: &str, after: &str, says: &[&str]) -> Fault {
        Fault {
            cause,
            before: before.to_owned(),
            after: after.to_owned(),
            prefix: "",
            words: self.words(
                &self.control_plane.endpoint(),
                TOKEN,
                &self.control_plane.pin,
            ),
            says: says.iter().map(|part| (*part).to_owned()).collect(),
        }
    }

    /// A fault in the words.
    fn of_words(&self, cause: &'static str, words: Vec<String>, says: &[&str]) -> Fault {
        Fault {
            words,
            ..self.of_host(cause, "", "", says)
        }
    }

    fn words(&self, endpoint: &str, token: &str, pin: &str) -> Vec<String> {
        [
            "join",
            endpoint,
            "--token",
            token,
            "--discovery-token-ca-cert-hash",
            pin,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn with(&self, more: &[&str]) -> Vec<String> {
        let mut words = self.words(
            &self.control_plane.endpoint(),
            TOKEN,
            &self.control_plane.pin,
        );
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    }

    /// By a configuration file, with flags for the kubelet.
    fn with_flags(&self, flags: &str) -> (String, Vec<String>) {
        let text = format!(
            "apiVersion: kubeadm.k8s.io/v1beta2\nkind: JoinConfiguration\nnodeRegistration: {{kubeletExtraArgs: {{{flags}}}}}\n\
             discovery: {{bootstrapToken: {{apiServerEndpoint: '{}', token: {TOKEN}, caCertHashes: ['{}']}}}}\n",
            self.control_plane.endpoint(),
            self.control_plane.pin
        );
        let words = ["join", "--config", "/root/join.yaml"].map(str::to_owned);
        (
            format!("cat >/root/join.yaml <<'END'\n{text}END"),
            words.to_vec(),
        )
    }

    fn check(&self, fault: &Fault) -> Option<String> {
        let malha = malha();
        let places = ["/etc", "/var/lib/kubelet", "/var/lib/malha"];
        self.host.shell(&fault.before).expect(fault.cause);
        let before = self.host.tree(&places).expect("readable");
        let mut command = self.host.command("sh");
        command.args(["-c", &format!("{} \"$@\"", fault.prefix), "sh"]);
        command.arg(malha.program()).args(&fault.words);
        let outcome = Outcome::of(command);
        let same = self.host.tree(&places).expect("readable") == before;
        self.host.shell(&fault.after).expect(fault.cause);
        let line = outcome.reason();
        println!(
            "{:5.2} s  {}: {line}",
            outcome.took.as_secs_f32(),
            fault.cause
        );
        let wrong = if outcome.took >= LIMIT {
            "too late"
        } else if !same {
            "something was changed"
        } else if !self
            .rows
            .iter()
            .any(|row| row.cause == fault.cause && row.describes(line))
        {
            "not as in docs/join.md"
        } else if !fault.says.iter().all(|part| line.contains(part)) {
            "cause or remedy is missing"
        } else {
            return None;
        };
        Some(format!(
            "{}: {wrong} ({:?}): {line}",
            fault.cause, fault.says
        ))
    }
}

fn of_the_way(b: &Bench) -> Vec<Fault> {
    let (address, pin) = (&b.control_plane.host.address, &b.control_plane.pin);
    let drop = |verb: &str| format!("iptables {verb} OUTPUT -p tcp --dport 6443 -j DROP");
    vec![
        b.of_words(
            "nothing listens, the API server is down",
            b.words(&format!("{address}:6444"), TOKEN, pin),
            &["connection refused", "check address and port"],
        ),
        b.of_host(
            "packets are dropped",
            &drop("-A"),
            &drop("-D"),
            &["is silent", "no firewall drops packets"],
        ),
        b.of_host(
            "no route",
            &format!("ip route add unreachable {address}"),
            &format!("ip route del unreachable {address}"),
            &["no route to host", "ip route"],
        ),
        b.of_words(
            "no route",
            b.words("192.0.2.1:6443", TOKEN, pin),
            &["check the address and this machine's routes"],
        ),
        b.of_words(
            "a name that leads nowhere, silent name servers",
            b.words("control.invalid:6443", TOKEN, pin),
            &[
                "cannot find the address of \"control.invalid\"",
                "use the server's address",
            ],
        ),
    ]
}

fn of_trust(b: &Bench) -> Vec<Fault> {
    let (endpoint, pin) = (b.control_plane.endpoint(), &b.control_plane.pin);
    let other = format!("sha256:{}", "0".repeat(64));
    let new = "malha token create --print-join-command";
    let divert = |verb: &str| {
        let there = &b.other.address;
        format!("iptables -t nat {verb} OUTPUT -p tcp --dport 6443 -j DNAT --to {there}")
    };
    vec![
        b.of_host(
            "somebody between with a CA of his own",
            &divert("-A"),
            &divert("-D"),
            &["is not the pinned one", pin],
        ),
        b.of_words(
            "a wrong pin, another cluster",
            b.words(&endpoint, TOKEN, &other),
            &["is not the pinned one", pin, new],
        ),
        b.of_words(
            "a token that is unknown, expired or deleted",
            b.words(&endpoint, "zzzzzz.0123456789abcdef", pin),
            &["does not know the token zzzzzz", new],
        ),
        b.of_words(
            "a token that is unknown, expired or deleted",
            b.words(&endpoint, "expire.0123456789abcdef", pin),
            &["does not know the token expire", "has expired", new],
        ),
        b.of_words(
            "a wrong secret in the token",
            b.words(&endpoint, "abcdef.fedcba9876543210", pin),
            &["the part after the dot is wrong", new],
        ),
        b.of_words(
            "a malformed token",
            b.words(&endpoint, "abcdef.short", pin),
            &["has 5 characters", new],
        ),
        b.of_words(
            "a malformed pin",
            b.words(&endpoint, TOKEN, "md5:00"),
            &["--discovery-token-ca-cert-hash", new],
        ),
        b.of_words(
            "no pin",
            vec![
                "join".into(),
                endpoint.clone(),
                "--token".into(),
                TOKEN.into(),
            ],
            &["without --discovery-token-ca-cert-hash"],
        ),
        b.of_words(
            "a name that is taken",
            b.with(&["--node-name", "taken"]),
            &[
                "\"taken\" is already in the cluster",
                "192.0.2.9",
                "--node-name",
                "kubectl delete node taken",
            ],
        ),
    ]
}

fn of_the_machine(b: &Bench) -> Vec<Fault> {
    let listen = "openssl s_server -accept 10250 -nocert >/dev/null 2>&1 & \
                  until ss -ltn 'sport = :10250' | grep -q 10250; do sleep .05; done";
    let kubelet = "mkdir -p /opt/newer; printf '#!/bin/sh\\necho Kubernetes v1.99.0\\n' >/opt/newer/kubelet; chmod +x /opt/newer/kubelet";
    let (flags, of_driver) = b.with_flags("cgroup-driver: systemd");
    let swaps = "printf 'Filename Type Size\\n/dev/sda2 partition 1\\n' >/tmp/swaps; mount --bind /tmp/swaps /proc/swaps";
    let mut faults = vec![
        b.of_host(
            "the kubelet's port is taken",
            listen,
            "pkill openssl",
            &["port 10250 is in use", "ss -ltnp", "[Port-10250]"],
        ),
        b.of_host(
            "swap is on",
            swaps,
            "umount /proc/swaps",
            &["swaps (to /dev/sda2)", "swapoff -a", "[Swap]"],
        ),
        b.of_host(
            "no forwarding",
            "sysctl -qw net.ipv4.ip_forward=0",
            "sysctl -qw net.ipv4.ip_forward=1",
            &[
                "net.ipv4.ip_forward is not 1",
                "sysctl -w net.ipv4.ip_forward=1",
            ],
        ),
        b.of_host(
            "a program is missing",
            "mv /usr/sbin/conntrack /usr/sbin/gone",
            "mv /usr/sbin/gone /usr/sbin/conntrack",
            &["conntrack is missing", "apt-get install conntrack"],
        ),
        b.of_host(
            "joined already",
            "mkdir -p /etc/kubernetes; echo >/etc/kubernetes/kubelet.conf",
            "rm -r /etc/kubernetes",
            &["has already joined", "malha reset"],
        ),
        b.of_host(
            "left from another join",
            "mkdir -p /etc/kubernetes/pki; echo >/etc/kubernetes/pki/ca.crt",
            "rm -r /etc/kubernetes",
            &["ca.crt already exists", "malha reset"],
        ),
        b.of_host(
            "a read-only file system",
            "mount --bind /etc /etc; mount -o remount,bind,ro /etc",
            "umount /etc",
            &["read-only", "remount,rw", "[Writable]"],
        ),
        b.of_host(
            "a full disk",
            "mount -t tmpfs -o size=16k tmpfs /var/lib/kubelet",
            "umount /var/lib/kubelet",
            &["no space is left", "df -h", "[Writable]"],
        ),
        Fault {
            prefix: "PATH=/opt/newer:$PATH",
            ..b.of_host(
                "a kubelet newer than the control plane",
                kubelet,
                "rm -r /opt/newer",
                &[
                    "kubelet is 1.99, newer than the control plane's v1.20.2",
                    "install one of 1.20",
                ],
            )
        },
        Fault {
            prefix: "setpriv --reuid 65534 --clear-groups",
            ..b.of_host("not root", "", "", &["needs root"])
        },
        Fault {
            words: of_driver,
            ..b.of_host(
                "a wrong cgroup driver",
                &flags,
                "rm /root/join.yaml",
                &[
                    "use the cgroup driver systemd, and containerd here uses cgroupfs",
                    "SystemdCgroup = true",
                ],
            )
        },
        b.of_words(
            "a silent container runtime",
            b.with(&["--cri-socket", "/run/containerd/containerd.sock.ttrpc"]),
            &[
                "does not answer within 2 s",
                "name another socket with --cri-socket",
            ],
        ),
        b.of_words(
            "a socket that is not there",
            b.with(&["--cri-socket", "/run/other.sock"]),
            &["there is no socket /run/other.sock"],
        ),
        b.of_words(
            "a name that no node can have",
            b.with(&["--node-name", "under_score"]),
            &["cannot be a node's name", "--node-name"],
        ),
    ];
    // The real kubelet is started for this one.
    let (flags, of_flags) = b.with_flags("no-such-flag: x");
    faults.push(Fault {
        words: of_flags,
        ..b.of_host(
            "a kubelet that ends",
            &flags,
            "rm /root/join.yaml",
            &[
                "the kubelet ended",
                "unknown flag: --no-such-flag",
                "/var/log/malha/kubelet.log",
                "mend that",
            ],
        )
    });
    // Last: the runtime does not come back.
    let silent = "pkill -STOP -x containerd";
    faults.push(b.of_host(
        "a silent container runtime",
        silent,
        "pkill -CONT -x containerd",
        &["does not answer within", "journalctl -u containerd"],
    ));
    let dead =
        "pkill -KILL -x containerd; while pgrep -x containerd >/dev/null; do sleep .05; done";
    faults.push(b.of_host(
        "a container runtime that has ended",
        dead,
        "rm -f /run/containerd/containerd.sock",
        &["nothing listens on", "systemctl start containerd"],
    ));
    faults.push(b.of_host(
        "no container runtime",
        "",
        "",
        &["no container runtime's socket was found", "--cri-socket"],
    ));
    faults
}

#[test]
fn every_fault_ends_in_time_with_one_line_and_changes_nothing() {
    let control_plane = control_plane();
    let host = host(&control_plane, 1, false);
    let create = "kubeadm token create expire.0123456789abcdef --ttl 1s --kubeconfig /etc/kubernetes/admin.conf";
    control_plane.host.shell(create).expect("a token");
    let node = r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "taken"}}"#;
    control_plane.kubectl_apply(node).expect("a node");
    let status = r#"{"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.9"}], "conditions": [
        {"type": "Ready", "status": "True", "lastHeartbeatTime": "2099-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}"#;
    control_plane
        .kubectl(&[
            "patch",
            "node",
            "taken",
            "--subresource=status",
            "--type=merge",
            "-p",
            status,
        ])
        .expect("patched");
    control_plane
        .host
        .until("the token is gone", || {
            let info = control_plane.kubectl(&[
                "-n",
                "kube-public",
                "get",
                "configmap",
                "cluster-info",
                "-o",
                "yaml",
            ])?;
            Ok(!info.contains("jws-kubeconfig-expire"))
        })
        .expect("it expires");
    let other = control_plane.host(2).expect("a host");
    say(&other, &malha(), &["init", "--token", TOKEN]).ok();
    let bench = Bench {
        control_plane: &control_plane,
        host: &host,
        other: &other,
        rows: rows().expect("the table of docs/join.md"),
    };
    let faults: Vec<Fault> = [of_the_way, of_trust, of_the_machine]
        .iter()
        .flat_map(|list| list(&bench))
        .collect();
    let wrong: Vec<String> = faults
        .iter()
        .filter_map(|fault| bench.check(fault))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}: {wrong:#?}",
        wrong.len(),
        faults.len()
    );
}
