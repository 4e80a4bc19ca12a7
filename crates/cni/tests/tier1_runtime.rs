//! The runtime, with plugins that are shell scripts: order, inputs, records, and every fault a plugin can have.
mod common;

use std::{fs, path::PathBuf, time::Duration};

use common::{Bench, attachment, id, list, until};
use malha_cni::{
    runtime::{Attachment, RuntimeError},
    types::{Args, NetworkList, Success},
};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(60);
/// For plugins that hang: short, and longer than a shell needs to start on a busy machine.
const SHORT: Duration = Duration::from_secs(2);
const RESULT: &str = r#"echo '{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"x"}],"ips":[{"address":"10.0.0.2/24","interface":0}]}'"#;
/// Answers ADD with a result and everything else with nothing.
const GOOD: &str = r#"[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.2/24"}]}'"#;

fn netns() -> Option<PathBuf> {
    Some("/proc/self/ns/net".into())
}

fn two() -> NetworkList {
    list(
        "1.1.0",
        &json!([
            {"type": "a", "capabilities": {"mac": true, "ips": false}, "own": 1, "cni.dev/x": 1, "prevResult": 1},
            {"type": "b", "capabilities": {"ips": true, "bandwidth": true}}
        ]),
    )
}

fn one() -> NetworkList {
    list("1.1.0", &json!([{"type": "a"}]))
}

#[test]
fn a_chain_is_called_in_order_and_backwards() {
    let bench = Bench::new();
    bench.plugin("a", &format!("[ $CNI_COMMAND != ADD ] || {RESULT}"));
    // Passes on what it got, with a route.
    bench.plugin(
        "b",
        r#"[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.1.0","routes":[{"dst":"::/0"}]}'"#,
    );
    let runtime = bench.runtime(LONG);
    let pod = Attachment {
        args: Args::parse("K8S_POD_NAME=web").expect("arguments"),
        capabilities: json!({"mac": "02:00:00:00:00:01", "ips": ["10.0.0.2"]})
            .as_object()
            .expect("an object")
            .clone(),
        ..attachment("c1", netns())
    };
    let result = runtime.add(&two(), &pod).expect("attached");
    assert_eq!(result.routes.len(), 1);
    assert_eq!(bench.calls(), ["ADD a", "ADD b"]);
    let (a, b) = (bench.input("ADD", "a"), bench.input("ADD", "b"));
    assert_eq!(a["name"], "net");
    assert_eq!(a["cniVersion"], "1.1.0");
    assert_eq!(a["own"], 1);
    assert_eq!(a["runtimeConfig"], json!({"mac": "02:00:00:00:00:01"}));
    assert!(a.get("prevResult").is_none() && a.get("cni.dev/x").is_none());
    assert_eq!(b["runtimeConfig"], json!({"ips": ["10.0.0.2"]}));
    assert_eq!(b["prevResult"]["ips"][0]["address"], "10.0.0.2/24");
    assert_eq!(bench.records(), ["net-c1-eth0"]);
    assert_eq!(runtime.attachments("net"), [id("c1")]);
    assert!(runtime.attachments("other").is_empty());

    runtime.check(&two(), &pod).expect("as it was");
    assert_eq!(bench.calls(), ["CHECK a", "CHECK b"]);
    assert_eq!(
        bench.input("CHECK", "a")["prevResult"]["routes"][0]["dst"],
        "::/0"
    );

    // Whoever calls DEL knows neither arguments nor list any more, and the namespace is gone.
    let other = list("0.4.0", &json!([{"type": "a"}]));
    runtime
        .del(&other, &attachment("c1", None))
        .expect("detached");
    assert_eq!(
        fs::read_to_string(bench.path("log")).expect("calls"),
        "DEL b c1 eth0  K8S_POD_NAME=web\nDEL a c1 eth0  K8S_POD_NAME=web\n"
    );
    let b = bench.input("DEL", "b");
    assert_eq!(b["runtimeConfig"], json!({"ips": ["10.0.0.2"]}));
    assert_eq!(b["prevResult"]["routes"][0]["dst"], "::/0");
    assert!(bench.records().is_empty());
}

#[test]
fn a_failed_add_is_undone_with_what_there_was() {
    let bench = Bench::new();
    bench.plugin("a", &format!("[ $CNI_COMMAND != ADD ] || {RESULT}"));
    bench.plugin("b", r#"[ $CNI_COMMAND != ADD ] || { echo '{"code":11,"msg":"later","details":"busy"}'; exit 1; }"#);
    let runtime = bench.runtime(LONG);
    let error = runtime
        .add(&two(), &attachment("c1", netns()))
        .expect_err("b fails");
    assert!(error.is_try_again());
    assert_eq!(
        error.to_string(),
        r#"plugin type="b" failed (add): later; busy"#
    );
    assert_eq!(bench.calls(), ["ADD a", "ADD b", "DEL b", "DEL a"]);
    assert_eq!(
        bench.input("DEL", "b")["prevResult"]["interfaces"][0]["name"],
        "eth0"
    );
    assert!(bench.records().is_empty());
}

#[test]
fn del_goes_on_after_failures_and_can_be_repeated() {
    let bench = Bench::new();
    for name in ["a", "b"] {
        bench.plugin(
            name,
            &format!("[ $CNI_COMMAND != DEL ] || {{ echo no {name}; exit 1; }}; {RESULT}"),
        );
    }
    let runtime = bench.runtime(LONG);
    runtime
        .add(&two(), &attachment("c1", netns()))
        .expect("attached");
    bench.calls();
    let error = runtime
        .del(&two(), &attachment("c1", None))
        .expect_err("both fail");
    assert!(
        error.to_string().contains("no a") && error.to_string().contains("no b"),
        "{error}"
    );
    assert_eq!(bench.calls(), ["DEL b", "DEL a"]);
    assert_eq!(
        bench.records(),
        ["net-c1-eth0"],
        "what is not undone is remembered"
    );
    bench.plugin("a", "true");
    bench.plugin("b", "true");
    for _ in 0..2 {
        runtime
            .del(&two(), &attachment("c1", None))
            .expect("detached");
        assert_eq!(bench.calls(), ["DEL b", "DEL a"]);
        assert!(bench.records().is_empty());
    }
}

#[test]
fn adding_twice_touches_nothing() {
    let bench = Bench::new();
    bench.plugin("a", GOOD);
    let runtime = bench.runtime(LONG);
    runtime
        .add(&one(), &attachment("c1", netns()))
        .expect("attached");
    bench.calls();
    let error = runtime
        .add(&one(), &attachment("c1", netns()))
        .expect_err("attached already");
    assert!(matches!(error, RuntimeError::Attached(_)));
    assert!(bench.calls().is_empty());
    runtime
        .check(&one(), &attachment("c1", netns()))
        .expect("still attached");
}

#[test]
fn what_a_dead_runtime_began_is_undone_first() {
    let bench = Bench::new();
    bench.plugin("a", &format!(r#"cp "$DIR"/cache/* "$DIR/seen"; {GOOD}"#));
    bench
        .runtime(LONG)
        .add(&one(), &attachment("c1", netns()))
        .expect("attached");
    let seen: Value =
        serde_json::from_slice(&fs::read(bench.path("seen")).expect("a record during ADD"))
            .expect("JSON");
    assert!(seen.get("result").is_none() && seen["containerId"] == "c1");
    fs::copy(bench.path("seen"), bench.path("cache/net-c1-eth0")).expect("as if it had died");
    bench.plugin("a", GOOD);
    bench.calls();
    bench
        .runtime(LONG)
        .add(&one(), &attachment("c1", netns()))
        .expect("attached");
    assert_eq!(bench.calls(), ["DEL a", "ADD a"]);
}

#[test]
fn a_record_cut_off_anywhere_hinders_nothing() {
    let bench = Bench::new();
    bench.plugin("a", GOOD);
    let runtime = bench.runtime(LONG);
    runtime
        .add(&one(), &attachment("c1", netns()))
        .expect("attached");
    let path = bench.path("cache/net-c1-eth0");
    let whole = fs::read(&path).expect("a record");
    bench.calls();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).expect("cut off");
        runtime
            .del(&one(), &attachment("c1", None))
            .unwrap_or_else(|e| panic!("{length}: {e}"));
        assert!(!path.exists(), "{length}");
    }
    assert_eq!(bench.calls().len(), whole.len());
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).expect("cut off");
        assert!(runtime.check(&one(), &attachment("c1", netns())).is_err());
        bench.calls();
        runtime
            .add(&one(), &attachment("c1", netns()))
            .expect("attached");
        assert_eq!(bench.calls(), ["DEL a", "ADD a"]);
    }
    fs::write(&path, &whole[..9]).expect("cut off");
    runtime.gc(&one(), &[id("c1")]).expect("collected");
    assert!(path.exists(), "it may be wanted");
    runtime.gc(&one(), &[]).expect("collected");
    assert!(!path.exists());
}

#[test]
fn a_record_of_another_attachment_is_not_believed() {
    let bench = Bench::new();
    bench.plugin("a", GOOD);
    let runtime = bench.runtime(LONG);
    runtime
        .add(&one(), &attachment("c1", netns()))
        .expect("attached");
    fs::copy(
        bench.path("cache/net-c1-eth0"),
        bench.path("cache/net-c2-eth0"),
    )
    .expect("copied");
    assert!(matches!(
        runtime.check(&one(), &attachment("c2", netns())),
        Err(RuntimeError::Cache { .. })
    ));
}

/// Whether a process runs (a dead one that nobody has waited for does not).
fn runs(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    status
        .rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[test]
fn a_plugin_that_hangs_is_killed_with_its_children() {
    let bench = Bench::new();
    bench.plugin(
        "a",
        r#"[ $CNI_COMMAND != ADD ] || { sleep 1000 & echo $! > "$DIR/pid"; wait; }"#,
    );
    let error = bench
        .runtime(SHORT)
        .add(&one(), &attachment("c1", netns()))
        .expect_err("it hangs");
    assert!(matches!(error, RuntimeError::Timeout { .. }), "{error}");
    assert_eq!(bench.calls(), ["ADD a", "DEL a"]);
    let child = fs::read_to_string(bench.path("pid")).expect("a child");
    until("the plugin's child is dead", || !runs(&child));
    assert!(bench.records().is_empty());
}

#[test]
fn a_plugin_that_always_hangs_ends_both_ways_out() {
    let bench = Bench::new();
    bench.plugin("a", "exec sleep 1000");
    let runtime = bench.runtime(SHORT);
    let error = runtime
        .add(&one(), &attachment("c1", netns()))
        .expect_err("it hangs");
    assert!(
        matches!(error, RuntimeError::AddAndCleanup { .. }),
        "{error}"
    );
    assert_eq!(
        bench.records(),
        ["net-c1-eth0"],
        "what is not undone is remembered"
    );
    assert!(matches!(
        runtime.status(&one()),
        Err(RuntimeError::Timeout { .. })
    ));
}

#[test]
fn a_plugin_that_is_killed_is_an_error() {
    let bench = Bench::new();
    bench.plugin("a", "[ $CNI_COMMAND != ADD ] || kill -9 $$");
    let error = bench
        .runtime(LONG)
        .add(&one(), &attachment("c1", netns()))
        .expect_err("killed");
    assert!(error.to_string().contains("killed by signal 9"), "{error}");
    assert_eq!(bench.calls(), ["ADD a", "DEL a"]);
}

#[test]
fn what_a_plugin_leaves_running_holds_nobody_up() {
    let bench = Bench::new();
    bench.plugin(
        "a",
        &format!(r#"[ $CNI_COMMAND != ADD ] || {{ sleep 1000 & echo $! > "$DIR/pid"; }}; {GOOD}"#),
    );
    bench
        .runtime(LONG)
        .add(&one(), &attachment("c1", netns()))
        .expect("attached");
    let pid = fs::read_to_string(bench.path("pid")).expect("a child");
    assert!(runs(&pid), "a plugin that succeeds may leave a daemon");
    common::sh(&format!("kill {}", pid.trim()));
}

#[test]
fn plugins_that_ignore_input_or_never_stop_talking() {
    let bench = Bench::new();
    let good = format!("#!/bin/sh\nexec 0<&-\n{GOOD}\n");
    bench.binary("a", &good);
    let big = list("1.1.0", &json!([{"type": "a", "x": "y".repeat(1 << 20)}]));
    bench
        .runtime(LONG)
        .add(&big, &attachment("c1", netns()))
        .expect("attached");
    bench.binary("a", "#!/bin/sh\nexec cat /dev/zero\n");
    let error = bench.runtime(SHORT).status(&one()).expect_err("endless");
    assert!(matches!(error, RuntimeError::Timeout { .. }), "{error}");
    bench.binary(
        "a",
        "#!/bin/sh\nhead -c 3000000 /dev/zero >&2\necho '{\"code\":50,\"msg\":\"m\"}'; exit 1\n",
    );
    let error = bench.runtime(LONG).status(&one()).expect_err("50");
    assert_eq!(error.to_string(), r#"plugin type="a" failed (status): m"#);
}

#[test]
fn outputs_that_make_no_sense_are_shown() {
    let table = [
        ("echo oops", "no JSON"),
        ("true", "no JSON"),
        (r#"echo '{"cniVersion":"9.0.0"}'"#, "9.0.0"),
        (
            r#"echo '{"ips":[{"address":"10.0.0.2/24","interface":3}]}'"#,
            "interface 3",
        ),
        ("exit 3", "no error message"),
        ("echo oops; exit 3", "\"oops\""),
        ("echo oops >&2; exit 3", "\"oops\""),
        ("echo '{}'; exit 3", "\"{}\""),
    ];
    for (body, word) in table {
        let bench = Bench::new();
        bench.plugin("a", &format!("[ $CNI_COMMAND != ADD ] || {{ {body}; }}"));
        let error = bench
            .runtime(LONG)
            .add(&one(), &attachment("c1", netns()))
            .expect_err(body);
        assert!(error.to_string().contains(word), "{body}: {error}");
        assert_eq!(bench.calls(), ["ADD a", "DEL a"], "{body}");
        assert!(bench.records().is_empty());
    }
}

#[test]
fn a_missing_plugin_is_named_with_where_it_was_looked_for() {
    let bench = Bench::new();
    fs::create_dir(bench.path("bin/a")).expect("a directory is no plugin");
    let error = bench.runtime(LONG).status(&one()).expect_err("missing");
    assert!(matches!(error, RuntimeError::NotFound { .. }));
    assert!(error.to_string().contains("nothing-here"), "{error}");
}

#[test]
fn a_binary_that_is_being_written_is_waited_for_up_to_the_limit() {
    let bench = Bench::new();
    bench.plugin("a", "true");
    let writer = fs::OpenOptions::new()
        .append(true)
        .open(bench.path("bin/a"))
        .expect("open");
    let error = bench
        .runtime(Duration::from_millis(200))
        .status(&one())
        .expect_err("busy to the end");
    assert!(error.to_string().contains("busy"), "{error}");
    std::thread::scope(|scope| {
        let status = scope.spawn(|| bench.runtime(LONG).status(&one()));
        drop(writer);
        status.join().expect("a thread").expect("run");
    });
}

#[test]
fn status_asks_only_those_that_know_it() {
    let bench = Bench::new();
    bench.plugin("a", r#"echo '{"code":50,"msg":"not yet"}'; exit 1"#);
    bench.plugin("b", "true");
    let runtime = bench.runtime(LONG);
    let error = runtime.status(&two()).expect_err("a says no");
    assert!(error.to_string().contains("not yet"));
    assert_eq!(bench.calls(), ["STATUS a"]);
    assert!(bench.input("STATUS", "a").get("runtimeConfig").is_none());
    runtime
        .status(&list("1.0.0", &json!([{"type": "a"}])))
        .expect("never asked");
    assert!(bench.calls().is_empty());
}

#[test]
fn gc_detaches_what_is_not_listed() {
    let bench = Bench::new();
    bench.plugin("a", GOOD);
    bench.plugin(
        "b",
        r#"[ $CNI_COMMAND != GC ] || { echo '{"code":999,"msg":"b fails"}'; exit 1; }"#,
    );
    let runtime = bench.runtime(LONG);
    for container in ["c1", "c2"] {
        runtime
            .add(&one(), &attachment(container, netns()))
            .expect("attached");
    }
    bench.calls();
    let both = list("1.1.0", &json!([{"type": "b"}, {"type": "a"}]));
    let error = runtime.gc(&both, &[id("c2")]).expect_err("b fails");
    assert!(error.to_string().contains("b fails"));
    assert_eq!(bench.calls(), ["DEL a", "GC b", "GC a"]);
    let input = bench.input("GC", "a");
    assert_eq!(
        input["cni.dev/valid-attachments"],
        json!([{"containerID": "c2", "ifname": "eth0"}])
    );
    assert_eq!(
        input["cni.dev/attachments"],
        input["cni.dev/valid-attachments"]
    );
    assert_eq!(bench.records(), ["net-c2-eth0"]);
    let disabled = NetworkList {
        disable_gc: true,
        ..one()
    };
    runtime.gc(&disabled, &[]).expect("nothing done");
    assert!(bench.calls().is_empty());
}

#[test]
fn check_has_its_conditions() {
    let bench = Bench::new();
    bench.plugin("a", GOOD);
    let runtime = bench.runtime(LONG);
    let pod = attachment("c1", netns());
    let old = list("0.3.1", &json!([{"type": "a"}]));
    assert!(matches!(
        runtime.check(&old, &pod),
        Err(RuntimeError::Version { .. })
    ));
    assert!(matches!(
        runtime.check(&one(), &pod),
        Err(RuntimeError::NotAttached(_))
    ));
    let disabled = NetworkList {
        disable_check: true,
        ..one()
    };
    runtime.check(&disabled, &pod).expect("not asked");
    assert!(bench.calls().is_empty());
}

#[test]
fn impossible_names_reach_no_plugin() {
    let bench = Bench::new();
    bench.plugin("a", GOOD);
    let runtime = bench.runtime(LONG);
    let error = runtime
        .add(&one(), &attachment("../c1", netns()))
        .expect_err("a path");
    assert!(matches!(error, RuntimeError::Name(_)));
    assert!(matches!(
        runtime.add(&one(), &attachment("c1", None)),
        Err(RuntimeError::NoNetns(_))
    ));
    assert!(bench.calls().is_empty());
}

#[test]
fn many_containers_at_once() {
    let bench = Bench::new();
    bench.plugin("a", GOOD);
    let runtime = bench.runtime(LONG);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let runtime = &runtime;
            scope.spawn(move || {
                let pod = attachment(&format!("c{number}"), netns());
                for _ in 0..5 {
                    let result: Success = runtime.add(&one(), &pod).expect("attached");
                    assert_eq!(result.ips.len(), 1);
                    runtime.del(&one(), &pod).expect("detached");
                }
            });
        }
        scope.spawn(|| {
            (0..5).for_each(|_| {
                runtime
                    .gc(
                        &NetworkList {
                            version: malha_cni::types::Version::V1_0_0,
                            ..one()
                        },
                        &all(),
                    )
                    .expect("collected")
            })
        });
    });
    assert!(bench.records().is_empty());
}

fn all() -> Vec<malha_cni::types::AttachmentId> {
    (0..8).map(|number| id(&format!("c{number}"))).collect()
}
