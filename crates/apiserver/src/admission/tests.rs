//! What admission lets pass and what it fills in.
