//! `malha uninstall` on machines made of namespaces: a dry run, the thing itself, nothing left to do, no privilege.

use std::process::Command;

/// Run a script as root of a machine with a network and a /run of its own. Its output, both kinds; it has to succeed.
fn machine(script: &str) -> String {
    let script = format!(
        "set -e; exec 2>&1; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /tmp; mkdir /tmp/net.d /tmp/bin
         uninstall() {{ $MALHA uninstall --cni-conf-dir /tmp/net.d --cni-bin-dir /tmp/bin \"$@\"; }}\n{script}"
    );
    let output = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", &script])
        .env("MALHA", env!("CARGO_BIN_EXE_malha"))
        .output()
        .expect("unshare");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{text}{:?}", output.stderr);
    text
}

#[test]
fn it_says_what_it_would_do_then_does_it_and_then_there_is_nothing() {
    let said = machine(
        "mkdir -p /run/malha/state; touch /run/malha/boot-id /run/malha/node.pid /tmp/net.d/10-malha.conflist
         ip link add malha0 type vxlan external dstport 8472 || ip link add malha0 type vxlan id 7 dstport 8472
         uninstall --dry-run; uninstall; echo -- again; uninstall; ls /run/malha /tmp/net.d; ip -br link",
    );
    let (once, again) = said.split_once("-- again\n").expect("twice");
    let steps = [
        "/tmp/net.d/10-malha.conflist",
        "the overlay device malha0",
        "/run/malha/state",
        "/run/malha/boot-id",
    ];
    let lines = |prefix: &str| {
        steps
            .map(|step| format!("[uninstall] {prefix}{step}\n"))
            .concat()
    };
    assert_eq!(once, lines("Would remove ") + &lines("Removed "));
    let nothing = "[uninstall] There is nothing of Malha's network on this machine\n";
    let left = again
        .strip_prefix(nothing)
        .unwrap_or_else(|| panic!("{again}"));
    assert!(
        left.contains("node.pid") && !left.contains("malha0"),
        "{left}"
    );
}

#[test]
fn what_is_in_the_way_is_named_with_the_remedy() {
    let said = machine(
        "mkdir /run/malha; flock /run/malha/agent.lock sh -c '! $MALHA uninstall'
         mkdir /tmp/net.d/10-malha.conflist; ! uninstall
         ip link add mlh0123456789ab type veth peer name pod0; ! uninstall",
    );
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(
        lines[0].contains("delete the DaemonSet first") && lines[0].contains("--force"),
        "{said}"
    );
    assert!(
        lines[1].contains("cannot remove /tmp/net.d/10-malha.conflist")
            && lines[1].contains("again"),
        "{said}"
    );
    assert!(lines[2].contains("drain the node first"), "{said}");
}

#[test]
fn it_needs_root() {
    let said = machine("! setpriv --reuid 65534 --clear-groups $MALHA uninstall");
    assert_eq!(
        said,
        "malha: this needs root: run it as root or through sudo\n"
    );
}
