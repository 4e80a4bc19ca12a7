//! Debian's containerd takes the image, under the name that the manifest has, and runs its entrypoint.
mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{NAME, Pack, debian};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A containerd of its own: its directories, and what shims and `ctr` always put into /run, end with the test.
struct Containerd {
    child: Child,
    home: PathBuf,
    path: String,
}

impl Containerd {
    fn start() -> Self {
        let directories = [debian("containerd", "usr/bin"), debian("runc", "usr/sbin")];
        let path = std::env::var("PATH").unwrap();
        let path = directories
            .iter()
            .fold(path, |path, d| format!("{}:{path}", d.display()));
        private_run();
        let home = PathBuf::from("/run/malha-image-test");
        fs::create_dir(&home).unwrap();
        let text = format!(
            "version = 2\nroot = '{home}/root'\nstate = '{home}/state'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.snapshotter.v1.devmapper']\n\
             [grpc]\naddress = '{home}/containerd.sock'\n[ttrpc]\naddress = '{home}/ttrpc.sock'\n",
            home = home.display()
        );
        fs::write(home.join("config.toml"), text).unwrap();
        let log = fs::File::create(home.join("log")).unwrap();
        let mut command = Command::new(directories[0].join("containerd"));
        command
            .arg("--config")
            .arg(home.join("config.toml"))
            .env("PATH", &path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = command.spawn().expect("containerd");
        let started = Self { child, home, path };
        started.wait();
        started
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.ctr(&["version"]).status().unwrap().success() {
            assert!(Instant::now() < deadline, "{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .env("PATH", &self.path)
            .arg("--address")
            .arg(self.home.join("containerd.sock"))
            .args(["--namespace", "k8s.io"])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// The output of a command that has to succeed.
    #[track_caller]
    fn must(&self, arguments: &[&str]) -> String {
        let output = self.ctr(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "ctr {arguments:?}: {output:?}\n{}",
            self.log()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// A /run of this process and what it starts.
fn private_run() {
    unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let tmpfs = Some("tmpfs");
    mount(tmpfs, "/run", tmpfs, MsFlags::empty(), Some("mode=0755")).unwrap();
}

/// `ctr run` with a control group that does not leave a parent behind.
fn run(name: &str) -> Vec<&str> {
    vec![
        "run",
        "--rm",
        "--snapshotter",
        "native",
        "--cgroup",
        name,
        NAME,
        name,
    ]
}

#[test]
fn containerd_imports_and_runs_the_image() {
    let made = Pack::runnable().run();
    let containerd = Containerd::start();
    let archive = made.archive.to_str().unwrap();
    let imported = containerd.must(&["image", "import", "--snapshotter", "native", archive]);
    assert!(imported.contains(NAME), "{imported}");
    assert_eq!(
        containerd.must(&["image", "ls", "-q"]).trim(),
        NAME,
        "one image, of this name"
    );
    let checked = containerd.must(&["image", "check", "--snapshotter", "native"]);
    assert!(checked.contains("complete (2/2)"), "{checked}");

    let version = format!("malha-image {}\n", env!("CARGO_PKG_VERSION"));
    let name = format!("malha-image-{}", std::process::id());
    let command = run(&name);
    let named = [command.as_slice(), &["/usr/bin/malha", "--version"]].concat();
    assert_eq!(containerd.must(&named), version);
    let plugin = [command.as_slice(), &["/usr/bin/malha-cni", "--version"]].concat();
    assert_eq!(containerd.must(&plugin), version);
    // Without a command the entrypoint starts: the stand-in then asks for its arguments.
    let output = containerd.ctr(&command).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("Usage: malha"), "{said}");
    assert_eq!(containerd.must(&["container", "ls", "-q"]), "");
}
