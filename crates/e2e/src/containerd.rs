//! A containerd of any version beside the host's own, with directories of its own and the host's CNI configuration.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::cluster::Cluster;
use crate::command::{command, run, succeeds, until};
use crate::description::{Engines, Host};

/// One, until it is dropped.
pub struct Containerd<'a> {
    cluster: &'a Cluster,
    host: &'a Host,
    engines: &'a Engines,
    directory: String,
    home: PathBuf,
    child: Option<Child>,
}

impl<'a> Containerd<'a> {
    /// Of a version.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(cluster: &'a Cluster, version: &str) -> Self {
        let engines = cluster.engines();
        let directory = engines.containerd.get(version);
        let directory = directory.unwrap_or_else(|| panic!("no containerd {version} is described"));
        let home = PathBuf::from(format!("/var/tmp/malha-e2e-{version}"));
        let mut containerd = Self {
            cluster,
            host: cluster.host(&engines.host),
            engines,
            directory: directory.clone(),
            home,
            child: None,
        };
        containerd.clean();
        fs::create_dir_all(&containerd.home).expect("a directory");
        fs::write(containerd.home.join("config.toml"), containerd.config()).expect("a file");
        containerd.again();
        for archive in [&engines.pause_archive, &engines.archive] {
            let mut import = vec!["--namespace", "k8s.io", "image", "import"];
            // Without it, the server of 2.x unpacks, and only with overlayfs.
            if version.starts_with('2') {
                import.push("--local");
            }
            import.extend(["--snapshotter", "native", archive]);
            run(&mut containerd.ctr(&import));
        }
        containerd
    }

    /// Start it, after [`Containerd::kill`].
    pub fn again(&mut self) {
        let log = self.home.join("log");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log");
        let config = self.home.join("config.toml").display().to_string();
        let mut command = self.on_host(&["containerd", "-c", &config]);
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("containerd"));
        until("containerd serves", || {
            succeeds(&mut self.ctr(&["version"]))
        });
    }

    /// With SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.join("sock")
    }

    /// Control group for what it runs.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("{}/e2e", self.engines.cgroup)
    }

    /// Its `ctr`.
    #[must_use]
    pub fn ctr(&self, words: &[&str]) -> Command {
        let socket = self.socket().display().to_string();
        self.on_host(&[&["ctr", "--address", &socket], words].concat())
    }

    fn on_host(&self, words: &[&str]) -> Command {
        let path = format!(
            "PATH={}:{}",
            self.directory,
            std::env::var("PATH").unwrap_or_default()
        );
        command(&self.host.run, &[&["env", &path], words].concat())
    }

    fn config(&self) -> String {
        let home = self.home.display();
        format!(
            "version = 2\nroot = '{home}/root'\nstate = '{home}/state'\n\
             [grpc]\naddress = '{home}/sock'\n[ttrpc]\naddress = '{home}/sock.ttrpc'\n\
             [plugins.'io.containerd.internal.v1.opt']\npath = '{home}/opt'\n\
             [plugins.'io.containerd.nri.v1.nri']\ndisable = true\n\
             [plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = '{pause}'\nrestrict_oom_score_adj = true\n\
             [plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = 'native'\n\
             [plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '/opt/cni/bin'\nconf_dir = '/etc/cni/net.d'\n",
            pause = self.engines.pause_image
        )
    }

    /// Its shims, its mounts and its directories.
    fn clean(&self) {
        let home = self.home.display();
        let script = format!(
            "for p in /proc/[0-9]*; do
                if tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q '^[^ ]*containerd[^ ]* .*{home}/'; then kill -9 ${{p##*/}} || true; fi
             done
             sleep 0.2
             grep ' {home}/' /proc/self/mounts | cut -d' ' -f2 | sort -r | while read -r m; do umount -l \"$m\"; done
             rm -rf '{home}'"
        );
        self.cluster.sh(self.host, &script);
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.home.join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
        self.kill();
        self.clean();
    }
}
