//! Daemons as systemd units.

use std::{ffi::OsStr, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::Invocation;
use crate::files::{PUBLIC, Written};

/// Writes a unit.
pub(super) fn write(file: &Path, invocation: &Invocation, log: &Path) -> Result<()> {
    let mut written = Written::new();
    written.file(file, PUBLIC, unit_text(invocation, log))?;
    written.keep();
    Ok(())
}

/// Starts a unit with its present configuration, now and at every boot.
pub(super) fn start(unit: &str) -> Result<()> {
    reload()?;
    systemctl(&["enable", unit])?;
    systemctl(&["restart", unit])
}

/// Stops a unit, now and at every boot. Returns whether it ran.
pub(super) fn stop(unit: &str) -> Result<bool> {
    let ran = is_active(unit)?;
    systemctl(&["disable", "--now", unit])?;
    Ok(ran)
}

/// Stops a unit; it starts again at the next boot, as before.
pub(super) fn halt(unit: &str) -> Result<()> {
    systemctl(&["stop", unit])
}

/// Whether a unit starts at boot.
pub(super) fn is_enabled(unit: &str) -> Result<bool> {
    let status = Command::new("systemctl")
        .args(["is-enabled", "--quiet", unit])
        .status()
        .context("cannot run systemctl")?;
    Ok(status.success())
}

/// What a unit logged in its latest run.
pub(super) fn journal(unit: &str) -> String {
    let arguments = [
        "--unit",
        unit,
        "--output",
        "cat",
        "--lines",
        "200",
        "--no-pager",
    ];
    let output = Command::new("journalctl").args(arguments).output();
    output.map_or_else(
        |_| String::new(),
        |o| String::from_utf8_lossy(&o.stdout).into_owned(),
    )
}

pub(super) fn is_active(unit: &str) -> Result<bool> {
    let status = Command::new("systemctl")
        .args(["is-active", "--quiet", unit])
        .status()
        .context("cannot run systemctl")?;
    Ok(status.success())
}

pub(super) fn reload() -> Result<()> {
    systemctl(&["daemon-reload"])
}

/// Runs `systemctl`.
fn systemctl(arguments: &[&str]) -> Result<()> {
    let output = Command::new("systemctl")
        .args(arguments)
        .output()
        .context("cannot run systemctl")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!(
        "systemctl {} failed: {}",
        arguments.join(" "),
        said.trim().replace('\n', " ")
    )
}

/// `KillMode=process`: pods outlive a restart of the node agent, as they do a kubelet's.
fn unit_text(invocation: &Invocation, log: &Path) -> String {
    let mut command = quote(invocation.program.as_os_str());
    for argument in &invocation.arguments {
        command.push(' ');
        command.push_str(&quote(argument));
    }
    format!(
        "[Unit]\nDescription={}\nWants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nExecStart={command}\nRestart=always\nRestartSec=1\nKillMode=process\nDelegate=yes\n\
         LimitNOFILE=1048576\nStandardOutput=append:{log}\nStandardError=append:{log}\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        invocation.description,
        log = log.display(),
    )
}

/// systemd.syntax(7): quotes and backslashes are escaped, `%` and `$` are doubled.
fn quote(argument: &OsStr) -> String {
    let text = argument.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@[]".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('%', "%%").replace('$', "$$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_says_all_it_needs() {
        let invocation = Invocation {
            description: "Malha node agent".to_owned(),
            program: "/usr/local/bin/malha".into(),
            arguments: ["node", "--node-name", "a b%"].map(Into::into).to_vec(),
            detached_by: None,
        };
        let text = unit_text(&invocation, Path::new("/var/log/malha/node.log"));
        let wanted = "[Unit]
Description=Malha node agent
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/local/bin/malha node --node-name \"a b%%\"
Restart=always
RestartSec=1
KillMode=process
Delegate=yes
LimitNOFILE=1048576
StandardOutput=append:/var/log/malha/node.log
StandardError=append:/var/log/malha/node.log

[Install]
WantedBy=multi-user.target
";
        assert_eq!(text, wanted);
    }
}
