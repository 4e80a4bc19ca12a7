//! The network agent: one loop from watched objects to desired state to reconciled kernel state.
