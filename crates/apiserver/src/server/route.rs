//! What a method and a path ask for, in the authorizer's words, before anybody looks whether it exists.

use http::Method;

use super::params::{Params, decode};
use crate::attributes::Attributes;

/// A request, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// For authorization and admission; `resource` is empty for a path that is no resource.
    pub attributes: Attributes,
    /// What follows the subresource in the path (`nodes/NAME/proxy/…`), with a slash before it.
    pub rest: String,
}

/// Reads a request line.
pub(super) fn route(method: &Method, path: &str, params: &Params) -> Route {
    let segments: Vec<String> = path
        .split('/')
        .filter(|s| !s.is_empty())
        .map(|segment| decode(segment, false))
        .collect();
    let texts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let group_version = match texts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => Some(("", *version, rest)),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => Some((*group, *version, rest)),
        _ => None,
    };
    // A decoded slash in a segment would make two names of one.
    let whole = texts.iter().all(|segment| !segment.contains(['/', '\0']));
    match group_version.filter(|_| whole) {
        Some((group, version, rest)) => resource(method, (group, version), rest, params, path),
        None => Route {
            attributes: Attributes {
                verb: method.as_str().to_lowercase(),
                path: path.to_owned(),
                ..Attributes::default()
            },
            rest: String::new(),
        },
    }
}

fn resource(
    method: &Method,
    (group, version): (&str, &str),
    rest: &[&str],
    params: &Params,
    path: &str,
) -> Route {
    let (namespace, parts) = match rest {
        // Of a namespace's own parts there are two; all else below it lives in it.
        ["namespaces", name] | ["namespaces", name, "status" | "finalize"] => (*name, rest),
        ["namespaces", namespace, parts @ ..] if !parts.is_empty() => (*namespace, parts),
        _ => ("", rest),
    };
    let part = |i: usize| parts.get(i).copied().unwrap_or("").to_owned();
    let tail = parts.get(3..).unwrap_or(&[]);
    let rest = tail.iter().map(|segment| format!("/{segment}")).collect();
    let name = part(1);
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        _ if !name.is_empty() => "get",
        _ if params.flag("watch") => "watch",
        _ => "list",
    };
    Route {
        attributes: Attributes {
            verb: verb.to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            resource: part(0),
            subresource: part(2),
            namespace: namespace.to_owned(),
            name,
            path: path.to_owned(),
        },
        rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(method: &str, uri: &str) -> String {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let method = method.parse().unwrap();
        let Route {
            attributes: a,
            rest,
        } = route(&method, path, &Params::parse(Some(query)));
        if a.resource.is_empty() {
            return format!("{} {}", a.verb, a.path);
        }
        format!(
            "{} {}.{}.{}/{} {}/{}{rest}",
            a.verb, a.resource, a.version, a.group, a.subresource, a.namespace, a.name
        )
    }

    #[test]
    fn paths_are_read_as_kubernetes_reads_them() {
        let table = [
            ("GET", "/api/v1/pods", "list pods.v1./ /"),
            ("GET", "/api/v1/pods?watch=true", "watch pods.v1./ /"),
            ("GET", "/api/v1/namespaces/a/pods/p?", "get pods.v1./ a/p"),
            ("POST", "/api/v1/namespaces/a/pods", "create pods.v1./ a/"),
            (
                "GET",
                "/api/v1/namespaces/a/pods/p/log",
                "get pods.v1./log a/p",
            ),
            (
                "DELETE",
                "/api/v1/namespaces/a/pods",
                "deletecollection pods.v1./ a/",
            ),
            (
                "DELETE",
                "/api/v1/namespaces/a",
                "delete namespaces.v1./ a/a",
            ),
            (
                "PUT",
                "/api/v1/namespaces/a/finalize",
                "update namespaces.v1./finalize a/a",
            ),
            ("GET", "/api/v1/namespaces", "list namespaces.v1./ /"),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/daemonsets/d/status",
                "patch daemonsets.v1.apps/status a/d",
            ),
            (
                "GET",
                "/api/v1/nodes/n/proxy/stats/summary",
                "get nodes.v1./proxy /n/stats/summary",
            ),
            (
                "GET",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "get clusterroles.v1.rbac.authorization.k8s.io/ /system:node",
            ),
            ("GET", "/api/v1", "get /api/v1"),
            ("GET", "/apis/apps/v1", "get /apis/apps/v1"),
            ("GET", "/readyz", "get /readyz"),
            ("GET", "/api/v1/pods/a%2Fb", "get /api/v1/pods/a%2Fb"),
        ];
        for (method, uri, expected) in table {
            assert_eq!(describe(method, uri), expected, "{method} {uri}");
        }
    }
}
