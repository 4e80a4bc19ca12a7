//! Bootstrap tokens, CA pins, detached JWS, CSRs, certificates and kubeadm's files.
//!
//! Everything here is a function of its arguments: no files, no sockets, no clock (`now` is passed in).
//! The one exception is the operating system's random source, for tokens, keys and serial numbers.

pub mod csr;
pub mod duration;
pub mod jws;
pub mod kubeadm;
pub mod kubeconfig;
pub mod names;
pub mod pin;
pub mod pki;
pub mod token;
