//! The status page, as golden text.

use jiff::{SignedDuration, Timestamp};
use malha_agent::api::{
    AgentStatus, DropStatus, HealthStatus, PeerStatus, PoolStatus, ServerStatus, WayStatus,
};
use malha_agent::model::Mode;
use malha_agent::target::TargetStatus;

fn now() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

fn status() -> AgentStatus {
    let long_ago = now() - SignedDuration::from_mins(90);
    let target = |name: &str| {
        let mut target = TargetStatus::new(name);
        target.note(Ok(()), long_ago);
        target
    };
    let way = |range: &str, mode, via: &str, mtu| WayStatus {
        range: range.parse().unwrap(),
        mode,
        via: via.parse().unwrap(),
        mtu,
    };
    AgentStatus {
        node: "worker-1".to_owned(),
        version: "0.1.0".to_owned(),
        started_at: long_ago,
        health: HealthStatus {
            serving: true,
            state: "serving".to_owned(),
            reason: None,
        },
        api_server: ServerStatus {
            url: "https://172.20.0.10:6443/".to_owned(),
            problem: None,
        },
        routing: "auto".to_owned(),
        vni: Some(77),
        vxlan_port: Some(8472),
        overlay_link: Some("malha0".to_owned()),
        mtu: Some(1450),
        masquerade: true,
        uplinks: vec!["eth0".to_owned()],
        addresses: vec![
            "172.20.0.11".parse().unwrap(),
            "fd00:20::11".parse().unwrap(),
        ],
        pod_ranges: vec!["10.244.1.0/24".parse().unwrap()],
        cluster_ranges: vec!["10.244.0.0/16".parse().unwrap()],
        pools: vec![PoolStatus {
            range: "10.244.1.0/24".parse().unwrap(),
            capacity: 253,
            used: 2,
            resting: 1,
        }],
        endpoints: 2,
        peers: vec![
            PeerStatus {
                node: "control-plane".to_owned(),
                addresses: vec!["172.20.0.10".parse().unwrap()],
                ways: vec![way("10.244.0.0/24", Mode::Direct, "172.20.0.10", 1500)],
                problems: vec![],
            },
            PeerStatus {
                node: "worker-2".to_owned(),
                addresses: vec!["172.21.0.12".parse().unwrap()],
                ways: vec![way("10.244.2.0/24", Mode::Overlay, "172.21.0.12", 1450)],
                problems: vec![],
            },
        ],
        targets: vec![target("overlay"), target("routes")],
        warnings: vec![],
        drops: vec![],
        lost_events: 0,
        resident_bytes: 19 * 1024 * 1024,
    }
}

#[track_caller]
fn same(found: &str, wanted: &str) {
    let wanted: Vec<&str> = wanted
        .lines()
        .map(|line| line.strip_prefix("        |").unwrap_or(line))
        .collect();
    let found: Vec<&str> = found.lines().collect();
    assert!(
        found == wanted,
        "found:\n{}\nwanted:\n{}",
        found.join("\n"),
        wanted.join("\n")
    );
}

#[test]
fn a_healthy_node() {
    same(
        &status().page(now()),
        "Node          worker-1
        |State         healthy
        |Version       0.1.0, up 90m
        |API server    https://172.20.0.10:6443/
        |Addresses     172.20.0.11, fd00:20::11
        |Pod ranges    10.244.1.0/24
        |Cluster       10.244.0.0/16
        |Routing       auto, overlay malha0 (vni 77, UDP port 8472), MTU of pods 1450, uplinks eth0
        |Masquerade    on
        |Pods          2 attached (10.244.1.0/24: 2 of 253 in use, 1 resting)
        |Memory        19.0 MiB
        |
        |NODE            ADDRESS       PODS            MODE      VIA           MTU
        |control-plane   172.20.0.10   10.244.0.0/24   direct    172.20.0.10   1500
        |worker-2        172.21.0.12   10.244.2.0/24   overlay   172.21.0.12   1450
        |
        |RECONCILER   STATE   LAST ERROR
        |overlay      ok      -
        |routes       ok      -",
    );
}

#[test]
fn a_node_in_trouble() {
    let mut status = status();
    status.health = HealthStatus {
        serving: false,
        state: "failing".to_owned(),
        reason: Some("routes: no".to_owned()),
    };
    status.api_server.problem = Some("connection refused".to_owned());
    status.peers.truncate(1);
    status.peers[0].ways.clear();
    status.peers[0].problems = vec!["has no pod range yet (spec.podCIDRs)".to_owned()];
    status.targets[1].note(Err("no".to_owned()), now() - SignedDuration::from_secs(5));
    status.drops = vec![DropStatus {
        reason: "NO_ROUTE".to_owned(),
        packets: 3,
        bytes: 294,
        meaning: "Nobody has it.".to_owned(),
    }];
    status.lost_events = 9;
    let page = status.page(now());
    same(
        &page[page.find("Memory").unwrap()..],
        "Memory        19.0 MiB
        |  ! routes: no
        |  ! the API server https://172.20.0.10:6443/ does not answer: connection refused
        |  ! node control-plane: has no pod range yet (spec.podCIDRs)
        |
        |NODE            ADDRESS       PODS   MODE   VIA   MTU
        |control-plane   172.20.0.10   -      -      -     -
        |
        |RECONCILER   STATE         LAST ERROR
        |overlay      ok            -
        |routes       failing (1)   no (5s ago)
        |
        |DROPPED    PACKETS   BYTES   MEANING
        |NO_ROUTE   3         294     Nobody has it.
        |
        |9 drop events were lost: more came than were read",
    );
    assert!(page.contains("State         not serving"));
}

#[test]
fn json_is_read_back() {
    let text = serde_json::to_string(&status()).unwrap();
    assert!(
        text.contains("\"lostEvents\":0") && text.contains("\"mode\":\"direct\""),
        "{text}"
    );
    let back: AgentStatus = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    assert_eq!(back.complaints(), Vec::<String>::new());
}
