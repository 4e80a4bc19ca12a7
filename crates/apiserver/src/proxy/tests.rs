//! A little node on loopback.
