//! Privileged edges of Linux that are not eBPF: netlink, network namespaces, nftables, sysctl.
