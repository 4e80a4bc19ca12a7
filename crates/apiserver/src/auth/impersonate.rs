//! Acting as someone else: `kubectl --as` sends `Impersonate-*` headers.
//!
//! Each asked-for name, group, uid and extra value is authorized by itself with the verb `impersonate`, as Kubernetes
//! does; the request then runs with the impersonated user's rights alone.

use http::HeaderMap;

use super::{AUTHENTICATED, UNAUTHENTICATED, authorize};
use crate::{
    attributes::{Attributes, Objects, UserInfo},
    status::Status,
};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// The user to go on with: the asked-for one if the headers say so and the real one may.
pub(super) fn impersonate(
    user: UserInfo,
    headers: &HeaderMap,
    objects: &dyn Objects,
) -> Result<UserInfo, Status> {
    if !headers
        .keys()
        .any(|name| name.as_str().starts_with("impersonate-"))
    {
        return Ok(user);
    }
    let wanted = wanted(headers)?;
    for attributes in checks(&wanted) {
        authorize(&user, &attributes, objects)?;
    }
    Ok(complete(wanted))
}

fn wanted(headers: &HeaderMap) -> Result<UserInfo, Status> {
    let values = |name: &str| -> Result<Vec<String>, Status> {
        headers
            .get_all(name)
            .iter()
            .map(|value| header_text(value.as_bytes()))
            .collect()
    };
    let name = values(USER)?.pop().unwrap_or_default();
    if name.is_empty() {
        return Err(Status::internal(
            "requested impersonation without impersonating a user",
        ));
    }
    let mut wanted = UserInfo {
        name,
        uid: values(UID)?.pop().unwrap_or_default(),
        groups: values(GROUP)?,
        ..UserInfo::default()
    };
    for key in headers.keys() {
        if let Some(extra) = key.as_str().strip_prefix(EXTRA) {
            wanted.extra.insert(extra.to_owned(), values(key.as_str())?);
        }
    }
    Ok(wanted)
}

fn header_text(bytes: &[u8]) -> Result<String, Status> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| Status::bad_request("an impersonation header is not UTF-8"))
}

fn checks(wanted: &UserInfo) -> Vec<Attributes> {
    let core = |resource: &str, name: &str| Attributes {
        verb: "impersonate".to_owned(),
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    let authentication = |resource: &str, subresource: &str, name: &str| Attributes {
        group: "authentication.k8s.io".to_owned(),
        subresource: subresource.to_owned(),
        ..core(resource, name)
    };
    let mut checks = vec![match service_account(&wanted.name) {
        Some((namespace, name)) => Attributes {
            namespace: namespace.to_owned(),
            ..core("serviceaccounts", name)
        },
        None => core("users", &wanted.name),
    }];
    checks.extend(wanted.groups.iter().map(|group| core("groups", group)));
    if !wanted.uid.is_empty() {
        checks.push(authentication("uids", "", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        checks.extend(
            values
                .iter()
                .map(|value| authentication("userextras", key, value)),
        );
    }
    checks
}

/// The groups every user of that kind has.
fn complete(mut wanted: UserInfo) -> UserInfo {
    if let (Some((namespace, _)), true) = (service_account(&wanted.name), wanted.groups.is_empty())
    {
        wanted.groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ];
    }
    let status = if wanted.name == "system:anonymous" {
        UNAUTHENTICATED
    } else {
        AUTHENTICATED
    };
    let known = |group: &String| group == AUTHENTICATED || group == UNAUTHENTICATED;
    if !wanted.groups.iter().any(known) {
        wanted.groups.push(status.to_owned());
    }
    wanted
}

/// Namespace and name of `system:serviceaccount:NS:NAME`.
pub(super) fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user
        .strip_prefix("system:serviceaccount:")?
        .split_once(':')?;
    (!namespace.is_empty() && !name.is_empty()).then_some((namespace, name))
}
