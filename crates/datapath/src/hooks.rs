//! The hooks: where each program sits.
use malha_abi::hook;

/// Which way packets go through a hook, as seen from the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received by the interface.
    Ingress,
    /// Sent by the interface.
    Egress,
}

/// A place in the kernel where one of our programs runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Ingress of a pod's host end.
    FromPod,
    /// Egress of a pod's host end.
    ToPod,
    /// Ingress of the VXLAN device.
    FromOverlay,
    /// Egress of the VXLAN device.
    ToOverlay,
    /// Ingress of the uplink.
    FromUplink,
    /// Egress of the uplink.
    ToUplink,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::FromPod,
        Self::ToPod,
        Self::FromOverlay,
        Self::ToOverlay,
        Self::FromUplink,
        Self::ToUplink,
    ];

    /// Name of the program, of its pin, and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::ToPod => "to_pod",
            Self::FromOverlay => "from_overlay",
            Self::ToOverlay => "to_overlay",
            Self::FromUplink => "from_uplink",
            Self::ToUplink => "to_uplink",
        }
    }

    /// Number in drop events.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::FromPod => hook::FROM_POD,
            Self::ToPod => hook::TO_POD,
            Self::FromOverlay => hook::FROM_OVERLAY,
            Self::ToOverlay => hook::TO_OVERLAY,
            Self::FromUplink => hook::FROM_UPLINK,
            Self::ToUplink => hook::TO_UPLINK,
        }
    }

    /// The hook with this number in a drop event.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.number() == number)
    }

    /// Which way packets go through it.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::FromPod | Self::FromOverlay | Self::FromUplink => Direction::Ingress,
            Self::ToPod | Self::ToOverlay | Self::ToUplink => Direction::Egress,
        }
    }
}
