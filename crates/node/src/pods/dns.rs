//! A pod's resolv.conf and hosts file. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, PodSpec};

/// What the kernel's C library reads at most.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

/// The cluster's name service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterDns {
    /// Its addresses.
    pub servers: Vec<IpAddr>,
    /// The domain of services.
    pub domain: String,
}

#[derive(Default)]
struct Resolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// The pod's resolv.conf by its `dnsPolicy` and `dnsConfig`; `host` is the machine's.
pub fn resolv_conf(spec: &PodSpec, namespace: &str, cluster: &ClusterDns, host: &str) -> String {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let host_network = spec.host_network == Some(true);
    let by_cluster = match policy {
        "ClusterFirst" => !host_network,
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut resolver = match (policy, by_cluster && !cluster.servers.is_empty()) {
        ("None", _) => Resolver::default(),
        (_, true) => of_cluster(namespace, cluster, host),
        _ => parse(host),
    };
    if let Some(config) = &spec.dns_config {
        resolver
            .servers
            .extend(config.nameservers.clone().unwrap_or_default());
        resolver
            .searches
            .extend(config.searches.clone().unwrap_or_default());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            resolver
                .options
                .retain(|o| o.split(':').next() != Some(&name));
            resolver.options.push(match &option.value {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name,
            });
        }
    }
    resolver.text()
}

fn of_cluster(namespace: &str, cluster: &ClusterDns, host: &str) -> Resolver {
    let domain = &cluster.domain;
    let mut searches = vec![
        format!("{namespace}.svc.{domain}"),
        format!("svc.{domain}"),
        domain.clone(),
    ];
    searches.extend(parse(host).searches);
    Resolver {
        servers: cluster.servers.iter().map(ToString::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn parse(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => resolver.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => resolver.searches = words.map(str::to_owned).collect(),
            Some("options") => resolver.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    resolver
}

impl Resolver {
    fn text(mut self) -> String {
        let mut seen = Vec::new();
        self.servers.retain(|s| {
            let new = !seen.contains(s);
            seen.push(s.clone());
            new
        });
        self.searches.truncate(MAX_SEARCHES);
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in self.servers.iter().take(MAX_NAMESERVERS) {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

/// The pod's hosts file: its own names, or with the host's network the machine's file, and its aliases.
pub fn hosts_file(spec: &PodSpec, hostname: &str, ips: &[IpAddr], host: &str) -> String {
    let mut text = if spec.host_network == Some(true) {
        format!("# Kubernetes-managed hosts file (host network).\n{host}")
    } else {
        let own = ips
            .iter()
            .map(|ip| format!("{ip}\t{hostname}\n"))
            .collect::<String>();
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         fe00::\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n"
            .to_owned()
            + &own
    };
    let aliases: &[HostAlias] = spec.host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.clone().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    text
}

/// The pod's host name: what it asks for, or its own, as much as the kernel takes.
pub fn hostname(spec: &PodSpec, pod: &str) -> String {
    const LONGEST: usize = 63;
    let name = spec
        .hostname
        .as_deref()
        .filter(|n| !n.is_empty())
        .unwrap_or(pod);
    let cut = name.get(..LONGEST).unwrap_or(name);
    cut.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> PodSpec {
        let mut whole = json!({"containers": []});
        whole
            .as_object_mut()
            .unwrap()
            .extend(value.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    const HOST: &str = "search example.org\nnameserver 192.0.2.1\noptions edns0\n";

    #[test]
    fn policies() {
        let cluster = ClusterDns {
            servers: vec!["10.96.0.10".parse().unwrap()],
            domain: "cluster.local".into(),
        };
        let by = |value| resolv_conf(&spec(value), "ns", &cluster, HOST);
        let in_cluster = "search ns.svc.cluster.local svc.cluster.local cluster.local example.org\n\
                          nameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(by(json!({})), in_cluster);
        assert_eq!(by(json!({"hostNetwork": true})), HOST);
        assert_eq!(
            by(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})),
            in_cluster
        );
        assert_eq!(by(json!({"dnsPolicy": "Default"})), HOST);
        let config = json!({"nameservers": ["192.0.2.9"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]});
        assert_eq!(
            by(json!({"dnsPolicy": "None", "dnsConfig": config})),
            "search x\nnameserver 192.0.2.9\noptions ndots:2 rotate\n"
        );
        let none = ClusterDns::default();
        assert_eq!(resolv_conf(&spec(json!({})), "ns", &none, HOST), HOST);
    }

    #[test]
    fn hosts_and_names() {
        let ips = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let aliases = json!({"hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a", "b"]}]});
        let text = hosts_file(&spec(aliases), "web-0", &ips, "");
        assert!(text.ends_with(
            "10.0.0.2\tweb-0\nfd00::2\tweb-0\n\n# Entries added by HostAliases.\n192.0.2.1\ta\tb\n"
        ));
        let text = hosts_file(
            &spec(json!({"hostNetwork": true})),
            "n",
            &ips,
            "127.0.0.1 localhost\n",
        );
        assert_eq!(
            text,
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"
        );
        assert_eq!(
            hostname(&spec(json!({})), &format!("{}-x", "a".repeat(62))),
            "a".repeat(62)
        );
        assert_eq!(hostname(&spec(json!({"hostname": "h"})), "pod"), "h");
    }
}
