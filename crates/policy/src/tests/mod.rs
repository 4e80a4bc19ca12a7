//! Proof of the compiler against the oracle. Here and not under `tests/`, for the mutants are seen by unit tests only.
mod check;
mod documents;
mod generate;
mod generate_policies;
mod hard;
mod mutants;
mod properties;
mod scenario;
