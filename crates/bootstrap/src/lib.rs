//! Bootstrap tokens, CA pins, detached JWS, CSRs, certificates and kubeadm's files. Pure: no I/O.
