//! The story itself, in every way of routing, and that nothing of it is left.
mod common;

use std::{fs, path::Path};

use common::{Lab, malha, run};

fn tells_the_whole_story(routing: &str) {
    let lab = Lab::up(&["--routing", routing]);
    let story = &lab.story;
    let not_ready = story
        .find("NotReady")
        .expect("nodes are NotReady before the network is applied");
    let applied = story.find("kubectl apply").unwrap();
    assert!(not_ready < applied, "{story}");
    let ready = &story[applied..];
    assert!(ready.contains("Ready"), "{story}");
    assert!(!ready.contains("NotReady"), "{story}");
    // Three pods, each to each, three protocols, two families.
    assert!(story.contains("54 of 54 ways work"), "{story}");
    for hint in ["export KUBECONFIG=", "malha lab exec", "malha lab down"] {
        assert!(story.contains(hint), "{hint}: {story}");
    }
}

#[test]
fn overlay() {
    tells_the_whole_story("overlay");
}

#[test]
fn direct() {
    tells_the_whole_story("direct");
}

#[test]
fn auto_leaves_nothing() {
    let before = Traces::look();
    tells_the_whole_story("auto");
    assert_eq!(Traces::look(), before);
}

#[test]
fn without_a_network_nodes_say_why() {
    let lab = Lab::up(&["--without-network"]);
    let nodes = lab.kubectl(&["describe", "node", "node1"]);
    assert!(nodes.contains("cni plugin not initialized"), "{nodes}");
    assert!(nodes.contains("node.kubernetes.io/not-ready"), "{nodes}");
}

#[test]
fn a_second_lab_is_refused() {
    let _lab = Lab::up(&["--without-network", "--nodes", "1"]);
    let output = malha().args(["lab", "up"]).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("malha lab down"), "{said}");
}

#[test]
fn down_without_a_lab_is_fine() {
    let said = run(malha().args(["lab", "down"]));
    assert!(said.contains("There is no lab"), "{said}");
}

/// What a lab could leave on the host.
#[derive(Debug, PartialEq)]
struct Traces {
    links: usize,
    mounts: usize,
    programs: usize,
    cgroups: bool,
    files: bool,
}

impl Traces {
    fn look() -> Self {
        let count = |path: &str| fs::read_to_string(path).unwrap().lines().count();
        let is_malha = |entry: &fs::DirEntry| {
            let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            command
                .split('\0')
                .next()
                .is_some_and(|program| program.ends_with("/malha"))
        };
        let programs = fs::read_dir("/proc")
            .unwrap()
            .filter_map(Result::ok)
            .filter(is_malha);
        Self {
            links: count("/proc/net/dev"),
            mounts: count("/proc/self/mounts"),
            programs: programs.count(),
            cgroups: Path::new("/sys/fs/cgroup/memory/malha-lab").exists()
                || Path::new("/sys/fs/cgroup/malha-lab").exists(),
            files: Path::new("/var/lib/malha-lab").exists(),
        }
    }
}
