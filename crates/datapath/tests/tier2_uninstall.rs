//! Uninstalling: what others have at the same links stays.
mod common;

use common::{BpfFs, Namespace};
use malha_datapath::{AttachMode, Config, Datapath, Installed};

/// All qdiscs and filters. Numbers that the kernel chose are left out.
fn traffic_control(namespace: &Namespace) -> String {
    namespace.sh(
        "tc qdisc show | sort
         for link in va vb vc; do
           for side in ingress egress; do echo $link $side; tc filter show dev $link $side 2>/dev/null || :; done
         done",
    )
}

fn install(namespace: &Namespace, attach: AttachMode) -> (BpfFs, Config) {
    let bpffs = BpfFs::new();
    let config = Config {
        attach,
        ..bpffs.config()
    };
    namespace.enter(|| {
        let datapath = Datapath::open(&config).unwrap();
        datapath.attach_uplink("va").unwrap();
        datapath.attach_uplink("vb").unwrap();
    });
    (bpffs, config)
}

fn links() -> Namespace {
    let namespace = Namespace::new();
    namespace.sh(
        "for link in a b c; do ip link add v$link type veth peer name p$link; done
         tc qdisc add dev vb clsact; tc qdisc add dev vc clsact
         tc filter add dev vb ingress prio 7 protocol ip u32 match u32 0 0 classid 1:1",
    );
    namespace
}

fn uninstalled(attach: AttachMode) {
    let namespace = links();
    let before = traffic_control(&namespace);
    assert!(before.contains("u32"), "{before}");
    let installed = |config: &Config| {
        let mut found = namespace.enter(|| Datapath::installed(&config.pins).unwrap());
        found.links.sort();
        found
    };
    let (_bpffs, config) = install(&namespace, attach);
    let everything = Installed {
        pins: true,
        links: vec!["va".to_owned(), "vb".to_owned()],
    };
    assert_eq!(installed(&config), everything);
    namespace.enter(|| Datapath::uninstall(&config.pins).unwrap());
    assert_eq!(traffic_control(&namespace), before);
    assert_eq!(installed(&config), Installed::default());
    namespace.enter(|| Datapath::uninstall(&config.pins).unwrap());
}

#[test]
fn filters() {
    uninstalled(AttachMode::Filter);
}

#[test]
fn the_usual_way() {
    uninstalled(AttachMode::Auto);
}

/// Filters outlive the pins, for example when the BPF filesystem was mounted anew.
#[test]
fn filters_without_pins() {
    let namespace = links();
    let before = traffic_control(&namespace);
    let (bpffs, _) = install(&namespace, AttachMode::Filter);
    drop(bpffs);
    let empty = BpfFs::new();
    let pins = empty.config().pins;
    let found = namespace.enter(|| Datapath::installed(&pins).unwrap());
    assert!(!found.pins && found.links.len() == 2, "{found:?}");
    namespace.enter(|| Datapath::uninstall(&pins).unwrap());
    assert_eq!(traffic_control(&namespace), before);
}
