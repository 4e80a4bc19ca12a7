//! Real kubectl: Debian's, and what else the machine has.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use malha_apiserver::server::Server;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::common;

/// A kubectl with a server of its own.
pub struct Kubectl {
    program: PathBuf,
    /// The minor version.
    pub minor: u32,
    dir: TempDir,
    server: Option<Server>,
    runtime: Runtime,
}

/// What a command said.
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
    what: String,
}

/// Runs a scenario with every kubectl there is.
pub fn with_each(scenario: impl Fn(&Kubectl)) {
    for program in programs() {
        let kubectl = Kubectl::new(program);
        println!("--- {} (1.{})", kubectl.program.display(), kubectl.minor);
        scenario(&kubectl);
    }
}

/// Debian's kubectl, the one in the path, and the newest of those that lie beside it.
fn programs() -> Vec<PathBuf> {
    let unpack = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/unpack-package");
    let unpacked = Command::new(&unpack).arg("kubernetes-client").output();
    let unpacked = unpacked.unwrap_or_else(|e| panic!("cannot run {}: {e}", unpack.display()));
    assert!(
        unpacked.status.success(),
        "cannot get Debian's kubectl, which these tests need: {}",
        String::from_utf8_lossy(&unpacked.stderr)
    );
    let debian = PathBuf::from(String::from_utf8(unpacked.stdout).unwrap().trim());
    let mut programs = vec![debian.join("usr/bin/kubectl")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|dir| dir.join("kubectl"));
    let Some(own) = found.find_map(|program| program.canonicalize().ok()) else {
        return programs;
    };
    let beside = own.parent().and_then(|dir| fs::read_dir(dir).ok());
    let beside = beside.into_iter().flatten().flatten();
    let newest = beside
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let minor: u32 = name.strip_prefix("kubectl.1.")?.parse().ok()?;
            Some((minor, entry.path()))
        })
        .max();
    programs.push(own);
    programs.extend(newest.map(|(_, path)| path));
    programs
}

impl Kubectl {
    fn new(program: PathBuf) -> Self {
        let dir = TempDir::new().unwrap();
        let runtime = Runtime::new().unwrap();
        let pki = common::pki();
        let server = runtime
            .block_on(common::start(&pki, &dir.path().join("data")))
            .unwrap();
        fs::write(dir.path().join("config"), common::admin_conf(&pki, &server)).unwrap();
        let mut kubectl = Self {
            program,
            minor: 0,
            dir,
            server: Some(server),
            runtime,
        };
        let version = kubectl.run("version --client -o json").ok();
        let version: serde_json::Value = serde_json::from_str(&version).unwrap();
        let minor = version["clientVersion"]["minor"].as_str().unwrap();
        kubectl.minor = minor.trim_end_matches('+').parse().unwrap();
        kubectl
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("KUBECONFIG", self.dir.path().join("config"))
            .env("HOME", self.dir.path())
            .current_dir(self.dir.path());
        command
    }

    /// Runs a command line; quotes are not known, blanks separate.
    pub fn run(&self, line: &str) -> Said {
        self.pipe(line, "")
    }

    /// The same with something on its standard input.
    pub fn pipe(&self, line: &str, input: &str) -> Said {
        self.arguments(&line.split_whitespace().collect::<Vec<_>>(), input)
    }

    /// The same with arguments as they are.
    pub fn arguments(&self, arguments: &[&str], input: &str) -> Said {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Said {
            ok: output.status.success(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            what: format!("kubectl (1.{}) {arguments:?}", self.minor),
        }
    }

    /// Starts a command that goes on; end it with [`Child::kill`].
    pub fn start(&self, line: &str) -> Child {
        let arguments: Vec<_> = line.split_whitespace().collect();
        self.command(&arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Drop for Kubectl {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.shutdown());
        }
    }
}

impl Said {
    /// What it printed; it must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.ok, "{}: {}{}", self.what, self.out, self.err);
        self.out
    }

    /// Its complaint; it must have failed.
    #[track_caller]
    pub fn failed(self) -> String {
        assert!(!self.ok, "{} succeeded: {}", self.what, self.out);
        self.err
    }

    /// It must have succeeded and printed exactly this.
    #[track_caller]
    pub fn says(self, expected: &str) {
        let what = self.what.clone();
        assert_eq!(self.ok().trim_end(), expected, "{what}");
    }
}

/// The words of every line.
pub fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(|l| l.split_whitespace().collect())
        .collect()
}
