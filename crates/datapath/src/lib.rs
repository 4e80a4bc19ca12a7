//! The eBPF datapath: load, pin, attach, and keep its maps equal to what the agent wants.
