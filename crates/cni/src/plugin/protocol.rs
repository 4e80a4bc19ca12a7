//! From variables and standard input to standard output and exit code.

use std::{
    ffi::OsString,
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
};

use rustix::fs::fstatfs;
use serde_json::{Value, json};

use super::environment::{Command, Environment, Unusable};
use crate::{
    types::{CniError, PluginConf, SUPPORTED, Success, Version, code},
    wire::{Answer, Request, Verb},
};

/// Longest configuration that is read, in bytes.
const INPUT_MAX: u64 = 16 << 20;
/// What `statfs` says about a file that stands for a namespace (`linux/magic.h`).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// What a plugin does with a request that is in order.
pub trait Handler {
    /// One line about the plugin, for somebody who starts it by hand.
    fn about(&self) -> String;

    /// Serves the request. ADD answers with the whole result of the chain so far; the other verbs with nothing.
    ///
    /// # Errors
    /// What the runtime is told.
    fn handle(&self, request: &Request) -> Answer;
}

/// Where a plugin reads and writes.
pub struct Streams<'a> {
    /// Standard input: the configuration.
    pub input: &'a mut dyn Read,
    /// Standard output: the result or the error object, and nothing else.
    pub output: &'a mut dyn Write,
    /// Standard error: text for people.
    pub errors: &'a mut dyn Write,
}

/// Runs one request. Returns whether the plugin is to exit with success.
pub fn run(
    handler: &dyn Handler,
    variable: &dyn Fn(&str) -> Option<OsString>,
    streams: &mut Streams<'_>,
) -> bool {
    let mut version = Version::LATEST;
    let outcome = match Environment::read(variable) {
        Err(Unusable::NoCommand) => return about(handler, streams),
        Err(Unusable::Wrong(error)) => Err(error),
        Ok(environment) => serve(handler, environment, streams.input, &mut version),
    };
    let (text, success) = match outcome {
        Ok(value) => (value, true),
        Err(error) => (Some(error.to_value(version)), false),
    };
    let written = text.map_or(Ok(()), |value| {
        writeln!(streams.output, "{value}").and_then(|()| streams.output.flush())
    });
    if let Err(error) = &written {
        // The runtime hears of it by the exit code; a person may read this.
        let _ = writeln!(streams.errors, "cannot write to standard output: {error}");
    }
    success && written.is_ok()
}

fn about(handler: &dyn Handler, streams: &mut Streams<'_>) -> bool {
    let versions = SUPPORTED.map(Version::as_str).join(", ");
    let text = format!(
        "{}\nCNI protocol versions supported: {versions}",
        handler.about()
    );
    writeln!(streams.errors, "{text}").is_ok()
}

fn serve(
    handler: &dyn Handler,
    environment: Environment,
    input: &mut dyn Read,
    version: &mut Version,
) -> Result<Option<Value>, CniError> {
    let Command::Verb(verb) = environment.command else {
        return Ok(Some(versions()));
    };
    let text = read(input)?;
    let config = match verb {
        Verb::Del => PluginConf::parse_for_del(&text)?,
        _ => PluginConf::parse(&text)?,
    };
    *version = config.version;
    check_version(verb, config.version)?;
    if verb == Verb::Gc && config.valid_attachments.is_none() {
        let msg = "GC without cni.dev/valid-attachments: give the list of attachments to keep, empty for none";
        return Err(CniError::new(code::INVALID_CONF, msg));
    }
    let netns = match verb.needs_netns() {
        true => Some(open_netns(&environment)?),
        false => None,
    };
    let request = Request {
        verb,
        container_id: environment.container_id,
        ifname: environment.ifname,
        netns_path: environment.netns,
        netns,
        args: environment.args,
        config,
    };
    shape(verb, handler.handle(&request)?, *version)
}

fn versions() -> Value {
    json!({ "cniVersion": Version::LATEST.as_str(), "supportedVersions": SUPPORTED.map(Version::as_str) })
}

fn read(input: &mut dyn Read) -> Result<Vec<u8>, CniError> {
    let mut text = Vec::new();
    let failed = |e| {
        CniError::new(
            code::IO,
            format!("cannot read the network configuration from standard input: {e}"),
        )
    };
    input
        .take(INPUT_MAX + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > INPUT_MAX {
        return Err(CniError::new(
            code::DECODE,
            format!("the network configuration is longer than {INPUT_MAX} bytes"),
        ));
    }
    Ok(text)
}

fn check_version(verb: Verb, version: Version) -> Result<(), CniError> {
    if version >= verb.since() {
        return Ok(());
    }
    let msg = format!(
        "cniVersion {version} does not have {verb}: it exists since {}",
        verb.since()
    );
    Err(CniError::new(code::INCOMPATIBLE_VERSION, msg))
}

/// Opens the namespace and makes sure that it is one, and not the one of the plugin, that is, of the node.
fn open_netns(environment: &Environment) -> Result<OwnedFd, CniError> {
    let path = &environment.netns;
    let wrong = |problem: String| {
        CniError::new(
            code::INVALID_NETNS,
            format!("network namespace {path:?}: {problem}"),
        )
    };
    let file = File::open(path).map_err(|e| wrong(format!("cannot open it: {e}")))?;
    let system = fstatfs(&file).map_err(|e| wrong(e.to_string()))?;
    if u64::try_from(system.f_type) != Ok(NSFS_MAGIC) {
        return Err(wrong("it is not a namespace".into()));
    }
    let theirs = file.metadata().map_err(|e| wrong(e.to_string()))?;
    let own = std::fs::metadata("/proc/self/ns/net")
        .map_err(|e| wrong(format!("cannot compare: {e}")))?;
    let same = (theirs.dev(), theirs.ino()) == (own.dev(), own.ino());
    if same && !environment.own_netns_allowed {
        return Err(wrong(
            "plugin's netns and netns from CNI_NETNS should not be the same".into(),
        ));
    }
    Ok(file.into())
}

/// The result as the runtime's version has it. Only ADD has one.
fn shape(verb: Verb, result: Option<Success>, version: Version) -> Result<Option<Value>, CniError> {
    match (verb, result) {
        (Verb::Add, Some(success)) => {
            success.check_indices()?;
            success.to_value(version).map(Some)
        }
        (Verb::Add, None) => Err(CniError::new(
            code::INTERNAL,
            "ADD was answered without a result",
        )),
        _ => Ok(None),
    }
}
