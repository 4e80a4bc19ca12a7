//! From a machine to a control plane (`init`) or a node (`join`), and back (`reset`): the edges round `malha-bootstrap`.
//!
//! Every command works in three steps: check everything, then act, then undo its own writes if a later step fails.
//! Progress is told in kubeadm's words; a failure is one line that names cause and remedy.
//!
//! All files lie below a root ([`paths::Paths`]), so that tests run in a directory of their own.

pub mod client;
pub mod clock;
pub mod configuration;
pub mod control_plane;
pub mod cri;
pub mod daemon;
pub mod discovery;
pub mod endpoint;
pub mod files;
pub mod init;
pub mod join;
pub mod machine;
pub mod paths;
pub mod preflight;
pub mod progress;
pub mod reset;
pub mod token;
