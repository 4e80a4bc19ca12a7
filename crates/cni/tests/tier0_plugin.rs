//! The plugin's side of the protocol, without a process: variables, standard input, exit codes, output.

use std::{cell::RefCell, collections::BTreeMap, ffi::OsString, os::unix::ffi::OsStringExt};

use malha_cni::{
    plugin::{Handler, Streams, run},
    types::{AttachmentId, CniError, Interface, Success, code},
    wire::{Answer, Request, Verb},
};
use proptest::prelude::*;
use serde_json::{Value, json};

const CONF: &str = r#"{"cniVersion":"1.1.0","name":"net","type":"malha-cni","unknown":{"kept":1}}"#;

/// Notes what it was asked and answers with a fixed answer.
struct Fake {
    answer: Answer,
    seen: RefCell<Vec<(Verb, AttachmentId, bool)>>,
}

impl Fake {
    fn new(answer: Answer) -> Self {
        Self {
            answer,
            seen: RefCell::default(),
        }
    }
}

impl Handler for Fake {
    fn about(&self) -> String {
        "a fake".into()
    }

    fn handle(&self, request: &Request) -> Answer {
        self.seen
            .borrow_mut()
            .push((request.verb, request.id(), request.netns.is_some()));
        self.answer.clone()
    }
}

type Variables = BTreeMap<String, OsString>;

fn variables(list: &[(&str, &str)]) -> Variables {
    list.iter()
        .map(|(key, value)| ((*key).to_owned(), OsString::from(value)))
        .collect()
}

/// Everything that ADD needs. The test's own namespace stands in for the pod's.
fn complete(command: &str) -> Variables {
    variables(&[
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_NETNS_OVERRIDE", "TRUE"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ])
}

struct Ran {
    success: bool,
    output: String,
    errors: String,
}

impl Ran {
    fn error(&self) -> CniError {
        assert!(!self.success, "it succeeded: {}", self.output);
        let value: Value =
            serde_json::from_str(&self.output).expect("an error object on standard output");
        assert!(value["cniVersion"].is_string(), "{value}");
        CniError::from_value(&value).expect("an error object")
    }
}

fn play(handler: &dyn Handler, variables: &Variables, input: &[u8]) -> Ran {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let mut streams = Streams {
        input: &mut &input[..],
        output: &mut output,
        errors: &mut errors,
    };
    let success = run(handler, &|name| variables.get(name).cloned(), &mut streams);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran {
        success,
        output: text(output),
        errors: text(errors),
    }
}

/// Plays against a handler that must not be reached.
fn refused(variables: &Variables, input: &[u8]) -> CniError {
    let fake = Fake::new(Ok(None));
    let error = play(&fake, variables, input).error();
    assert!(
        fake.seen.borrow().is_empty(),
        "the handler was called in spite of: {error}"
    );
    error
}

#[test]
fn without_a_command_it_introduces_itself() {
    for variables in [variables(&[]), variables(&[("CNI_COMMAND", "")])] {
        let ran = play(&Fake::new(Ok(None)), &variables, b"");
        assert!(ran.success && ran.output.is_empty());
        assert_eq!(
            ran.errors,
            "a fake\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"
        );
    }
}

#[test]
fn says_its_versions_whatever_else_is_set() {
    for input in [&b"{\"cniVersion\":\"9.9.9\"}"[..], b"", b"garbage"] {
        let ran = play(
            &Fake::new(Ok(None)),
            &variables(&[("CNI_COMMAND", "VERSION")]),
            input,
        );
        let value: Value = serde_json::from_str(&ran.output).expect("JSON");
        let all = [
            "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
        ];
        assert!(ran.success);
        assert_eq!(
            value,
            json!({"cniVersion": "1.1.0", "supportedVersions": all})
        );
    }
}

#[test]
fn missing_variables_are_named_together() {
    let table = [
        ("ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"),
        ("CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"),
        ("DEL", "CNI_CONTAINERID,CNI_IFNAME"),
    ];
    for (command, names) in table {
        let error = refused(&variables(&[("CNI_COMMAND", command)]), CONF.as_bytes());
        assert_eq!(error.code, code::INVALID_ENVIRONMENT);
        assert_eq!(
            error.msg,
            format!("required env variables [{names}] missing")
        );
    }
}

#[test]
fn malformed_variables_are_refused() {
    let table = [
        ("CNI_COMMAND", "ATTACH"),
        ("CNI_COMMAND", "add"),
        ("CNI_CONTAINERID", "../x"),
        ("CNI_CONTAINERID", "-x"),
        ("CNI_CONTAINERID", "a b"),
        ("CNI_IFNAME", "."),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"),
        ("CNI_IFNAME", "sixteen-letters-"),
        ("CNI_ARGS", "no pair"),
    ];
    for (name, value) in table {
        let mut variables = complete("ADD");
        variables.insert(name.into(), value.into());
        let error = refused(&variables, CONF.as_bytes());
        assert_eq!(
            error.code,
            code::INVALID_ENVIRONMENT,
            "{name}={value}: {error}"
        );
    }
    let mut variables = complete("ADD");
    variables.insert("CNI_ARGS".into(), OsString::from_vec(vec![0xff, b'=']));
    assert_eq!(
        refused(&variables, CONF.as_bytes()).code,
        code::INVALID_ENVIRONMENT
    );
}

#[test]
fn the_path_to_plugins_is_not_needed() {
    let mut variables = complete("DEL");
    variables.remove("CNI_PATH");
    variables.remove("CNI_NETNS");
    let fake = Fake::new(Ok(None));
    let ran = play(&fake, &variables, CONF.as_bytes());
    assert!(ran.success && ran.output.is_empty() && ran.errors.is_empty());
    let id = AttachmentId {
        container_id: "c1".into(),
        ifname: "eth0".into(),
    };
    assert_eq!(*fake.seen.borrow(), [(Verb::Del, id, false)]);
}

#[test]
fn wrong_configurations_have_their_codes() {
    let table: [(&str, u32); 12] = [
        ("", code::DECODE),
        ("  \n", code::DECODE),
        ("{", code::DECODE),
        ("[]", code::DECODE),
        ("\"text\"", code::DECODE),
        (r#"{"cniVersion":1,"name":"net"}"#, code::DECODE),
        (r#"{"cniVersion":"1.0.0"}"#, code::INVALID_CONF),
        (r#"{"cniVersion":"1.0.0","name":""}"#, code::INVALID_CONF),
        (r#"{"cniVersion":"1.0.0","name":"a/b"}"#, code::INVALID_CONF),
        (
            r#"{"cniVersion":"2.0.0","name":"net"}"#,
            code::INCOMPATIBLE_VERSION,
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"net","prevResult":{"ips":1}}"#,
            code::DECODE,
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"net","runtimeConfig":{"ips":["x"]}}"#,
            code::INVALID_CONF,
        ),
    ];
    for (text, expected) in table {
        let error = refused(&complete("ADD"), text.as_bytes());
        assert_eq!(error.code, expected, "{text}: {error}");
    }
}

#[test]
fn what_add_refused_does_not_keep_del_from_working() {
    for part in [
        r#""prevResult":{"ips":1}"#,
        r#""runtimeConfig":{"ips":["x"]}"#,
        r#""prevResult":7"#,
    ] {
        let text = format!(r#"{{"cniVersion":"1.0.0","name":"net",{part}}}"#);
        let mut variables = complete("DEL");
        variables.insert("CNI_ARGS".into(), "no pair".into());
        assert!(
            play(&Fake::new(Ok(None)), &variables, text.as_bytes()).success,
            "{text}"
        );
    }
}

#[test]
fn verbs_exist_since_their_version() {
    let conf = |version: &str| {
        format!(r#"{{"cniVersion":"{version}","name":"net","cni.dev/valid-attachments":[]}}"#)
    };
    for (command, last_without, first) in [
        ("CHECK", "0.3.1", "0.4.0"),
        ("GC", "1.0.0", "1.1.0"),
        ("STATUS", "1.0.0", "1.1.0"),
    ] {
        let error = refused(&complete(command), conf(last_without).as_bytes());
        assert_eq!(error.code, code::INCOMPATIBLE_VERSION);
        assert!(
            error.msg.contains(command) && error.msg.contains(first),
            "{error}"
        );
        assert!(
            play(
                &Fake::new(Ok(None)),
                &complete(command),
                conf(first).as_bytes()
            )
            .success
        );
    }
}

#[test]
fn gc_without_a_list_removes_nothing() {
    assert_eq!(
        refused(&complete("GC"), CONF.as_bytes()).code,
        code::INVALID_CONF
    );
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let mut conf: Value = serde_json::from_str(CONF).expect("JSON");
        conf[key] = json!([{"containerID": "c1", "ifname": "eth0"}]);
        let fake = Fake::new(Ok(None));
        assert!(play(&fake, &complete("GC"), conf.to_string().as_bytes()).success);
        assert_eq!(fake.seen.borrow().len(), 1);
        conf[key] = json!([{"containerID": 1}]);
        assert_eq!(
            refused(&complete("GC"), conf.to_string().as_bytes()).code,
            code::DECODE
        );
    }
}

#[test]
fn a_namespace_must_be_one_and_another_one() {
    let mut variables = complete("ADD");
    variables.remove("CNI_NETNS_OVERRIDE");
    let error = refused(&variables, CONF.as_bytes());
    assert_eq!(error.code, code::INVALID_NETNS);
    assert!(error.msg.contains("should not be the same"), "{error}");
    for path in ["/nowhere/at/all", "/proc/self/status"] {
        variables.insert("CNI_NETNS".into(), path.into());
        let error = refused(&variables, CONF.as_bytes());
        assert_eq!(error.code, code::INVALID_NETNS);
        assert!(error.msg.contains(path), "{error}");
    }
    variables.insert("CNI_COMMAND".into(), "DEL".into());
    assert!(
        play(&Fake::new(Ok(None)), &variables, CONF.as_bytes()).success,
        "DEL needs none"
    );
    for set in ["1", "true", "TRUE"] {
        let mut variables = complete("CHECK");
        variables.insert("CNI_NETNS_OVERRIDE".into(), set.into());
        assert!(play(&Fake::new(Ok(None)), &variables, CONF.as_bytes()).success);
    }
}

#[test]
fn the_answer_has_the_version_of_the_question() {
    let answer = Success {
        interfaces: vec![Interface {
            name: "eth0".into(),
            mtu: Some(1450),
            ..Interface::default()
        }],
        ..Success::default()
    };
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let text = format!(r#"{{"cniVersion":"{version}","name":"net"}}"#);
        let ran = play(
            &Fake::new(Ok(Some(answer.clone()))),
            &complete("ADD"),
            text.as_bytes(),
        );
        let value: Value = serde_json::from_str(&ran.output).expect("JSON");
        assert!(ran.success);
        assert_eq!(value["cniVersion"], version);
        assert_eq!(
            value["interfaces"][0].get("mtu").is_some(),
            version == "1.1.0"
        );
        let failed = Fake::new(Err(CniError::new(code::TRY_AGAIN, "later")));
        let ran = play(&failed, &complete("ADD"), text.as_bytes());
        assert_eq!(ran.error().code, code::TRY_AGAIN);
        assert!(
            ran.output
                .contains(&format!("\"cniVersion\":\"{version}\"")),
            "{}",
            ran.output
        );
    }
}

#[test]
fn a_result_that_runtimes_would_refuse_is_not_given() {
    let mut answer = Success::default();
    answer.ips.push(malha_cni::types::IpConfig {
        interface: Some(0),
        address: "10.0.0.2/32".parse().expect("an address"),
        gateway: None,
    });
    let ran = play(
        &Fake::new(Ok(Some(answer))),
        &complete("ADD"),
        CONF.as_bytes(),
    );
    assert_eq!(ran.error().code, code::DECODE);
    let ran = play(&Fake::new(Ok(None)), &complete("ADD"), CONF.as_bytes());
    assert_eq!(ran.error().code, code::INTERNAL);
}

proptest! {
    #[test]
    fn garbage_on_standard_input_is_answered(input in prop::collection::vec(any::<u8>(), 0..400)) {
        for command in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let ran = play(&Fake::new(Ok(Some(Success::default()))), &complete(command), &input);
            if !ran.success {
                prop_assert!(matches!(ran.error().code, code::INCOMPATIBLE_VERSION..=code::INVALID_CONF));
            }
        }
    }

    /// Broken in the middle, cut off, or with a value of another kind.
    #[test]
    fn damaged_configurations_are_answered(at in 0..CONF.len(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut input = CONF.as_bytes().to_vec();
        input[at] = byte;
        if cut {
            input.truncate(at);
        }
        let ran = play(&Fake::new(Ok(Some(Success::default()))), &complete("ADD"), &input);
        prop_assert!(ran.success || ran.error().code <= code::INVALID_CONF);
    }

    #[test]
    fn any_variables_are_answered(values in prop::collection::vec(".{0,20}", 5)) {
        let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_NETNS_OVERRIDE"];
        for command in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] {
            let mut variables = variables(&[("CNI_COMMAND", command)]);
            variables.extend(names.iter().zip(&values).map(|(n, v)| ((*n).to_owned(), v.into())));
            let ran = play(&Fake::new(Ok(Some(Success::default()))), &variables, CONF.as_bytes());
            if !ran.success {
                ran.error();
            }
        }
    }
}
