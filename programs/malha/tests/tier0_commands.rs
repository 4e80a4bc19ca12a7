//! The command line: what it refuses in one line, and that it never repeats a secret.

use std::process::{Command, Output};

const PIN: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn malha(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_malha"))
        .args(arguments)
        .env_remove("KUBECONFIG")
        .output()
        .expect("runs")
}

/// The only line on standard error.
fn refusal(arguments: &[&str]) -> String {
    let output = malha(arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, b"", "{output:?}");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn malformed_tokens_are_explained_and_not_repeated() {
    let table: [(&[&str], &str); 5] = [
        (
            &[
                "join",
                "127.0.0.1:1",
                "--token",
                "abcdef.0123456789abcdeF",
                "--discovery-token-ca-cert-hash",
                PIN,
            ],
            "the part after the dot has a character",
        ),
        (
            &[
                "join",
                "127.0.0.1:1",
                "--token",
                "abcdef0123456789abcdef",
                "--discovery-token-ca-cert-hash",
                PIN,
            ],
            "it has no dot",
        ),
        (
            &["init", "--token", "abcde.0123456789abcdef"],
            "the part before the dot has 5 characters",
        ),
        (
            &[
                "token",
                "create",
                "abcdef.0123456789abcde",
                "--kubeconfig",
                "/dev/null",
            ],
            "the part after the dot has 15 characters",
        ),
        (
            &[
                "token",
                "delete",
                "abcdef.0123456789abcdefg",
                "--kubeconfig",
                "/dev/null",
            ],
            "the part after the dot has 17 characters",
        ),
    ];
    for (arguments, wanted) in table {
        let text = refusal(arguments);
        assert!(text.contains(wanted), "{text}");
        // The example of a token's form is in the text, so what was given must not be.
        let given = arguments
            .iter()
            .find(|a| a.contains("0123456789abcde"))
            .expect("a token");
        assert!(
            !text.contains(&format!("{given}:")) && !text.contains(&format!("'{given}'")),
            "{text}"
        );
    }
}

#[test]
fn other_arguments_of_join_are_explained() {
    let token = "abcdef.0123456789abcdef";
    let table: [(&[&str], &str); 4] = [
        (
            &[
                "172.20.0.10",
                "--token",
                token,
                "--discovery-token-ca-cert-hash",
                PIN,
            ],
            "is not HOST:PORT (it has no port)",
        ),
        (
            &[
                "172.20.0.10:6443",
                "--token",
                token,
                "--discovery-token-ca-cert-hash",
                "sha256:ab",
            ],
            "found 1 bytes",
        ),
        (
            &[
                "172.20.0.10:6443",
                "--token",
                token,
                "--discovery-token-ca-cert-hash",
                "md5:ab",
            ],
            "unknown hash format \"md5\"",
        ),
        (
            &["172.20.0.10:6443", "--token", token],
            "--discovery-token-ca-cert-hash",
        ),
    ];
    for (arguments, wanted) in table {
        let all: Vec<&str> = ["join"].iter().chain(arguments).copied().collect();
        let text = refusal(&all);
        assert!(text.contains(wanted), "{text}");
        assert!(!text.contains(token), "{text}");
    }
}

#[test]
fn generate_needs_no_cluster() {
    let output = malha(&["token", "generate"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let token: malha_bootstrap::token::Token = text.trim().parse().expect("a token");
    assert_eq!(format!("{}\n", token.expose()), text);
}

#[test]
fn a_missing_kubeconfig_is_named() {
    let text = refusal(&["token", "list", "--kubeconfig", "/nonexistent/admin.conf"]);
    assert!(
        text.contains("cannot read /nonexistent/admin.conf: No such file")
            && text.contains("--kubeconfig"),
        "{text}"
    );
}

#[test]
fn completions_know_the_commands() {
    let output = malha(&["completions", "bash"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for flag in [
        "--discovery-token-ca-cert-hash",
        "--pod-network-cidr",
        "--print-join-command",
        "control-plane",
    ] {
        assert!(text.contains(flag), "{flag}");
    }
}
