//! The node agent for machines without a kubelet: registers the node and runs its pods.
