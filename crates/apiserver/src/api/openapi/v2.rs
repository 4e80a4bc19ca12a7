//! OpenAPI 2, as protobuf (`openapi.v2.Document`): the only form in which kubectl before 1.27 reads it.
//!
//! It describes no types, so that kubectl leaves validation to the server, and of the operations only what it looks
//! for: that PATCH of a kind knows `dryRun` (`kubectl diff`, `--dry-run=server`).

use crate::api::resources::{RESOURCES, Resource};

/// `GET /openapi/v2`.
pub fn v2_protobuf() -> Vec<u8> {
    let info = [text(1, "Kubernetes"), text(2, super::VERSION)].concat();
    let patchable = RESOURCES.iter().filter(|r| r.supports("patch"));
    let paths: Vec<u8> = patchable.flat_map(|r| bytes(2, &path(r))).collect();
    [text(1, "2.0"), bytes(2, &info), bytes(8, &paths)].concat()
}

/// `NamedPathItem`, with nothing but the PATCH operation.
fn path(resource: &Resource) -> Vec<u8> {
    let parameters = super::QUERY_PARAMETERS.map(|name| bytes(8, &query_parameter(name)));
    let operation = [parameters.concat(), bytes(13, &kind_extension(resource))].concat();
    let item = bytes(8, &operation);
    [text(1, &super::object_path(resource)), bytes(2, &item)].concat()
}

/// `ParametersItem` > `Parameter` > `NonBodyParameter` > `QueryParameterSubSchema`.
fn query_parameter(name: &str) -> Vec<u8> {
    let schema = [text(2, "query"), text(4, name), text(6, "string")].concat();
    bytes(1, &bytes(2, &bytes(3, &schema)))
}

/// `NamedAny` whose `Any` is YAML.
fn kind_extension(resource: &Resource) -> Vec<u8> {
    let yaml = format!(
        "group: \"{}\"\nkind: {}\nversion: {}\n",
        resource.group, resource.kind, resource.version
    );
    [
        text(1, "x-kubernetes-group-version-kind"),
        bytes(2, &text(2, &yaml)),
    ]
    .concat()
}

fn text(number: u8, value: &str) -> Vec<u8> {
    bytes(number, value.as_bytes())
}

/// A field with a length: text, or another message.
fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        // Seven bits at a time, the lowest first; the mask keeps it in a byte.
        field.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(value);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_sevens() {
        assert_eq!(text(1, "ab"), [0x0a, 2, b'a', b'b']);
        let long = "x".repeat(300);
        assert_eq!(text(13, &long)[..3], [0x6a, 0xac, 0x02]);
    }

    #[test]
    fn the_document_names_every_patchable_kind() {
        let document = v2_protobuf();
        let has = |needle: &str| {
            document
                .windows(needle.len())
                .any(|w| w == needle.as_bytes())
        };
        assert!(has("group: \"apps\"\nkind: DaemonSet\nversion: v1\n"));
        assert!(has("dryRun"));
        assert!(!has("kind: LimitRange"));
    }
}
