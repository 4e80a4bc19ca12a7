//! The embedded control plane's controllers, each a client of the API like any other.
