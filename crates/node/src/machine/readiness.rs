//! Whether pods can have a network: asked whenever the configuration directory changes, and every few seconds.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use rustix::fs::inotify;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::runtime::{NetworkError, Runtime};

/// How often STATUS is asked while it is good: a kubelet's interval.
const INTERVAL: Duration = Duration::from_secs(5);
/// After a change, and as long as it is bad, it is asked more often: from this …
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// … to this.
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Whether pods can have a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkState {
    /// Yes, this one.
    Ready(String),
    /// No, because.
    Failed(String),
}

impl NetworkState {
    /// What a kubelet says when it is not.
    pub fn message(&self) -> Option<String> {
        match self {
            Self::Ready(_) => None,
            Self::Failed(why) => Some(format!(
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                 message:Network plugin returns error: {why}"
            )),
        }
    }
}

/// Starts to watch; the receiver changes when the answer does.
pub fn watch_network(runtime: Arc<Runtime>) -> watch::Receiver<NetworkState> {
    let first = NetworkState::Failed("cni plugin not initialized".to_owned());
    let (sender, receiver) = watch::channel(first);
    let (changed, changes) = mpsc::channel(1);
    let directory = runtime.network().conf_dir().to_owned();
    std::thread::spawn(move || {
        if let Err(error) = report_changes(&directory, &changed) {
            tracing::warn!(directory = %directory.display(), %error, "changes of the CNI configuration are noticed late");
        }
    });
    tokio::spawn(follow(runtime, sender, changes));
    receiver
}

async fn follow(
    runtime: Arc<Runtime>,
    sender: watch::Sender<NetworkState>,
    mut changes: mpsc::Receiver<()>,
) {
    let mut retry = FIRST_RETRY;
    let mut watching = true;
    loop {
        let asked = runtime.clone();
        let state = tokio::task::spawn_blocking(move || ask(&asked)).await;
        let state = state.unwrap_or_else(|e| NetworkState::Failed(e.to_string()));
        let good = matches!(state, NetworkState::Ready(_));
        let changed = sender.send_if_modified(|current| {
            let changed = *current != state;
            *current = state;
            changed
        });
        if changed {
            tracing::info!(network = ?*sender.borrow(), "pod network");
        }
        if sender.is_closed() {
            return;
        }
        let pause = if good { INTERVAL } else { retry };
        retry = if good {
            FIRST_RETRY
        } else {
            (retry * 2).min(LAST_RETRY)
        };
        tokio::select! {
            change = changes.recv(), if watching => {
                watching = change.is_some();
                retry = FIRST_RETRY;
            }
            () = sleep_until(Instant::now() + pause) => {}
        }
    }
}

fn ask(runtime: &Runtime) -> NetworkState {
    match runtime.network().status() {
        Ok(name) => NetworkState::Ready(name),
        Err(error) => {
            if let NetworkError::NotInitialized(why) = &error {
                tracing::debug!(%why, "no network");
            }
            NetworkState::Failed(error.to_string())
        }
    }
}

/// Blocks for as long as anybody listens. What is written in place, moved in or removed counts; a directory that does
/// not exist is made, so that it can be watched.
fn report_changes(directory: &Path, changed: &mpsc::Sender<()>) -> io::Result<()> {
    use inotify::{CreateFlags, WatchFlags};
    fs::create_dir_all(directory)?;
    let descriptor = inotify::init(CreateFlags::CLOEXEC)?;
    let what = WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::CREATE;
    inotify::add_watch(&descriptor, directory, what)?;
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&descriptor, &mut buffer);
    loop {
        match reader.next() {
            // One that waits already stands for this one too.
            Ok(_) => drop(changed.try_send(())),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if changed.is_closed() {
            return Ok(());
        }
    }
}
