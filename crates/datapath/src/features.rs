//! Which kernel feature is missing, asked after a load has failed.
use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper as Helper, is_helper_supported, is_map_supported};
use nix::sys::utsname::uname;

use crate::error::Error;

/// Helpers that only newer kernels have, with the first version.
const HELPERS: [(Helper, &str, &str); 4] = [
    (
        Helper::BPF_FUNC_redirect_peer,
        "the BPF helper bpf_redirect_peer",
        "5.10",
    ),
    (
        Helper::BPF_FUNC_redirect_neigh,
        "the BPF helper bpf_redirect_neigh",
        "5.10",
    ),
    (
        Helper::BPF_FUNC_ringbuf_reserve,
        "the BPF helper bpf_ringbuf_reserve",
        "5.8",
    ),
    (
        Helper::BPF_FUNC_skb_set_tunnel_key,
        "the BPF helper bpf_skb_set_tunnel_key",
        "4.3",
    ),
];

/// Map types, likewise.
const MAPS: [(MapType, &str, &str); 3] = [
    (MapType::RingBuf, "BPF ring buffers", "5.8"),
    (MapType::LpmTrie, "BPF longest-prefix-match tries", "4.11"),
    (MapType::LruHash, "BPF least-recently-used hashes", "4.10"),
];

/// The first feature that the kernel says it lacks; None if it has them all.
pub fn missing() -> Option<Error> {
    let helper = |(helper, feature, since)| {
        let supported = is_helper_supported(ProgramType::SchedClassifier, helper);
        matches!(supported, Ok(false)).then(|| lacks(feature, since))
    };
    let map = |(map, feature, since)| {
        matches!(is_map_supported(map), Ok(false)).then(|| lacks(feature, since))
    };
    MAPS.into_iter()
        .find_map(map)
        .or_else(|| HELPERS.into_iter().find_map(helper))
}

fn lacks(feature: &'static str, since: &'static str) -> Error {
    let release = uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    Error::Kernel {
        release,
        feature,
        since,
    }
}
