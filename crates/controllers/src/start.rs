//! Starts everything: the watches, the event writer and every controller.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use malha_bootstrap::pki::CertificateAuthority;
use malha_core::range::{NodeRanges, check_disjoint};
use secrecy::ExposeSecret;
use tokio::task::JoinSet;

use crate::{
    Config, Error,
    accounts::NamespaceFurnisher,
    certificates::{CsrApprover, CsrCleaner, CsrSigner},
    daemonset::DaemonSets,
    discovery,
    endpoints::{EndpointsKeeper, SliceKeeper},
    frame::{Api, Backoff, Controller, Recorder, drive, write_events},
    garbage::{self, GarbageCollector},
    namespaces::NamespaceCleaner,
    nodes::{NodeEvictor, NodeIpam, NodeMonitor, NodeTainter},
    pod_gc::PodCollector,
    scheduler::Scheduler,
    tokens::{BootstrapSigner, TokenCleaner},
    world::World,
};

/// Checks the configuration and starts; the tasks end when the set is dropped.
pub(crate) fn start(client: kube::Client, config: &Config) -> Result<JoinSet<()>, Error> {
    let ca = CertificateAuthority::from_pem(&config.ca_cert_pem, config.ca_key_pem.expose_secret());
    let ca = Arc::new(ca.map_err(Error::Authority)?);
    let ranges = node_ranges(config)?;
    let mut tasks = JoinSet::new();
    let world = World::start(&client, &mut tasks);
    let (recorder, notes) = Recorder::new();
    tasks.spawn(write_events(client.clone(), notes));
    let mut starter = Starter {
        api: Api::new(client, world.stores(), recorder),
        world,
        tasks,
    };
    let s = &mut starter;
    s.start(BootstrapSigner::new);
    s.start(TokenCleaner::new);
    s.start(CsrApprover::new);
    s.start(move |world| CsrSigner::new(world, &ca));
    s.start(CsrCleaner::new);
    let timings = config.timings;
    s.start(move |world| NodeMonitor::new(world, timings));
    s.start(NodeTainter::new);
    s.start(NodeEvictor::new);
    if let Some(ranges) = ranges {
        s.start(move |world| NodeIpam::new(world, ranges.clone()));
    }
    let ca_cert: Arc<str> = config.ca_cert_pem.as_str().into();
    s.start(move |world| NamespaceFurnisher::new(world, &ca_cert));
    s.start(NamespaceCleaner::new);
    s.start(move |world| PodCollector::new(world, timings.orphan_quarantine));
    s.start(DaemonSets::new);
    s.start(Scheduler::new);
    s.start(EndpointsKeeper::new);
    s.start(SliceKeeper::new);
    s.collect_garbage();
    Ok(starter.tasks)
}

/// The allocator of node ranges, if there is anything to allocate.
fn node_ranges(config: &Config) -> Result<Option<NodeRanges>, Error> {
    let pods = config.pod_ranges.iter().map(|range| ("pod", range.cluster));
    let services = config
        .service_ranges
        .iter()
        .map(|range| ("service", *range));
    let named: Vec<(&str, IpNet)> = pods.chain(services).collect();
    check_disjoint(&named)?;
    if config.pod_ranges.is_empty() {
        return Ok(None);
    }
    Ok(Some(NodeRanges::new(&config.pod_ranges)?))
}

struct Starter {
    api: Api,
    world: World,
    tasks: JoinSet<()>,
}

impl Starter {
    fn start<C: Controller>(&mut self, make: impl Fn(&World) -> C + Send + 'static) {
        let world = self.world.clone();
        self.tasks
            .spawn(drive(self.api.clone(), move || make(&world)));
    }

    /// The collector starts once the API has said which kinds it has.
    fn collect_garbage(&mut self) {
        let (api, world) = (self.api.clone(), self.world.clone());
        self.tasks.spawn(async move {
            let client = api.client();
            let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
            let kinds = loop {
                match discovery::kinds(&client).await {
                    Ok(kinds) => break Arc::new(kinds),
                    Err(error) => {
                        let wait = backoff.failed();
                        tracing::warn!(%error, ?wait, "cannot read which kinds the API has");
                        tokio::time::sleep(wait).await;
                    }
                }
            };
            // Dropped, and with it the watches, when this task is.
            let mut watches = JoinSet::new();
            let stores = garbage::watch_rest(&client, &world, &kinds, &mut watches);
            let api = api.with_stores(stores.clone());
            drive(api, move || GarbageCollector::new(&stores, &kinds)).await;
        });
    }
}
