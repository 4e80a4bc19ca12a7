//! The story that always works: from nothing to a cluster whose pods talk, told while it happens.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    cluster::Cluster,
    down, fabric, machine,
    matrix::Matrix,
    plan::{Machine, Options, Plan, machine_dir},
    pods,
    progress::Step,
    state::{State, kubeconfig},
    table::Columns,
};

const WIDE: Columns = Columns {
    wide: true,
    namespace: false,
};
/// How long nodes and pods may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Brings a lab up and shows that it works. What was started is ended again if that fails.
///
/// # Errors
/// What did not work, and where its log is.
pub async fn up(options: &Options) -> Result<()> {
    if let Some(state) = State::find()? {
        if state.holders.iter().any(|holder| holder.process.is_alive()) {
            bail!("there is a lab on this machine; end it first with: malha lab down");
        }
        down::end(&state)?;
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("a lab needs namespaces, mounts and BPF; run it as root");
    }
    let mut state = State {
        plan: Plan::new(options)?,
        holders: Vec::new(),
    };
    let begun = Instant::now();
    let outcome = tokio::select! {
        outcome = play(options, &mut state) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Err(error) = outcome {
        // The logs are worth more than a clean machine right now; the next `up` or `down` cleans.
        return Err(error.context("the lab did not come up; look around with `malha lab exec`, then end it with `malha lab down`"));
    }
    println!(
        "\nAll of it took {:.1} s.{}",
        begun.elapsed().as_secs_f64(),
        hints(&state.plan)
    );
    Ok(())
}

async fn play(options: &Options, state: &mut State) -> Result<()> {
    let begun = Instant::now();
    machines(state)?;
    let join = control_plane(options, state)?;
    join_nodes(state, &join)?;
    let cluster = Cluster::open(&kubeconfig()).await?;
    show(
        &cluster,
        "kubectl get nodes",
        "/api/v1/nodes",
        Columns::default(),
    )
    .await?;
    if options.without_network {
        return Ok(());
    }
    network(options, state, &cluster).await?;
    println!(
        "  From built programs to Ready: {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    show(&cluster, "kubectl get nodes -o wide", "/api/v1/nodes", WIDE).await?;
    test_pods(state, &cluster).await
}

fn machines(state: &mut State) -> Result<()> {
    let step = Step::begin(format!(
        "Making {} machines and a switch",
        state.plan.machines().count()
    ));
    let plan = state.plan.clone();
    let switch = machine::start_fabric(&plan)?;
    state.holders.push(switch.clone());
    state.save()?;
    fabric::make_switch(switch.process)?;
    let hosts = plan.hosts_file();
    for machine in plan.machines() {
        let holder = machine::start_machine(&machine.name, &hosts)?;
        state.holders.push(holder.clone());
        state.save()?;
        fabric::connect(switch.process, holder.process, machine)?;
    }
    step.done("");
    Ok(())
}

/// Plays `malha init`; the result is what it tells nodes to join with.
fn control_plane(options: &Options, state: &State) -> Result<Vec<String>> {
    let step = Step::begin("malha init on control");
    let plan = &state.plan;
    let address = plan.control.addresses[0].to_string();
    let printed = machine::malha(
        &plan.control.name,
        &[
            "init",
            "--apiserver-advertise-address",
            &address,
            "--apiserver-cert-extra-sans",
            "127.0.0.1",
            "--pod-network-cidr",
            &options.pod_network,
            "--node-cidr-mask-size-ipv4",
            &options.node_mask.to_string(),
            "-o",
            "json",
        ],
    )?;
    let printed: Value =
        serde_json::from_str(&printed).context("cannot read what malha init says")?;
    let join: Vec<String> = words(&printed["joinCommand"])?;
    write_kubeconfig(plan)?;
    step.done(&format!("malha {}", join.join(" ")));
    Ok(join)
}

/// The words of a join command after the program's name.
fn words(command: &Value) -> Result<Vec<String>> {
    let text = command
        .as_str()
        .context("malha init gave no join command")?;
    let words: Vec<String> = text.split_whitespace().skip(1).map(str::to_owned).collect();
    anyhow::ensure!(
        words.first().is_some_and(|word| word == "join"),
        "not a join command: {text}"
    );
    Ok(words)
}

/// The administrator's kubeconfig, as it serves on the host.
fn write_kubeconfig(plan: &Plan) -> Result<()> {
    let original = machine_dir(&plan.control.name).join("upper/etc/kubernetes/admin.conf");
    let text = fs::read_to_string(&original)
        .with_context(|| format!("cannot read {}", original.display()))?;
    let inside = format!("https://{}:6443", plan.control.addresses[0]);
    let outside = format!("https://127.0.0.1:{}", plan.api_port);
    let path = kubeconfig();
    fs::write(&path, text.replace(&inside, &outside))
        .and_then(|()| {
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        })
        .with_context(|| format!("cannot write {}", path.display()))
}

fn join_nodes(state: &State, join: &[String]) -> Result<()> {
    let nodes = &state.plan.nodes;
    let step = Step::begin(format!("malha join on {}", names(nodes)));
    std::thread::scope(|scope| {
        let joining: Vec<_> = nodes
            .iter()
            .map(|node| scope.spawn(move || join_node(node, join)))
            .collect();
        joining.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    step.done("");
    Ok(())
}

fn join_node(node: &Machine, join: &[String]) -> Result<()> {
    let addresses = node.node_ip();
    let own = ["--node-ip", addresses.as_str()];
    let arguments: Vec<&str> = join.iter().map(String::as_str).chain(own).collect();
    machine::malha(&node.name, &arguments).map(drop)
}

async fn network(options: &Options, state: &State, cluster: &Cluster) -> Result<()> {
    let step = Step::begin("kubectl apply -f deploy/malha.yaml");
    let manifest = options.manifest.replace(
        "MALHA_ROUTING: \"auto\"",
        &format!("MALHA_ROUTING: \"{}\"", options.routing),
    );
    let names = cluster.apply(&manifest).await?;
    step.done(&names.join(", "));
    let step = Step::begin("Waiting for the nodes to be Ready");
    cluster
        .nodes_ready(state.plan.nodes.len(), PATIENCE)
        .await?;
    step.done("");
    Ok(())
}

async fn test_pods(state: &State, cluster: &Cluster) -> Result<()> {
    let step = Step::begin("A test pod on every node");
    let count = state.plan.nodes.len();
    for node in &state.plan.nodes {
        cluster
            .apply(&pods::probe(&format!("probe-{}", node.name), &node.name).to_string())
            .await?;
    }
    let pods = cluster.pods_ready(pods::LABEL, count, PATIENCE).await?;
    step.done("");
    show(
        cluster,
        "kubectl get pods -A -o wide",
        "/api/v1/pods",
        Columns {
            namespace: true,
            ..WIDE
        },
    )
    .await?;
    let step = Step::begin("Every pod knocks at every pod");
    let of = state.clone();
    let matrix = tokio::task::spawn_blocking(move || Matrix::measure(&of, &pods)).await??;
    let (good, all) = matrix.score();
    step.done(&format!("{good} of {all} ways work"));
    println!("{}", indent(&matrix.render()));
    if good < all || all == 0 {
        bail!("{} of {all} ways between pods do not work", all - good);
    }
    Ok(())
}

async fn show(cluster: &Cluster, command: &str, path: &str, columns: Columns) -> Result<()> {
    let table = cluster.table(path, columns).await?;
    println!("\n  $ {command}\n{}", indent(&table));
    Ok(())
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

fn names(machines: &[Machine]) -> String {
    let names: Vec<&str> = machines
        .iter()
        .map(|machine| machine.name.as_str())
        .collect();
    names.join(", ")
}

fn hints(plan: &Plan) -> String {
    let path = kubeconfig();
    let node = plan
        .nodes
        .first()
        .map_or("node1", |node| node.name.as_str());
    format!(
        " The lab keeps running. Go on with:\n\
         \n  export KUBECONFIG={}\
         \n  kubectl get pods -A -o wide\
         \n  malha lab exec {node} -- malha status\
         \n  malha lab down",
        path.display()
    )
}
