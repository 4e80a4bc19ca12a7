//! The life of a control plane on a machine of its own: a set of namespaces with empty directories where it writes.

use std::process::{Command, Output};

/// Makes the machine: everything the commands touch is a fresh tmpfs, and every process ends with the test's.
const MACHINE: &str = r#"
set -eu
mount --make-rprivate /
mount -t proc proc /proc
ip link set lo up
ip link add name uplink type veth peer name far
ip address add 172.20.0.10/24 dev uplink
ip link set uplink up
ip link set far up
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
for directory in /etc/kubernetes /etc/cni /opt /var/lib /run /var/log; do mkdir -p $directory; mount -t tmpfs tmpfs $directory; done
mount -t bpf bpf /sys/fs/bpf
export KUBECONFIG=/etc/kubernetes/admin.conf
left() { echo "left: $(find "$@" -mindepth 1 -path /run/mount -prune -o -mindepth 1 -print | tr '\n' ' ')"; }
init() { "$MALHA" init --apiserver-advertise-address 172.20.0.10 "$@"; }
"#;

/// Two more machines, w1 and w2, on the first one's network: `on NAME COMMAND`.
const NODES: &str = r#"
mkdir -p /run/netns /run/bin
ip link add name bridge type bridge
ip link set bridge up
ip link set far master bridge
for number in 1 2; do
    ip netns add w$number
    ip link add name port$number type veth peer name uplink netns w$number
    ip link set port$number master bridge up
    ip -n w$number address add 172.20.0.1$number/24 dev uplink
    ip -n w$number link set uplink up
    ip -n w$number link set lo up
done
cat > /run/bin/enter <<'END'
hostname $1; shift
set -eu
left() { echo "left: $(find "$@" -mindepth 1 | tr '\n' ' ')"; }
mount --make-rprivate /
mount -t bpf bpf /sys/fs/bpf
for directory in /etc/kubernetes /etc/systemd/system /var/lib /run/malha /var/log /etc/cni /opt; do mkdir -p $directory; mount -t tmpfs tmpfs $directory; done
eval "$@"
END
on() { name=$1; shift; ip netns exec $name unshare --mount --uts sh /run/bin/enter $name "$@"; }
"#;

/// A stand-in for systemd: runs what a unit says, and ends it.
const SYSTEMD: &str = r#"
mkdir -p /run/systemd/system /run/units /run/bin /etc/systemd/system
mount -t tmpfs tmpfs /etc/systemd/system
cat > /run/bin/systemctl <<'END'
#!/bin/sh
echo "$@" >> /run/units/calls
for unit in "$@"; do :; done
pid=/run/units/$unit.pid
case $1 in
is-active) kill -0 $(cat $pid) 2> /dev/null ;;
restart)
    start=$(cat /etc/systemd/system/$unit /etc/systemd/system/$unit.d/* 2> /dev/null | sed -n 's/^ExecStart=\(..*\)/\1/p' | tail -n 1)
    sh -c "exec $start" > /run/units/$unit.log 2>&1 < /dev/null &
    echo $! > $pid ;;
disable) if [ "$2" = --now ]; then kill $(cat $pid) 2> /dev/null; rm -f $pid; fi ;;
esac
END
chmod +x /run/bin/systemctl
export PATH=/run/bin:$PATH
"#;

fn on_a_machine(script: &str) -> Output {
    let whole = format!("{MACHINE}\n{script}");
    Command::new("unshare")
        .args([
            "--mount",
            "--net",
            "--pid",
            "--ipc",
            "--uts",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            &whole,
        ])
        .env("MALHA", env!("CARGO_BIN_EXE_malha"))
        .output()
        .expect("unshare runs: this test needs util-linux, iproute2 and root")
}

fn succeeds(script: &str) -> String {
    let output = on_a_machine(script);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn a_control_plane_starts_survives_a_kill_and_goes_without_a_trace() {
    let text = succeeds(
        r#"
        init > /tmp/$$.init
        grep -q '^malha join 172.20.0.10:6443 --token ' /tmp/$$.init
        tail -n 1 /tmp/$$.init; rm /tmp/$$.init
        "$MALHA" token create abcdef.0123456789abcdef --ttl 0 --description kept
        pid=$(cut -d' ' -f1 /run/malha/control-plane.pid)
        kill -9 $pid
        until ! [ -e /proc/$pid ] || grep -q ') Z' /proc/$pid/stat; do sleep 0.01; done
        "$MALHA" control-plane --detach
        "$MALHA" token list
        "$MALHA" reset --force
        left /etc/kubernetes /var/lib /run /var/log
        echo "processes: $(ps -e -o comm= | grep -c malha || true)"
        "#,
    );
    assert!(
        text.contains("abcdef.0123456789abcdef   <forever>   <never>"),
        "{text}"
    );
    assert!(text.contains("\nleft: \n"), "{text}");
    assert!(text.contains("\nprocesses: 0\n"), "{text}");
}

#[test]
fn an_init_that_fails_leaves_nothing() {
    // Nobody can write the log.
    let output = on_a_machine(
        r#"
        touch /var/log/malha
        init >&2 && exit 1
        left /etc/kubernetes /var/lib /run
        "#,
    );
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(out, "left: \n", "{err}");
    assert!(err.contains("/var/log/malha"), "{err}");
}

#[test]
fn an_interrupted_init_leaves_nothing() {
    let text = succeeds(
        r#"
        "$MALHA" init --apiserver-advertise-address 172.20.0.10 --foreground > /run/out 2> /run/err & first=$!
        while ! grep -q '^malha join' /run/out; do kill -0 $first; done
        kill -INT $first || true; wait $first
        "$MALHA" token list 2>&1 | grep -c 'connection refused'
        "$MALHA" reset --force > /dev/null
        init -o json 2> /dev/null | grep -c '"joinCommand": "malha join'
        init 2>&1 | grep -c 'is a control plane already'
        "#,
    );
    assert_eq!(text, "1\n1\n1\n");
}

#[test]
fn a_node_joins_keeps_its_name_and_leaves() {
    let text = succeeds(&format!(
        r#"{NODES}
        init -o json > /run/init.json 2> /dev/null
        export JOIN=$(sed -n 's/.*"joinCommand": "malha \(.*\)",/\1/p' /run/init.json)
        on w1 '
            "$MALHA" $JOIN -o json 2> /dev/null
            touch /run/joined
            until [ -e /run/tried ]; do sleep 0.02; done
            "$MALHA" reset --force
            left /etc/kubernetes /var/lib /run/malha /var/log
            "$MALHA" $JOIN > /dev/null
            "$MALHA" reset --force > /dev/null
        ' & first=$!
        until [ -e /run/joined ]; do kill -0 $first; sleep 0.02; done
        on w2 '"$MALHA" $JOIN --node-name w1 2>&1 | tail -n 1'
        touch /run/tried
        wait $first
        kubectl get nodes --no-headers | cut -d" " -f1
        "#
    ));
    for wanted in [
        "\"nodeName\": \"w1\"",
        "malha: a node named \"w1\" is already in the cluster and alive (at 172.20.0.11)",
        "delete it with: kubectl delete node w1",
        "left: \nw1\n",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is missing: {text}");
    }
}

#[test]
fn systemd_keeps_the_control_plane() {
    let text = succeeds(&format!(
        r#"{SYSTEMD}
        init > /dev/null
        grep ExecStart /etc/systemd/system/malha-control-plane.service
        kubectl get namespaces --no-headers | wc -l
        "$MALHA" reset --force > /dev/null
        cat /run/units/calls
        find /etc/systemd/system -mindepth 1
        ! kubectl get namespaces 2> /dev/null
        "#
    ));
    let wanted = "control-plane --config /var/lib/malha/control-plane/config.json\n4\n";
    assert!(text.contains(wanted), "{text}");
    assert!(text.contains("daemon-reload\nenable malha-control-plane.service\nrestart malha-control-plane.service\n"), "{text}");
    assert!(
        text.ends_with("disable --now malha-control-plane.service\ndaemon-reload\n"),
        "{text}"
    );
}

#[test]
fn a_machine_with_a_kubelet_runs_it() {
    // The stand-in registers the node with the credentials it finds, as a kubelet does. The runtime is a dead socket.
    let text = succeeds(&format!(
        r#"{NODES}{SYSTEMD}
        init -o json > /run/init.json 2> /dev/null
        JOIN=$(sed -n 's/.*"joinCommand": "malha \(.*\)",/\1/p' /run/init.json)
        cat > /run/bin/kubelet <<'END'
#!/bin/sh
if [ "$1" = --version ]; then echo Kubernetes v1.31.0; exit; fi
echo '{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"w1"}}}}' | kubectl --kubeconfig /etc/kubernetes/kubelet.conf create --validate=false -f -
exec sleep 600
END
        chmod +x /run/bin/kubelet
        on w1 "
            mkdir -p /opt/bin; cp /run/bin/kubelet /opt/bin
            echo 0 > /proc/sys/net/ipv4/ip_forward
            $MALHA $JOIN 2>&1 | tail -n 1
            echo 1 > /proc/sys/net/ipv4/ip_forward
            mkdir -p /run/containerd; touch /run/containerd/containerd.sock
            $MALHA $JOIN 2>&1 | tail -n 1
            $MALHA $JOIN --node-ip 172.20.0.11 --ignore-preflight-errors CRI | grep joined
            cat /var/lib/kubelet/kubeadm-flags.env /etc/systemd/system/kubelet.service.d/10-malha.conf
            $MALHA reset --force > /dev/null
            left /etc/systemd/system
        "
        kubectl get node w1 -o yaml | grep cri-socket:
        tail -n 1 /run/units/calls
        "#
    ));
    for wanted in [
        "no container runtime's socket was found; install and start containerd or CRI-O, or name its socket with --cri-socket [CRI]; net.ipv4.ip_forward is not 1",
        "malha: nothing listens on /run/containerd/containerd.sock: start the container runtime",
        "This node has joined the cluster as \"w1\"",
        "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///run/containerd/containerd.sock --node-ip=172.20.0.11\"",
        "--kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS",
        "left: \n",
        "cri-socket: unix:///run/containerd/containerd.sock",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is missing: {text}");
    }
}

#[test]
fn reset_removes_nothing_through_a_mount() {
    let text = succeeds(
        r#"
        mkdir -p /run/precious "/var/lib/kubelet/pods/a b/volume" /var/lib/malha
        echo kept > /run/precious/file
        mount --bind /run/precious "/var/lib/kubelet/pods/a b/volume"
        mount -t tmpfs tmpfs /var/lib/malha
        touch /var/lib/malha/file
        "$MALHA" reset --force > /dev/null
        cat /run/precious/file
        left /var/lib
        "#,
    );
    // A filesystem of its own is emptied and stays.
    assert_eq!(text, "kept\nleft: /var/lib/malha \n");
}
