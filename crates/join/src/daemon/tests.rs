use std::time::Duration;

use super::*;

fn shell(script: &str) -> Invocation {
    Invocation {
        description: "a test".to_owned(),
        program: "/bin/sh".into(),
        arguments: ["-c", script].map(OsString::from).to_vec(),
        detached_by: None,
    }
}

fn daemon() -> (tempfile::TempDir, Daemon) {
    let root = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::new("trial", &Paths::under(root.path()));
    (root, daemon)
}

#[tokio::test]
async fn starts_becomes_ready_and_stops() {
    let (root, daemon) = daemon();
    let ready = root.path().join("ready");
    let script = format!("touch {}; exec sleep 600", ready.display());
    let mut started = daemon.start(&shell(&script)).expect("starts");
    let limit = Duration::from_secs(20);
    let waited = started.wait(limit, async || {
        ready
            .exists()
            .then_some(())
            .ok_or_else(|| "no file".to_owned())
    });
    waited.await.expect("becomes ready");
    started.keep();
    assert!(matches!(daemon.state().expect("known"), State::Running(pid) if pid > 1));
    let again = daemon
        .start(&shell("true"))
        .expect_err("runs already")
        .to_string();
    assert!(again.contains("runs already"), "{again}");
    assert!(daemon.stop().expect("stops"));
    assert_eq!(daemon.state().expect("known"), State::Stopped);
    assert!(!daemon.stop().expect("is stopped"));
    assert!(!daemon.pid_file().exists());
    drop(daemon.start(&shell("exec sleep 600")).expect("starts"));
    assert_eq!(
        daemon.state().expect("known"),
        State::Stopped,
        "dropped before it was kept"
    );
}

#[tokio::test]
async fn an_early_end_shows_the_logs_last_line() {
    let (_root, daemon) = daemon();
    let first = daemon.start(&shell("echo old news")).expect("starts");
    let never = async || Err("not yet".to_owned());
    let limit = Duration::from_secs(20);
    let wait = async |mut started: Started| {
        started
            .wait(limit, never)
            .await
            .expect_err("ends")
            .to_string()
    };
    let text = wait(first).await;
    assert!(
        text.contains("malha trial ended (exit status: 0): old news"),
        "{text}"
    );
    let second = daemon.start(&shell("exit 3")).expect("starts");
    let text = wait(second).await;
    assert!(
        text.contains("(exit status: 3): nothing (all of it: "),
        "{text}"
    );
}

#[tokio::test]
async fn who_ignores_the_request_is_killed() {
    let (root, daemon) = daemon();
    let ready = root.path().join("ready");
    let script = format!(
        "trap '' TERM; touch {}; while :; do sleep 1; done",
        ready.display()
    );
    let mut started = daemon.start(&shell(&script)).expect("starts");
    let limit = Duration::from_secs(20);
    let waited = started.wait(limit, async || {
        ready
            .exists()
            .then_some(())
            .ok_or_else(|| "no file".to_owned())
    });
    waited.await.expect("becomes ready");
    let process = process::find(&daemon.pid_file())
        .expect("readable")
        .expect("runs");
    process.stop(Duration::from_millis(50)).expect("is killed");
    assert_eq!(daemon.state().expect("known"), State::Stopped);
}

#[test]
fn a_reused_number_is_somebody_else() {
    let (_root, daemon) = daemon();
    let own = i32::try_from(std::process::id()).expect("a pid");
    let line = Process::running(own).expect("runs").to_line();
    let mut written = Written::new();
    written
        .file(&daemon.pid_file(), SECRET, &line)
        .expect("written");
    assert_eq!(daemon.state().expect("known"), State::Running(own));
    let other = format!("{own} 1\n");
    written
        .file(&daemon.pid_file(), SECRET, other)
        .expect("written");
    assert_eq!(daemon.state().expect("known"), State::Stopped);
    assert!(!daemon.stop().expect("nothing to stop"));
}
