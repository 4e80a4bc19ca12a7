//! Starting what holds the lab up, and running commands on its machines.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Lines, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    hold::READY,
    plan::{Plan, ROOT, machine_dir},
    state::{Holder, Process},
};

/// Starts the fabric's holder.
pub fn start_fabric(plan: &Plan) -> Result<Holder> {
    let api_server = SocketAddr::new(plan.control.addresses[0], 6443);
    let arguments = [plan.api_port.to_string(), api_server.to_string()];
    let mut starting = Starting::new("fabric", &arguments)?;
    starting.expect_ready()?;
    let pid = starting.child.id();
    holder("fabric", pid)
}

/// Starts a machine: namespaces, files, an init; no network yet.
pub fn start_machine(name: &str, hosts: &str) -> Result<Holder> {
    fs::create_dir_all(machine_dir(name)).context("cannot create the machine's directory")?;
    let mut starting = Starting::new("machine", &[name.to_owned()])?;
    let mut stdin = starting.child.stdin.take().context("no standard input")?;
    stdin
        .write_all(hosts.as_bytes())
        .context("cannot send the hosts file")?;
    drop(stdin);
    let init = starting.next_line()?;
    starting.expect_ready()?;
    starting
        .child
        .wait()
        .context("cannot wait for the machine's first step")?;
    holder(
        name,
        init.parse()
            .with_context(|| format!("{init:?} is not a pid"))?,
    )
}

/// Runs `malha` on a machine; its output goes to a log file, and comes back when it succeeds.
pub fn malha(machine: &str, arguments: &[&str]) -> Result<String> {
    let verb = arguments.first().copied().unwrap_or("malha");
    let output = Command::new(own_program()?)
        .args(["lab", "exec", machine, "--", "/usr/local/bin/malha"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run malha {verb} on {machine}"))?;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let log = machine_dir(machine).join(format!("{verb}.log"));
    fs::write(&log, format!("{err}{out}"))
        .with_context(|| format!("cannot write {}", log.display()))?;
    if !output.status.success() {
        let cause = err.lines().last().unwrap_or("no output").to_owned();
        bail!(
            "malha {verb} failed on {machine}: {cause} (all of it: {})",
            log.display()
        );
    }
    Ok(out)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}

fn holder(name: &str, pid: u32) -> Result<Holder> {
    let process = i32::try_from(pid)
        .ok()
        .and_then(Process::running)
        .with_context(|| format!("{name} ended right after its start"))?;
    Ok(Holder {
        name: name.to_owned(),
        process,
    })
}

/// A holder that has not said yet that it is ready.
struct Starting {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Starting {
    fn new(kind: &str, arguments: &[String]) -> Result<Self> {
        let log = Path::new(ROOT).join(format!(
            "{}.log",
            if kind == "machine" {
                &arguments[0]
            } else {
                kind
            }
        ));
        fs::create_dir_all(ROOT).with_context(|| format!("cannot create {ROOT}"))?;
        let errors =
            File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut child = Command::new(own_program()?)
            .args(["lab", "hold", kind])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start the lab's {kind}"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        Ok(Self {
            child,
            lines: BufReader::new(stdout).lines(),
            log,
        })
    }

    fn next_line(&mut self) -> Result<String> {
        match self.lines.next() {
            Some(line) => line.context("cannot read what a holder says"),
            None => {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!(
                    "{}",
                    log.lines()
                        .last()
                        .unwrap_or("a holder ended without a word")
                )
            }
        }
    }

    fn expect_ready(&mut self) -> Result<()> {
        let line = self.next_line()?;
        anyhow::ensure!(line == READY, "a holder said {line:?} instead of {READY:?}");
        Ok(())
    }
}
