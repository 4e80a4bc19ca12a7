//! Logs, exec, attach and port-forward through the API server, with real kubectl of both protocols.

mod cluster;

use std::{path::Path, process::Stdio};

use cluster::{Cluster, in_own_network, kubectl::kubectls};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// A TCP server without any package: says hello to each connection and echoes a line.
const SERVER: &str = "use IO::Socket::INET; $| = 1; $s = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, \
    ReuseAddr => 1); print \"listening\\n\"; while ($c = $s->accept) { $l = <$c>; print $c \"you said $l\"; close $c }";

async fn pod_with(cluster: &Cluster, name: &str, container: serde_json::Value) {
    cluster.install_network();
    cluster.create(name, json!({}), container).await;
    cluster.until_ready(name).await;
}

#[test]
fn logs_are_read_and_followed() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        let script = "for i in 1 2 3; do echo line $i; done; trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done";
        pod_with(&cluster, "p", json!({"command": ["/bin/sh", "-c", script]})).await;
        for kubectl in kubectls() {
            cluster
                .until("the log", async || {
                    cluster.say(&kubectl, &["logs", "p"], "").await.out
                        == "line 1\nline 2\nline 3\n"
                })
                .await;
            let said = cluster
                .say(&kubectl, &["logs", "p", "--tail=1", "--timestamps"], "")
                .await;
            assert!(
                said.out.ends_with("Z line 3\n") && said.out.lines().count() == 1,
                "{said:?}"
            );
            let said = cluster
                .say(&kubectl, &["logs", "p", "--previous"], "")
                .await;
            assert!(
                said.err
                    .contains("previous terminated container \"c\" in pod \"p\" not found"),
                "{said:?}"
            );
        }
        let kubectl = kubectls().remove(0);
        let mut following = cluster
            .kubectl(&kubectl)
            .args(["logs", "-f", "p"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("line 1"));
        cluster
            .pods()
            .delete("p", &Default::default())
            .await
            .unwrap();
        let mut last = None;
        while let Some(line) = lines.next_line().await.unwrap() {
            last = Some(line);
        }
        assert_eq!(last.as_deref(), Some("bye"));
        cluster.until_gone("p").await;
        cluster.stop().await;
    });
}

#[test]
fn commands_run_in_containers() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        pod_with(&cluster, "p", json!({"command": ["sleep", "1000"]})).await;
        for kubectl in kubectls() {
            let said = cluster
                .say(
                    &kubectl,
                    &[
                        "exec",
                        "p",
                        "--",
                        "sh",
                        "-c",
                        "echo out; echo err >&2; exit 3",
                    ],
                    "",
                )
                .await;
            assert_eq!(
                (said.code, said.out.as_str()),
                (Some(3), "out\n"),
                "{said:?}"
            );
            assert!(
                said.err.contains("err\n")
                    && said.err.contains("command terminated with exit code 3"),
                "{said:?}"
            );
            let input = "a line\n".repeat(50_000);
            let said = cluster
                .say(&kubectl, &["exec", "-i", "p", "--", "cat"], &input)
                .await;
            assert_eq!(
                (said.code, said.out.len()),
                (Some(0), input.len()),
                "{}",
                said.err
            );
            let said = cluster
                .say(&kubectl, &["exec", "p", "--", "nosuch"], "")
                .await;
            assert_eq!(said.code, Some(127), "{said:?}");
            assert!(
                said.err.contains("executable file not found in $PATH"),
                "{said:?}"
            );
            let said = cluster
                .say(&kubectl, &["exec", "p", "-c", "x", "--", "true"], "")
                .await;
            assert!(
                said.code == Some(1) && said.err.contains("container x is not valid for pod p"),
                "{said:?}"
            );
            terminal(&cluster, &kubectl).await;
        }
        cluster.stop().await;
    });
}

/// `script` is kubectl's terminal.
async fn terminal(cluster: &Cluster, kubectl: &Path) {
    let line = format!(
        "{} --kubeconfig {} exec -it p -- sh -c 'stty size; read x; echo got $x; tty >/dev/null && echo terminal'",
        kubectl.display(),
        cluster.path("admin.conf").display()
    );
    let mut child = tokio::process::Command::new("script")
        .args([
            "-qec",
            &format!("stty rows 33 cols 77; {line}"),
            "/dev/null",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"hello\n").await.unwrap();
    let mut out = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .await
        .unwrap();
    assert!(
        out.contains("got hello") && out.contains("terminal"),
        "{out}"
    );
    drop(stdin);
}

#[test]
fn ports_are_forwarded() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        pod_with(&cluster, "p", json!({"command": ["perl", "-e", SERVER]})).await;
        cluster
            .until("the server", async || {
                cluster.log("p").await.contains("listening")
            })
            .await;
        for kubectl in kubectls() {
            let mut forwarding = cluster
                .kubectl(&kubectl)
                .args(["port-forward", "p", ":8080"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(forwarding.stdout.take().unwrap()).lines();
            let line = lines.next_line().await.unwrap().unwrap();
            let port: u16 = line
                .split("127.0.0.1:")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap();
            for word in ["one", "two"] {
                let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .unwrap();
                stream
                    .write_all(format!("{word}\n").as_bytes())
                    .await
                    .unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                assert_eq!(
                    answer,
                    format!("you said {word}\n"),
                    "{}",
                    kubectl.display()
                );
            }
            forwarding.kill().await.unwrap();
        }
        cluster.stop().await;
    });
}

#[test]
fn a_container_is_attached_to() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        for (number, kubectl) in kubectls().iter().enumerate() {
            let name = format!("p{number}");
            let script =
                "while read line; do echo heard $line; test \"$line\" = end && exit 0; done";
            let container = json!({"command": ["/bin/sh", "-c", script], "stdin": true});
            cluster.install_network();
            cluster
                .create(&name, json!({"restartPolicy": "Never"}), container)
                .await;
            cluster.until_ready(&name).await;
            let mut attached = cluster
                .kubectl(kubectl)
                .args(["attach", "-i", &name])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = attached.stdin.take().unwrap();
            let mut lines = BufReader::new(attached.stdout.take().unwrap()).lines();
            // What is written before the connection stands waits in kubectl.
            stdin.write_all(b"hello\n").await.unwrap();
            assert_eq!(
                lines.next_line().await.unwrap().as_deref(),
                Some("heard hello")
            );
            stdin.write_all(b"end\n").await.unwrap();
            assert_eq!(
                lines.next_line().await.unwrap().as_deref(),
                Some("heard end")
            );
            cluster.until_phase(&name, "Succeeded").await;
        }
        cluster.stop().await;
    });
}

#[test]
fn strangers_are_refused() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        cluster.until_node("registered", |_| true).await;
        let ask = async |arguments: &[&str]| {
            let output = tokio::process::Command::new("curl")
                .args(["-sk", "-o", "/dev/null", "-w", "%{http_code}"])
                .args(arguments)
                .arg(format!("https://127.0.0.1:{}/pods", cluster.config.port))
                .output()
                .await
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(ask(&[]).await, "401");
        assert_eq!(ask(&["-H", "Authorization: Bearer nonsense"]).await, "401");
        let files = |name: &str, cert: &str, key: &str| {
            let (cert_file, key_file) = (
                cluster.path(&format!("{name}.crt")),
                cluster.path(&format!("{name}.key")),
            );
            std::fs::write(&cert_file, cert).unwrap();
            std::fs::write(&key_file, key).unwrap();
            (
                cert_file.display().to_string(),
                key_file.display().to_string(),
            )
        };
        let server = &cluster.pki.kubelet_client;
        let (cert, key) = files("server", &server.cert_pem, &server.key_pem);
        assert_eq!(ask(&["--cert", &cert, "--key", &key]).await, "200");
        let nobody = malha_bootstrap::pki::Issue {
            subject: malha_bootstrap::names::Subject::user("nobody"),
            purpose: malha_bootstrap::pki::Purpose::Client,
            dns_names: &[],
            ip_addresses: &[],
        };
        let nobody = cluster
            .pki
            .ca
            .issue_keyed(&nobody, jiff::Timestamp::now())
            .unwrap();
        let (cert, key) = files("nobody", &nobody.cert_pem, &nobody.key_pem);
        assert_eq!(ask(&["--cert", &cert, "--key", &key]).await, "403");
        cluster.stop().await;
    });
}
