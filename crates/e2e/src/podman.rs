//! podman with its CNI backend on a host, with directories of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::Cluster;
use crate::command::{command, run};
use crate::description::{Engines, Host};

/// One, until it is dropped.
pub struct Podman<'a> {
    cluster: &'a Cluster,
    host: &'a Host,
    engines: &'a Engines,
    home: PathBuf,
    /// Whether this machine has one of its own, whose cache podman then shares.
    had_one: bool,
}

/// Where podman keeps its cache, whatever it is told.
const CACHE: &str = "/var/lib/containers";

impl<'a> Podman<'a> {
    /// With the image of Malha in it.
    ///
    /// # Panics
    /// When it does not work.
    #[must_use]
    pub fn new(cluster: &'a Cluster) -> Self {
        let engines = cluster.engines();
        let home = PathBuf::from("/var/tmp/malha-e2e-podman");
        fs::create_dir_all(&home).expect("a directory");
        let podman = Self {
            cluster,
            host: cluster.host(&engines.host),
            engines,
            home,
            had_one: Path::new(CACHE).exists(),
        };
        let at = |name: &str| podman.home.join(name);
        let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        fs::write(at("policy.json"), policy).expect("a file");
        fs::write(at("containers.conf"), podman.config()).expect("a file");
        let policy = at("policy.json").display().to_string();
        run(&mut podman.command(&[
            "load",
            "--signature-policy",
            &policy,
            "-i",
            &engines.archive,
        ]));
        podman
    }

    /// A command of it.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let home = self.home.display();
        let environment = [
            format!("CONTAINERS_CONF={home}/containers.conf"),
            format!("LD_LIBRARY_PATH={}", self.engines.podman_libraries),
        ];
        let (program, root, run) = (
            format!("{}/podman", self.engines.podman),
            format!("--root={home}/root"),
            format!("--runroot={home}/run"),
        );
        let mut all = vec!["env"];
        all.extend(environment.iter().map(String::as_str));
        all.extend([program.as_str(), &root, &run, "--storage-driver=vfs"]);
        command(&self.host.run, &[&all, words].concat())
    }

    /// `podman run` with the image of Malha in Malha's network: options, then the image's arguments.
    #[must_use]
    pub fn run(&self, options: &[&str], arguments: &[&str]) -> Command {
        let cgroup = format!("--cgroup-parent={}/podman", self.engines.cgroup);
        let fixed = ["run", "--pull=never", "--network=malha", cgroup.as_str()];
        let image = [self.cluster.description.image.as_str()];
        self.command(&[&fixed, options, &image, arguments].concat())
    }

    fn config(&self) -> String {
        format!(
            "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"/opt/cni/bin\"]\n\
             network_config_dir = \"/etc/cni/net.d\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n\
             conmon_path = [\"{}/conmon\"]\ntmp_dir = \"{}/tmp\"\n\
             [containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n",
            self.engines.podman,
            self.home.display()
        )
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let _ = self
            .command(&["rm", "--all", "--force", "--time=0"])
            .output();
        let home = self.home.display();
        let script = format!(
            "grep ' {home}/' /proc/self/mounts | cut -d' ' -f2 | sort -r | while read -r m; do umount -l \"$m\"; done
             rm -rf '{home}'"
        );
        let _ = command(&self.host.run, &["sh", "-ec", &script]).output();
        if !self.had_one {
            let _ = fs::remove_dir_all(CACHE);
        }
    }
}
