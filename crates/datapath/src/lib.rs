//! The eBPF datapath: load, pin, attach, and keep its maps equal to what the agent wants.
//!
//! Everything that forwards a packet lives in the kernel and stays there when this process ends: programs and maps are
//! pinned, attachments are filters or pinned links. [`Datapath::open`] finds them again. If the embedded programs are
//! not the ones in force, it loads them beside, over the same maps, and moves every attachment with an atomic replace:
//! each packet is seen by the old program or by the new one.
//!
//! What its user has to bring about, in this order:
//!
//! - The overlay device: `vxlan external` (collect-metadata) with the UDP port only, NOARP, a MAC address that no other
//!   node has, an MTU 50 (IPv4 underlay) or 70 (IPv6) below the uplink's. One for both families. It has an address of
//!   each family that other nodes know as this node's, alone in its prefix (and [`NextHop::Local`] here): whoever
//!   masquerades on the way into the overlay, as kube-proxy does, takes that.
//! - Routes here: every pod CIDR [`NextHop::Blackhole`]; this node's addresses [`NextHop::Local`]; each other node's
//!   pod prefixes, and (overlay) its addresses as host routes, [`NextHop::Overlay`] or [`NextHop::Direct`]. A tunnel end
//!   is the address that the node's encapsulated packets come from.
//! - The same routes in the kernel, for the node's own traffic and for packets that need an ICMP answer: overlay
//!   prefixes `dev` the overlay device with a `src` of this node, direct ones `via` the node.
//! - Where pods reach a node's address through the overlay, and the stack forwards a pod's packet there nevertheless (a
//!   service whose backend is that node), it leaves by the uplink: masquerade it. `rp_filter` of the overlay device: 2.
//! - A pod: entries in [`Endpoints`] (closed), then [`Datapath::attach_endpoint`], and only then the link up: nothing
//!   passes before it may. On the host end a route and a permanent neighbour for each of the pod's addresses.
//!
//! All calls block and act in the calling thread's network and mount namespace. A [`Datapath`] may be shared between
//! threads: the kernel orders the changes.
mod attach;
mod drops;
mod endpoints;
mod error;
mod features;
mod flows;
mod hooks;
mod map;
mod object;
mod pins;
mod policy;
mod routes;
mod sys;
mod tc;

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use malha_abi::{ABI_COMPATIBLE_SINCE, ABI_VERSION, ConfigValue, map as name};
use nix::fcntl::{Flock, FlockArg};

pub use drops::{DropCount, Events, PacketDrop, event_clock};
pub use endpoints::{Endpoint, Endpoints, Mac};
pub use error::{Error, Result};
pub use flows::Flow;
pub use hooks::{Direction, Hook};
pub use malha_abi::{Reason, identity};
pub use policy::{Connection, MadeBy, Peer, Policies, Policy, PortPrefix, Verdict};
pub use routes::{NextHop, Routes};

use map::Map;
use object::Programs;
use pins::Pins;

/// Where the pins are unless the configuration says otherwise.
pub const DEFAULT_PINS: &str = "/sys/fs/bpf/malha";

/// The egress hook first: what the stack sends is to be known before the answer comes.
const UPLINK_HOOKS: [Hook; 2] = [Hook::ToUplink, Hook::FromUplink];

/// How to open the datapath.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of the pins, on a BPF filesystem.
    pub pins: PathBuf,
    /// Addresses of local pods at most (two for a pod with both families). Fixed when the maps are first made.
    pub max_endpoints: u32,
    /// Prefixes at most. Fixed when the maps are first made.
    pub max_routes: u32,
    /// Flows at most that the node's stack has a hand in (services that it translates, host ports), once for UDP and once
    /// for everything else: some 110 bytes of kernel memory each, twice, or 7 MiB for the usual 32768. The kernel forgets
    /// those that were not used for the longest time. Fixed when the maps are first made.
    pub max_flows: u32,
    /// Prefixes at most whose identities are known: pods, nodes, and the ranges that policies name. Memory is used as
    /// they come, some 100 bytes each. Fixed when the maps are first made.
    pub max_identities: u32,
    /// Rows of policy tables at most, and of classes of ports. Memory is used as they come, some 90 bytes each. Fixed when the maps are first
    /// made.
    pub max_verdicts: u32,
    /// Connections of isolated endpoints at most, some 130 bytes of kernel memory each, or 8 MiB for the usual 65536. The
    /// kernel forgets those that were not used for the longest time; TCP connections survive that where their policy
    /// still allows them. Fixed when the maps are first made.
    pub max_connections: u32,
    /// Bytes of the ring buffer of drop events, rounded up to a power of two. Fixed when the maps are first made.
    pub event_bytes: u32,
    /// How uplink and overlay device are attached.
    pub attach: AttachMode,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pins: PathBuf::from(DEFAULT_PINS),
            max_endpoints: 4096,
            max_routes: 16384,
            max_flows: 32768,
            max_identities: 1 << 18,
            max_verdicts: 1 << 20,
            max_connections: 65536,
            event_bytes: 256 * 1024,
            attach: AttachMode::Auto,
        }
    }
}

/// How to attach to devices that other programs may watch, too. Pods' links always have filters, see `tc.rs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// tcx links where the kernel has them (Linux 6.6), else filters.
    #[default]
    Auto,
    /// Filters always.
    Filter,
}

/// What is true of the whole node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The collect-metadata ("external") VXLAN device; None: no overlay.
    pub overlay_ifindex: Option<u32>,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// Largest IP packet that fits the overlay, in bytes; 0: not checked.
    pub overlay_mtu: u32,
    /// Largest IP packet that fits the uplink, in bytes; 0: not checked.
    pub direct_mtu: u32,
}

/// What there is of a datapath, whether or not a process has it open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// Whether there are pins.
    pub pins: bool,
    /// Names of the links of this network namespace with programs attached.
    pub links: Vec<String>,
}

/// The datapath of this node.
#[derive(Debug)]
pub struct Datapath {
    pins: Pins,
    attach: AttachMode,
    programs: Programs,
    config: Map<u32, ConfigValue>,
    endpoints: Endpoints,
    routes: Routes,
    flows: flows::Flows,
    policies: Policies,
    drops: drops::Counters,
}

impl Datapath {
    /// Take over what is pinned, or load it. Traffic of attached endpoints flows on during the call.
    ///
    /// # Errors
    /// See [`Error`]; in particular no privilege, no BPF filesystem, a kernel that lacks something, or maps of another
    /// layout version. What was in force before stays in force.
    pub fn open(config: &Config) -> Result<Self> {
        Self::open_with(config, object::OBJECT)
    }

    /// As [`Datapath::open`], with another object than the embedded one: for tests of replacement.
    ///
    /// # Errors
    /// As [`Datapath::open`].
    #[doc(hidden)]
    pub fn open_with(config: &Config, object: &[u8]) -> Result<Self> {
        let pins = Pins::new(&config.pins);
        pins.create()?;
        let _lock = lock(pins.root())?;
        check_version(&pins)?;
        let hash = object::hash(object);
        let (current, new) = (pins.programs(hash), pins.new_programs(hash));
        let programs = match Programs::open(&current) {
            Some(programs) => programs,
            None => {
                tracing::info!(hash = format!("{hash:016x}"), pins = %config.pins.display(), "loading BPF programs");
                let programs = Programs::load(object, config, &pins, &new)?;
                attach::move_all(&pins, &programs)?;
                pins::remove_directory(&current)?;
                object::commit(&new, &current)?;
                object::remove_others(&pins, &current)?;
                programs
            }
        };
        Self::over(pins, config.attach, programs)
    }

    fn over(pins: Pins, attach: AttachMode, programs: Programs) -> Result<Self> {
        let maps = pins.maps();
        let datapath = Self {
            attach,
            programs,
            config: Map::open(&maps, name::CONFIG, 1)?,
            endpoints: Endpoints::open(&maps)?,
            routes: Routes::open(&maps)?,
            flows: flows::Flows::open(&maps)?,
            policies: Policies::open(&maps)?,
            drops: drops::Counters::open(&maps)?,
            pins,
        };
        let found = datapath.config.get(&0)?.unwrap_or_default();
        if found.abi_version != ABI_VERSION {
            let value = ConfigValue {
                abi_version: ABI_VERSION,
                ..found
            };
            datapath.config.set(&0, &value)?;
        }
        Ok(datapath)
    }

    /// Set what is true of the whole node.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn configure(&self, node: &Node) -> Result<()> {
        let value = ConfigValue {
            abi_version: ABI_VERSION,
            vxlan_ifindex: node.overlay_ifindex.unwrap_or(0),
            vni: node.vni,
            overlay_mtu: node.overlay_mtu,
            direct_mtu: node.direct_mtu,
            flags: 0,
        };
        self.config.set(&0, &value)
    }

    /// What [`Datapath::configure`] last set, by this process or one before it.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn node(&self) -> Result<Node> {
        let value = self.config.get(&0)?.unwrap_or_default();
        Ok(Node {
            overlay_ifindex: (value.vxlan_ifindex != 0).then_some(value.vxlan_ifindex),
            vni: value.vni,
            overlay_mtu: value.overlay_mtu,
            direct_mtu: value.direct_mtu,
        })
    }

    /// Attach to the host end of a pod's link, by index (about 0.1 ms). Again is fine. Ends with the link.
    ///
    /// # Errors
    /// [`Error::Attach`], [`Error::NoInterface`].
    pub fn attach_endpoint(&self, ifindex: u32) -> Result<()> {
        attach::filters(&self.programs, ifindex, &[Hook::FromPod, Hook::ToPod])
    }

    /// Detach from the host end of a pod's link. Only for a link that stays: one that is deleted needs nothing.
    ///
    /// # Errors
    /// [`Error::Attach`].
    pub fn detach_endpoint(&self, ifindex: u32) -> Result<()> {
        attach::detach(&self.pins, ifindex, &[Hook::FromPod, Hook::ToPod])
    }

    /// Attach to an uplink of the node, for direct routing. Again is fine.
    ///
    /// # Errors
    /// [`Error::Attach`], [`Error::NoInterface`].
    pub fn attach_uplink(&self, name: &str) -> Result<()> {
        self.attach_device(name, &UPLINK_HOOKS)
    }

    /// Detach from an uplink. Not attached is fine.
    ///
    /// # Errors
    /// [`Error::Attach`], [`Error::NoInterface`].
    pub fn detach_uplink(&self, name: &str) -> Result<()> {
        attach::detach(&self.pins, index_of(name)?, &UPLINK_HOOKS)
    }

    /// Attach to the collect-metadata VXLAN device. Again is fine.
    ///
    /// # Errors
    /// [`Error::Attach`], [`Error::NoInterface`].
    pub fn attach_overlay(&self, name: &str) -> Result<()> {
        self.attach_device(name, &[Hook::FromOverlay, Hook::ToOverlay])
    }

    /// Detach from the VXLAN device. Not attached is fine.
    ///
    /// # Errors
    /// [`Error::Attach`], [`Error::NoInterface`].
    pub fn detach_overlay(&self, name: &str) -> Result<()> {
        attach::detach(
            &self.pins,
            index_of(name)?,
            &[Hook::FromOverlay, Hook::ToOverlay],
        )
    }

    /// The local pods.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Where prefixes lie.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// What isolated endpoints may send and get.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The flows that the node's stack has, or had lately, a hand in: those whose packets do not take the short way.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn flows(&self) -> Result<Vec<Flow>> {
        self.flows.list()
    }

    /// Dropped packets by reason, since the maps were made; every reason is there.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn drops(&self) -> Result<Vec<DropCount>> {
        self.drops.read()
    }

    /// Drop events that were lost because nobody read the others in time.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn lost_events(&self) -> Result<u64> {
        self.drops.lost()
    }

    /// A reader of drop events. One at a time: readers take events from each other.
    ///
    /// # Errors
    /// [`Error::Load`].
    pub fn events(&self) -> Result<Events> {
        Events::open(&self.pins.maps())
    }

    /// The program at a hook: for tests that run it without a network.
    #[doc(hidden)]
    #[must_use]
    pub fn program(&self, hook: Hook) -> BorrowedFd<'_> {
        self.programs.get(hook)
    }

    /// What [`Datapath::uninstall`] would remove. Needs no open datapath.
    ///
    /// # Errors
    /// [`Error::Attach`], [`Error::Pin`].
    pub fn installed(pins: &Path) -> Result<Installed> {
        Ok(Installed {
            pins: pins.exists(),
            links: attach::attached(&Pins::new(pins))?,
        })
    }

    /// Remove every attachment in this network namespace and every pin. Absent is fine; needs no open datapath.
    ///
    /// # Errors
    /// [`Error::Removal`] with everything that failed; the rest is removed.
    pub fn uninstall(pins: &Path) -> Result<()> {
        let pins = Pins::new(pins);
        let mut failures: Vec<String> = attach::remove_all_filters()
            .iter()
            .map(ToString::to_string)
            .collect();
        let mut note =
            |result: Result<()>| failures.extend(result.err().map(|error| error.to_string()));
        let directories = [pins.links(), pins.maps()]
            .into_iter()
            .chain(pins.all_programs());
        directories.for_each(|directory| note(pins::remove_directory(&directory)));
        note(pins::remove(pins.root()));
        if failures.is_empty() {
            Ok(())
        } else {
            Err(Error::Removal(failures))
        }
    }

    fn attach_device(&self, name: &str, hooks: &[Hook]) -> Result<()> {
        let ifindex = index_of(name)?;
        match self.attach {
            AttachMode::Auto => attach::links(&self.pins, &self.programs, ifindex, hooks),
            AttachMode::Filter => attach::filters(&self.programs, ifindex, hooks),
        }
    }
}

/// The embedded object: for tests of replacement.
#[doc(hidden)]
#[must_use]
pub fn object_bytes() -> &'static [u8] {
    object::OBJECT
}

fn index_of(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name).map_err(|_| Error::NoInterface {
        name: name.to_owned(),
    })
}

/// Two agents must not load at once.
fn lock(root: &Path) -> Result<Flock<std::fs::File>> {
    let file = std::fs::File::open(root).map_err(|source| pins::pin_error("open", root, source))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| pins::pin_error("lock", root, errno.into()))
}

/// Pinned maps are either of a version that we can take over or not made yet.
fn check_version(pins: &Pins) -> Result<()> {
    if !pins.maps().join(name::CONFIG).exists() {
        return Ok(());
    }
    let found = Map::<u32, ConfigValue>::open(&pins.maps(), name::CONFIG, 1)?
        .get(&0)?
        .unwrap_or_default()
        .abi_version;
    // Version 0: made, and not yet written when its maker was killed.
    if found == 0 || (ABI_COMPATIBLE_SINCE..=ABI_VERSION).contains(&found) {
        return drops::begin_anew_if_small(&pins.maps());
    }
    Err(Error::Layout {
        path: pins.root().to_owned(),
        found,
        wanted: ABI_VERSION,
    })
}
