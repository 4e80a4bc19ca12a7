//! The layout of every BPF map key and value, and of drop reasons: the single source for Rust and for C.
