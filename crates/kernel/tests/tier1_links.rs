//! Links, as iproute2 sees them.
mod common;

use common::{eventually, new_netns, sh, words};
use malha_kernel::{Batch, Error, Handle, Veth, Vxlan};

fn veth<'a>(name: &'a str, peer_netns: &'a malha_kernel::NetNs) -> Veth<'a> {
    Veth {
        name,
        mac: [0x0a, 0x58, 0, 0, 0, 1],
        peer_netns,
        peer_name: "eth0",
        peer_mac: [0x0a, 0x58, 0, 0, 0, 2],
        mtu: 1430,
    }
}

#[test]
fn a_veth_peer_is_born_inside_its_namespace() {
    let (node, pod) = (new_netns(), new_netns());
    let (handle, inside) = (
        Handle::inside(&node).unwrap(),
        Handle::inside(&pod).unwrap(),
    );
    let link = handle.add_veth(&veth("mlh0", &pod)).unwrap();
    let peer = inside.require_link("eth0").unwrap();
    assert_eq!(
        (link.kind.as_str(), link.mtu, link.up),
        ("veth", 1430, false)
    );
    assert_eq!((link.peer, peer.peer), (Some(peer.index), Some(link.index)));
    assert_eq!((peer.mtu, peer.mac), (1430, Some([0x0a, 0x58, 0, 0, 0, 2])));
    handle.commit(Batch::new().set_up(link.index)).unwrap();
    inside.commit(Batch::new().set_up(peer.index)).unwrap();
    assert!(handle.settle(link.index).unwrap() && inside.settle(peer.index).unwrap());
    let error = handle.add_veth(&veth("mlh0", &pod)).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EEXIST), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("cannot add link mlh0 with its peer eth0: "),
        "{error}"
    );
    drop((inside, pod));
    eventually("the death of the namespace removes both ends", || {
        handle.link("mlh0").unwrap().is_none()
    });
}

#[test]
fn many_links_are_deleted_together_and_absent_ones_are_fine() {
    let node = new_netns();
    let handle = Handle::inside(&node).unwrap();
    let pods: Vec<_> = (0..120).map(|_| new_netns()).collect();
    let mut indexes: Vec<u32> = pods
        .iter()
        .enumerate()
        .map(|(number, pod)| {
            handle
                .add_veth(&veth(&format!("mlh{number}"), pod))
                .unwrap()
                .index
        })
        .collect();
    sh(&node, "ip link add bystander type veth peer name other");
    handle.delete_link(indexes.remove(0)).unwrap();
    handle.delete_link(4711).unwrap();
    indexes.push(4711);
    handle.delete_links(&indexes).unwrap();
    handle.delete_links(&indexes).unwrap();
    let mut names: Vec<String> = handle
        .links()
        .unwrap()
        .into_iter()
        .map(|link| link.name)
        .collect();
    names.sort();
    assert_eq!(names, ["bystander", "lo", "other"]);
}

#[test]
fn the_overlay_device_takes_its_keys_from_packets() {
    let node = new_netns();
    let handle = Handle::inside(&node).unwrap();
    let vxlan = Vxlan {
        name: "mlhvx",
        mac: [2, 0, 0, 0, 0x77, 1],
        port: 8472,
        mtu: 1430,
    };
    let link = handle.add_vxlan(&vxlan).unwrap();
    assert_eq!(link.vxlan, Some((true, 8472)));
    handle.commit(Batch::new().set_up(link.index)).unwrap();
    let shown = words(&sh(&node, "ip -d link show mlhvx"));
    for part in [
        "NOARP",
        "mtu 1430",
        "02:00:00:00:77:01",
        "vxlan external",
        "dstport 8472",
        "nolearning",
        "addrgenmode none",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!sh(&node, "ip address show mlhvx").contains("fe80"));
    assert_eq!(
        handle.add_vxlan(&vxlan).unwrap_err().errno(),
        Some(libc::EEXIST)
    );
}

#[test]
fn what_can_be_changed_of_a_link() {
    let node = new_netns();
    let handle = Handle::inside(&node).unwrap();
    sh(&node, "ip link add one type veth peer name two");
    let index = handle.require_link("one").unwrap().index;
    let batch = Batch::new()
        .set_mtu(index, 1280)
        .set_mac(index, [2, 0, 0, 0, 0, 9])
        .set_alias(index, "default/web-0")
        .set_name(index, "uplink")
        .set_up(index);
    handle.commit(batch).unwrap();
    let shown = words(&sh(&node, "ip link show uplink"));
    for part in [
        "mtu 1280",
        "02:00:00:00:00:09",
        "alias default/web-0",
        ",UP",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    handle.commit(Batch::new().set_down(index)).unwrap();
    assert!(!handle.link_by_index(index).unwrap().unwrap().up);
}

#[test]
fn the_first_refusal_is_told_in_the_kernels_words_and_the_rest_is_done() {
    let node = new_netns();
    let handle = Handle::inside(&node).unwrap();
    let batch = Batch::new().set_up(4711).set_mtu(1, 1).set_up(1);
    let error = handle.commit(batch).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot set up link 4711: No such device"),
        "{error}"
    );
    assert!(handle.link_by_index(1).unwrap().unwrap().up);
    let error = handle
        .commit(Batch::new().set_mtu(1, u32::MAX))
        .unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Netlink {
                detail: Some(_),
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn more_changes_than_fit_one_message_are_all_made() {
    let node = new_netns();
    let handle = Handle::inside(&node).unwrap();
    let address = |number: u32| {
        ipnet::IpNet::from(std::net::IpAddr::from((0x0a00_0000 + number).to_be_bytes()))
    };
    let all = (0..1000).fold(Batch::new(), |batch, number| {
        batch.add_address(1, address(number))
    });
    handle.commit(all).unwrap();
    assert_eq!(handle.addresses().unwrap().len(), 1000);
    let none = (0..1000).fold(Batch::new(), |batch, number| {
        batch.delete_address(1, address(number))
    });
    handle.commit(none).unwrap();
    assert_eq!(handle.addresses().unwrap(), []);
}
