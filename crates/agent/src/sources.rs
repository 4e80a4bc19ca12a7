//! What the API tells, from the states that others own.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use malha_datapath::Datapath;
use malha_endpoint::{Endpoint, Manager, Pod};
use tokio::sync::watch;

use crate::api::{
    AgentStatus, DropWatch, EndpointStatus, Parts, PodNames, PoolStatus, Sources, gather,
};
use crate::cluster::connection::Current;
use crate::config::Config;
use crate::model::Desired;
use crate::target::{Board, Health};

/// Read-only views of every part.
pub struct Knowledge {
    pub config: Arc<Config>,
    pub started_at: Timestamp,
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    pub board: watch::Receiver<Board>,
    pub server: Current,
    pub watch_problem: watch::Receiver<Option<String>>,
    pub datapath: Arc<Datapath>,
    pub manager: Arc<Manager>,
    pub drops: DropWatch,
}

impl Sources for Knowledge {
    fn status(&self) -> AgentStatus {
        let status = self.manager.status();
        let small = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        let pools = status.pools.iter().map(|pool| PoolStatus {
            range: pool.prefix,
            capacity: small(pool.capacity),
            used: small(pool.used),
            resting: small(pool.resting),
        });
        let desired = self.desired.borrow().clone();
        gather(Parts {
            config: &self.config,
            started_at: self.started_at,
            desired: desired.as_deref(),
            board: &self.board.borrow(),
            server: &self.server.borrow(),
            watch_problem: self.watch_problem.borrow().clone(),
            datapath: &self.datapath,
            pools: pools.collect(),
            endpoints: status.ready as u64,
        })
    }

    fn health(&self) -> Health {
        self.board.borrow().health.clone()
    }

    fn endpoints(&self) -> Vec<EndpointStatus> {
        self.manager.list().into_iter().map(endpoint).collect()
    }

    fn drops(&self) -> &DropWatch {
        &self.drops
    }
}

fn endpoint(endpoint: Endpoint) -> EndpointStatus {
    EndpointStatus {
        id: endpoint.id,
        pod: endpoint.pod.as_ref().map(pod_name),
        container_id: endpoint.key.container_id,
        ifname: endpoint.key.ifname,
        addresses: endpoint.addresses,
        host_link: endpoint.host_link,
        mtu: endpoint.mtu,
    }
}

fn pod_name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

impl PodNames for Arc<Manager> {
    fn of_endpoint(&self, id: u32) -> Option<String> {
        let found = self.list().into_iter().find(|endpoint| endpoint.id == id)?;
        found.pod.as_ref().map(pod_name)
    }

    fn of_address(&self, address: IpAddr) -> Option<String> {
        let found = self
            .list()
            .into_iter()
            .find(|endpoint| endpoint.addresses.contains(&address))?;
        found.pod.as_ref().map(pod_name)
    }
}
