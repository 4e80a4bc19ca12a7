//! News of the host: whose changes matter to the brain, and whose to the targets.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use malha_kernel::PROTOCOL;
use malha_kernel::monitor::{Event, Monitor};
use tokio::sync::mpsc;

use crate::cluster::Change;
use crate::model::OVERLAY_LINK;
use crate::observe::POD_LINK_PREFIX;
use crate::target::Mailbox;

/// How long the thread waits before it looks whether it should end.
const PATIENCE: Duration = Duration::from_millis(500);
/// Changes come in bursts: this long after the first, all of them are answered with one look.
const GATHER: Duration = Duration::from_millis(100);
/// Routes that the kernel makes for addresses: RTPROT_KERNEL. The address is news enough.
const KERNEL_ROUTES: u8 = 2;

/// What news ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Concern {
    /// The host may not be what the brain knows.
    look: bool,
    /// Something of ours was touched.
    repair: bool,
}

/// Listens on a thread of its own.
#[derive(Debug)]
pub struct News {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl News {
    /// Listen in the calling thread's network namespace.
    ///
    /// # Errors
    /// When there is no socket or no thread to be had.
    pub fn listen(changes: mpsc::Sender<Change>, mailbox: Arc<Mailbox>) -> anyhow::Result<Self> {
        let monitor = Monitor::new()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("news".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) && !changes.is_closed() {
                    if let Err(error) = pass_on(&monitor, &changes, &mailbox) {
                        tracing::warn!(%error, "news of the host are read later");
                        std::thread::sleep(PATIENCE);
                    }
                }
            })?;
        Ok(Self { stop, thread })
    }

    /// End, soon. The thread to wait for.
    pub fn stop(self) -> JoinHandle<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
    }
}

fn pass_on(monitor: &Monitor, changes: &mpsc::Sender<Change>, mailbox: &Mailbox) -> io::Result<()> {
    let wait = |limit| monitor.wait(limit).map_err(io::Error::other);
    let mut concern = concern(&wait(PATIENCE)?);
    if concern == Concern::default() {
        return Ok(());
    }
    std::thread::sleep(GATHER);
    let more = self::concern(&wait(Duration::ZERO)?);
    concern.look |= more.look;
    concern.repair |= more.repair;
    if concern.look {
        // The only failure is that nobody thinks any more.
        let _ = changes.blocking_send(Change::Host);
    }
    if concern.repair {
        mailbox.nudge();
    }
    Ok(())
}

fn concern(events: &[Event]) -> Concern {
    let mut concern = Concern::default();
    for event in events {
        match event {
            Event::Link { name, .. } if name.starts_with(POD_LINK_PREFIX) => {}
            Event::Link { name, .. } if name == OVERLAY_LINK => concern.repair = true,
            Event::Route {
                protocol: PROTOCOL,
                host,
                ..
            } => concern.repair |= !host,
            Event::Route {
                protocol: KERNEL_ROUTES,
                ..
            } => {}
            Event::Link { .. } | Event::Address { .. } | Event::Route { .. } => concern.look = true,
            Event::Lost => (concern.look, concern.repair) = (true, true),
        }
    }
    concern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_no_news_and_what_is_ours_is_repaired() {
        let link = |name: &str| Event::Link {
            index: 7,
            name: name.to_owned(),
        };
        let route = |protocol, host| Event::Route {
            device: Some(7),
            protocol,
            host,
        };
        let (nothing, look, repair) = (
            Concern::default(),
            Concern {
                look: true,
                repair: false,
            },
            Concern {
                look: false,
                repair: true,
            },
        );
        let table = [
            (link("mlh0123456789ab"), nothing),
            (link("malha0"), repair),
            (link("eth0"), look),
            (Event::Address { device: 2 }, look),
            (route(PROTOCOL, true), nothing),
            (route(PROTOCOL, false), repair),
            (route(KERNEL_ROUTES, false), nothing),
            (route(3, false), look),
            (
                Event::Lost,
                Concern {
                    look: true,
                    repair: true,
                },
            ),
        ];
        for (event, wanted) in table {
            assert_eq!(concern(std::slice::from_ref(&event)), wanted, "{event:?}");
        }
    }
}
