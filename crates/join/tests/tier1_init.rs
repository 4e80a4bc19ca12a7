//! What `malha init` decides by itself, and what it refuses before it touches anything.

mod common;

use std::{net::Ipv4Addr, os::unix::fs::PermissionsExt};

use common::{files, machine};
use ipnet::IpNet;
use malha_join::{
    init::{Facts, Options, Plan},
    machine::Machine,
    preflight::Ignored,
};

fn facts(ipv6: bool) -> Facts {
    Facts {
        hostname: "control".to_owned(),
        default_address: Some(Ipv4Addr::LOCALHOST.into()),
        ipv6,
    }
}

fn ranges(list: &[&str]) -> Option<Vec<IpNet>> {
    Some(
        list.iter()
            .map(|text| text.parse().expect("a range"))
            .collect(),
    )
}

fn options() -> Options {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    Options {
        advertise_address: None,
        bind_address: Some(Ipv4Addr::LOCALHOST.into()),
        bind_port: listener.local_addr().expect("an address").port(),
        cert_extra_sans: Vec::new(),
        pod_network: None,
        node_mask: None,
        node_mask_ipv4: None,
        node_mask_ipv6: None,
        service_ranges: None,
        dns_domain: "cluster.local".to_owned(),
        token: None,
        token_ttl: 0,
        ignored: Ignored::default(),
    }
}

fn plan(options: &Options, facts: &Facts) -> Result<Plan, String> {
    let (root, machine) = machine();
    let outcome = Plan::new(options, &machine, facts).map_err(|e| format!("{e:#}"));
    assert_eq!(
        files(root.path()),
        Vec::<String>::new(),
        "planning touches nothing"
    );
    outcome
}

fn refusal(change: impl FnOnce(&mut Options)) -> String {
    let mut options = options();
    change(&mut options);
    let text = plan(&options, &facts(true)).map(drop).expect_err("refused");
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn families_follow_the_machine_and_services_follow_pods() {
    let pods = |plan: &Plan| {
        plan.config
            .pod_ranges
            .iter()
            .map(|r| format!("{}-{}", r.cidr, r.node_prefix))
            .collect::<Vec<_>>()
    };
    let services = |plan: &Plan| {
        plan.config
            .service_ranges
            .iter()
            .map(IpNet::to_string)
            .collect::<Vec<_>>()
    };
    let both = plan(&options(), &facts(true)).expect("valid");
    assert_eq!(pods(&both), ["10.244.0.0/16-24", "fd00:10:244::/56-64"]);
    assert_eq!(services(&both), ["10.96.0.0/12", "fd00:10:96::/112"]);
    assert_eq!(both.capacity, 256);
    let four = plan(&options(), &facts(false)).expect("valid");
    assert_eq!(
        (pods(&four), services(&four)),
        (
            vec!["10.244.0.0/16-24".to_owned()],
            vec!["10.96.0.0/12".to_owned()]
        )
    );
    let six = Options {
        pod_network: ranges(&["fd00:1::/48"]),
        node_mask: Some(80),
        ..options()
    };
    let six = plan(&six, &facts(true)).expect("valid");
    assert_eq!(
        (pods(&six), services(&six)),
        (
            vec!["fd00:1::/48-80".to_owned()],
            vec!["fd00:10:96::/112".to_owned()]
        )
    );
}

#[test]
fn ranges_that_do_not_fit_are_refused() {
    type Texts = &'static [&'static str];
    let table: [(Texts, Option<Texts>, Texts); 8] = [
        (
            &["10.96.0.0/16"],
            None,
            &["pod range 10.96.0.0/16 overlaps the service range 10.96.0.0/12"],
        ),
        (
            &["10.0.0.0/26"],
            None,
            &[
                "cannot be cut into /24",
                "--pod-network-cidr",
                "--node-cidr-mask-size",
            ],
        ),
        (&["10.0.0.0/16", "10.9.0.0/16"], None, &["same family"]),
        (
            &["127.0.0.0/8"],
            None,
            &["holds the address 127.0.0.1", "--pod-network-cidr"],
        ),
        (
            &["10.0.0.0/16"],
            Some(&["127.0.0.0/16"]),
            &["holds the address 127.0.0.1", "--service-cidr"],
        ),
        (
            &["10.0.0.0/16"],
            Some(&["10.200.0.0/8"]),
            &["between /12 and /28"],
        ),
        (
            &["10.0.0.0/16"],
            Some(&["10.96.0.0/29"]),
            &["between /12 and /28"],
        ),
        (
            &["10.0.0.0/16"],
            Some(&["10.96.0.0/16", "10.97.0.0/16"]),
            &["same family"],
        ),
    ];
    for (pods, services, wanted) in table {
        let text = refusal(|options| {
            options.pod_network = ranges(pods);
            options.service_ranges = services.and_then(ranges);
        });
        for part in wanted {
            assert!(text.contains(part), "{part:?} is missing: {text}");
        }
    }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    type Change = fn(&mut Options);
    let table: [(Change, &str); 9] = [
        (|o| o.node_mask = Some(24), "--node-cidr-mask-size-ipv4"),
        (
            |o| {
                o.pod_network = ranges(&["10.0.0.0/16"]);
                o.node_mask_ipv6 = Some(64)
            },
            "there is no IPv6 range",
        ),
        (|o| o.token_ttl = -1, "must not be negative"),
        (
            |o| o.dns_domain = "no good".to_owned(),
            "--service-dns-domain \"no good\" is not a DNS name",
        ),
        (
            |o| o.cert_extra_sans = vec!["a_b".to_owned()],
            "--apiserver-cert-extra-sans \"a_b\"",
        ),
        (
            |o| o.advertise_address = Some([0, 0, 0, 0].into()),
            "--apiserver-advertise-address",
        ),
        (
            |o| o.advertise_address = Some([192, 0, 2, 5].into()),
            "192.0.2.5 is not an address of this machine",
        ),
        (
            |o| o.bind_address = Some([192, 0, 2, 5].into()),
            "192.0.2.5 is not an address of this machine",
        ),
        (|o| o.node_mask_ipv4 = Some(31), "between 16 and 30"),
    ];
    for (change, wanted) in table {
        let text = refusal(change);
        assert!(text.contains(wanted), "{wanted:?} is missing: {text}");
    }
    let homeless = Facts {
        default_address: None,
        ..facts(false)
    };
    let text = plan(&options(), &homeless).map(drop).expect_err("refused");
    assert!(
        text.contains("no default route") && text.contains("--apiserver-advertise-address"),
        "{text}"
    );
}

#[test]
fn a_port_in_use_is_named_and_can_be_ignored() {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let text = refusal(|options| options.bind_port = port);
    assert!(
        text.contains(&format!("port {port} is in use"))
            && text.contains(&format!("[Port-{port}]")),
        "{text}"
    );
    let ignored = Ignored::new([format!("port-{port}")]);
    plan(
        &Options {
            bind_port: port,
            ignored,
            ..options()
        },
        &facts(true),
    )
    .map(drop)
    .expect("only a warning");
}

fn fails(machine: &Machine, wanted: &[&str]) {
    let Err(error) = Plan::new(&options(), machine, &facts(true)) else {
        panic!("accepted")
    };
    let text = format!("{error:#}");
    for part in wanted {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}

#[test]
fn who_and_where() {
    let (root, mut machine) = machine();
    machine.privileged = false;
    fails(&machine, &["needs root", "[IsPrivilegedUser]"]);
    machine.privileged = true;
    std::fs::create_dir_all(machine.paths.kubernetes()).expect("made");
    std::fs::write(machine.paths.kubelet_conf(), "").expect("written");
    fails(&machine, &["is a node already", "malha reset"]);
    std::fs::remove_file(machine.paths.kubelet_conf()).expect("removed");
    std::fs::write(machine.paths.admin_conf(), "").expect("written");
    fails(&machine, &["admin.conf already exists", "malha reset"]);
    drop(root);
}

#[test]
fn a_ca_of_the_users_own_is_used_and_left() {
    let (root, machine) = machine();
    let ca = malha_bootstrap::pki::CertificateAuthority::generate("mine", jiff::Timestamp::now())
        .expect("a CA");
    let [cert, key] = [machine.paths.pki("ca.crt"), machine.paths.pki("ca.key")];
    std::fs::create_dir_all(machine.paths.pki("")).expect("made");
    std::fs::write(&cert, ca.cert_pem()).expect("written");
    fails(&machine, &["its key ca.key is missing"]);
    std::fs::write(&key, ca.key_pem()).expect("written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o400)).expect("set");
    let before = files(root.path());
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let plan = Plan::new(&options(), &machine, &facts(true)).expect("accepted");
    let prepared = plan
        .prepare(&machine)
        .map_err(|e| format!("{e:#}"))
        .expect("prepared");
    let serving = std::fs::read_to_string(machine.paths.pki("apiserver.crt")).expect("written");
    assert!(serving.contains("BEGIN CERTIFICATE"));
    assert_eq!(
        std::fs::read_to_string(&cert).expect("stays"),
        ca.cert_pem()
    );
    drop(prepared);
    assert_eq!(
        files(root.path()),
        before,
        "only what init made was removed"
    );
}
