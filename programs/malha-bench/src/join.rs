//! `malha join` beside `kubeadm join`, by turns, on one control plane that kubeadm made.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use malha_peer::{ControlPlane, Host, Joiner};

use crate::{
    lab::program,
    report::{Row, table},
    stats::Series,
};

/// Milliseconds of one program's joins.
#[derive(Default)]
struct Times {
    /// From the start to the end: then the Node is registered.
    whole: Series,
    /// From the start to that of the kubelet.
    own: Series,
}

/// Measures, or says loudly why not: the programs of Kubernetes are not on every machine.
///
/// # Errors
/// When a join fails.
pub fn run_or_skip(rounds: usize) -> Result<String> {
    match malha_peer::binaries() {
        Ok(_) => run(rounds),
        Err(error) => {
            eprintln!("NOT MEASURED: malha join beside kubeadm join: {error:#}");
            Ok(format!("### Joining\n\nNot measured here: {error:#}.\n"))
        }
    }
}

/// Measures; a table in Markdown.
///
/// # Errors
/// When the programs of Kubernetes are missing, or a join fails.
pub fn run(rounds: usize) -> Result<String> {
    let malha = Joiner::Malha(program("malha")?);
    let control_plane = ControlPlane::start()?;
    let hosts = [control_plane.host(1)?, control_plane.host(2)?];
    for host in &hosts {
        host.start_containerd()?;
    }
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    for round in 0..rounds {
        // Each program has each host by turns, so that neither has the better one.
        let (first, second) = (&hosts[round % 2], &hosts[(round + 1) % 2]);
        join(&control_plane, first, &Joiner::Kubeadm, &mut theirs)?;
        join(&control_plane, second, &malha, &mut ours)?;
    }
    let row = |what: &str, ours: &Series, theirs: &Series| Row {
        what: format!("{what}, p50 (n={})", ours.len()),
        ours: format!("{:.0} ms", ours.median()),
        baseline: "kubeadm join".to_owned(),
        theirs: format!("{:.0} ms", theirs.median()),
        ratio: ours.median() / theirs.median(),
        aim: String::new(),
    };
    Ok(table(
        "Joining a control plane of kubeadm 1.20, with kubelet 1.20",
        &[
            row("start to Node registered", &ours.whole, &theirs.whole),
            row(
                "of that, start to start of the kubelet",
                &ours.own,
                &theirs.own,
            ),
        ],
    ))
}

fn join(
    control_plane: &ControlPlane,
    host: &Host,
    joiner: &Joiner,
    times: &mut Times,
) -> Result<()> {
    host.watch_kubelet()?;
    // What these hosts lack for it: crictl, systemd.
    let more: &[&str] = match joiner {
        Joiner::Kubeadm => &["--ignore-preflight-errors=all"],
        Joiner::Malha(_) => &[],
    };
    let mut command = control_plane.join(host, joiner, more);
    let (start, begun) = (SystemTime::now(), Instant::now());
    let output = command.output().context("cannot start the join")?;
    let whole = begun.elapsed();
    ensure!(
        output.status.success(),
        "{} join failed: {}",
        joiner.program().display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let started: f64 = host.shell("cat /run/kubelet-started")?.trim().parse()?;
    let start = start.duration_since(UNIX_EPOCH)?.as_secs_f64();
    times.whole.push(whole.as_secs_f64() * 1e3);
    times.own.push((started - start) * 1e3);
    host.forget()?;
    control_plane
        .kubectl(&["delete", "node", &host.name])
        .map(drop)
}
