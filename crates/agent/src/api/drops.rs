//! Drop events: read from the datapath by one thread, and passed to whoever listens, with names of pods.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use malha_datapath::{Events, PacketDrop, event_clock};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// How long the reader waits for an event before it looks whether it should end, in milliseconds.
const PATIENCE_MS: u16 = 500;
/// Pause between two gulps: a flood of drops costs a bounded part of a processor, and the ring holds this long.
const PAUSE: Duration = Duration::from_millis(20);
/// Lines that a slow listener may lag behind.
const BACKLOG: usize = 1024;

/// One dropped packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropLine {
    /// When.
    pub time: Timestamp,
    /// Why, as a name.
    pub reason: String,
    /// Why, as a sentence.
    pub meaning: String,
    /// Which program dropped it.
    pub hook: String,
    /// The pod whose state decided: `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Where it came from.
    pub source: IpAddr,
    /// The local pod of that address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_pod: Option<String>,
    /// Its port; 0 where there is none.
    pub source_port: u16,
    /// Where it went to.
    pub destination: IpAddr,
    /// The local pod of that address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_pod: Option<String>,
    /// Its port; 0 where there is none.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Length in bytes, link header included.
    pub bytes: u32,
}

/// The names of local pods: of an endpoint's number, and of an address.
pub trait PodNames: Send + Sync {
    /// The pod that has this number in the datapath.
    fn of_endpoint(&self, id: u32) -> Option<String>;
    /// The pod that has this address.
    fn of_address(&self, address: IpAddr) -> Option<String>;
}

/// The stream of drops.
#[derive(Clone, Debug)]
pub struct DropWatch {
    lines: broadcast::Sender<Arc<DropLine>>,
    stop: Arc<AtomicBool>,
}

impl DropWatch {
    /// Start reading, on a thread of its own.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(events: Events, names: Arc<dyn PodNames>) -> std::io::Result<Self> {
        let watch = Self {
            lines: broadcast::channel(BACKLOG).0,
            stop: Arc::default(),
        };
        let reader = watch.clone();
        std::thread::Builder::new()
            .name("drops".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || reader.read(events, &*names))?;
        Ok(watch)
    }

    /// A listener, from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<DropLine>> {
        self.lines.subscribe()
    }

    /// End the thread, soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The ring is emptied whether or not anybody listens: what a listener gets is new.
    fn read(&self, mut events: Events, names: &dyn PodNames) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut sources = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
            if matches!(
                poll(&mut sources, PollTimeout::from(PATIENCE_MS)),
                Ok(0) | Err(_)
            ) {
                continue;
            }
            while let Some(event) = events.next_event() {
                if self.lines.receiver_count() > 0 {
                    // Nobody listens any more: nobody misses it.
                    let _ = self.lines.send(Arc::new(line(&event, names)));
                }
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn line(event: &PacketDrop, names: &dyn PodNames) -> DropLine {
    DropLine {
        time: wall_clock(event.time),
        reason: event.reason.name().to_owned(),
        meaning: event.reason.sentence().to_owned(),
        hook: event.hook.name().to_owned(),
        pod: names.of_endpoint(event.endpoint),
        source: event.source,
        source_pod: names.of_address(event.source),
        source_port: event.source_port,
        destination: event.destination,
        destination_pod: names.of_address(event.destination),
        destination_port: event.destination_port,
        protocol: event.protocol,
        bytes: event.bytes,
    }
}

/// The time of day of a reading of the monotonic clock, in nanoseconds.
fn wall_clock(monotonic: u64) -> Timestamp {
    let now = Timestamp::now();
    let age = Duration::from_nanos(event_clock().saturating_sub(monotonic));
    SignedDuration::try_from(age).map_or(now, |age| now.saturating_sub(age).unwrap_or(now))
}
