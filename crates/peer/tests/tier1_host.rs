//! Hosts leave nothing on this machine, however their test ends.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use malha_peer::{Host, NETWORK, Switch};

/// Set for the process that starts a host and is killed.
const VICTIM: &str = "MALHA_PEER_VICTIM";
const LIMIT: Duration = Duration::from_secs(30);

/// Directories and control groups of hosts that a process started.
fn left(pid: u32) -> Vec<String> {
    let name = format!("malha-peer-{pid}-");
    let groups = fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
    let groups = groups.filter_map(|entry| Some(entry.ok()?.path()));
    let places = groups.chain(["/var/tmp".into(), "/sys/fs/cgroup".into()]);
    let entries = places.flat_map(|place| fs::read_dir(place).into_iter().flatten());
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path().display().to_string()));
    paths.filter(|path| path.contains(&name)).collect()
}

#[test]
fn nothing_stays_of_a_test_that_is_killed() {
    if env::var_os(VICTIM).is_some() {
        let switch = Switch::new().expect("a switch: this test needs root");
        let host = Host::start(&switch, "h", &format!("{NETWORK}.11")).expect("a host");
        host.background("sleeper", &["sleep", "infinity"].map(str::to_owned))
            .expect("started");
        eprintln!("ready");
        sleep(LIMIT);
        return;
    }
    let mut victim = Command::new(env::current_exe().expect("this program"))
        .args([
            "--exact",
            "nothing_stays_of_a_test_that_is_killed",
            "--nocapture",
        ])
        .env(VICTIM, "1")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("started");
    let lines = BufReader::new(victim.stderr.take().expect("a pipe")).lines();
    let said: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| line != "ready")
        .collect();
    assert!(!left(victim.id()).is_empty(), "it did not start: {said:?}");
    victim.kill().expect("killed");
    victim.wait().expect("ended");
    let deadline = Instant::now() + LIMIT;
    while !left(victim.id()).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", left(victim.id()));
        sleep(Duration::from_millis(50));
    }
}
