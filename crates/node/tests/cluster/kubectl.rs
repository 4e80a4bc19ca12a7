//! Real kubectl against the cluster.

use std::{
    fs,
    path::{Path, PathBuf},
};

use malha_bootstrap::kubeconfig::Kubeconfig;

use super::{Cluster, DEADLINE};

/// Every kubectl there is: Debian's (SPDY), and the newest on this machine (websockets).
pub fn kubectls() -> Vec<PathBuf> {
    let unpack = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/unpack-package");
    let unpacked = std::process::Command::new(&unpack)
        .arg("kubernetes-client")
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&unpacked.stderr).into_owned();
    assert!(
        unpacked.status.success(),
        "cannot get Debian's kubectl, which this test needs: {why}"
    );
    let debian = PathBuf::from(String::from_utf8(unpacked.stdout).unwrap().trim());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&path).find_map(|dir| dir.join("kubectl").canonicalize().ok());
    let beside = own
        .as_deref()
        .and_then(Path::parent)
        .and_then(|dir| fs::read_dir(dir).ok());
    let versions = beside.into_iter().flatten().flatten().filter_map(|entry| {
        let minor: u32 = entry
            .file_name()
            .to_str()?
            .strip_prefix("kubectl.1.")?
            .parse()
            .ok()?;
        Some((minor, entry.path()))
    });
    let newest = versions.max().map(|(_, path)| path);
    [Some(debian.join("usr/bin/kubectl")), newest.or(own)]
        .into_iter()
        .flatten()
        .collect()
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Cluster {
    /// A kubectl as the administrator.
    pub fn kubectl(&self, program: &Path) -> tokio::process::Command {
        let conf = self.path("admin.conf");
        if !conf.exists() {
            let text = Kubeconfig::with_client_cert(
                "kubernetes-admin",
                &format!("https://{}", self.address()),
                &self.pki.ca.cert_pem(),
                &self.pki.admin.cert_pem,
                &self.pki.admin.key_pem,
            );
            fs::write(&conf, text.to_yaml().unwrap()).unwrap();
        }
        let mut command = tokio::process::Command::new(program);
        command
            .arg("--kubeconfig")
            .arg(conf)
            .arg("--cache-dir")
            .arg(self.path("cache"));
        command.kill_on_drop(true);
        command
    }

    /// Runs a kubectl to its end.
    pub async fn say(&self, program: &Path, arguments: &[&str], input: &str) -> Said {
        use tokio::io::AsyncWriteExt;
        let mut child = self
            .kubectl(program)
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let done = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
        let done = done
            .unwrap_or_else(|_| panic!("kubectl {arguments:?} does not end"))
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said {
            code: done.status.code(),
            out: text(done.stdout),
            err: text(done.stderr),
        }
    }
}
