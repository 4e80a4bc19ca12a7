//! Volumes of pods.

use serde_json::Value;

use super::{errors::Errors, names};
use crate::{
    api::errors::FieldError,
    auth::fields::{items, text},
};

/// Checks the volumes of a pod and gives their names.
pub(super) fn all<'a>(field: &str, volumes: &'a [Value], errors: &mut Errors) -> Vec<&'a str> {
    let mut names = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let field = format!("{field}.volumes[{index}]");
        let name = errors.name(&field, volume, "name", names::dns_label);
        names.push((format!("{field}.name"), name));
        self::volume(&field, volume, errors);
    }
    let plain = names.iter().map(|(_, name)| *name).collect();
    errors.unique(names.into_iter());
    plain
}

fn volume(field: &str, volume: &Value, errors: &mut Errors) {
    let sources = volume.as_object().into_iter().flatten();
    let sources: Vec<_> = sources.filter(|(key, _)| *key != "name").collect();
    let (kind, source) = match sources.as_slice() {
        [] => {
            let why = "must specify a volume type";
            return errors.push(FieldError::required(field, why));
        }
        [one] => *one,
        [_, (second, _), ..] => {
            let why = "may not specify more than 1 volume type";
            return errors.forbidden(format!("{field}.{second}"), why);
        }
    };
    let field = format!("{field}.{kind}");
    match kind.as_str() {
        "hostPath" => host_path(&field, source, errors),
        "secret" if text(source, "/secretName").is_empty() => {
            errors.required(format!("{field}.secretName"));
        }
        "configMap" if text(source, "/name").is_empty() => {
            errors.required(format!("{field}.name"));
        }
        "persistentVolumeClaim" if text(source, "/claimName").is_empty() => {
            errors.required(format!("{field}.claimName"));
        }
        "projected" => projected(&field, source, errors),
        _ => {}
    }
    if let Some(mode) = source.get("defaultMode") {
        self::mode(&format!("{field}.defaultMode"), mode, errors);
    }
    file_items(&field, source, errors);
}

fn host_path(field: &str, source: &Value, errors: &mut Errors) {
    let path = text(source, "/path");
    if path.is_empty() {
        errors.required(format!("{field}.path"));
    } else if path.split('/').any(|part| part == "..") {
        let why = "must not contain '..'";
        errors.invalid(format!("{field}.path"), &path.into(), why);
    }
    let types = [
        "",
        "DirectoryOrCreate",
        "Directory",
        "FileOrCreate",
        "File",
        "Socket",
        "CharDevice",
        "BlockDevice",
    ];
    errors.one_of(field, source, "type", &types);
}

fn projected(field: &str, source: &Value, errors: &mut Errors) {
    for (index, part) in items(source, "/sources").iter().enumerate() {
        let field = format!("{field}.sources[{index}]");
        for (kind, part) in part.as_object().into_iter().flatten() {
            let field = format!("{field}.{kind}");
            match kind.as_str() {
                "secret" | "configMap" if text(part, "/name").is_empty() => {
                    errors.required(format!("{field}.name"));
                }
                "serviceAccountToken" => {
                    errors.at_least(&field, part, "expirationSeconds", 600);
                    if text(part, "/path").is_empty() {
                        errors.required(format!("{field}.path"));
                    }
                }
                _ => {}
            }
            file_items(&field, part, errors);
        }
    }
}

/// The files made of keys: they must stay inside the volume.
fn file_items(field: &str, source: &Value, errors: &mut Errors) {
    for (index, item) in items(source, "/items").iter().enumerate() {
        let field = format!("{field}.items[{index}]");
        let path = text(item, "/path");
        if path.is_empty() {
            errors.required(format!("{field}.path"));
        } else if path.starts_with('/') {
            errors.invalid(
                format!("{field}.path"),
                &path.into(),
                "must be a relative path",
            );
        } else if path.split('/').any(|part| part == "..") || path.starts_with("..") {
            errors.invalid(
                format!("{field}.path"),
                &path.into(),
                "must not contain '..'",
            );
        }
        if let Some(mode) = item.get("mode") {
            self::mode(&format!("{field}.mode"), mode, errors);
        }
    }
}

fn mode(field: &str, mode: &Value, errors: &mut Errors) {
    if !mode
        .as_i64()
        .is_some_and(|mode| (0..=0o777).contains(&mode))
    {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.invalid(field, mode, why);
    }
}
