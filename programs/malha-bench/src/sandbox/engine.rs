//! A containerd with directories and a control group of its own, and one of the networks.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use malha_cri::Client;
use tokio::runtime::Runtime;

use super::pause;
use crate::cni::REFERENCE;

/// Where everything is kept; a memory filesystem in a node.
pub const HOME: &str = "/run/malha-bench-containerd";
/// How long containerd may take to serve.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whose network sandboxes get.
#[derive(Clone, Copy, Debug)]
pub enum Network {
    /// The node's, by its agent.
    Malha,
    /// Debian's reference plugins'.
    Reference,
}

/// One, until it is dropped.
pub struct Engine {
    child: Child,
    home: PathBuf,
    /// To await its answers.
    pub tokio: Runtime,
}

/// That this machine has what is needed.
///
/// # Errors
/// Names what is missing and how to get it.
pub fn require_programs() -> Result<()> {
    for program in ["containerd", "ctr", "runc"] {
        let found = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        ensure!(
            found.is_ok(),
            "sandboxes are started by containerd, and there is no {program}: apt-get install containerd runc"
        );
    }
    Ok(())
}

impl Engine {
    /// Starts one and gives it the image of sandboxes.
    ///
    /// # Errors
    /// When it does not serve; with the end of its log.
    pub fn start(network: Network, image: &Path) -> Result<Self> {
        let home = Path::new(HOME).join(match network {
            Network::Malha => "malha",
            Network::Reference => "reference",
        });
        fs::create_dir_all(home.join("net.d")).context("cannot create containerd's directory")?;
        fs::write(home.join("net.d/reference.conflist"), REFERENCE)?;
        let config = home.join("config.toml");
        fs::write(&config, configuration(network, &home))?;
        let log = File::create(home.join("log"))?;
        let child = Command::new("containerd")
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot run containerd")?;
        let engine = Self {
            child,
            home,
            tokio: Runtime::new()?,
        };
        engine.serves()?;
        engine.import(image)?;
        Ok(engine)
    }

    /// A connection to it.
    ///
    /// # Errors
    /// When it does not serve.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.home.join("sock")).await?)
    }

    /// The control group of its sandboxes.
    pub fn cgroup(&self) -> &'static str {
        "/malha-bench"
    }

    fn serves(&self) -> Result<()> {
        let begun = Instant::now();
        while self.tokio.block_on(self.client()).is_err() {
            if begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.home.join("log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(10)..].join("\n");
                bail!("containerd does not serve; its log ends:\n{end}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn import(&self, image: &Path) -> Result<()> {
        let output = Command::new("ctr")
            .arg("--address")
            .arg(self.home.join("sock"))
            .args([
                "--namespace",
                "k8s.io",
                "image",
                "import",
                "--snapshotter",
                "native",
            ])
            .arg(image)
            .output()
            .context("cannot run ctr")?;
        ensure!(
            output.status.success(),
            "ctr cannot import the image of sandboxes: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

impl Drop for Engine {
    /// The node ends with the lab, and everything in it; the control groups do not.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let Ok(hierarchies) = fs::read_dir("/sys/fs/cgroup") else {
            return;
        };
        for hierarchy in hierarchies.filter_map(Result::ok) {
            let _ = fs::remove_dir(hierarchy.path().join("malha-bench"));
        }
        let _ = fs::remove_dir("/sys/fs/cgroup/malha-bench");
    }
}

fn configuration(network: Network, home: &Path) -> String {
    let home = home.display();
    let (programs, lists) = match network {
        Network::Malha => ("/opt/cni/bin", "/etc/cni/net.d".to_owned()),
        Network::Reference => ("/usr/lib/cni", format!("{home}/net.d")),
    };
    format!(
        "version = 2\nroot = '{home}/root'\nstate = '{home}/state'\n\
         [grpc]\naddress = '{home}/sock'\n[ttrpc]\naddress = '{home}/sock.ttrpc'\n\
         [plugins.'io.containerd.internal.v1.opt']\npath = '{home}/opt'\n\
         [plugins.'io.containerd.nri.v1.nri']\ndisable = true\n\
         [plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = '{pause}'\nrestrict_oom_score_adj = true\n\
         [plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = 'native'\n\
         [plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '{programs}'\nconf_dir = '{lists}'\n",
        pause = pause::NAME
    )
}
