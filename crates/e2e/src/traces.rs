//! What attachments leave on a host.

use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::description::Host;

/// Everything that is there for pods' attachments and for nothing else, as text: links, routes, neighbours, elements of
/// nftables' maps (the maps and their chains come with a node's first host port, and stay), entries of the datapath's maps
/// as the agent counts them, records, and what the runtimes' CNI library keeps of ours (of the reference loopback plugin's,
/// it keeps what that plugin fails to remove).
#[must_use]
#[track_caller]
pub fn traces(cluster: &Cluster, host: &Host) -> String {
    let script = "
        ip -o link show | grep -o 'mlh[^:@]*' | sort
        ip -4 route show proto 77; ip -6 route show proto 77
        ip neigh show nud permanent | sort
        nft list table inet malha | sed -n '/elements = {/,/}/p'
        ls /run/malha/state | grep -v '[.]freed$' | sort
        ls /var/lib/cni/results | grep '^malha-' | sort";
    let script = format!(
        "{script}\n{} status | grep '^Pods' | sed 's/, [0-9]* resting//g'",
        cluster.description.malha
    );
    cluster.sh(host, &script)
}

/// Wait until a host is as it was before.
///
/// # Panics
/// When it does not become so within two minutes, with the difference.
#[track_caller]
pub fn must_become(cluster: &Cluster, host: &Host, before: &str, after: &str) {
    let begun = Instant::now();
    loop {
        let now = traces(cluster, host);
        if now == before {
            return;
        }
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (was, is) = (lines(before), lines(&now));
        let missing: Vec<_> = was.iter().filter(|line| !is.contains(line)).collect();
        let left: Vec<_> = is.iter().filter(|line| !was.contains(line)).collect();
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "after {after} there is {left:?}, and there is no {missing:?}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}
