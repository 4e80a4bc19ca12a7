//! The tables of types: which field number is which JSON field.
//!
//! One file per API group; a message's name stands at the start of a line, its fields on the indented lines below:
//! `name=NUMBER:TYPE`. `^` for the name puts the message's fields into its parent, `[]` before the type is a list, `{}`
//! a map with text keys, `!` after it keeps a zero value. `meta.X` is message X of file `meta`. Numbers and names are
//! those of the Kubernetes API (`generated.proto` and JSON tags of k8s.io/api), where they never change.

use std::{collections::HashMap, sync::LazyLock};

/// Files by the prefix of references to them, with the `apiVersion` whose objects they describe.
const FILES: [(&str, &str, &str); 17] = [
    ("meta", "meta.k8s.io/v1", include_str!("schema/meta.txt")),
    ("core", "v1", include_str!("schema/core.txt")),
    ("apps", "apps/v1", include_str!("schema/apps.txt")),
    (
        "authentication",
        "authentication.k8s.io/v1",
        include_str!("schema/authentication.txt"),
    ),
    (
        "authorization",
        "authorization.k8s.io/v1",
        include_str!("schema/authorization.txt"),
    ),
    (
        "autoscaling",
        "autoscaling/v1",
        include_str!("schema/autoscaling.txt"),
    ),
    ("batch", "batch/v1", include_str!("schema/batch.txt")),
    (
        "certificates",
        "certificates.k8s.io/v1",
        include_str!("schema/certificates.txt"),
    ),
    (
        "coordination",
        "coordination.k8s.io/v1",
        include_str!("schema/coordination.txt"),
    ),
    (
        "discovery",
        "discovery.k8s.io/v1",
        include_str!("schema/discovery.txt"),
    ),
    (
        "events",
        "events.k8s.io/v1",
        include_str!("schema/events.txt"),
    ),
    (
        "networking",
        "networking.k8s.io/v1",
        include_str!("schema/networking.txt"),
    ),
    ("node", "node.k8s.io/v1", include_str!("schema/node.txt")),
    ("policy", "policy/v1", include_str!("schema/policy.txt")),
    (
        "rbac",
        "rbac.authorization.k8s.io/v1",
        include_str!("schema/rbac.txt"),
    ),
    (
        "scheduling",
        "scheduling.k8s.io/v1",
        include_str!("schema/scheduling.txt"),
    ),
    (
        "storage",
        "storage.k8s.io/v1",
        include_str!("schema/storage.txt"),
    ),
];

/// How a field's values stand in the JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    One,
    List,
    Map,
    Inline,
}

/// What one value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    String,
    Int,
    Bool,
    Bytes,
    Double,
    /// JSON text inside a message.
    Json,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// A message that is nothing but a list of texts.
    Strings,
    /// Another message, by its place in the schema.
    Message(usize),
}

#[derive(Debug)]
pub(crate) struct Field {
    number: u32,
    pub name: String,
    pub shape: Shape,
    pub kind: Type,
    pub keep_zero: bool,
}

#[derive(Debug)]
pub(crate) struct Message {
    /// `FILE.MESSAGE`, as in references to it.
    pub name: String,
    fields: Vec<Field>,
}

impl Message {
    pub fn field(&self, number: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }
}

/// Every message of every file.
pub(crate) struct Schema {
    messages: Vec<Message>,
    names: HashMap<String, usize>,
}

impl Schema {
    pub fn get() -> &'static Self {
        static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::parse);
        &SCHEMA
    }

    pub fn message(&self, id: usize) -> &Message {
        &self.messages[id]
    }

    /// A message by its full name.
    #[cfg(test)]
    pub fn named(&self, name: &str) -> Option<&Message> {
        self.names.get(name).map(|id| self.message(*id))
    }

    /// The field of this JSON name, and the message that has it: the given one or one whose fields stand in it.
    pub fn member<'a>(
        &'a self,
        message: &'a Message,
        name: &str,
    ) -> Option<(&'a Message, &'a Field)> {
        let own = |field: &&Field| field.shape != Shape::Inline && field.name == name;
        if let Some(field) = message.fields.iter().find(own) {
            return Some((message, field));
        }
        message.fields.iter().find_map(|field| match field.kind {
            Type::Message(id) if field.shape == Shape::Inline => {
                self.member(self.message(id), name)
            }
            _ => None,
        })
    }

    /// The message of an API type, and the schema itself.
    pub fn top_level(
        &'static self,
        version: &str,
        kind: &str,
    ) -> Option<(&'static Self, &'static Message)> {
        // Clients send these options under the version of whatever they delete.
        let file = match kind {
            "DeleteOptions" => "meta",
            _ => {
                FILES
                    .iter()
                    .find(|(_, file_version, _)| *file_version == version)?
                    .0
            }
        };
        let message = self.message(*self.names.get(&format!("{file}.{kind}"))?);
        // Only objects are sent by themselves; parts of objects are not.
        let is_object =
            kind == "DeleteOptions" || message.field(1).is_some_and(|f| f.name == "metadata");
        is_object.then_some((self, message))
    }

    fn parse() -> Self {
        let mut names = HashMap::new();
        let mut bodies: Vec<(&str, String)> = Vec::new();
        for (file, _, text) in FILES {
            for line in text.lines() {
                match (line.strip_prefix("  "), bodies.last_mut()) {
                    (Some(fields), Some((_, body))) => {
                        body.push(' ');
                        body.push_str(fields);
                    }
                    _ => {
                        names.insert(format!("{file}.{}", line.trim()), bodies.len());
                        bodies.push((file, String::new()));
                    }
                }
            }
        }
        let fields = |(file, body): &(&str, String)| Message {
            name: String::new(),
            fields: body
                .split_whitespace()
                .filter_map(|text| parse_field(file, text, &names))
                .collect(),
        };
        let mut messages: Vec<_> = bodies.iter().map(fields).collect();
        for (name, place) in &names {
            messages[*place].name.clone_from(name);
        }
        Self { messages, names }
    }
}

/// `name=NUMBER:TYPE`; none for what does not read as a field (the tests see to it that all do).
fn parse_field(file: &str, text: &str, names: &HashMap<String, usize>) -> Option<Field> {
    let (name, rest) = text.split_once('=')?;
    let (number, kind) = rest.split_once(':')?;
    let (kind, keep_zero) = match kind.strip_suffix('!') {
        Some(kind) => (kind, true),
        None => (kind, false),
    };
    let (shape, kind) = match (kind.strip_prefix("[]"), kind.strip_prefix("{}")) {
        (Some(kind), _) => (Shape::List, kind),
        (_, Some(kind)) => (Shape::Map, kind),
        _ if name == "^" => (Shape::Inline, kind),
        _ => (Shape::One, kind),
    };
    let kind = match kind {
        "string" => Type::String,
        "int" => Type::Int,
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "json" => Type::Json,
        "quantity" => Type::Quantity,
        "intstr" => Type::IntOrString,
        "time" => Type::Time,
        "microtime" => Type::MicroTime,
        "strings" => Type::Strings,
        other => {
            let full = if other.contains('.') {
                other.to_owned()
            } else {
                format!("{file}.{other}")
            };
            Type::Message(*names.get(&full)?)
        }
    };
    Some(Field {
        number: number.parse().ok()?,
        name: name.to_owned(),
        shape,
        kind,
        keep_zero,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_tables_is_understood() {
        let schema = Schema::get();
        let written: usize = FILES
            .iter()
            .flat_map(|(_, _, text)| text.lines())
            .filter(|line| line.starts_with("  "))
            .map(|line| line.split_whitespace().count())
            .sum();
        let read: usize = schema
            .messages
            .iter()
            .map(|message| message.fields.len())
            .sum();
        assert_eq!(written, read);
    }
}
