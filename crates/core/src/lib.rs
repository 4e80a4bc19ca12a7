//! Names, addresses, ranges and configuration that every part of Malha shares. Pure: no I/O, no clock.

pub mod range;
