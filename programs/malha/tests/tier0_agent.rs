//! The agent's commands, as far as they go without privilege and without a cluster.

use std::process::{Command, Output};

fn malha(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_malha"))
        .args(arguments)
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .expect("run malha");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[test]
fn wrong_settings_name_what_is_right() {
    let table: [(&[&str], &str); 7] = [
        (&["--routing", "tunnel"], "takes overlay, direct or auto"),
        (&["--vni", "16777216"], "1 to 16777215"),
        (&["--vxlan-port", "0"], "1 to 65535"),
        (&["--mtu", "100"], "1280 to 65535"),
        (&["--masquerade", "perhaps"], "possible values: true, false"),
        (&["--pod-cidr", "10.0.0.0/8,10.1.0.0/16"], "overlaps"),
        (&["--api-server", "ftp://x"], "give https://HOST:PORT"),
    ];
    for (flags, wanted) in table {
        let mut arguments = vec!["agent", "--node-name", "a"];
        if !flags.contains(&"--api-server") {
            arguments.extend(["--api-server", "https://192.0.2.1:6443"]);
        }
        arguments.extend(flags);
        let (output, said) = malha(&arguments);
        assert!(
            !output.status.success() && said.contains(wanted),
            "{flags:?}: {said}"
        );
    }
}

#[test]
fn without_an_api_server_it_says_where_it_looked() {
    let (_, said) = malha(&[
        "agent",
        "--node-name",
        "a",
        "--kubelet-conf",
        "/nonexistent/kubelet.conf",
    ]);
    assert!(
        said.contains("/nonexistent/kubelet.conf") && said.contains("--api-server"),
        "{said}"
    );
}

#[test]
fn status_without_an_agent_is_code_2_with_the_remedy() {
    for extra in [&[][..], &["-o", "json"], &["--check"], &["--check=live"]] {
        let mut arguments = vec!["status", "--socket", "/nonexistent/agent.sock"];
        arguments.extend(extra);
        let (output, said) = malha(&arguments);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("/nonexistent/agent.sock")
                && said.contains("kubectl -n kube-system get pods"),
            "{said}"
        );
        assert!(output.stdout.is_empty());
    }
}
