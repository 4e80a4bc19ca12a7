//! Joins that fail for what is wrong with this machine or with what the user wrote.

mod common;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Instant};

use bytes::Bytes;
use common::{Behaviour, Cluster, configuration, files, machine};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use malha_bootstrap::kubeconfig::Kubeconfig;
use malha_join::{
    configuration::JoinConfiguration,
    join::{self, Options},
    machine::Machine,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::UnixListener};

const SOCKET: &str = "/run/containerd/containerd.sock";
const PROGRAMS: [&str; 10] = [
    "conntrack",
    "ip",
    "iptables",
    "mount",
    "nsenter",
    "ebtables",
    "ethtool",
    "socat",
    "tc",
    "touch",
];

/// A machine with a kubelet and a container runtime, on which all is well. Its files lie in a directory of its own.
fn good_machine(driver: Option<bool>) -> (TempDir, Machine) {
    let (root, machine) = machine();
    for program in PROGRAMS {
        write(&machine, &format!("/usr/bin/{program}"), "");
    }
    let kubelet = "#!/bin/sh\necho Kubernetes v1.31.0\n";
    write(&machine, "/usr/bin/kubelet", kubelet);
    let program = machine.paths.at("/usr/bin/kubelet");
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("executable");
    write(&machine, "/proc/sys/net/ipv4/ip_forward", "1\n");
    write(
        &machine,
        "/proc/sys/net/bridge/bridge-nf-call-iptables",
        "1\n",
    );
    fs::create_dir_all(machine.paths.at("/run/systemd/system")).expect("made");
    serve(&machine, driver);
    (root, machine)
}

fn write(machine: &Machine, path: &str, text: &str) {
    let path = machine.paths.at(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    fs::write(path, text).expect("written");
}

/// A container runtime: one that tells whether it uses systemd, or one without CRI.
fn serve(machine: &Machine, driver: Option<bool>) {
    let path = machine.paths.at(SOCKET);
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    let listener = UnixListener::bind(path).expect("a socket");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request| async move { answer(&request, driver) });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
}

type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

fn answer(
    request: &Request<Incoming>,
    driver: Option<bool>,
) -> Result<Response<Body>, http::Error> {
    let field = |number: u8, bytes: &[u8]| {
        let length = [
            u8::try_from(bytes.len() & 0x7f).expect("short") | 0x80,
            u8::try_from(bytes.len() >> 7).expect("short"),
        ];
        [&[number << 3 | 2], length.as_slice(), bytes].concat()
    };
    let method = request.uri().path().rsplit('/').next().unwrap_or_default();
    let message = match (method, driver) {
        ("Version", Some(_)) => Some([field(2, b"containerd"), field(3, b"1.6.20")].concat()),
        ("Status", Some(systemd)) => {
            let config = format!(
                r#"{{"containerd": {{"defaultRuntimeName": "runc", "runtimes": {{"runc":
                {{"runtimeType": "io.containerd.runc.v2", "options": {{"SystemdCgroup": {systemd}}}}}}}}}}}"#
            );
            Some(field(
                2,
                &[field(1, b"config"), field(2, config.as_bytes())].concat(),
            ))
        }
        _ => None,
    };
    let status = if message.is_some() { "0" } else { "12" };
    let message = message.unwrap_or_default();
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let body = Full::new(Bytes::from([&[0], length.as_slice(), &message].concat()));
    let trailers = HeaderMap::from_iter([(
        "grpc-status".parse().expect("a name"),
        HeaderValue::from_static(status),
    )]);
    let body = body.with_trailers(async move { Some(Ok(trailers)) });
    Response::builder()
        .header("content-type", "application/grpc")
        .body(body.boxed())
}

/// The failure's text, which is one line, came in time, and left the machine as it was.
async fn failure(options: &Options, machine: &Machine) -> String {
    let before = files(&machine.paths.at("/"));
    let start = Instant::now();
    let Err(error) = join::enroll(options, machine).await else {
        panic!("joined");
    };
    let text = format!("{error:#}");
    assert!(start.elapsed() < join::LIMIT, "{text}");
    assert!(!text.contains('\n'), "more than one line: {text}");
    common::documented(&text);
    assert_eq!(files(&machine.paths.at("/")), before, "{text}");
    text
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}

/// Takes a machine on which all is well, breaks something, and joins.
async fn broken(break_it: impl FnOnce(&Machine)) -> String {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, machine) = good_machine(Some(true));
    break_it(&machine);
    failure(&cluster.options(), &machine).await
}

fn given(cluster: &Cluster, change: impl FnOnce(&mut JoinConfiguration)) -> Options {
    let mut given = configuration(cluster.address, &[cluster.pin()]);
    change(&mut given);
    Options::new(given).expect("valid options")
}

/// This thread's own mounts: what is mounted here ends with it.
fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace: this test needs root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
}

fn mount_memory(path: &Path, flags: MsFlags, options: &str) {
    fs::create_dir_all(path).expect("made");
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options)).expect("mounted");
}

#[tokio::test]
async fn a_good_machine_joins_with_kubeadms_flags() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, machine) = good_machine(Some(true));
    let options = given(&cluster, |given| {
        given.taints = vec!["a=b:NoSchedule".to_owned()];
        given.kubelet_extra_args = vec![("v".to_owned(), "2".to_owned())];
        given.ca_cert_path = Some("/etc/elsewhere/ca.crt".to_owned());
    });
    let enrolled = join::enroll(&options, &machine)
        .await
        .map_err(|e| format!("{e:#}"));
    enrolled.map(|enrolled| enrolled.keep()).expect("joins");
    let flags = fs::read_to_string(machine.paths.kubelet("kubeadm-flags.env")).expect("readable");
    let flags = flags.replace("--node-ip=127.0.0.1 ", "");
    assert_eq!(
        flags,
        "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///run/containerd/containerd.sock \
         --hostname-override=w1 --register-with-taints=a=b:NoSchedule --v=2\"\n"
    );
    assert!(machine.paths.at("/etc/elsewhere/ca.crt").exists());
}

#[tokio::test]
async fn a_rehearsal_changes_nothing() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, machine) = good_machine(Some(true));
    let before = files(&machine.paths.at("/"));
    let text = join::rehearse(&cluster.options(), &machine)
        .await
        .map_err(|e| format!("{e:#}"))
        .expect("possible");
    assert_has(
        &text,
        &[
            "certificate of node \"w1\"",
            "kubeadm-flags.env\" with content",
            "KUBELET_KUBEADM_ARGS",
            "Would start kubelet",
        ],
    );
    assert!(!text.contains("0123456789abcdef"), "{text}");
    assert_eq!(files(&machine.paths.at("/")), before);
    let posted = cluster.seen().iter().any(|seen| seen.method != "GET");
    assert!(!posted, "{:?}", cluster.seen());
}

#[tokio::test]
async fn swap_that_is_on() {
    let swaps = "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n";
    let text = broken(|machine| write(machine, "/proc/swaps", swaps)).await;
    assert_has(&text, &["swaps (to /dev/sda2)", "swapoff -a", "[Swap]"]);
}

#[tokio::test]
async fn swap_that_the_user_allows() {
    let cluster = Cluster::start(Behaviour::default()).await;
    for (ignored, flags) in [
        (vec!["Swap".to_owned()], vec![]),
        (
            vec![],
            vec![("fail-swap-on".to_owned(), "false".to_owned())],
        ),
    ] {
        let (_root, machine) = good_machine(Some(true));
        write(&machine, "/proc/swaps", "Filename\n/dev/sda2 partition\n");
        let options = given(&cluster, |given| {
            given.ignore_preflight_errors = ignored;
            given.kubelet_extra_args = flags;
        });
        join::enroll(&options, &machine)
            .await
            .map(drop)
            .expect("joins");
    }
}

#[tokio::test]
async fn a_runtime_with_another_cgroup_driver() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, machine) = good_machine(Some(false));
    let text = failure(&cluster.options(), &machine).await;
    assert_has(
        &text,
        &[
            "use the cgroup driver systemd, and containerd here uses cgroupfs",
            "SystemdCgroup = true",
            "[CgroupDriver]",
        ],
    );
}

#[tokio::test]
async fn the_cgroup_driver_of_a_systemd_that_does_not_run() {
    let text =
        broken(|machine| fs::remove_dir(machine.paths.at("/run/systemd/system")).expect("removed"))
            .await;
    assert_has(
        &text,
        &[
            "systemd does not run on this machine",
            "cgroup-driver: cgroupfs",
        ],
    );
}

#[tokio::test]
async fn no_container_runtime() {
    let text = broken(|machine| fs::remove_file(machine.paths.at(SOCKET)).expect("removed")).await;
    assert_has(
        &text,
        &["no container runtime's socket", "--cri-socket", "[CRI]"],
    );
}

#[tokio::test]
async fn a_container_runtime_that_has_ended() {
    let end = |machine: &Machine| {
        let path = machine.paths.at(SOCKET);
        fs::remove_file(&path).expect("removed");
        drop(std::os::unix::net::UnixListener::bind(path).expect("a socket"));
    };
    assert_has(
        &broken(end).await,
        &["nothing listens on", "systemctl start containerd", "[CRI]"],
    );
}

#[tokio::test]
async fn a_socket_that_is_not_there() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, machine) = good_machine(Some(true));
    let options = given(&cluster, |given| {
        given.cri_socket = Some("unix:///run/other.sock".to_owned())
    });
    assert_has(
        &failure(&options, &machine).await,
        &["there is no socket", "/run/other.sock", "[CRI]"],
    );
}

#[tokio::test]
async fn a_socket_of_something_else() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, machine) = good_machine(Some(true));
    let listener = UnixListener::bind(machine.paths.at("/run/other.sock")).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"220 mail ready\r\n").await;
        }
    });
    let options = given(&cluster, |given| {
        given.cri_socket = Some("/run/other.sock".to_owned())
    });
    failure(&options, &machine).await;
}

#[tokio::test]
async fn a_silent_container_runtime() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, machine) = good_machine(Some(true));
    // Connections are taken by the kernel, and nobody ever answers.
    let path = machine.paths.at("/run/other.sock");
    let _listener = std::os::unix::net::UnixListener::bind(path).expect("a socket");
    let options = given(&cluster, |given| {
        given.cri_socket = Some("/run/other.sock".to_owned())
    });
    failure(&options, &machine).await;
}

#[tokio::test]
async fn a_containerd_without_cri() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, machine) = good_machine(None);
    let text = failure(&cluster.options(), &machine).await;
    assert_has(&text, &["does not serve CRI", "disabled_plugins", "[CRI]"]);
}

#[test]
fn the_kubelets_port_is_taken() {
    // In a network of its own: the port may be a real kubelet's on this machine.
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: this test needs root");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let _taken = std::net::TcpListener::bind("0.0.0.0:10250").expect("free here");
        let (_root, machine) = good_machine(Some(true));
        let pin = malha_bootstrap::pin::CaPin::of_public_key(b"");
        let text = failure(
            &common::options(([127, 0, 0, 1], 1).into(), vec![pin]),
            &machine,
        )
        .await;
        assert_has(&text, &["port 10250 is in use", "ss -ltnp", "[Port-10250]"]);
    });
}

#[tokio::test]
async fn a_machine_that_does_not_forward() {
    let text = broken(|machine| write(machine, "/proc/sys/net/ipv4/ip_forward", "0\n")).await;
    assert_has(
        &text,
        &[
            "net.ipv4.ip_forward is not 1",
            "sysctl -w net.ipv4.ip_forward=1",
            "[FileContent--proc-sys-net-ipv4-ip_forward]",
        ],
    );
}

#[tokio::test]
async fn a_program_that_is_missing() {
    let text =
        broken(|machine| fs::remove_file(machine.paths.at("/usr/bin/conntrack")).expect("removed"))
            .await;
    assert_has(
        &text,
        &[
            "conntrack is missing",
            "apt-get install conntrack",
            "[FileExisting-conntrack]",
        ],
    );
}

#[tokio::test]
async fn a_kubelet_newer_than_the_control_plane() {
    let text = broken(|machine| {
        write(
            machine,
            "/usr/bin/kubelet",
            "#!/bin/sh\necho Kubernetes v1.99.0\n",
        )
    })
    .await;
    assert_has(
        &text,
        &[
            "kubelet is 1.99, newer than the control plane's v1.31.4",
            "install one of 1.31",
            "[KubeletVersion]",
        ],
    );
}

#[tokio::test]
async fn a_kubelet_that_does_not_run() {
    let text = broken(|machine| write(machine, "/usr/bin/kubelet", "#!/bin/sh\nexit 1\n")).await;
    assert_has(
        &text,
        &["the kubelet cannot be used", "--version tells no version"],
    );
}

#[test]
fn a_read_only_etc() {
    own_mounts();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let text = runtime.block_on(broken(|machine| {
        mount_memory(&machine.paths.at("/etc"), MsFlags::MS_RDONLY, "")
    }));
    assert_has(
        &text,
        &["its file system is read-only", "remount,rw", "[Writable]"],
    );
}

#[test]
fn a_full_disk() {
    own_mounts();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let fill = |machine: &Machine| {
        mount_memory(&machine.paths.at("/var/lib"), MsFlags::empty(), "size=16k")
    };
    let text = runtime.block_on(broken(fill));
    assert_has(
        &text,
        &[
            "/var/lib/kubelet",
            "no space is left",
            "df -h",
            "[Writable]",
        ],
    );
}

#[tokio::test]
async fn what_the_user_ignores_only_warns() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, machine) = good_machine(Some(false));
    write(&machine, "/etc/kubernetes/pki/ca.crt", "old");
    write(&machine, "/etc/kubernetes/kubelet.conf", "old");
    write(&machine, "/proc/sys/net/ipv4/ip_forward", "0\n");
    let options = given(&cluster, |given| {
        given.ignore_preflight_errors = vec!["all".to_owned()]
    });
    drop(
        join::enroll(&options, &machine)
            .await
            .map_err(|e| format!("{e:#}"))
            .expect("goes on"),
    );
    let old = fs::read_to_string(machine.paths.kubelet_conf()).expect("readable");
    assert_eq!(old, "old", "what was there is put back");
    let skipped = given(&cluster, |given| {
        given.skip_phases = vec!["preflight".to_owned()]
    });
    drop(
        join::enroll(&skipped, &machine)
            .await
            .map_err(|e| format!("{e:#}"))
            .expect("goes on"),
    );
}

/// A kubeconfig for discovery by file.
fn discovery_file(machine: &Machine, cluster: &Cluster, with_token: bool) -> String {
    let server = format!("https://{}", cluster.address);
    let config = match with_token {
        true => Kubeconfig::bootstrap_kubelet(&server, &cluster.ca.cert_pem(), &common::token()),
        false => Kubeconfig::cluster_info(&server, &cluster.ca.cert_pem()),
    };
    let path = machine.paths.at("/discovery.conf");
    fs::write(&path, config.to_yaml().expect("YAML")).expect("written");
    path.display().to_string()
}

fn by_file(file: String, token: Option<&str>) -> Options {
    let given = JoinConfiguration {
        discovery_file: Some(file),
        tls_bootstrap_token: token.map(str::to_owned),
        node_name: Some(common::NODE.to_owned()),
        ..JoinConfiguration::default()
    };
    Options::new(given).expect("valid options")
}

#[tokio::test]
async fn discovery_by_file() {
    let cluster = Cluster::start(Behaviour::default()).await;
    for (with_token, token) in [(true, None), (false, Some(common::TOKEN))] {
        let (_root, machine) = machine();
        let options = by_file(discovery_file(&machine, &cluster, with_token), token);
        let enrolled = join::enroll(&options, &machine)
            .await
            .map_err(|e| format!("{e:#}"));
        enrolled.map(|enrolled| enrolled.keep()).expect("joins");
        let config = fs::read_to_string(machine.paths.kubelet_conf()).expect("readable");
        assert!(config.contains(&cluster.address.to_string()), "{config}");
    }
}

#[tokio::test]
async fn a_discovery_file_that_cannot_be_used() {
    let cluster = Cluster::start(Behaviour::default()).await;
    let (_root, machine) = machine();
    let file = discovery_file(&machine, &cluster, false);
    assert_has(
        &failure(&by_file(file.clone(), None), &machine).await,
        &["no token or client certificate", "--tls-bootstrap-token"],
    );
    fs::write(&file, "nonsense").expect("written");
    assert_has(
        &failure(&by_file(file, None), &machine).await,
        &["cannot use the discovery file", "not a kubeconfig"],
    );
    let absent = by_file("/no/such/file".to_owned(), None);
    assert_has(
        &failure(&absent, &machine).await,
        &["/no/such/file: No such file", "give --discovery-file"],
    );
}
