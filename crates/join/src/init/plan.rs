//! Everything `init` decides, checked before anything is touched.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use malha_bootstrap::{pki::ServingNames, token::Token};
use malha_core::{
    KUBERNETES_VERSION,
    range::{ClusterRange, NodeRanges, check_disjoint},
};

use super::Facts;
use crate::{
    control_plane::{Certificates, Config, PodRange},
    endpoint::is_dns_name,
    machine::Machine,
    preflight::{Checks, Ignored, Occupied, is_own_address, occupied},
};

/// Pod ranges unless told otherwise; the second one only where the machine has IPv6.
///
/// kubeadm has no default. Malha is useful without a flag: 256 nodes of 254 pods, with the ranges that most pod
/// networks are documented with.
const POD_RANGES: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/56"];
/// Service ranges unless told otherwise, of the families that pods have. The first is kubeadm's default.
const SERVICE_RANGES: [&str; 2] = ["10.96.0.0/12", "fd00:10:96::/112"];
/// Kubernetes allocates services from a bitmap of at most this many bits.
const MAX_SERVICE_BITS: u8 = 20;
/// The DNS service has the tenth address; kubeadm refuses smaller ranges.
const MIN_SERVICE_BITS: u8 = 4;

/// What `malha init` is told. What is `None` is decided here.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address nodes reach the API server at; that of the default route if not given.
    pub advertise_address: Option<IpAddr>,
    /// The address it listens on; all if not given.
    pub bind_address: Option<IpAddr>,
    /// The port it listens on.
    pub bind_port: u16,
    /// More names and addresses for its certificate.
    pub cert_extra_sans: Vec<String>,
    /// Pod ranges.
    pub pod_network: Option<Vec<IpNet>>,
    /// Prefix length of a node's pod range, in a cluster of one family.
    pub node_mask: Option<u8>,
    /// The same for IPv4.
    pub node_mask_ipv4: Option<u8>,
    /// The same for IPv6.
    pub node_mask_ipv6: Option<u8>,
    /// Service ranges.
    pub service_ranges: Option<Vec<IpNet>>,
    /// Domain of service names.
    pub dns_domain: String,
    /// The first token; a random one if not given.
    pub token: Option<Token>,
    /// Seconds it lives; 0 means for ever.
    pub token_ttl: i64,
    /// Checks that only warn.
    pub ignored: Ignored,
}

/// A control plane that can be made.
pub struct Plan {
    /// Its configuration.
    pub config: Config,
    /// How many nodes get pod ranges.
    pub capacity: u128,
    pub(super) names: ServingNames,
    pub(super) token: Token,
    pub(super) token_ttl: i64,
}

impl Plan {
    /// Decides and checks.
    ///
    /// # Errors
    /// What does not fit, in one line with its remedy.
    pub fn new(options: &Options, machine: &Machine, facts: &Facts) -> Result<Self> {
        if let Some(Occupied::ControlPlane(file)) = occupied(&machine.paths) {
            bail!("{}", already(&file));
        }
        ensure!(
            options.token_ttl >= 0,
            "--token-ttl must not be negative; 0 means that the token never expires"
        );
        let pod_ranges = pod_ranges(options, facts)?;
        let service_ranges = service_ranges(options, &pod_ranges)?;
        let capacity = check_ranges(&pod_ranges, &service_ranges)?;
        let advertise_address = advertise_address(options, facts)?;
        check_advertised(advertise_address, &pod_ranges, &service_ranges)?;
        ensure!(
            is_dns_name(&options.dns_domain),
            "--service-dns-domain {:?} is not a DNS name; write for example cluster.local",
            options.dns_domain
        );
        let config = Config {
            advertise_address,
            bind_address: options.bind_address.unwrap_or(any_address(facts)),
            bind_port: options.bind_port,
            pod_ranges: pod_ranges.iter().map(pod_range).collect(),
            service_ranges,
            dns_domain: options.dns_domain.clone(),
            kubernetes_version: KUBERNETES_VERSION.to_owned(),
            data_dir: machine.paths.database(),
            certificates: Certificates::usual(&machine.paths),
        };
        preflight(&config, options, machine)?;
        Ok(Self {
            names: serving_names(options, &config, facts)?,
            token: options.token.clone().unwrap_or_else(Token::generate),
            token_ttl: options.token_ttl,
            config,
            capacity,
        })
    }
}

fn already(file: &std::path::Path) -> String {
    let server =
        Config::load(file).map_or_else(|_| "an unknown address".to_owned(), |c| c.endpoint().url());
    format!(
        "this machine is a control plane already, at {server} ({} exists); for another join command use: malha token create \
         --print-join-command; to begin anew, first undo it with: malha reset",
        file.display()
    )
}

fn pod_range(range: &ClusterRange) -> PodRange {
    PodRange {
        cidr: range.cluster.trunc(),
        node_prefix: range.node_prefix,
    }
}

fn pod_ranges(options: &Options, facts: &Facts) -> Result<Vec<ClusterRange>> {
    let usual = || parse(&POD_RANGES[..if facts.ipv6 { 2 } else { 1 }]);
    let ranges = options.pod_network.clone().unwrap_or_else(usual);
    let both = ranges.len() > 1;
    if both && options.node_mask.is_some() {
        bail!(
            "--node-cidr-mask-size cannot be used with pod ranges of two families; use --node-cidr-mask-size-ipv4 and \
             --node-cidr-mask-size-ipv6"
        );
    }
    let masks = [
        (true, options.node_mask_ipv4, "IPv4"),
        (false, options.node_mask_ipv6, "IPv6"),
    ];
    for (v4, mask, family) in masks {
        if mask.is_some() && !ranges.iter().any(|r| r.addr().is_ipv4() == v4) {
            bail!(
                "--node-cidr-mask-size-{} is given, but there is no {family} range in --pod-network-cidr",
                family.to_ascii_lowercase()
            );
        }
    }
    let with_mask = |cluster: IpNet| {
        let of_family = match cluster {
            IpNet::V4(_) => options.node_mask_ipv4,
            IpNet::V6(_) => options.node_mask_ipv6,
        };
        let mut range = ClusterRange::new(cluster);
        range.node_prefix = of_family.or(options.node_mask).unwrap_or(range.node_prefix);
        range
    };
    Ok(ranges.into_iter().map(with_mask).collect())
}

fn service_ranges(options: &Options, pods: &[ClusterRange]) -> Result<Vec<IpNet>> {
    if let Some(given) = &options.service_ranges {
        return Ok(given.iter().map(IpNet::trunc).collect());
    }
    let usual = parse(&SERVICE_RANGES);
    let of_pod_families = pods.iter().filter_map(|pod| {
        let v4 = pod.cluster.addr().is_ipv4();
        usual.iter().find(|r| r.addr().is_ipv4() == v4).copied()
    });
    Ok(of_pod_families.collect())
}

/// Sizes, families and overlaps. The result is how many nodes fit.
fn check_ranges(pods: &[ClusterRange], services: &[IpNet]) -> Result<u128> {
    let nodes = NodeRanges::new(pods).map_err(|error| {
        anyhow::anyhow!(
            "{error}; choose a larger --pod-network-cidr or a longer --node-cidr-mask-size"
        )
    })?;
    ensure!(
        !services.is_empty(),
        "no service range is configured; give one with --service-cidr"
    );
    for range in services {
        let bits = range.max_prefix_len() - range.prefix_len();
        ensure!(
            (MIN_SERVICE_BITS..=MAX_SERVICE_BITS).contains(&bits),
            "service range {range} has to be between /{} and /{}; choose another --service-cidr",
            range.max_prefix_len() - MAX_SERVICE_BITS,
            range.max_prefix_len() - MIN_SERVICE_BITS
        );
    }
    if let [first, second, ..] = services {
        let same = first.addr().is_ipv4() == second.addr().is_ipv4();
        ensure!(
            !same && services.len() == 2,
            "service ranges {first} and {second} are of the same family; give at most one IPv4 and one IPv6 range"
        );
    }
    let named: Vec<(&str, IpNet)> = pods
        .iter()
        .map(|pod| ("pod", pod.cluster.trunc()))
        .chain(services.iter().map(|range| ("service", *range)))
        .collect();
    check_disjoint(&named)?;
    Ok(nodes.capacity())
}

fn advertise_address(options: &Options, facts: &Facts) -> Result<IpAddr> {
    let address = options.advertise_address.or(facts.default_address).context(
        "this machine has no default route to take its address from; give one with --apiserver-advertise-address",
    )?;
    ensure!(
        !address.is_unspecified() && !address.is_multicast(),
        "nodes cannot reach an API server at {address}; give this machine's address with --apiserver-advertise-address"
    );
    Ok(address)
}

fn check_advertised(address: IpAddr, pods: &[ClusterRange], services: &[IpNet]) -> Result<()> {
    let named = pods
        .iter()
        .map(|pod| ("pod", pod.cluster, "--pod-network-cidr"))
        .chain(
            services
                .iter()
                .map(|range| ("service", *range, "--service-cidr")),
        );
    for (what, range, flag) in named {
        ensure!(
            !range.contains(&address),
            "the {what} range {range} overlaps this machine's own network: it holds the address {address}; choose another \
             range with {flag}"
        );
    }
    Ok(())
}

fn any_address(facts: &Facts) -> IpAddr {
    // Linux takes IPv4 connections on this as well.
    match facts.ipv6 {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    }
}

fn preflight(config: &Config, options: &Options, machine: &Machine) -> Result<()> {
    machine.progress.step(
        "init",
        format!("Using Kubernetes version: {}", config.kubernetes_version),
    );
    machine
        .progress
        .step("preflight", "Running pre-flight checks");
    let paths = &machine.paths;
    let mut checks = Checks::new();
    checks.root(machine.privileged);
    let leftover = "it is left from another cluster; remove what is left with: malha reset";
    checks.absent(
        &paths.kubelet_conf(),
        "this machine is a node already; undo that with: malha reset",
    );
    checks.absent(&paths.admin_conf(), leftover);
    checks.absent(&config.data_dir, leftover);
    // A CA of the user's own is used, if it can sign.
    if !config.certificates.ca_key.exists() {
        checks.absent(
            &config.certificates.ca,
            "its key ca.key is missing; add it, or remove ca.crt with: malha reset",
        );
    }
    if !is_own_address(config.advertise_address) {
        checks.fail(
            "AdvertiseAddress",
            format!(
                "{} is not an address of this machine; give one with --apiserver-advertise-address",
                config.advertise_address
            ),
        );
    }
    checks.port(SocketAddr::new(config.bind_address, config.bind_port));
    checks.finish(&options.ignored, machine.progress)
}

fn serving_names(options: &Options, config: &Config, facts: &Facts) -> Result<ServingNames> {
    let mut names = ServingNames {
        dns_names: Vec::new(),
        ip_addresses: vec![config.advertise_address],
        dns_domain: config.dns_domain.clone(),
    };
    if is_dns_name(&facts.hostname) {
        names.dns_names.push(facts.hostname.clone());
    }
    if !config.bind_address.is_unspecified() {
        names.ip_addresses.push(config.bind_address);
    }
    // The `kubernetes` Service has the first address of every range.
    names
        .ip_addresses
        .extend(config.service_ranges.iter().map(|r| nth_address(*r, 1)));
    for san in &options.cert_extra_sans {
        match san.parse::<IpAddr>() {
            Ok(address) => names.ip_addresses.push(address),
            Err(_) if is_dns_name(san.strip_prefix("*.").unwrap_or(san)) => {
                names.dns_names.push(san.clone())
            }
            Err(_) => {
                bail!("--apiserver-cert-extra-sans {san:?} is neither an address nor a DNS name")
            }
        }
    }
    Ok(names)
}

/// The address that is `n` after the range's first, which Kubernetes counts as number 0 in both families.
pub(super) fn nth_address(range: IpNet, n: u8) -> IpAddr {
    match range.network() {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits() + u32::from(n)).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits() + u128::from(n)).into(),
    }
}

fn parse(ranges: &[&str]) -> Vec<IpNet> {
    ranges
        .iter()
        .filter_map(|range| range.parse().ok())
        .collect()
}
