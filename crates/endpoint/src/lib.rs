//! Endpoints of this node: crash-safe records, addresses and links behind the CNI verbs.
