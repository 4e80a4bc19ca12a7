//! What the API server asks of the node: logs, exec, attach, port-forward.

pub mod insecure;
