//! The plugin as runtimes start it, against an agent that is a few lines here.
#[path = "../../../crates/cni/tests/common/mod.rs"]
mod common;

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::{
        fd::AsFd,
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::UnixListener,
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Bench, Namespace, attachment, id, names, serving};
use malha_cni::{
    conflist, loopback,
    runtime::{Runtime, RuntimeError, load},
    types::{CniError, NetworkList, Success, Version, code},
    wire::{Answer, Request, Verb, deferred},
};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_malha-cni");
const LIMIT: Duration = Duration::from_secs(60);

/// The plugin and its list, installed as the agent does it.
struct Installed {
    bench: Bench,
    runtime: Runtime,
    list: NetworkList,
    socket: PathBuf,
}

impl Installed {
    fn new() -> Self {
        let bench = Bench::new();
        let socket = bench.path("run/cni.sock");
        fs::create_dir(bench.path("run")).expect("a directory");
        conflist::install_plugin(Path::new(BINARY), &bench.path("bin")).expect("the plugin");
        let text = conflist::render("malha", &["portMappings"], &socket);
        conflist::install(&bench.path("net.d"), &text).expect("the list");
        let list = load(&bench.path("net.d")).expect("the list");
        Self {
            runtime: bench.runtime(LIMIT),
            bench,
            list,
            socket,
        }
    }

    /// Serves while `act` runs.
    fn serving<T>(
        &self,
        handle: impl Fn(Request) -> Answer + Send + Sync,
        act: impl FnOnce() -> T,
    ) -> T {
        serving(&self.socket, handle, act)
    }

    fn deferred(&self) -> Vec<String> {
        names(&deferred::directory(&self.socket))
    }
}

fn result() -> Success {
    let value = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "mlh1", "mtu": 1450}, {"name": "eth0", "sandbox": "x", "mtu": 1450}],
        "ips": [{"address": "10.0.0.2/32", "interface": 1}, {"address": "fd00::2/128", "interface": 1}]
    });
    Success::from_value(&value, Version::LATEST).expect("a result")
}

fn plugin_error(error: &RuntimeError) -> &CniError {
    match error {
        RuntimeError::Plugin { error, .. } => error,
        other => panic!("no plugin's error: {other}"),
    }
}

/// Starts the plugin by hand.
fn start(variables: &[(&str, &str)], input: &str) -> Output {
    let mut child = Command::new(BINARY)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the plugin");
    // It need not read what it was given.
    let _ = child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(input.as_bytes());
    child.wait_with_output().expect("its end")
}

#[test]
fn a_pod_comes_is_checked_and_goes() {
    let it = Installed::new();
    let pod = Namespace::new();
    let inode = pod.file().metadata().expect("metadata").ino();
    let seen = Mutex::new(Vec::new());
    let handle = |request: Request| {
        let netns = request
            .netns
            .map(|fd| File::from(fd).metadata().expect("metadata").ino());
        let previous = request.config.prev_result.is_some();
        seen.lock()
            .expect("a lock")
            .push((request.verb, netns == Some(inode), previous));
        Ok((request.verb == Verb::Add).then(result))
    };
    it.serving(handle, || {
        let here = attachment("c1", Some(pod.path()));
        it.runtime.status(&it.list).expect("ready");
        assert_eq!(it.runtime.add(&it.list, &here).expect("attached"), result());
        it.runtime.check(&it.list, &here).expect("as it was");
        it.runtime.gc(&it.list, &[id("c1")]).expect("collected");
        for _ in 0..2 {
            it.runtime
                .del(&it.list, &attachment("c1", None))
                .expect("detached");
        }
    });
    let expected = [
        (Verb::Status, false, false),
        (Verb::Add, true, false),
        (Verb::Check, true, true),
        (Verb::Gc, false, false),
        (Verb::Del, false, true),
        (Verb::Del, false, false),
    ];
    assert_eq!(*seen.lock().expect("a lock"), expected);
    assert!(it.bench.records().is_empty() && it.deferred().is_empty());
}

#[test]
fn every_version_gets_its_shape() {
    let it = Installed::new();
    it.serving(
        |_| Ok(Some(result())),
        || {
            for version in malha_cni::types::SUPPORTED {
                let list = NetworkList {
                    version,
                    ..it.list.clone()
                };
                let pod = Namespace::new();
                let here = attachment("c1", Some(pod.path()));
                let got = it.runtime.add(&list, &here).expect("attached");
                assert_eq!(got.ips.len(), 2, "{version}");
                it.runtime.del(&list, &here).expect("detached");
            }
        },
    );
}

#[test]
fn behind_another_plugin_it_adds_to_the_result() {
    let it = Installed::new();
    it.bench.plugin(
        "first",
        r#"[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.1.0","interfaces":[{"name":"other0"}],"ips":[{"address":"10.1.0.2/24","interface":0}]}'"#,
    );
    let mut list = it.list.clone();
    let first = malha_cni::types::PluginEntry::parse(br#"{"type":"first"}"#).expect("a plugin");
    list.plugins.insert(0, first);
    let pod = Namespace::new();
    let got = it.serving(
        |request| Ok(request.config.prev_result.is_some().then(result)),
        || {
            it.runtime
                .add(&list, &attachment("c1", Some(pod.path())))
                .expect("attached")
        },
    );
    let owners: Vec<_> = got
        .ips
        .iter()
        .map(|ip| got.interfaces[ip.interface.expect("one")].name.as_str())
        .collect();
    assert_eq!(owners, ["other0", "eth0", "eth0"]);
}

#[test]
fn without_an_agent_every_verb_ends_as_it_should() {
    let it = Installed::new();
    let pod = Namespace::new();
    let here = attachment("c1", Some(pod.path()));
    let status = it.runtime.status(&it.list).expect_err("not ready");
    assert_eq!(plugin_error(&status).code, code::NOT_AVAILABLE);
    assert!(
        status
            .to_string()
            .contains("the Malha agent is not running"),
        "{status}"
    );
    let add = it.runtime.add(&it.list, &here).expect_err("try again");
    assert!(add.is_try_again(), "{add}");
    assert!(it.bench.records().is_empty());
    let gc = it.runtime.gc(&it.list, &[]).expect_err("try again");
    assert!(gc.is_try_again(), "{gc}");
    it.serving(
        |_| Ok(Some(result())),
        || it.runtime.add(&it.list, &here).expect("attached"),
    );
    let check = it.runtime.check(&it.list, &here).expect_err("try again");
    assert!(check.is_try_again(), "{check}");
}

#[test]
fn a_pod_that_ends_without_an_agent_is_given_back_by_the_next() {
    let it = Installed::new();
    let pod = Namespace::new();
    let here = attachment("c1", Some(pod.path()));
    it.serving(
        |_| Ok(Some(result())),
        || it.runtime.add(&it.list, &here).expect("attached"),
    );
    drop(pod);
    for _ in 0..2 {
        it.runtime
            .del(&it.list, &attachment("c1", None))
            .expect("detached");
    }
    assert!(it.bench.records().is_empty());
    assert_eq!(it.deferred(), ["c1+eth0.json"]);
    let verbs = Mutex::new(Vec::new());
    let handle = |request: Request| {
        verbs
            .lock()
            .expect("a lock")
            .push((request.verb, request.container_id.clone()));
        Ok(Some(result()))
    };
    // The same container comes again at once (podman keeps the ID): the old DEL comes before the new ADD.
    let pod = Namespace::new();
    let here = attachment("c1", Some(pod.path()));
    it.serving(handle, || {
        it.runtime.add(&it.list, &here).expect("attached")
    });
    let expected = [(Verb::Del, "c1".to_owned()), (Verb::Add, "c1".to_owned())];
    assert_eq!(*verbs.lock().expect("a lock"), expected);
    assert!(it.deferred().is_empty());
}

#[test]
fn before_the_first_agent_there_is_nothing_to_detach() {
    let it = Installed::new();
    fs::remove_dir(it.bench.path("run")).expect("as after a reboot");
    it.runtime
        .del(&it.list, &attachment("c1", None))
        .expect("nothing there");
    assert!(!it.bench.path("run").exists());
}

#[test]
fn an_agent_that_dies_while_asked_means_try_again() {
    let it = Installed::new();
    let pod = Namespace::new();
    let listener = UnixListener::bind(&it.socket).expect("a socket");
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // ADD and the DEL that follows.
        scope.spawn(|| {
            for _ in 0..2 {
                drop(listener.accept().expect("a plugin"));
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
        let add = it
            .runtime
            .add(&it.list, &attachment("c1", Some(pod.path())))
            .expect_err("it died");
        assert!(add.is_try_again(), "{add}");
        assert!(
            add.to_string().contains("ended while it was asked"),
            "{add}"
        );
    });
    assert_eq!(
        it.bench.records(),
        ["malha-c1-eth0"],
        "what is not undone is remembered"
    );
    it.serving(
        |_| Ok(None),
        || {
            it.runtime
                .del(&it.list, &attachment("c1", None))
                .expect("detached")
        },
    );
    assert!(it.bench.records().is_empty());
}

#[test]
fn an_agent_that_says_nothing_is_not_ready() {
    let it = Installed::new();
    let _silent = UnixListener::bind(&it.socket).expect("a socket");
    let status = it.runtime.status(&it.list).expect_err("silent");
    assert_eq!(plugin_error(&status).code, code::NOT_AVAILABLE);
    assert!(status.to_string().contains("does not answer"), "{status}");
}

#[test]
fn the_agents_refusal_is_the_plugins() {
    let it = Installed::new();
    let pod = Namespace::new();
    let full = || {
        CniError::new(code::TRY_AGAIN, "no free address in 10.0.0.0/24").with_details("254 pods")
    };
    let handle = |request: Request| match request.verb {
        Verb::Add => Err(full()),
        _ => Ok(None),
    };
    it.serving(handle, || {
        let error = it
            .runtime
            .add(&it.list, &attachment("c1", Some(pod.path())))
            .expect_err("full");
        assert_eq!(plugin_error(&error), &full());
    });
}

#[test]
fn only_root_is_served() {
    let it = Installed::new();
    let calls = AtomicUsize::new(0);
    let handle = |_: Request| {
        calls.fetch_add(1, Ordering::SeqCst);
        Ok(None)
    };
    let conf = json!({"cniVersion": "1.1.0", "name": "net", "socket": it.socket}).to_string();
    it.serving(handle, || {
        // Even where the modes of the files would let everybody in.
        fs::set_permissions(&it.socket, fs::Permissions::from_mode(0o666)).expect("modes");
        for dir in [
            it.bench.dir.path(),
            &it.bench.path("run"),
            &it.bench.path("bin"),
        ] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("modes");
        }
        let conf_path = it.bench.path("conf");
        fs::write(&conf_path, &conf).expect("a file");
        let status = |uid: u32| {
            Command::new(it.bench.path("bin/malha-cni"))
                .env("CNI_COMMAND", "STATUS")
                .stdin(File::open(&conf_path).expect("a file"))
                .uid(uid)
                .output()
                .expect("the plugin")
        };
        assert!(status(0).status.success());
        let refused = status(65534);
        assert!(!refused.status.success());
        let error: Value = serde_json::from_slice(&refused.stdout).expect("an error object");
        assert_eq!(error["code"], code::NOT_AVAILABLE, "{error}");
    });
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn the_variable_names_another_socket() {
    let it = Installed::new();
    it.serving(
        |_| Ok(None),
        || {
            let socket = it.socket.to_string_lossy();
            let variables = [("CNI_COMMAND", "STATUS"), ("MALHA_CNI_SOCKET", &*socket)];
            let conf = r#"{"cniVersion":"1.1.0","name":"net","socket":"/nowhere/cni.sock"}"#;
            assert!(start(&variables, conf).status.success());
            let without = start(&variables[..1], conf);
            assert!(!without.status.success());
        },
    );
}

#[test]
fn by_hand_it_introduces_itself() {
    let ran = start(&[], "");
    assert!(ran.status.success() && ran.stdout.is_empty());
    let text = String::from_utf8(ran.stderr).expect("UTF-8");
    assert!(text.starts_with("Malha CNI plugin"), "{text}");
    assert!(text.ends_with(
        "CNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"
    ));
    let it = Installed::new();
    assert_eq!(it.runtime.versions("malha-cni").expect("versions").len(), 7);
    assert_eq!(it.runtime.versions("loopback").expect("versions").len(), 7);
}

#[test]
fn a_failure_is_an_object_on_standard_output_and_an_exit_code() {
    let complete = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
    ];
    for (variables, input, expected) in [
        (&complete[..], "", code::DECODE),
        (&complete[..], "garbage", code::DECODE),
        (&complete[..], "{}", code::INVALID_CONF),
        (
            &complete[..2],
            r#"{"name":"net"}"#,
            code::INVALID_ENVIRONMENT,
        ),
    ] {
        let ran = start(variables, input);
        assert_eq!(ran.status.code(), Some(1));
        let error: Value = serde_json::from_slice(&ran.stdout).expect("an error object");
        assert_eq!(error["code"], expected, "{error}");
    }
    let full = OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let ran = Command::new(BINARY)
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::null())
        .stdout(full)
        .output();
    assert_eq!(
        ran.expect("the plugin").status.code(),
        Some(1),
        "an answer that nobody gets is no success"
    );
}

#[test]
fn as_loopback_it_brings_lo_up() {
    let it = Installed::new();
    let pod = Namespace::new();
    let list = common::list("0.3.1", &json!([{"type": "loopback"}]));
    let mut here = attachment("c1", Some(pod.path()));
    here.id.ifname = "lo".into();
    assert!(!loopback::look(pod.file().as_fd()).expect("lo").up);
    let got = it.runtime.add(&list, &here).expect("attached");
    let state = loopback::look(pod.file().as_fd()).expect("lo");
    assert!(state.up);
    assert_eq!(got.interfaces[0].name, "lo");
    assert_eq!(got.interfaces[0].sandbox, pod.path().to_string_lossy());
    assert_eq!(got.ips[0].address.to_string(), "127.0.0.1/8");
    assert_eq!(got.ips.len(), if state.v6 { 2 } else { 1 });
    let newer = NetworkList {
        version: Version::V1_0_0,
        ..list.clone()
    };
    it.runtime.check(&newer, &here).expect("up");
    pod.sh("ip link set lo down");
    let down = it.runtime.check(&newer, &here).expect_err("down");
    assert!(down.to_string().contains("lo is down"), "{down}");
    drop(pod);
    for _ in 0..2 {
        it.runtime.del(&list, &here).expect("detached");
    }
}
