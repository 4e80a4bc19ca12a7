//! Network namespaces: what names one, and where things act.
mod common;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use common::{new_netns, path, sh};
use malha_kernel::{Error, Handle, NetNs, sysctl};

#[test]
fn a_closure_runs_inside_and_the_thread_stays_outside() {
    let (outside, netns) = (NetNs::current().unwrap(), new_netns());
    assert_ne!(netns.id(), outside.id());
    assert_eq!(
        netns.run(|| NetNs::current().unwrap().id()).unwrap(),
        netns.id()
    );
    assert_eq!(NetNs::current().unwrap().id(), outside.id());
}

#[test]
fn a_handle_stays_in_the_namespace_it_was_made_in() {
    let netns = new_netns();
    sh(&netns, "ip link add only-here type veth peer name other");
    let handle = Handle::inside(&netns).unwrap();
    assert!(handle.link("only-here").unwrap().is_some());
    assert!(Handle::new().unwrap().link("only-here").unwrap().is_none());
    let error = Handle::new()
        .unwrap()
        .require_link("only-here")
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no link only-here in this network namespace"
    );
}

#[test]
fn a_persistent_one_lives_until_it_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("netns/one");
    let id = NetNs::create_persistent(&name).unwrap().id();
    assert_eq!(NetNs::open(&name).unwrap().id(), id);
    assert!(matches!(
        NetNs::create_persistent(&name),
        Err(Error::File { what: "make", .. })
    ));
    assert_eq!(
        NetNs::open(&name).unwrap().id(),
        id,
        "a failed creation spares what is there"
    );
    NetNs::delete_persistent(&name).unwrap();
    assert!(!name.exists());
    NetNs::delete_persistent(&name).unwrap();
}

#[test]
fn other_files_are_refused() {
    let netns = new_netns();
    let fd: OwnedFd = File::open(path(&netns)).unwrap().into();
    assert_eq!(NetNs::from_fd(fd).unwrap().id(), netns.id());
    for other in ["/dev/null", "/proc/self/ns/mnt", "/proc/self/status"] {
        let error = NetNs::open(Path::new(other)).unwrap_err();
        assert!(matches!(error, Error::NotANetNs { .. }), "{other}: {error}");
    }
    let error = NetNs::open(Path::new("/nowhere")).unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENOENT), "{error}");
}

#[test]
#[should_panic(expected = "inside")]
fn a_panic_inside_is_passed_on() {
    let _ = new_netns().run(|| panic!("inside"));
}

#[test]
fn settings_are_the_namespaces_own() {
    let netns = new_netns();
    let name = "net/ipv4/conf/all/rp_filter";
    let outside = sysctl::get(name).unwrap();
    netns
        .run(|| {
            assert!(sysctl::set(name, "2").unwrap());
            assert!(!sysctl::set(name, "2").unwrap());
            assert_eq!(sysctl::get(name).unwrap().as_deref(), Some("2"));
            assert_eq!(sysctl::get("net/no/such").unwrap(), None);
            sysctl::set_if_present("net/no/such", "1").unwrap();
            assert!(sysctl::set("net/no/such", "1").is_err());
        })
        .unwrap();
    assert_eq!(sysctl::get(name).unwrap(), outside);
}
