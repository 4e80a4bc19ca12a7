//! The `CNI_*` variables.

use std::ffi::OsString;

use crate::types::{Args, CniError, check_container_id, check_ifname, code};
use crate::wire::Verb;

/// What `CNI_COMMAND` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Something about attachments.
    Verb(Verb),
    /// Which versions the plugin speaks.
    Version,
}

/// The variables, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`
    pub command: Command,
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_NETNS`
    pub netns: String,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `CNI_ARGS`
    pub args: Args,
    /// `CNI_NETNS_OVERRIDE`: the plugin's own namespace is meant indeed.
    pub own_netns_allowed: bool,
}

/// Why there is nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// `CNI_COMMAND` is not set: somebody tries the plugin out by hand.
    NoCommand,
    /// A runtime made a mistake.
    Wrong(CniError),
}

impl Verb {
    /// Whether it is about one attachment.
    fn has_attachment(self) -> bool {
        matches!(self, Verb::Add | Verb::Del | Verb::Check)
    }

    /// Whether the network namespace must be there.
    pub(super) fn needs_netns(self) -> bool {
        matches!(self, Verb::Add | Verb::Check)
    }
}

impl Environment {
    /// Reads and checks the variables. `CNI_PATH`, which every Go plugin insists on, is of no use to a plugin that
    /// calls no other.
    ///
    /// # Errors
    /// Code 4, naming all missing variables at once, or the one that is malformed.
    pub fn read(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Unusable> {
        let text = |name: &str| match variable(name).unwrap_or_default().into_string() {
            Ok(text) => Ok(text),
            Err(raw) => {
                Err(invalid(format!("{name} is not UTF-8")).with_details(raw.to_string_lossy()))
            }
        };
        let wrong = Unusable::Wrong;
        let command = match text("CNI_COMMAND").map_err(wrong)?.as_str() {
            "" => return Err(Unusable::NoCommand),
            name => command(name).map_err(wrong)?,
        };
        let all = || -> Result<Self, CniError> {
            Ok(Self {
                command,
                container_id: text("CNI_CONTAINERID")?,
                netns: text("CNI_NETNS")?,
                ifname: text("CNI_IFNAME")?,
                args: args(command, &text("CNI_ARGS")?)?,
                own_netns_allowed: is_set(&text("CNI_NETNS_OVERRIDE")?),
            })
        };
        let found = all().map_err(wrong)?;
        found.check().map_err(wrong)?;
        Ok(found)
    }

    fn check(&self) -> Result<(), CniError> {
        let Command::Verb(verb) = self.command else {
            return Ok(());
        };
        let needed = [
            ("CNI_CONTAINERID", &self.container_id, verb.has_attachment()),
            ("CNI_NETNS", &self.netns, verb.needs_netns()),
            ("CNI_IFNAME", &self.ifname, verb.has_attachment()),
        ];
        let missing = needed
            .iter()
            .filter(|(_, value, needed)| *needed && value.is_empty());
        let missing: Vec<&str> = missing.map(|(name, ..)| *name).collect();
        if !missing.is_empty() {
            return Err(invalid(format!(
                "required env variables [{}] missing",
                missing.join(",")
            )));
        }
        if verb.has_attachment() {
            check_container_id(&self.container_id)?;
            check_ifname(&self.ifname)?;
        }
        Ok(())
    }
}

fn command(name: &str) -> Result<Command, CniError> {
    Ok(match name {
        "ADD" => Command::Verb(Verb::Add),
        "DEL" => Command::Verb(Verb::Del),
        "CHECK" => Command::Verb(Verb::Check),
        "GC" => Command::Verb(Verb::Gc),
        "STATUS" => Command::Verb(Verb::Status),
        "VERSION" => Command::Version,
        other => return Err(invalid(format!("unknown CNI_COMMAND: {other}"))),
    })
}

/// Only ADD makes something of the arguments, so nothing else may fail because of them.
fn args(command: Command, text: &str) -> Result<Args, CniError> {
    match Args::parse(text) {
        Err(error) if command == Command::Verb(Verb::Add) => Err(invalid(error.to_string())),
        parsed => Ok(parsed.unwrap_or_default()),
    }
}

fn is_set(text: &str) -> bool {
    text == "1" || text.eq_ignore_ascii_case("true")
}

fn invalid(msg: String) -> CniError {
    CniError::new(code::INVALID_ENVIRONMENT, msg)
}
