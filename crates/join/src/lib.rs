//! Joining a node, creating tokens, creating a control plane's files: the edges round `malha-bootstrap`.
