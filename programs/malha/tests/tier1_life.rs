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
for directory in /etc/kubernetes /var/lib /run /var/log; do mkdir -p $directory; mount -t tmpfs tmpfs $directory; done
export KUBECONFIG=/etc/kubernetes/admin.conf
left() { echo "left: $(find "$@" -mindepth 1 -path /run/mount -prune -o -mindepth 1 -print | tr '\n' ' ')"; }
init() { "$MALHA" init --apiserver-advertise-address 172.20.0.10 "$@"; }
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
        kill -9 $(cut -d' ' -f1 /run/malha/control-plane.pid)
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
