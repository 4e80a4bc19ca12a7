//! Node ports.

use std::collections::HashSet;

use rand::RngExt;
use serde_json::{Value, json};

use super::{
    invalid,
    taken::{Taken, node_port, protocol, remove},
};
use crate::{api::errors::FieldError, auth::fields::text, status::Status};

/// Where node ports come from, as on Kubernetes.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

/// Node ports for the types that have them.
pub(super) fn assign(service: &mut Value, taken: &Taken) -> Result<(), Status> {
    let wants = matches!(text(service, "/spec/type"), "NodePort" | "LoadBalancer");
    let named = service.clone();
    let mut given = HashSet::new();
    let ports = service["spec"]
        .get_mut("ports")
        .and_then(Value::as_array_mut);
    for (i, port) in ports.into_iter().flatten().enumerate() {
        if !port.is_object() {
            continue;
        }
        if !wants {
            remove(port, "nodePort");
            continue;
        }
        let protocol = protocol(port);
        let is_free = |number: u16, given: &HashSet<(String, u16)>| {
            let key = (protocol.clone(), number);
            !taken.ports.contains(&key) && !given.contains(&key)
        };
        let number = match node_port(port) {
            Some(number) if !NODE_PORTS.contains(&number) => {
                let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                let field = format!("spec.ports[{i}].nodePort");
                return Err(invalid(
                    &named,
                    FieldError::invalid(field, &json!(number), why),
                ));
            }
            Some(number) if !is_free(number, &given) => {
                let field = format!("spec.ports[{i}].nodePort");
                let why = "provided port is already allocated";
                return Err(invalid(
                    &named,
                    FieldError::invalid(field, &json!(number), why),
                ));
            }
            Some(number) => number,
            None => {
                let start = rand::rng().random_range(NODE_PORTS);
                let all = (start..=*NODE_PORTS.end()).chain(*NODE_PORTS.start()..start);
                let free = all.into_iter().find(|number| is_free(*number, &given));
                free.ok_or_else(|| Status::internal("no node port is free in 30000-32767"))?
            }
        };
        given.insert((protocol, number));
        port["nodePort"] = number.into();
    }
    Ok(())
}
