//! What was dropped: counters by reason, and events.
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use aya::maps::{Map as AyaMap, MapData, RingBuf};
use malha_abi::{Counter, DropEvent, REASONS, Reason, map as name};

use crate::error::{Error, Result};
use crate::hooks::Hook;
use crate::map::{Map, value_of};
use crate::{pins, sys};

/// A drop counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropCount {
    /// Why.
    pub reason: Reason,
    /// How many packets.
    pub packets: u64,
    /// How many bytes, link headers included.
    pub bytes: u64,
}

/// One dropped packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketDrop {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// Why.
    pub reason: Reason,
    /// Where.
    pub hook: Hook,
    /// The interface the packet was on.
    pub ifindex: u32,
    /// [`crate::Endpoint::id`] of the endpoint whose state decided; 0: none.
    pub endpoint: u32,
    /// Length in bytes, link header included.
    pub bytes: u32,
    /// Source address; `::` for what is not IP.
    pub source: IpAddr,
    /// Destination address; `::` for what is not IP.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port; 0 where there is none.
    pub source_port: u16,
    /// Destination port; 0 where there is none.
    pub destination_port: u16,
    /// The policy rule that decided, see [`crate::Verdict::rule`]; 0: none.
    pub rule: u32,
}

/// The counters.
#[derive(Debug)]
pub(crate) struct Counters {
    drops: Map<u32, Counter>,
    lost: Map<u32, Counter>,
}

impl Counters {
    pub(crate) fn open(maps: &Path) -> Result<Self> {
        let cpus = aya::util::nr_cpus().map_err(|(_, source)| Error::Map {
            what: "size",
            map: name::DROPS,
            source,
        })?;
        Ok(Self {
            drops: Map::open(maps, name::DROPS, cpus)?,
            lost: Map::open(maps, name::LOST, cpus)?,
        })
    }

    pub(crate) fn read(&self) -> Result<Vec<DropCount>> {
        let read = |reason: &Reason| {
            let sum = sum(&self.drops, *reason as u32)?;
            Ok(DropCount {
                reason: *reason,
                packets: sum.packets,
                bytes: sum.bytes,
            })
        };
        REASONS.iter().map(read).collect()
    }

    pub(crate) fn lost(&self) -> Result<u64> {
        Ok(sum(&self.lost, 0)?.packets)
    }
}

/// An older version has fewer reasons. Its counters are let go; its programs count in them until they are replaced.
pub(crate) fn begin_anew_if_small(maps: &Path) -> Result<()> {
    let pin = maps.join(name::DROPS);
    let slots = sys::get(&pin).and_then(|map| Ok(sys::map_info(map.as_fd())?.max_entries));
    match slots {
        Ok(slots) if slots < malha_abi::reason_slots() => pins::remove(&pin),
        _ => Ok(()),
    }
}

fn sum(map: &Map<u32, Counter>, index: u32) -> Result<Counter> {
    let values = map.get_all(&index)?.unwrap_or_default();
    Ok(values
        .iter()
        .fold(Counter::default(), |sum, value| Counter {
            packets: sum.packets.wrapping_add(value.packets),
            bytes: sum.bytes.wrapping_add(value.bytes),
        }))
}

/// A reader of drop events. Poll its descriptor for reading, then take what [`Events::next_event`] gives.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl Events {
    pub(crate) fn open(maps: &Path) -> Result<Self> {
        let failed = |source| Error::Load {
            what: "event reader".to_owned(),
            source: Box::new(source),
        };
        let data = MapData::from_pin(maps.join(name::EVENTS)).map_err(failed)?;
        let map = AyaMap::from_map_data(data).map_err(failed)?;
        Ok(Self {
            ring: RingBuf::try_from(map).map_err(failed)?,
        })
    }

    /// The next event, if there is one now. Events of a newer version with unknown reasons are left out.
    pub fn next_event(&mut self) -> Option<PacketDrop> {
        loop {
            let event = value_of::<DropEvent>(&self.ring.next()?);
            if let Some(event) = event.as_ref().and_then(from_event) {
                return Some(event);
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the ring, which lives at least as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

/// The clock of [`PacketDrop::time`], now.
#[must_use]
pub fn event_clock() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes into the value, which lives for the length of the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000) + now.tv_nsec as u64
}

fn from_event(event: &DropEvent) -> Option<PacketDrop> {
    Some(PacketDrop {
        time: event.time,
        reason: Reason::from_number(event.reason)?,
        hook: Hook::from_number(event.hook)?,
        ifindex: event.ifindex,
        endpoint: event.endpoint,
        bytes: event.bytes,
        source: event.source.into(),
        destination: event.destination.into(),
        protocol: event.protocol,
        source_port: event.source_port,
        destination_port: event.destination_port,
        rule: event.rule,
    })
}
