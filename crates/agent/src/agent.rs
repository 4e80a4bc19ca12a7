//! The agent as a whole: what it stands on, its loop, and its end.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use malha_cni::wire;
use malha_datapath::Datapath;
use malha_endpoint::Manager;
use malha_kernel::machine;
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::{Api, DropWatch};
use crate::before::Before;
use crate::brain::Brain;
use crate::cluster::connection::{Cluster, Current, connect};
use crate::cluster::events::Notices;
use crate::cluster::{Change, condition, events, nodes, ranges};
use crate::cni::{Handler, Installer};
use crate::config::Config;
use crate::lock::{self, Held};
use crate::model::Desired;
use crate::news::News;
use crate::observe;
use crate::policy::{self, Admitter, Inbox, Keeper};
use crate::report;
use crate::sandboxes;
use crate::sources::Knowledge;
use crate::target::{
    Board, DatapathTarget, EndpointsTarget, Mailbox, MasqueradeTarget, OverlayTarget, RoutesTarget,
    Runner, SysctlTarget,
};

/// How often the host is looked at, besides when something is known to have changed.
const LOOK: Duration = Duration::from_secs(30);
/// Stacks of the agent's threads, in bytes.
const STACK: usize = 512 * 1024;

/// Run the agent until `shutdown`. What it brought about stays: pods keep their network while no agent runs.
///
/// Acts in the calling thread's network namespace; wants a runtime with one thread, so that all of its work does.
///
/// # Errors
/// When it cannot start: a wrong setting, no privilege, a kernel that lacks something, no service account.
pub async fn run(
    config: Config,
    cluster: Cluster,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    config.check()?;
    let config = Arc::new(config);
    let current = connect(cluster)?;
    let (admitter, inbox) = policy::channel();
    let ground = Ground::lay(&config, &admitter).await?;
    let (keeper, refused) = start_keeper(&ground, &config, inbox, policy::ask(&current))?;
    let (notices, told) = Notices::channel();
    let mailbox = Arc::new(Mailbox::default());
    let (board, runner) = start_runner(&ground, &config, &mailbox)?;
    let handler = Handler {
        manager: ground.manager.clone(),
        board: board.clone(),
        notices: notices.clone(),
    };
    let stopper = ground.server.stopper();
    let cni = thread("cni-accept", move || serve_cni(&ground.server, &handler))?;
    let (changes, changed) = mpsc::channel(256);
    let news = News::listen(changes.clone(), mailbox.clone())?;
    let watch_problem = start_watches(&config, &current, (changes, told), &board);
    policy::start(&current, &admitter);
    let (thoughts, desired) = watch::channel(None);
    let drops = DropWatch::start(ground.datapath.events()?, Arc::new(ground.manager.clone()))?;
    let knowledge = Knowledge {
        config: config.clone(),
        started_at: Timestamp::now(),
        desired: desired.clone(),
        board: board.clone(),
        server: current,
        watch_problem,
        datapath: ground.datapath.clone(),
        manager: ground.manager.clone(),
        drops: drops.clone(),
    };
    let api = Api::serve(&config.paths.api_socket, Arc::new(knowledge))?;
    let census = tokio::spawn(sandboxes::run(
        ground.manager.clone(),
        config.runtimes.clone(),
    ));
    let reporter = tokio::spawn(report::run(notices, board, desired));
    tracing::info!(node = config.node_name, routing = %config.routing, "agent started");

    tokio::select! {
        () = think(config, changed, (&mailbox, &admitter), &thoughts) => {}
        () = shutdown => {}
        Ok(error) = refused => {
            return Err(error).context("policy cannot be brought into force; the next agent begins anew");
        }
    }

    tracing::info!("agent stopping: pods that are there keep their network");
    reporter.abort();
    census.abort();
    stopper.stop();
    mailbox.stop();
    drops.stop();
    drop(api);
    admitter.stop();
    join([cni, runner, news.stop(), keeper]).await;
    drop(ground.lock);
    Ok(())
}

/// What everything stands on.
struct Ground {
    lock: Held,
    before: Before,
    datapath: Arc<Datapath>,
    manager: Arc<Manager>,
    installer: Installer,
    server: wire::Server,
}

impl Ground {
    /// In the order of dependence. Pods' traffic flows on during all of it.
    async fn lay(config: &Config, admitter: &Admitter) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!(
                "the agent needs root: run it as a privileged pod (deploy/malha.yaml), or through sudo"
            );
        }
        let paths = &config.paths;
        std::fs::create_dir_all(&paths.run)
            .with_context(|| format!("cannot make {}", paths.run.display()))?;
        let lock = lock::acquire(&paths.run).await?;
        let boot_id = machine::boot_id()?;
        let mut before = Before::load(&paths.run, &boot_id);
        let installer = Installer::new(paths)?;
        installer.forget_last_boot(&paths.run, &boot_id)?;
        let bpffs = Path::new(machine::BPFFS);
        if paths.pins.starts_with(bpffs) && !machine::is_bpffs(bpffs) {
            before.note_bpffs()?;
            machine::ensure_bpffs()?;
            tracing::info!("mounted the BPF filesystem at {}", machine::BPFFS);
        }
        let open = malha_datapath::Config {
            pins: paths.pins.clone(),
            ..malha_datapath::Config::default()
        };
        let datapath = Arc::new(Datapath::open(&open)?);
        let state = malha_endpoint::Config {
            admission: Some(Arc::new(admitter.clone())),
            ..malha_endpoint::Config::new(&paths.state, boot_id)
        };
        let manager = Arc::new(Manager::open(state, datapath.clone())?);
        let server = wire::Server::bind(&paths.cni_socket)
            .with_context(|| format!("cannot listen on {}", paths.cni_socket.display()))?;
        Ok(Self {
            lock,
            before,
            datapath,
            manager,
            installer,
            server,
        })
    }
}

fn start_runner(
    ground: &Ground,
    config: &Config,
    mailbox: &Arc<Mailbox>,
) -> Result<(watch::Receiver<Board>, JoinHandle<()>)> {
    let (runner, board) = Runner::new(
        vec![
            Box::new(SysctlTarget::new(ground.before.clone())),
            Box::new(OverlayTarget),
            Box::new(DatapathTarget::new(ground.datapath.clone())),
            Box::new(RoutesTarget),
            Box::new(MasqueradeTarget),
            Box::new(EndpointsTarget::new(ground.manager.clone())),
        ],
        ground.installer.clone().into_target(),
    );
    tracing::debug!(mtu = config.mtu, "starting the reconcilers");
    let mailbox = mailbox.clone();
    let thread = thread("reconcile", move || runner.run(&mailbox))?;
    Ok((board, thread))
}

/// The thread of policy, and the kernel's answer if it refuses something.
fn start_keeper(
    ground: &Ground,
    config: &Config,
    inbox: Inbox,
    ask: policy::Ask,
) -> Result<(JoinHandle<()>, oneshot::Receiver<malha_datapath::Error>)> {
    let (refused, refusal) = oneshot::channel();
    let endpoints = ground.manager.list();
    let keeper = Keeper::new(
        &config.node_name,
        ground.datapath.clone(),
        endpoints,
        &config.pod_ranges,
        ask,
    )?;
    let work = move || {
        if let Err(error) = keeper.run(&inbox) {
            let _ = refused.send(error);
        }
    };
    Ok((thread("policy", work)?, refusal))
}

fn serve_cni(server: &wire::Server, handler: &Handler) {
    if let Err(error) = server.serve(|request| handler.handle(request)) {
        tracing::error!(%error, "the CNI socket failed: restart the agent");
    }
}

/// The tasks that talk to the cluster. They end when their channels do. What is wrong with the watch of nodes.
fn start_watches(
    config: &Config,
    current: &Current,
    (changes, told): (mpsc::Sender<Change>, mpsc::Receiver<events::Notice>),
    board: &watch::Receiver<Board>,
) -> watch::Receiver<Option<String>> {
    let node = config.node_name.clone();
    let (condition, found) = watch::channel(None);
    let (problem, watch_problem) = watch::channel(None);
    let sinks = nodes::Sinks {
        changes: changes.clone(),
        condition,
        problem,
    };
    tokio::spawn(nodes::run(current.clone(), node.clone(), sinks));
    tokio::spawn(ranges::run(current.clone(), changes));
    let wanted = report::wanted_condition(board.clone());
    tokio::spawn(condition::run(current.clone(), node.clone(), wanted, found));
    tokio::spawn(events::run(current.clone(), node, told));
    watch_problem
}

/// The loop: changes in, desired state out.
async fn think(
    config: Arc<Config>,
    mut changes: mpsc::Receiver<Change>,
    (mailbox, policy): (&Mailbox, &Admitter),
    thoughts: &watch::Sender<Option<Arc<Desired>>>,
) {
    let mut brain = Brain::new(config, |peers: &[_]| Ok(observe::host(peers)?));
    let mut ticker = tokio::time::interval(LOOK);
    loop {
        let mut batch = tokio::select! {
            change = changes.recv() => match change {
                Some(change) => vec![change],
                None => return,
            },
            _ = ticker.tick() => vec![Change::Host],
        };
        while let Ok(change) = changes.try_recv() {
            batch.push(change);
        }
        batch.iter().for_each(|change| policy.note(change));
        if let Some(thought) = brain.absorb(batch) {
            thoughts.send_replace(thought.as_ref().ok().cloned());
            mailbox.put(thought);
        }
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK);
    builder
        .spawn(work)
        .with_context(|| format!("cannot start thread {name}"))
}

async fn join(threads: impl IntoIterator<Item = JoinHandle<()>> + Send + 'static) {
    let wait = move || threads.into_iter().for_each(|thread| drop(thread.join()));
    let _ = tokio::task::spawn_blocking(wait).await;
}
