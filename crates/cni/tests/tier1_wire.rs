//! Plugin and agent on one socket: what goes over it, who may, and what happens while one of them is away.
mod common;

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};

use common::serving;
use malha_cni::{
    types::{Args, CniError, PluginConf, Success, code},
    wire::{Answer, CallError, Request, Server, Verb, WireError, call, deferred},
};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(30);

fn request(verb: Verb, container: &str, padding: usize) -> Request {
    let conf = json!({"cniVersion": "1.1.0", "name": "net", "padding": "x".repeat(padding)});
    Request {
        verb,
        container_id: container.into(),
        ifname: "eth0".into(),
        netns_path: "/run/netns/a".into(),
        netns: matches!(verb, Verb::Add | Verb::Check).then(own_netns),
        args: Args::parse("K8S_POD_NAMESPACE=default;K8S_POD_NAME=web").expect("arguments"),
        config: PluginConf::parse(conf.to_string().as_bytes()).expect("a configuration"),
    }
}

fn own_netns() -> OwnedFd {
    File::open("/proc/self/ns/net")
        .expect("the namespace")
        .into()
}

fn inode(file: impl Into<OwnedFd>) -> u64 {
    File::from(file.into()).metadata().expect("metadata").ino()
}

fn result() -> Success {
    let value = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "mtu": 1450}]});
    Success::from_value(&value, malha_cni::types::Version::LATEST).expect("a result")
}

struct Place {
    _dir: TempDir,
    socket: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self {
            socket: dir.path().join("cni.sock"),
            _dir: dir,
        }
    }
}

#[test]
fn a_request_arrives_whole_with_its_namespace() {
    let place = Place::new();
    let handle = |got: Request| {
        assert_eq!(got.args.pod().expect("a pod").name, "web");
        assert_eq!(got.netns_path, "/run/netns/a");
        let same = got.netns.map(inode) == Some(inode(own_netns()));
        match (
            got.verb,
            same,
            got.config.raw["padding"].as_str().map(str::len),
        ) {
            (Verb::Add, true, Some(0 | 1_000_000)) => Ok(Some(result())),
            (Verb::Del, false, Some(1_000_000)) => Ok(None),
            other => Err(CniError::new(code::INTERNAL, format!("{other:?}")).with_details("d")),
        }
    };
    serving(&place.socket, handle, || {
        let ask = |verb, padding| {
            call(&place.socket, &request(verb, "c1", padding), LONG).expect("an answer")
        };
        assert_eq!(ask(Verb::Add, 0), Ok(Some(result())));
        assert_eq!(ask(Verb::Add, 1_000_000), Ok(Some(result())));
        assert_eq!(ask(Verb::Del, 1_000_000), Ok(None));
        assert_eq!(ask(Verb::Gc, 0).expect_err("an error").details, "d");
        let mode = fs::metadata(&place.socket)
            .expect("a socket")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    });
    let gone = call(&place.socket, &request(Verb::Del, "c1", 0), LONG);
    assert!(matches!(gone, Err(CallError::Absent)) && !place.socket.exists());
}

#[test]
fn a_slow_request_delays_no_other() {
    let place = Place::new();
    let (started, release) = (std::sync::Barrier::new(9), std::sync::Barrier::new(9));
    let handle = |got: Request| {
        if got.verb == Verb::Add {
            started.wait();
            release.wait();
        }
        Ok(Some(result()))
    };
    serving(&place.socket, handle, || {
        std::thread::scope(|scope| {
            for number in 0..8 {
                let socket = &place.socket;
                scope.spawn(move || {
                    call(socket, &request(Verb::Add, &format!("c{number}"), 0), LONG)
                        .expect("an answer")
                });
            }
            started.wait();
            call(&place.socket, &request(Verb::Status, "", 0), LONG)
                .expect("an answer")
                .expect("good");
            release.wait();
        });
    });
}

#[test]
fn an_agent_that_says_nothing_is_given_up() {
    let place = Place::new();
    let listener = UnixListener::bind(&place.socket).expect("a socket");
    let silent = call(
        &place.socket,
        &request(Verb::Add, "c1", 0),
        Duration::from_millis(50),
    );
    assert!(matches!(silent, Err(CallError::Timeout(_))), "{silent:?}");
    drop(listener);
}

#[test]
fn connecting_ends_too_when_nobody_accepts() {
    let place = Place::new();
    let listener = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .expect("a socket");
    bind(
        listener.as_raw_fd(),
        &UnixAddr::new(&place.socket).expect("an address"),
    )
    .expect("bound");
    listen(&listener, Backlog::new(1).expect("a length")).expect("listening");
    let _queue: Vec<UnixStream> = (0..2)
        .map(|_| UnixStream::connect(&place.socket).expect("room in the queue"))
        .collect();
    let full = call(
        &place.socket,
        &request(Verb::Status, "", 0),
        Duration::from_millis(50),
    );
    assert!(matches!(full, Err(CallError::Timeout(_))), "{full:?}");
}

#[test]
fn an_agent_that_dies_meanwhile_is_told_from_one_that_is_absent() {
    let place = Place::new();
    let listener = UnixListener::bind(&place.socket).expect("a socket");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a plugin");
            let _ = stream.read(&mut [0; 10]);
            stream.write_all(b"{\"proto").expect("half an answer");
        });
        let died = call(&place.socket, &request(Verb::Add, "c1", 0), LONG);
        assert!(
            matches!(died, Err(CallError::Wire(WireError::Closed))),
            "{died:?}"
        );
    });
}

#[test]
fn one_agent_replaces_another_without_a_gap() {
    let place = Place::new();
    let first = Server::bind(&place.socket).expect("a socket");
    let before = fs::metadata(&place.socket).expect("a socket").ino();
    let second = Server::bind(&place.socket).expect("a socket");
    assert_ne!(fs::metadata(&place.socket).expect("a socket").ino(), before);
    drop(first);
    assert!(place.socket.exists(), "the first leaves the second's alone");
    drop(second);
    assert!(!place.socket.exists());
    assert!(common::names(place.socket.parent().expect("a directory")).is_empty());
}

#[test]
fn what_was_deferred_is_served_first_and_once() {
    let place = Place::new();
    for container in ["c1", "c2", "c1"] {
        assert!(deferred::put(&place.socket, &request(Verb::Del, container, 0)).expect("deferred"));
    }
    let dir = deferred::directory(&place.socket);
    fs::write(dir.join("half.json"), "{").expect("garbage");
    fs::write(dir.join(".c3+eth0.json.1-0.tmp"), "{").expect("a file being written");
    assert_eq!(common::names(&dir).len(), 4);
    let seen = Mutex::new(Vec::new());
    let handle = |got: Request| {
        seen.lock()
            .expect("a lock")
            .push((got.verb, got.container_id.clone()));
        match got.container_id.as_str() {
            "c2" => Err(CniError::new(code::TRY_AGAIN, "not now")),
            _ => Ok(Some(result())),
        }
    };
    serving(&place.socket, handle, || {
        call(&place.socket, &request(Verb::Add, "c1", 0), LONG)
            .expect("an answer")
            .expect("attached");
    });
    let mut seen = seen.into_inner().expect("a lock");
    assert_eq!(
        seen.pop(),
        Some((Verb::Add, "c1".into())),
        "new requests come last"
    );
    seen.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(seen, [(Verb::Del, "c1".into()), (Verb::Del, "c2".into())]);
    assert_eq!(
        common::names(&dir),
        [".c3+eth0.json.1-0.tmp", "c2+eth0.json"],
        "what failed stays"
    );
}

#[test]
fn nothing_is_deferred_where_no_agent_has_been() {
    let place = Place::new();
    let elsewhere = place.socket.with_file_name("run").join("cni.sock");
    assert!(!deferred::put(&elsewhere, &request(Verb::Del, "c1", 0)).expect("nothing to do"));
    assert!(!elsewhere.parent().expect("a directory").exists());
}

#[test]
fn another_protocol_is_named() {
    let place = Place::new();
    serving(
        &place.socket,
        |_| Ok(None),
        || {
            let mut stream = UnixStream::connect(&place.socket).expect("connected");
            stream
                .write_all(b"{\"protocol\":99,\"verb\":\"DEL\"}\n")
                .expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            assert!(
                answer.contains("different releases (protocol 99"),
                "{answer}"
            );
        },
    );
}

#[test]
fn garbage_reaches_nobody_and_breaks_nothing() {
    let place = Place::new();
    let handle = |_: Request| -> Answer { panic!("garbage was taken for a request") };
    serving(&place.socket, handle, || {
        let config = ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(200)
        };
        proptest!(config, |(garbage in prop::collection::vec(any::<u8>(), 0..200), whole in any::<bool>())| {
            let mut stream = UnixStream::connect(&place.socket).expect("connected");
            stream.write_all(&garbage).expect("sent");
            if whole {
                // The server may have answered the garbage's first line and gone.
                let _ = stream.write_all(b"\n");
            }
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
        });
    });
}
