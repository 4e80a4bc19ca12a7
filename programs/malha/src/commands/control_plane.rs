//! `malha control-plane`: the API server and the controllers in one process.

use std::{future::Future, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use malha_apiserver::server::Server;
use malha_controllers::Timings;
use malha_join::{
    control_plane::Config,
    daemon::{Daemon, Invocation},
    init,
    machine::Machine,
    progress::Progress,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// The user that the controllers act as.
const CONTROLLERS: &str = "system:kube-controller-manager";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The control plane's configuration, as malha init writes it.
    #[arg(long, value_name = "FILE", default_value_os_t = Machine::this(Progress::Out).paths.control_plane_config())]
    config: PathBuf,
    /// Start it in the background and wait until it answers.
    #[arg(long)]
    detach: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let config = Config::load(&args.config)?;
    if args.detach {
        return super::block_on(detach(args));
    }
    super::block_on(async {
        serve(&config, asked_to_end()?).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs the control plane until `end`.
///
/// # Errors
/// When it cannot start: a port in use, a file that is missing, a database that another process has open.
pub async fn serve(config: &Config, end: impl Future<Output = ()>) -> Result<()> {
    let credentials = config.credentials()?;
    let controllers = malha_controllers::Config {
        ca_cert_pem: credentials.ca.clone(),
        ca_key_pem: credentials.ca_key,
        pod_ranges: config.cluster_ranges(),
        service_ranges: config.service_ranges.clone(),
        timings: Timings::default(),
    };
    let server = Server::start(malha_apiserver::server::Config {
        listen: config.listen(),
        data_dir: config.data_dir.clone(),
        serving_cert: credentials.apiserver,
        serving_key: credentials.apiserver_key,
        client_ca: credentials.ca,
        service_account_key: credentials.service_account_key,
        service_account_public_keys: vec![credentials.service_account_public_key],
        kubelet_client_cert: credentials.kubelet_client,
        kubelet_client_key: credentials.kubelet_client_key,
        service_ranges: config.service_ranges.clone(),
        advertise: config.advertise_address,
    })
    .await
    .context("cannot start the API server")?;
    let service = server.client_service(malha_apiserver::auth::superuser(CONTROLLERS));
    let client = kube::Client::new(service, "default");
    let (stop, mut stopped) = watch::channel(false);
    let until = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let running = malha_controllers::run(client, controllers, until);
    let outcome = {
        tokio::pin!(running, end);
        tokio::select! {
            outcome = &mut running => outcome,
            () = end => {
                tracing::info!("ending");
                stop.send_replace(true);
                running.await
            }
        }
    };
    server.shutdown().await;
    outcome.context("the controllers ended")
}

/// Done when somebody sends SIGTERM or SIGINT.
pub fn asked_to_end() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn detach(args: &Args) -> Result<ExitCode> {
    let machine = Machine::this(Progress::Out);
    let arguments = [
        "control-plane".to_owned(),
        "--config".to_owned(),
        args.config.display().to_string(),
    ];
    let invocation = Invocation::own("Malha control plane", &arguments)?;
    let mut started = Daemon::new(init::DAEMON, &machine.paths).start(&invocation)?;
    let client = init::client_of(&Config::load(&args.config)?, &machine)?;
    started
        .wait(init::LIMIT, async || init::ready(&client).await)
        .await?;
    started.keep();
    println!("The control plane runs.");
    Ok(ExitCode::SUCCESS)
}
