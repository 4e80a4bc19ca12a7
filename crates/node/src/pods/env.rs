//! A container's environment. Pure: what it refers to is given by a [`Lookup`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar};

/// Where values come from.
pub trait Lookup {
    /// A ConfigMap's data; `None` when there is no such object.
    fn config_map(&self, name: &str) -> Option<&BTreeMap<String, String>>;
    /// A Secret's data, as text; `None` when there is no such object.
    fn secret(&self, name: &str) -> Option<&BTreeMap<String, String>>;
    /// A field of the pod.
    fn field(&self, path: &str) -> Result<String, String>;
    /// An amount of a container's resources, divided.
    fn resource(
        &self,
        container: &str,
        resource: &str,
        divisor: Option<&str>,
    ) -> Result<String, String>;
}

/// Why a container cannot be configured: the message of `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// The container's variables: `services` first, then `envFrom`, then `env`, later ones winning; `$(NAME)` refers to
/// what stands before it.
///
/// # Errors
/// When something that is not optional does not exist.
pub fn environment(
    container: &Container,
    services: &BTreeMap<String, String>,
    lookup: &dyn Lookup,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut known: BTreeMap<String, String> = services.clone();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let (data, kind, name, optional) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(r), _) => (lookup.config_map(&r.name), "configmap", &r.name, r.optional),
            (None, Some(r)) => (lookup.secret(&r.name), "secret", &r.name, r.optional),
            (None, None) => continue,
        };
        match data {
            Some(data) => {
                let named = data
                    .iter()
                    .filter(|(key, _)| is_name(&format!("{prefix}{key}")));
                known.extend(named.map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
            }
            None if optional == Some(true) => {}
            None => return Err(not_found(kind, name)),
        }
    }
    let mut own: BTreeMap<String, String> = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        let of = |name: &str| own.get(name).or_else(|| known.get(name)).cloned();
        if let Some(value) = value(variable, container, lookup, &of)? {
            own.insert(variable.name.clone(), value);
        }
    }
    known.extend(own);
    Ok(known.into_iter().collect())
}

fn value(
    variable: &EnvVar,
    container: &Container,
    lookup: &dyn Lookup,
    of: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, ConfigError> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(expand(
            variable.value.as_deref().unwrap_or_default(),
            of,
        )));
    };
    if let Some(field) = &source.field_ref {
        return lookup
            .field(&field.field_path)
            .map(Some)
            .map_err(ConfigError);
    }
    if let Some(resource) = &source.resource_field_ref {
        let name = resource
            .container_name
            .as_deref()
            .filter(|n| !n.is_empty())
            .unwrap_or(&container.name);
        let divisor = resource.divisor.as_ref().map(|d| d.0.as_str());
        return lookup
            .resource(name, &resource.resource, divisor)
            .map(Some)
            .map_err(ConfigError);
    }
    let (data, kind, name, key, optional) =
        match (&source.config_map_key_ref, &source.secret_key_ref) {
            (Some(r), _) => (
                lookup.config_map(&r.name),
                "ConfigMap",
                &r.name,
                &r.key,
                r.optional,
            ),
            (None, Some(r)) => (
                lookup.secret(&r.name),
                "Secret",
                &r.name,
                &r.key,
                r.optional,
            ),
            (None, None) => return Ok(None),
        };
    match data.map(|data| data.get(key)) {
        Some(Some(value)) => Ok(Some(value.clone())),
        _ if optional == Some(true) => Ok(None),
        Some(None) => Err(ConfigError(format!(
            "couldn't find key {key} in {kind} {name}"
        ))),
        None => Err(not_found(&kind.to_ascii_lowercase(), name)),
    }
}

fn not_found(kind: &str, name: &str) -> ConfigError {
    ConfigError(format!("{kind} \"{name}\" not found"))
}

/// What Kubernetes takes for a variable: no `=`, and nothing unprintable.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'=')
}

/// Replaces `$(NAME)` by its value, if it has one; `$$` stands for `$`.
pub fn expand(text: &str, of: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or_default();
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
            continue;
        }
        match after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            Some((name, tail)) => {
                out.push_str(&of(name).unwrap_or_else(|| format!("$({name})")));
                rest = tail;
            }
            None => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The variables by which containers find services: `{NAME}_SERVICE_HOST` and the rest of docker's links.
/// `services` are name, address, and ports with an optional name, number and protocol.
pub fn service_links(services: &[Service]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for service in services {
        let prefix = service.name.to_ascii_uppercase().replace(['-', '.'], "_");
        let host = service.address.to_string();
        let Some(first) = service.ports.first() else {
            continue;
        };
        all.insert(format!("{prefix}_SERVICE_HOST"), host.clone());
        all.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
        let joined = if service.address.is_ipv6() {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let protocol = first.protocol.to_ascii_lowercase();
        all.insert(
            format!("{prefix}_PORT"),
            format!("{protocol}://{joined}:{}", first.port),
        );
        for port in &service.ports {
            if let Some(name) = &port.name {
                let name = name.to_ascii_uppercase().replace(['-', '.'], "_");
                all.insert(
                    format!("{prefix}_SERVICE_PORT_{name}"),
                    port.port.to_string(),
                );
            }
            let protocol = port.protocol.to_ascii_uppercase();
            let link = format!("{prefix}_PORT_{}_{protocol}", port.port);
            let lower = protocol.to_ascii_lowercase();
            all.insert(link.clone(), format!("{lower}://{joined}:{}", port.port));
            all.insert(format!("{link}_PROTO"), lower);
            all.insert(format!("{link}_PORT"), port.port.to_string());
            all.insert(format!("{link}_ADDR"), host.clone());
        }
    }
    all
}

/// A service, as far as its variables need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its cluster address.
    pub address: std::net::IpAddr,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its number.
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Fixed(BTreeMap<String, String>);

    impl Lookup for Fixed {
        fn config_map(&self, name: &str) -> Option<&BTreeMap<String, String>> {
            (name == "config").then_some(&self.0)
        }

        fn secret(&self, name: &str) -> Option<&BTreeMap<String, String>> {
            (name == "secret").then_some(&self.0)
        }

        fn field(&self, path: &str) -> Result<String, String> {
            Ok(format!("field {path}"))
        }

        fn resource(
            &self,
            container: &str,
            resource: &str,
            _: Option<&str>,
        ) -> Result<String, String> {
            Ok(format!("{container} {resource}"))
        }
    }

    fn environment(value: serde_json::Value) -> Result<BTreeMap<String, String>, String> {
        let mut whole = json!({"name": "c"});
        whole
            .as_object_mut()
            .unwrap()
            .extend(value.as_object().unwrap().clone());
        let container: Container = serde_json::from_value(whole).unwrap();
        let data = [("KEY", "value"), ("bad key", "x")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let services = [("S".to_owned(), "service".to_owned())].into();
        super::environment(&container, &services, &Fixed(data.into()))
            .map(|all| all.into_iter().collect())
            .map_err(|e| e.0)
    }

    #[test]
    fn later_sources_win_and_refer_to_earlier_ones() {
        let all = environment(json!({
            "envFrom": [{"configMapRef": {"name": "config"}}, {"prefix": "P_", "secretRef": {"name": "secret"}}],
            "env": [
                {"name": "A", "value": "a$(KEY)$(S)$(NONE)$$(KEY)$"},
                {"name": "KEY", "value": "own"},
                {"name": "B", "value": "$(A)-$(KEY)"},
                {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "R", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "config", "key": "KEY"}}},
                {"name": "O", "valueFrom": {"secretKeyRef": {"name": "none", "key": "x", "optional": true}}},
            ],
        }))
        .unwrap();
        let expected = [
            ("A", "avalueservice$(NONE)$(KEY)$"),
            ("B", "avalueservice$(NONE)$(KEY)$-own"),
            ("C", "value"),
            ("F", "field metadata.name"),
            ("KEY", "own"),
            ("P_KEY", "value"),
            ("R", "c limits.cpu"),
            ("S", "service"),
        ];
        assert_eq!(
            all,
            expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let table = [
            (
                json!({"envFrom": [{"configMapRef": {"name": "x"}}]}),
                "configmap \"x\" not found",
            ),
            (
                json!({"envFrom": [{"secretRef": {"name": "x"}}]}),
                "secret \"x\" not found",
            ),
            (
                json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "k"}}}]}),
                "couldn't find key k in Secret secret",
            ),
        ];
        for (value, text) in table {
            assert_eq!(environment(value).unwrap_err(), text);
        }
        assert!(
            environment(json!({"envFrom": [{"secretRef": {"name": "x", "optional": true}}]}))
                .is_ok()
        );
    }

    #[test]
    fn services_are_announced_as_docker_did() {
        let port = |name: Option<&str>, port, protocol: &str| ServicePort {
            name: name.map(str::to_owned),
            port,
            protocol: protocol.to_owned(),
        };
        let service = Service {
            name: "kube-dns".into(),
            address: "10.96.0.10".parse().unwrap(),
            ports: vec![
                port(Some("dns"), 53, "UDP"),
                port(Some("dns-tcp"), 53, "TCP"),
            ],
        };
        let all = service_links(&[service]);
        let of = |name: &str| all.get(name).map(String::as_str);
        assert_eq!(of("KUBE_DNS_SERVICE_HOST"), Some("10.96.0.10"));
        assert_eq!(of("KUBE_DNS_SERVICE_PORT"), Some("53"));
        assert_eq!(of("KUBE_DNS_SERVICE_PORT_DNS_TCP"), Some("53"));
        assert_eq!(of("KUBE_DNS_PORT"), Some("udp://10.96.0.10:53"));
        assert_eq!(of("KUBE_DNS_PORT_53_TCP_ADDR"), Some("10.96.0.10"));
    }
}
