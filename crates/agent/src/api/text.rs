//! The status for people.

use std::fmt::Write;

use jiff::Timestamp;

use super::status::{AgentStatus, PeerStatus};
use crate::model::Mode;

impl AgentStatus {
    /// What is not as it should be, one sentence each. Empty: healthy.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if !self.health.serving {
            complaints.push(
                self.health
                    .reason
                    .clone()
                    .unwrap_or_else(|| self.health.state.clone()),
            );
        }
        if let Some(problem) = &self.api_server.problem {
            complaints.push(format!(
                "the API server {} does not answer: {problem}",
                self.api_server.url
            ));
        }
        let failing = self.targets.iter().filter(|target| target.failures > 0);
        complaints.extend(failing.map(|target| {
            format!(
                "{}: {}",
                target.name,
                target.last_error.as_deref().unwrap_or("fails")
            )
        }));
        for peer in &self.peers {
            complaints.extend(
                peer.problems
                    .iter()
                    .map(|problem| format!("node {}: {problem}", peer.node)),
            );
        }
        complaints.extend(self.warnings.iter().cloned());
        let mut told = std::collections::BTreeSet::new();
        complaints.retain(|complaint| told.insert(complaint.clone()));
        complaints
    }

    /// A page of text.
    #[must_use]
    pub fn page(&self, now: Timestamp) -> String {
        let mut page = String::new();
        self.write(&mut page, now);
        page
    }

    fn write(&self, page: &mut String, now: Timestamp) {
        let complaints = self.complaints();
        let verdict = match (self.health.serving, complaints.is_empty()) {
            (true, true) => "healthy",
            (true, false) => "serving, degraded",
            (false, _) => "not serving",
        };
        let mut fact = |name: &str, value: &str| page.push_str(&format!("{name:<14}{value}\n"));
        fact("Node", &self.node);
        fact("State", verdict);
        fact(
            "Version",
            &format!("{}, up {}", self.version, age(now, self.started_at)),
        );
        fact("API server", &self.api_server.url);
        fact("Addresses", &list(&self.addresses));
        fact("Pod ranges", &list(&self.pod_ranges));
        fact("Cluster", &list(&self.cluster_ranges));
        fact("Routing", &self.routing_line());
        fact("Masquerade", if self.masquerade { "on" } else { "off" });
        fact("Pods", &self.pods_line());
        fact(
            "Memory",
            &format!("{:.1} MiB", self.resident_bytes as f64 / 1_048_576.0),
        );
        for complaint in &complaints {
            let _ = writeln!(page, "  ! {complaint}");
        }
        table(
            page,
            &["NODE", "ADDRESS", "PODS", "MODE", "VIA", "MTU"],
            &self.peer_rows(),
        );
        table(
            page,
            &["RECONCILER", "STATE", "LAST ERROR"],
            &self.target_rows(now),
        );
        table(
            page,
            &["DROPPED", "PACKETS", "BYTES", "MEANING"],
            &self.drop_rows(),
        );
        if self.lost_events > 0 {
            let _ = writeln!(
                page,
                "\n{} drop events were lost: more came than were read",
                self.lost_events
            );
        }
    }

    fn target_rows(&self, now: Timestamp) -> Vec<Vec<String>> {
        let targets = self.targets.iter().map(|target| {
            let state = match (target.failures, target.worked) {
                (0, true) => "ok".to_owned(),
                (0, false) => "not yet".to_owned(),
                (failures, _) => format!("failing ({failures})"),
            };
            let error = target.last_error.as_ref().zip(target.last_error_at);
            let error = error.map_or("-".to_owned(), |(error, at)| {
                format!("{error} ({} ago)", age(now, at))
            });
            vec![target.name.clone(), state, error]
        });
        targets.collect()
    }

    fn drop_rows(&self) -> Vec<Vec<String>> {
        let drops = self.drops.iter().map(|drop| {
            vec![
                drop.reason.clone(),
                drop.packets.to_string(),
                drop.bytes.to_string(),
                drop.meaning.clone(),
            ]
        });
        drops.collect()
    }

    fn routing_line(&self) -> String {
        let overlay = match (&self.overlay_link, self.vni, self.vxlan_port) {
            (Some(link), Some(vni), Some(port)) => {
                format!(", overlay {link} (vni {vni}, UDP port {port})")
            }
            _ => ", no overlay".to_owned(),
        };
        let mtu = self
            .mtu
            .map_or(String::new(), |mtu| format!(", MTU of pods {mtu}"));
        format!(
            "{}{overlay}{mtu}, uplinks {}",
            self.routing,
            list(&self.uplinks)
        )
    }

    fn pods_line(&self) -> String {
        let pools = self.pools.iter().map(|pool| match pool.capacity {
            u64::MAX => format!("{}: {} in use", pool.range, pool.used),
            capacity => format!(
                "{}: {} of {capacity} in use, {} resting",
                pool.range, pool.used, pool.resting
            ),
        });
        let pools: Vec<String> = pools.collect();
        format!("{} attached ({})", self.endpoints, pools.join("; "))
    }

    fn peer_rows(&self) -> Vec<Vec<String>> {
        self.peers.iter().flat_map(peer_rows).collect()
    }
}

fn peer_rows(peer: &PeerStatus) -> Vec<Vec<String>> {
    let address = list(&peer.addresses);
    if peer.ways.is_empty() {
        let mut row = vec![peer.node.clone(), address];
        row.extend(std::iter::repeat_n("-".to_owned(), 4));
        return vec![row];
    }
    let row = |way: &super::WayStatus| {
        let mode = match way.mode {
            Mode::Overlay => "overlay",
            Mode::Direct => "direct",
        };
        let cells = [
            way.range.to_string(),
            mode.to_owned(),
            way.via.to_string(),
            way.mtu.to_string(),
        ];
        [peer.node.clone(), address.clone()]
            .into_iter()
            .chain(cells)
            .collect()
    };
    peer.ways.iter().map(row).collect()
}

fn table(page: &mut String, head: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(column, title)| {
            rows.iter()
                .map(|row| row[column].len())
                .chain([title.len()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    page.push('\n');
    let head: Vec<String> = head.iter().map(|title| (*title).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("   ");
        let _ = writeln!(page, "{}", line.trim_end());
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    match items {
        [] => "-".to_owned(),
        items => items
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// The larger unit or two, as kubectl writes ages.
fn age(now: Timestamp, since: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
