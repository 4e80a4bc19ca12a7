//! An agent's life in a process of its own, which can be killed at any step.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use malha_datapath::Datapath;
use malha_endpoint::{AddRequest, CheckRequest, Config, Error, Hook, HostPort, Key, Manager, Step};
use malha_kernel::NetNs;
use nix::sys::signal::{Signal, raise};

use crate::common::{FOUR, Node, SIX, path};

/// How long addresses rest.
pub const QUARANTINE: Duration = Duration::from_millis(200);

const CHILD: &str = "MALHA_ENDPOINT_LIFE";
const ANSWER: &str = "= ";

/// What comes back.
#[derive(Debug)]
pub enum Answer {
    /// It was done; the endpoint's addresses, if there is one.
    Done(Vec<IpAddr>),
    Refused(String),
    /// The process was killed.
    Dead,
}

pub fn key(container: usize) -> Key {
    Key::new(container.to_string(), "eth0")
}

pub fn state(node: &Node) -> PathBuf {
    node.directory.path().join("state")
}

/// The process, seen from the test.
pub struct Life {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Life {
    pub fn start(node: &Node, boot: usize) -> Self {
        let pins = node.bpffs.path().join("malha");
        let order = [
            path(&node.netns),
            pins.display().to_string(),
            state(node).display().to_string(),
            boot.to_string(),
        ];
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD, order.join("|"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            orders: process.stdin.take().unwrap(),
            answers: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    pub fn ask(&mut self, order: &str) -> Answer {
        if writeln!(self.orders, "{order}").is_err() {
            return Answer::Dead;
        }
        let mut line = String::new();
        loop {
            line.clear();
            if self.answers.read_line(&mut line).unwrap() == 0 {
                return Answer::Dead;
            }
            let Some(answer) = line.strip_prefix(ANSWER).map(str::trim_end) else {
                continue;
            };
            return match answer.split_once(' ') {
                Some(("error", text)) => Answer::Refused(text.to_owned()),
                _ => Answer::Done(addresses(answer)),
            };
        }
    }

    /// What is attached, by container. The process may have been told to die at a step that only its reaper comes to:
    /// asking does not go through any.
    pub fn list(&mut self) -> BTreeMap<usize, Vec<IpAddr>> {
        writeln!(self.orders, "list").unwrap();
        let mut listed = BTreeMap::new();
        for line in (&mut self.answers).lines() {
            let line = line.unwrap();
            let Some(answer) = line.strip_prefix(ANSWER) else {
                continue;
            };
            let Some((container, rest)) = answer.split_once(' ') else {
                break;
            };
            listed.insert(container.parse().unwrap(), addresses(rest));
        }
        listed
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
    }

    /// Until it is dead: of SIGKILL, or something is wrong.
    pub fn wait(&mut self) {
        use std::os::unix::process::ExitStatusExt;
        let status = self.process.wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "{status}");
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn addresses(text: &str) -> Vec<IpAddr> {
    text.split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect()
}

/// The process itself, if this is one.
pub fn live() {
    let Ok(order) = std::env::var(CHILD) else {
        return;
    };
    // The test harness has begun a line.
    println!();
    let parts: Vec<&str> = order.split('|').collect();
    let [node, pins, state, boot] = parts[..] else {
        panic!("{order}");
    };
    let armed: Arc<Mutex<Option<Step>>> = Arc::default();
    let hook = Arc::clone(&armed);
    let config = Config {
        prefixes: vec![FOUR.parse().unwrap(), SIX.parse().unwrap()],
        mtu: 1430,
        quarantine: QUARANTINE,
        gather: Duration::from_millis(5),
        hook: Some(Hook(Arc::new(move |at| {
            if *hook.lock().unwrap() == Some(at) {
                raise(Signal::SIGKILL).unwrap();
            }
            Ok(())
        }))),
        ..Config::new(state, format!("boot-{boot}"))
    };
    let config_of_datapath = malha_datapath::Config {
        pins: pins.into(),
        ..malha_datapath::Config::default()
    };
    let node = NetNs::open(Path::new(node)).unwrap();
    node.run(|| {
        let datapath = Datapath::open(&config_of_datapath).unwrap();
        let manager = Manager::open(config, Arc::new(datapath)).unwrap();
        // As an agent does before it serves.
        manager.reconcile().unwrap();
        for order in std::io::stdin().lines() {
            let order = order.unwrap();
            let words: Vec<&str> = order.split(' ').collect();
            answer(&manager, &armed, &words);
        }
    })
    .unwrap();
}

fn answer(manager: &Manager, armed: &Mutex<Option<Step>>, words: &[&str]) {
    let none = |()| Vec::new();
    let key = |container: &str| Key::new(container, "eth0");
    let done: Result<Vec<IpAddr>, Error> = match words {
        ["add", container, netns, port] => {
            add(manager, key(container), netns, port.parse().unwrap())
        }
        ["del", container] => manager.del(&key(container)).map(none),
        ["check", container, netns] => {
            let netns = NetNs::open(Path::new(netns)).unwrap();
            let request = CheckRequest {
                key: key(container),
                netns: &netns,
                addresses: None,
            };
            manager.check(&request).map(none)
        }
        ["gc", valid] => {
            let valid: Vec<Key> = valid.split(',').map(key).collect();
            manager.gc(&valid).map(none)
        }
        ["reconcile"] => manager.reconcile().map(|_| Vec::new()),
        ["flush"] => manager.flush().map(none),
        ["arm", step] => {
            *armed.lock().unwrap() = Step::ALL.into_iter().find(|at| format!("{at:?}") == *step);
            Ok(Vec::new())
        }
        ["list"] => {
            for endpoint in manager.list() {
                println!(
                    "{ANSWER}{} {}",
                    endpoint.key.container_id,
                    joined(&endpoint.addresses)
                );
            }
            println!("{ANSWER}end");
            return;
        }
        other => panic!("{other:?}"),
    };
    match done {
        Ok(addresses) => println!("{ANSWER}{}", joined(&addresses)),
        Err(error) => println!("{ANSWER}error {}", error.to_string().replace('\n', " ")),
    }
}

fn add(manager: &Manager, key: Key, netns: &str, port: u16) -> Result<Vec<IpAddr>, Error> {
    let mapping = HostPort {
        address: None,
        protocol: 6,
        port,
        container_port: 80,
    };
    let namespace = NetNs::open(Path::new(netns)).unwrap();
    let request = AddRequest {
        key,
        netns: &namespace,
        sandbox: netns.to_owned(),
        pod: None,
        ports: if port == 0 { Vec::new() } else { vec![mapping] },
    };
    manager.add(&request).map(|endpoint| endpoint.addresses)
}

fn joined(addresses: &[IpAddr]) -> String {
    let words: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    words.join(" ")
}
