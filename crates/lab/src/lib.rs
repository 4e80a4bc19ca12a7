//! The lab: a whole cluster on one machine, each node a set of Linux namespaces.
