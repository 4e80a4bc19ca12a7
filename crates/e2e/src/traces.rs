//! What attachments leave on a host.

use crate::cluster::Cluster;
use crate::description::Host;

/// Everything that is there for pods' attachments and for nothing else, as text: links, routes, neighbours, nftables,
/// entries of the datapath's maps as the agent counts them, records, and what the runtimes' CNI library keeps of ours
/// (of the reference loopback plugin's, it keeps what that plugin fails to remove).
#[must_use]
#[track_caller]
pub fn traces(cluster: &Cluster, host: &Host) -> String {
    let script = "
        ip -o link show | grep -o 'mlh[^:@]*' | sort
        ip -4 route show proto 77; ip -6 route show proto 77
        ip neigh show nud permanent | sort
        nft list table inet malha
        ls /run/malha/state | grep -v '[.]freed$' | sort
        ls /var/lib/cni/results | grep '^malha-' | sort";
    let script = format!(
        "{script}\n{} status | grep '^Pods' | sed 's/, [0-9]* resting//g'",
        cluster.description.malha
    );
    cluster.sh(host, &script)
}
