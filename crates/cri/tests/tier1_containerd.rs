//! Debian's containerd answers, with and without its CRI plugin.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use malha_cri::{Client, Error};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A containerd of its own: its directories, and what it puts into /run, end with the test.
struct Containerd {
    child: Child,
    home: PathBuf,
}

impl Containerd {
    fn start(disabled: &str) -> Self {
        let program = debian("containerd").join("usr/bin/containerd");
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("this test needs root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let tmpfs = Some("tmpfs");
        mount(tmpfs, "/run", tmpfs, MsFlags::empty(), Some("mode=0755")).unwrap();
        let home = PathBuf::from("/run/malha-cri-test");
        fs::create_dir(&home).unwrap();
        let text = format!(
            "version = 2\nroot = '{home}/root'\nstate = '{home}/state'\ndisabled_plugins = [{disabled}]\n\
             [grpc]\naddress = '{home}/sock'\n[ttrpc]\naddress = '{home}/sock.ttrpc'\n\
             [plugins.'io.containerd.internal.v1.opt']\npath = '{home}/opt'\n\
             [plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = 'native'\n\
             [plugins.'io.containerd.grpc.v1.cri'.cni]\nconf_dir = '{home}/net.d'\n",
            home = home.display()
        );
        fs::write(home.join("config.toml"), text).unwrap();
        let log = fs::File::create(home.join("log")).unwrap();
        let child = Command::new(program)
            .arg("--config")
            .arg(home.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd");
        Self { child, home }
    }

    fn socket(&self) -> PathBuf {
        self.home.join("sock")
    }

    /// Its first answer that is neither "nobody listens" nor "not yet".
    async fn connect(&self) -> Result<Client, Error> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match Client::connect(&self.socket()).await {
                Err(Error::Connect { .. } | Error::Http { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => return other,
            }
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{}",
                fs::read_to_string(self.home.join("log")).unwrap_or_default()
            );
        }
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// A Debian package, unpacked aside.
fn debian(package: &str) -> PathBuf {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/unpack-package");
    let output = Command::new(tool).arg(package).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

#[tokio::test]
async fn a_runtime_says_who_it_is_and_what_it_runs() {
    let containerd = Containerd::start("");
    let mut client = containerd.connect().await.unwrap();
    assert_eq!(
        (client.runtime().name.as_str(), client.version()),
        ("containerd", "v1")
    );
    assert!(client.sandboxes().await.unwrap().is_empty());
    match client.sandbox_status("nobody").await {
        Err(Error::Refused {
            code: 5, message, ..
        }) => assert!(message.contains("not found"), "{message}"),
        other => panic!("{other:?}"),
    }
    // This version refuses to stop what is not there; removing it is fine with every one.
    let stopped = client.stop_sandbox("nobody").await;
    assert!(
        matches!(stopped, Ok(()) | Err(Error::Refused { code: 5, .. })),
        "{stopped:?}"
    );
    client
        .remove_sandbox("nobody")
        .await
        .expect("removing it is fine");
}

#[tokio::test]
async fn a_runtime_without_this_interface_says_so() {
    let containerd = Containerd::start("'io.containerd.grpc.v1.cri'");
    let error = containerd.connect().await.expect_err("no CRI");
    assert!(error.is_unimplemented(), "{error}");
}

#[tokio::test]
async fn where_nobody_listens_the_socket_is_named() {
    let error = Client::connect(Path::new("/nonexistent/sock"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/nonexistent/sock"), "{error}");
}
