//! Deliberate faults of the compiler, which the property tests must notice. In a build that is not a test they do not
//! exist: [`mutant!`] is the constant `false`.

/// Whether the named fault is switched on.
macro_rules! mutant {
    ($name:ident) => {{
        #[cfg(test)]
        let on = $crate::mutant::is_on($crate::mutant::Mutant::$name);
        #[cfg(not(test))]
        let on = false;
        on
    }};
}
pub(crate) use mutant;

#[cfg(test)]
pub(crate) use switch::{ALL, Mutant, is_on, with};

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    macro_rules! mutants {
        ($( $(#[doc = $doc:literal])+ $name:ident, )+) => {
            /// A fault.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Mutant { $( $(#[doc = $doc])+ $name, )+ }
            /// Every fault.
            pub const ALL: &[Mutant] = &[ $( Mutant::$name ),+ ];
        };
    }
    mutants! {
        /// `NotIn` wants the label to exist.
        NotInNeedsLabel,
        /// `DoesNotExist` is taken for `Exists`.
        AbsentIsPresent,
        /// The holes of a block are part of it.
        ExceptIgnored,
        /// A policy with egress rules and no policyTypes does not isolate egress.
        EgressTypeNotImplied,
        /// A policy without policyTypes and without egress rules isolates egress.
        EgressTypeAlwaysImplied,
        /// policyTypes `[Egress]` isolates ingress too.
        PolicyTypesIgnored,
        /// A peer's podSelector alone selects pods of every namespace.
        PodSelectorEverywhere,
        /// A peer's namespaceSelector alone selects nothing of other namespaces.
        NamespaceSelectorAtHome,
        /// The port endPort is not part of the range.
        EndPortExcluded,
        /// A port without a protocol means UDP.
        ProtocolDefaultsToUdp,
        /// An empty list of peers means nobody.
        EmptyPeersMeanNobody,
        /// An empty list of ports means none.
        EmptyPortsMeanNone,
        /// A named port of egress is that of the sender.
        NamedPortOfSender,
        /// A named port ignores its protocol.
        NamedPortAnyProtocol,
        /// Pass is Accept.
        PassAllows,
        /// Pass skips nothing.
        PassIgnored,
        /// Higher priorities go first.
        PrioritiesReversed,
        /// The Baseline tier decides before NetworkPolicy.
        BaselineFirst,
        /// What no NetworkPolicy allows is left to the Baseline tier.
        IsolationForgotten,
        /// An invalid rule that allows is one without conditions.
        InvalidAllowsAll,
        /// An invalid rule that denies denies nothing.
        InvalidDenyIgnored,
        /// Pods in the host's network are selected as peers.
        HostNetworkIsPeer,
        /// A pod's own node may be shut out.
        OwnNodeForgotten,
        /// Addresses of pods are not part of blocks.
        PodsOutsideBlocks,
        /// A range of ports loses its last block.
        PortBlockLost,
        /// A rule with ports matches protocols without ports.
        PortsMatchOther,
        /// Staged policies are enforced.
        StagedEnforced,
        /// The staged verdict is that of the staged policies alone.
        StagedAlone,
        /// Fail-safe ports are not.
        FailSafeForgotten,
        /// Service accounts are not looked at.
        ServiceAccountIgnored,
        /// The first of several blocks of one prefix is taken for all.
        OneBlockPerPrefix,
        /// Rows for new identities are not added to tables that exist.
        OldTablesNotExtended,
        /// Pods of a namespace whose labels change keep their identity.
        NamespaceLabelsStale,
        /// Endpoints keep their table when a policy goes.
        PolicyRemovalIgnored,
        /// A changed address set is not looked at.
        AddressSetStale,
        /// A pod that is not known is let through where others are denied.
        UnknownPodIsNobody,
        /// The endpoint's table is changed before the new table is filled.
        TableFlippedEarly,
        /// Old identities are dropped before the addresses have their new ones.
        IdentityDroppedEarly,
    }

    thread_local! {
        static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this fault is switched on, on this thread.
    pub fn is_on(mutant: Mutant) -> bool {
        ON.get() == Some(mutant)
    }

    /// Run with one fault, or none.
    pub fn with<T>(mutant: Option<Mutant>, run: impl FnOnce() -> T) -> T {
        struct Off;
        impl Drop for Off {
            fn drop(&mut self) {
                ON.set(None);
            }
        }
        let _off = Off;
        ON.set(mutant);
        run()
    }
}
