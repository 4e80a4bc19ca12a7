//! The watch of any other kind: everything at first, then what changes.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::connection::{Current, error_chain, left};

/// First and longest pause after a failed watch.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Objects asked for at a time: what is listed is held in memory once as it came.
const PAGE: u32 = 100;

/// What the API server says of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard<T> {
    /// These, and no others.
    All(Vec<T>),
    /// This one is as it is now.
    Applied(T),
    /// This one, as it was last, is gone.
    Deleted(T),
}

/// Watch a kind and pass on what `keep` makes of each object, until `tell` says that nobody listens.
pub async fn run<K, T>(
    mut server: Current,
    keep: impl Fn(K) -> T,
    mut tell: impl FnMut(Heard<T>) -> bool,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut pause = PAUSE.0;
    loop {
        let using = server.borrow_and_update().clone();
        let ended = tokio::select! {
            ended = watch_one(using.client.clone(), &keep, &mut tell) => ended,
            () = left(&mut server, &using.url) => Ended::Healthy,
        };
        pause = match ended {
            Ended::Unheard => return,
            Ended::Healthy => PAUSE.0,
            Ended::Failing => (pause * 2).min(PAUSE.1),
        };
        tokio::time::sleep(pause).await;
    }
}

/// How a watch ended.
enum Ended {
    /// It worked for a while.
    Healthy,
    /// It did not work at all.
    Failing,
    /// Nobody listens.
    Unheard,
}

async fn watch_one<K, T>(
    client: kube::Client,
    keep: &impl Fn(K) -> T,
    tell: &mut impl FnMut(Heard<T>) -> bool,
) -> Ended
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().page_size(PAGE);
    let mut stream = pin!(watcher(Api::<K>::all(client), config));
    let mut listed = Vec::new();
    let mut ended = Ended::Failing;
    while let Some(event) = stream.next().await {
        let heard = match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.push(keep(object));
                continue;
            }
            Ok(watcher::Event::InitDone) => Heard::All(std::mem::take(&mut listed)),
            Ok(watcher::Event::Apply(object)) => Heard::Applied(keep(object)),
            Ok(watcher::Event::Delete(object)) => Heard::Deleted(keep(object)),
            Err(error) => {
                let (kind, problem) = (K::plural(&()), error_chain(&error));
                tracing::warn!(%kind, problem, "a watch failed");
                return ended;
            }
        };
        ended = Ended::Healthy;
        if !tell(heard) {
            return Ended::Unheard;
        }
    }
    ended
}
