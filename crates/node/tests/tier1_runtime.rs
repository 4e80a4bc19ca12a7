//! Containers and sandboxes as root, without an API server.

mod support;

use std::{fs, time::Duration};

use malha_node::{
    launch::spec::{Mount, PidNamespace, Propagation, Root},
    runtime::{Limits, SandboxRequest, StartError, State},
};
use support::{Machine, shell};

#[tokio::test]
async fn a_container_runs_writes_its_log_and_ends() {
    let machine = Machine::new();
    let sandbox = machine.host_sandbox();
    let container = machine.container(&sandbox, "c");
    let spec = machine.spec(&container, shell("echo out; echo err >&2; exit 3"));
    machine
        .runtime
        .start(&container, spec, &Limits::default())
        .unwrap();
    let State::Exited(_, exit) = machine.runtime.wait(&container).await.unwrap() else {
        panic!("it has not ended");
    };
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (3, None, false));
    let log = fs::read_to_string(&container.log_path).unwrap();
    assert!(
        log.contains(" stdout F out\n") && log.contains(" stderr F err\n"),
        "{log}"
    );
    machine.clear();
}

#[tokio::test]
async fn a_container_has_its_own_world() {
    let machine = Machine::new();
    let sandbox = machine.host_sandbox();
    let container = machine.container(&sandbox, "c");
    let script = "echo pid $$; touch /usr/x 2>/dev/null && echo root is writable; \
                  touch /tmp/x && echo tmp is writable; ls -A /root | wc -l; \
                  cat /proc/1/comm; grep -c . /proc/mounts >/dev/null && echo mounts; \
                  echo 1 > /proc/sys/kernel/panic && echo sysctl is writable; \
                  grep CapEff /proc/self/status";
    let spec = machine.spec(&container, shell(script));
    machine
        .runtime
        .start(&container, spec, &Limits::default())
        .unwrap();
    machine.runtime.wait(&container).await.unwrap();
    let lines = machine.output(&container);
    assert!(lines.contains(&"pid 1".to_owned()), "{lines:?}");
    assert!(lines.contains(&"tmp is writable".to_owned()), "{lines:?}");
    assert!(
        !lines
            .iter()
            .any(|l| l == "root is writable" || l == "sysctl is writable"),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"0".to_owned()),
        "secrets are in sight: {lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l.ends_with("00000000a00425fb") || l.starts_with("CapEff")),
        "{lines:?}"
    );
    machine.clear();
}

#[tokio::test]
async fn a_command_that_is_not_there_says_so() {
    let machine = Machine::new();
    let sandbox = machine.host_sandbox();
    for (command, code, text) in [
        (
            "nosuch",
            127,
            "exec: \"nosuch\": executable file not found in $PATH",
        ),
        (
            "/nosuch",
            127,
            "exec: \"/nosuch\": no such file or directory",
        ),
        (
            "/etc/passwd",
            126,
            "exec: \"/etc/passwd\": permission denied",
        ),
    ] {
        let container = machine.container(&sandbox, "c");
        let spec = machine.spec(&container, vec![command.to_owned()]);
        let error = machine
            .runtime
            .start(&container, spec, &Limits::default())
            .unwrap_err();
        let StartError::Container(failure) = error else {
            panic!("{error}");
        };
        assert_eq!((failure.code, failure.message.as_str()), (code, text));
    }
    machine.clear();
}

#[tokio::test]
async fn volumes_are_mounted_wherever_they_are_asked_for() {
    let machine = Machine::new();
    let sandbox = machine.host_sandbox();
    let container = machine.container(&sandbox, "c");
    let volume = machine.path("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "content").unwrap();
    let mut spec = machine.spec(
        &container,
        shell("cat /data/file /etc/new/place /usr/lib/also/new/file; echo; echo new > /data/made; \
               ls /etc/passwd /usr/lib/os-release; touch /etc/new/x 2>&1 | grep -c . ; touch /usr/lib/also/new/x || true"),
    );
    let mount = |target: &str, source: &str, read_only| Mount {
        source: volume.join(source),
        target: target.into(),
        read_only,
        propagation: Propagation::None,
    };
    spec.mounts = vec![
        mount("/data", "", false),
        mount("/etc/new/place", "file", true),
        mount("/usr/lib/also/new", "", true),
    ];
    machine
        .runtime
        .start(&container, spec, &Limits::default())
        .unwrap();
    machine.runtime.wait(&container).await.unwrap();
    let lines = machine.output(&container);
    assert_eq!(lines.first().unwrap(), "contentcontentcontent", "{lines:?}");
    assert!(
        lines.contains(&"/usr/lib/os-release".to_owned()),
        "{lines:?}"
    );
    assert_eq!(fs::read_to_string(volume.join("made")).unwrap(), "new\n");
    assert!(!volume.join("x").exists(), "a read-only volume was written");
    machine.clear();
}

#[tokio::test]
async fn an_image_of_programs_holds_nothing_else() {
    let machine = Machine::new();
    let sandbox = machine.host_sandbox();
    let container = machine.container(&sandbox, "c");
    let program = support::launcher();
    let name = program.file_name().unwrap().to_str().unwrap().to_owned();
    let mut spec = machine.spec(&container, vec![name]);
    spec.root = Root::Programs(vec![program]);
    machine
        .runtime
        .start(&container, spec, &Limits::default())
        .unwrap();
    let state = machine.runtime.wait(&container).await.unwrap();
    let State::Exited(_, exit) = state else {
        panic!("{state:?}")
    };
    assert_eq!(exit.code, 1);
    assert!(machine.output(&container)[0].starts_with("usage: malha-node-launcher"));
    machine.clear();
}

#[tokio::test]
async fn stop_asks_first_and_then_does_not() {
    let machine = Machine::new();
    let sandbox = machine.host_sandbox();
    let polite = machine.container(&sandbox, "polite");
    let spec = machine.spec(
        &polite,
        shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"),
    );
    machine
        .runtime
        .start(&polite, spec, &Limits::default())
        .unwrap();
    machine.until_output(&polite, "ready").await;
    machine
        .runtime
        .stop(&polite, Duration::from_secs(30))
        .await
        .unwrap();
    let State::Exited(_, exit) = machine.runtime.state(&polite).unwrap() else {
        panic!()
    };
    assert_eq!(exit.code, 7);

    let deaf = machine.container(&sandbox, "deaf");
    let spec = machine.spec(
        &deaf,
        shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"),
    );
    machine
        .runtime
        .start(&deaf, spec, &Limits::default())
        .unwrap();
    machine.until_output(&deaf, "ready").await;
    machine
        .runtime
        .stop(&deaf, Duration::from_millis(50))
        .await
        .unwrap();
    let State::Exited(_, exit) = machine.runtime.state(&deaf).unwrap() else {
        panic!()
    };
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    machine.clear();
}

#[tokio::test]
async fn a_second_runtime_finds_what_the_first_one_started() {
    let machine = Machine::new();
    let sandbox = machine.host_sandbox();
    let container = machine.container(&sandbox, "c");
    let spec = machine.spec(
        &container,
        shell("echo ready; read line; echo got $line; sleep 1000"),
    );
    machine
        .runtime
        .start(&container, spec, &Limits::default())
        .unwrap();
    machine.until_output(&container, "ready").await;
    let later = machine.again();
    let inventory = later.inventory().unwrap();
    assert_eq!(inventory.containers, std::slice::from_ref(&container));
    assert_eq!(inventory.sandboxes, std::slice::from_ref(&sandbox));
    assert!(matches!(
        later.state(&container).unwrap(),
        State::Running(_)
    ));
    machine.clear();
}

#[tokio::test]
async fn a_container_whose_shim_was_killed_does_not_stay() {
    let machine = Machine::new();
    let sandbox = machine.host_sandbox();
    let container = machine.container(&sandbox, "c");
    let spec = machine.spec(&container, shell("sleep 1000"));
    let (started, _) = machine
        .runtime
        .start(&container, spec, &Limits::default())
        .unwrap();
    malha_node::launch::process::signal(started.shim, rustix::process::Signal::KILL).unwrap();
    let State::Exited(_, exit) = machine.runtime.wait(&container).await.unwrap() else {
        panic!()
    };
    assert_eq!(exit.code, 137);
    machine.clear();
}

#[tokio::test]
async fn too_much_memory_is_named() {
    let machine = Machine::new();
    let sandbox = machine.host_sandbox();
    let container = machine.container(&sandbox, "c");
    let spec = machine.spec(&container, shell("x=x; while :; do x=$x$x; done"));
    let limits = Limits {
        memory: Some(16 << 20),
        ..Limits::default()
    };
    let (_, unkept) = machine.runtime.start(&container, spec, &limits).unwrap();
    assert_eq!(
        unkept,
        Vec::<String>::new(),
        "this machine has no memory controller"
    );
    let State::Exited(_, exit) = machine.runtime.wait(&container).await.unwrap() else {
        panic!()
    };
    assert!(exit.oom_killed, "{exit:?}");
    machine.clear();
}

#[tokio::test]
async fn exec_runs_in_the_container() {
    let machine = Machine::new();
    let sandbox = machine.host_sandbox();
    let container = machine.container(&sandbox, "c");
    let mut spec = machine.spec(&container, shell("touch /tmp/mark; echo ready; sleep 1000"));
    spec.user.uid = 65534;
    spec.user.gid = 65534;
    machine
        .runtime
        .start(&container, spec, &Limits::default())
        .unwrap();
    machine.until_output(&container, "ready").await;
    let command = shell("ls /tmp; id -u; exit 5");
    let output = machine
        .runtime
        .exec(&container, false, &command)
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "mark\n65534\n",
        "{output:?}"
    );
    assert_eq!(output.status.code(), Some(5));
    let output = machine
        .runtime
        .exec(&container, false, &["nosuch".to_owned()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(127));
    machine.clear();
}

#[tokio::test]
async fn containers_of_a_pod_can_share_processes() {
    let machine = Machine::new();
    let request = SandboxRequest {
        shared_pid: true,
        ..machine.host_request()
    };
    let sandbox = machine.runtime.create_sandbox(&request).unwrap();
    let first = machine.container(&sandbox, "first");
    let mut spec = machine.spec(&first, shell("echo ready; sleep 1000"));
    spec.namespaces = sandbox.shared_with(false);
    assert!(matches!(spec.namespaces.pid, PidNamespace::Shared(_)));
    machine
        .runtime
        .start(&first, spec, &Limits::default())
        .unwrap();
    let second = machine.container(&sandbox, "second");
    let mut spec = machine.spec(
        &second,
        shell("until grep -qs sleep /proc/[0-9]*/comm; do :; done; echo seen; (sleep 1000 &)"),
    );
    spec.namespaces = sandbox.shared_with(false);
    machine.until_output(&first, "ready").await;
    machine
        .runtime
        .start(&second, spec, &Limits::default())
        .unwrap();
    machine.runtime.wait(&second).await.unwrap();
    assert_eq!(machine.output(&second), ["seen"]);
    machine.clear();
}
