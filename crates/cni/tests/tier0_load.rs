//! Which network a directory means, and what the configuration list for runtimes looks like.

use std::{fs, path::Path};

use malha_cni::{
    conflist,
    runtime::{LoadError, load},
    types::{NetworkList, Version},
};
use proptest::prelude::*;
use tempfile::TempDir;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    dir
}

const LIST: &str = r#"{"cniVersion":"1.0.0","name":"first","plugins":[{"type":"a"},{"type":"b"}]}"#;
const SINGLE: &str = r#"{"cniVersion":"0.4.0","name":"second","type":"c"}"#;

fn kinds(list: &NetworkList) -> Vec<&str> {
    list.plugins
        .iter()
        .map(|plugin| plugin.kind.as_str())
        .collect()
}

#[test]
fn the_first_file_counts() {
    let dir = directory(&[
        ("10-list.conflist", LIST),
        ("20-single.conf", SINGLE),
        ("05-readme.txt", "no configuration"),
        (".10-list.conflist.1-0.tmp", "{"),
    ]);
    let list = load(dir.path()).expect("a network");
    assert_eq!(
        (list.name.as_str(), kinds(&list)),
        ("first", vec!["a", "b"])
    );
    fs::rename(
        dir.path().join("20-single.conf"),
        dir.path().join("09-single.json"),
    )
    .expect("renamed");
    let single = load(dir.path()).expect("a network");
    assert_eq!(
        (single.name.as_str(), single.version, kinds(&single)),
        ("second", Version::V0_4_0, vec!["c"])
    );
}

#[test]
fn no_file_is_not_the_same_as_a_broken_one() {
    let empty = directory(&[]);
    for path in [empty.path(), Path::new("/nowhere/at/all")] {
        assert!(matches!(load(path), Err(LoadError::None { .. })));
    }
    let broken = directory(&[
        ("10-half.conflist", r#"{"cniVersion":"1."#),
        ("20-single.conf", SINGLE),
    ]);
    let error = load(broken.path()).expect_err("the first is broken");
    assert!(
        matches!(error, LoadError::Invalid { .. })
            && error.to_string().contains("10-half.conflist")
    );
    let none = directory(&[("10-none.conflist", r#"{"name":"n","plugins":[]}"#)]);
    assert!(matches!(load(none.path()), Err(LoadError::Empty { .. })));
}

#[test]
fn wrong_values_are_named() {
    let table = [
        (r#"{"plugins":[{"type":"a"}]}"#, "name"),
        (r#"{"name":"a/b","plugins":[{"type":"a"}]}"#, "name"),
        (
            r#"{"name":"n","cniVersion":"9.0.0","plugins":[{"type":"a"}]}"#,
            "9.0.0",
        ),
        (
            r#"{"name":"n","cniVersion":1,"plugins":[{"type":"a"}]}"#,
            "cniVersion",
        ),
        (
            r#"{"name":"n","cniVersions":"1.0.0","plugins":[{"type":"a"}]}"#,
            "cniVersions",
        ),
        (
            r#"{"name":"n","disableCheck":"yes","plugins":[{"type":"a"}]}"#,
            "disableCheck",
        ),
        (r#"{"name":"n","plugins":{"type":"a"}}"#, "plugins"),
        (r#"{"name":"n","plugins":["a"]}"#, "plugins"),
        (r#"{"name":"n","plugins":[{"type":"../a"}]}"#, "../a"),
        (r#"{"name":"n","plugins":[{}]}"#, "type"),
        ("7", "object"),
    ];
    for (text, word) in table {
        let error = NetworkList::parse(text.as_bytes()).expect_err(text);
        assert!(error.to_string().contains(word), "{text}: {error}");
    }
}

#[test]
fn plugins_beside_the_list_follow_unless_excluded() {
    let beside = ("first/50-more.conf", r#"{"type":"more"}"#);
    let dir = directory(&[
        ("10-list.conflist", LIST),
        beside,
        ("first/60-not.json", "{"),
    ]);
    assert_eq!(
        kinds(&load(dir.path()).expect("a network")),
        ["a", "b", "more"]
    );
    let only = LIST.replace("\"name\"", "\"loadOnlyInlinedPlugins\":true,\"name\"");
    let dir = directory(&[("10-list.conflist", &only), beside]);
    assert_eq!(kinds(&load(dir.path()).expect("a network")), ["a", "b"]);
}

#[test]
fn a_list_is_read_back_from_what_it_writes() {
    let dir = directory(&[
        ("10-list.conflist", LIST),
        ("first/50-more.conf", r#"{"type":"more","x":[1]}"#),
    ]);
    let list = load(dir.path()).expect("a network");
    let again = NetworkList::parse(list.to_value().to_string().as_bytes()).expect("a list");
    assert_eq!(
        again,
        NetworkList {
            inlined_only: true,
            ..list
        }
    );
}

#[test]
fn the_installed_list_is_what_every_runtime_takes() {
    let dir = directory(&[]);
    let text = conflist::render(
        "malha",
        &["portMappings", "bandwidth"],
        Path::new("/run/malha/cni.sock"),
    );
    assert_eq!(
        text,
        r#"{
  "cniVersion": "1.0.0",
  "cniVersions": [
    "0.4.0",
    "1.0.0",
    "1.1.0"
  ],
  "name": "malha",
  "plugins": [
    {
      "capabilities": {
        "bandwidth": true,
        "portMappings": true
      },
      "type": "malha-cni"
    }
  ]
}
"#
    );
    let target = dir.path().join("net.d");
    assert!(conflist::install(&target, &text).expect("installed"));
    assert!(!conflist::install(&target, &text).expect("unchanged"));
    let list = load(&target).expect("a network");
    assert_eq!(
        (list.name.as_str(), list.version, kinds(&list)),
        ("malha", Version::V1_1_0, vec!["malha-cni"])
    );
    assert!(conflist::remove(&target).expect("removed"));
    assert!(!conflist::remove(&target).expect("nothing there"));
    assert_eq!(
        fs::read_dir(&target).expect("a directory").count(),
        0,
        "nothing else is left"
    );
}

#[test]
fn the_plugin_is_replaced_while_it_runs() {
    use std::os::unix::fs::PermissionsExt;
    let dir = directory(&[("source", "one")]);
    let (source, target) = (dir.path().join("source"), dir.path().join("bin"));
    conflist::install_plugin(&source, &target).expect("installed");
    let open = fs::File::open(target.join("malha-cni")).expect("open");
    fs::write(&source, "two").expect("a new one");
    conflist::install_plugin(&source, &target).expect("replaced");
    assert_eq!(
        std::io::read_to_string(open).expect("still readable"),
        "one"
    );
    assert_eq!(
        fs::read_to_string(target.join("loopback")).expect("the link"),
        "two"
    );
    let mode = fs::metadata(target.join("malha-cni"))
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    assert_eq!(
        fs::read_dir(&target).expect("a directory").count(),
        2,
        "nothing else is left"
    );
}

proptest! {
    /// Any damage to a list is an error or another list, and what is read can be written and read again.
    #[test]
    fn damaged_lists_are_read_or_refused(at in 0..LIST.len(), bytes in prop::collection::vec(any::<u8>(), 0..4)) {
        let mut text = LIST.as_bytes().to_vec();
        text.splice(at..(at + 2).min(LIST.len()), bytes);
        for list in [NetworkList::parse(&text), NetworkList::parse_single(&text)].into_iter().flatten() {
            let again = NetworkList::parse(list.to_value().to_string().as_bytes());
            prop_assert_eq!(again, Ok(NetworkList { inlined_only: true, ..list }));
        }
    }
}
