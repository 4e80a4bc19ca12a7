//! A writer killed again and again, at any moment: what it was told is stored is there afterwards, exactly, and revisions
//! only go forward.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use malha_apiserver::store::{Action, Change, Collection, Expect, FileStore, Key, Store};
use serde_json::json;

const DIRECTORY: &str = "MALHA_TEST_STORE";
const KILLS: usize = 25;

fn key(name: &str) -> Key {
    Key::new(Collection::new("", "configmaps"), "default", name)
}

/// Writes for ever, several objects at a time so that commits are groups; says what it tries and what was acknowledged.
#[test]
#[ignore = "is the process that the other test starts and kills"]
fn writer() {
    let dir = std::env::var(DIRECTORY).expect("started by the other test, which names a directory");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = Arc::new(FileStore::open(Path::new(&dir)).unwrap());
    // No two writes of any run look the same.
    let first = store.revision() * 1000;
    runtime.block_on(async {
        let tasks = (0..8).map(|i| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in first.. {
                    let name = format!("o{i}-{}", round % 5);
                    write(&store, &name, round).await;
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
}

async fn write(store: &FileStore, name: &str, round: u64) {
    let padding = "x".repeat((round % 700) as usize);
    let object = json!({"metadata": {"name": name}, "round": round, "padding": padding});
    let (expect, action) = match store.get(&key(name)) {
        Some(current) if round % 7 == 3 => {
            (Expect::Revision(current.revision), Action::Delete(object))
        }
        Some(current) => (Expect::Revision(current.revision), Action::Put(object)),
        None => (Expect::Absent, Action::Put(object)),
    };
    let removes = matches!(action, Action::Delete(_));
    let change = Change {
        key: key(name),
        expect,
        action,
    };
    say(&format!("TRY {name} {round} {removes}"));
    let done = store.commit(change).await.unwrap();
    say(&format!("ACK {name} {} {removes}", done.revision));
}

fn say(line: &str) {
    // One write, so that a line is whole or not there.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// What is known of one object.
#[derive(Debug, Default)]
struct Known {
    /// Revision of the last acknowledged write.
    revision: u64,
    /// Whether the object is there after it.
    exists: bool,
    /// A write whose acknowledgement was not heard: its round, and whether it removes.
    tried: Option<(u64, bool)>,
}

#[test]
fn kill_nine_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut known = BTreeMap::new();
    for kill in 0..KILLS {
        // Different moments: in the middle of the first commits, later ones, and of growing the file.
        write_and_kill(dir.path(), 2 + kill * 37 % 400, &mut known);
        check(dir.path(), &mut known);
    }
}

/// Runs the writer until it has said some lines, kills it, and takes in all it has said.
fn write_and_kill(dir: &Path, lines: usize, known: &mut BTreeMap<String, Known>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "writer", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut output = output.lines().map_while(Result::ok);
    let heard = output.by_ref().filter(|line| hear(line, known));
    let heard = heard.take(lines).count();
    // SIGKILL; what is still in the pipe had been said too.
    child.kill().unwrap();
    child.wait().unwrap();
    output.for_each(|line| {
        hear(&line, known);
    });
    assert_eq!(heard, lines, "the writer ended by itself");
}

fn hear(line: &str, known: &mut BTreeMap<String, Known>) -> bool {
    let words: Vec<_> = line.split(' ').collect();
    let [verb @ ("TRY" | "ACK"), name, number, removes] = words[..] else {
        return false;
    };
    let (number, removes) = (number.parse().unwrap(), removes == "true");
    let object = known.entry(name.to_owned()).or_default();
    match verb {
        "TRY" => object.tried = Some((number, removes)),
        _ => {
            *object = Known {
                revision: number,
                exists: !removes,
                tried: None,
            };
        }
    }
    true
}

fn check(dir: &Path, known: &mut BTreeMap<String, Known>) {
    let store = FileStore::open(dir).unwrap();
    let newest = known.values().map(|object| object.revision).max();
    assert!(
        store.revision() >= newest.unwrap_or(0),
        "revisions went back"
    );
    for (name, object) in known {
        let found = store.get(&key(name));
        let same = match &found {
            Some(found) => object.exists && found.revision == object.revision,
            None => !object.exists,
        };
        // A write may have reached the disk though its acknowledgement did not reach us.
        let newer = match (&found, object.tried) {
            (Some(found), Some((round, false))) => {
                found.value["round"] == round && found.revision > object.revision
            }
            (None, Some((_, true))) => true,
            _ => false,
        };
        assert!(
            same || newer,
            "{name}: known {object:?}, found {:?}",
            found.map(|found| (found.revision, found.value["round"].clone()))
        );
        *object = Known {
            revision: found
                .as_ref()
                .map_or(object.revision, |found| found.revision),
            exists: found.is_some(),
            tried: None,
        };
    }
    store.close();
}
