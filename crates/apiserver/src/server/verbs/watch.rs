//! `watch`: a list's sequel, one line of JSON per event.
//!
//! The stream is pulled: nothing is read from the store before the client has taken what came before. What a selector
//! sees of a write depends on both sides of it: an object that comes into view is ADDED, one that leaves is DELETED.

use std::{collections::VecDeque, sync::Arc, time::Duration, vec::IntoIter};

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use jiff::Timestamp;
use rand::RngExt;
use serde_json::{Value, json};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};

use super::{
    Selection,
    read::{Match, bad_options, not_of_the_future, revision},
};
use crate::{
    api::{
        errors::{self, FieldError},
        negotiate::{Accept, Format},
        resources::Resource,
    },
    auth::fields::text,
    server::{Body, call::Call},
    status::Status,
    store::{self, Event, EventKind, WatchError},
};

/// How often a bookmark tells an idle client where it stands.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Without `timeoutSeconds` a watch lasts between one and two times this, at random.
const DEFAULT_SECONDS: u64 = 1800;
/// Events are put together up to this size before they are sent.
const CHUNK_BYTES: usize = 32 * 1024;

/// `GET` of a collection with `watch=true`.
///
/// # Errors
/// 400 and 422 for parameters, 406 for a format without lines, 429 when there are too many watches.
pub fn watch(call: &Call) -> Result<Response<Body>, Status> {
    if call.accept.format == Format::Yaml {
        return Err(errors::not_acceptable());
    }
    let selection = Selection::of(call)?;
    let start = Start::parse(call)?;
    let seconds = call.params.number("timeoutSeconds")?.filter(|s| *s != 0);
    let seconds =
        seconds.unwrap_or_else(|| rand::rng().random_range(DEFAULT_SECONDS..2 * DEFAULT_SECONDS));
    let permit = Arc::clone(&call.inner.watches).try_acquire_owned();
    let permit = permit.map_err(|_| {
        Status::new(
            429,
            "TooManyRequests",
            "the server holds as many watches as it may; try again later",
        )
    })?;
    let (initial, after) = start.initial(call, &selection);
    let now = Instant::now();
    let stream = Stream {
        resource: call.resource,
        accept: call.accept,
        namespace: call.target().namespace.to_owned(),
        selection,
        bookmarks: call.params.flag("allowWatchBookmarks"),
        end_initial: start.sends_end.then_some(after),
        initial,
        pending: VecDeque::new(),
        watch: call.inner.store.watch(&call.collection(), after),
        deadline: now + Duration::from_secs(seconds.min(u64::from(u32::MAX))),
        next_bookmark: now + BOOKMARK_EVERY,
        ended: false,
        _permit: permit,
    };
    let frames = futures::stream::unfold(stream, |mut stream| async {
        let chunk = stream.next().await?;
        Some((Ok(Frame::data(chunk)), stream))
    });
    let mut response = call.plain(200, &Value::Null, &[]);
    *response.body_mut() = StreamBody::new(frames).boxed_unsync();
    Ok(response)
}

/// Where a watch begins.
struct Start {
    revision: Option<u64>,
    /// Whether the present state comes first.
    sends_initial: bool,
    /// Whether a bookmark says that it is complete.
    sends_end: bool,
}

impl Start {
    fn parse(call: &Call) -> Result<Self, Status> {
        let params = &call.params;
        let revision = revision(params)?;
        let matching = Match::read(params)?;
        let asked = params.get("sendInitialEvents").is_some();
        let field = "resourceVersionMatch";
        if asked && matching != Match::NotOlderThan {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(bad_options(FieldError::forbidden(field, why)));
        }
        if !asked && matching != Match::Unset {
            let why =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            return Err(bad_options(FieldError::forbidden(field, why)));
        }
        if asked {
            not_of_the_future(revision, call.inner.store.revision())?;
        }
        let initial = params.flag("sendInitialEvents");
        Ok(Self {
            revision,
            sends_initial: initial || (!asked && revision.is_none()),
            sends_end: initial && params.flag("allowWatchBookmarks"),
        })
    }

    /// The objects to begin with, and the revision after which events follow.
    fn initial(&self, call: &Call, selection: &Selection) -> (IntoIter<Arc<Value>>, u64) {
        let store = &call.inner.store;
        if !self.sends_initial {
            let after = self.revision.unwrap_or_else(|| store.revision());
            return (Vec::new().into_iter(), after);
        }
        let snapshot = store.list(&call.collection(), call.target().namespace);
        let objects = snapshot.objects.into_iter().map(|object| object.value);
        let selected: Vec<_> = objects.filter(|object| selection.matches(object)).collect();
        (selected.into_iter(), snapshot.revision)
    }
}

/// A watch under way.
struct Stream {
    resource: &'static Resource,
    accept: Accept,
    namespace: String,
    selection: Selection,
    /// Whether the client wants bookmarks.
    bookmarks: bool,
    /// The revision of the bookmark that ends the initial events, while it is due.
    end_initial: Option<u64>,
    initial: IntoIter<Arc<Value>>,
    pending: VecDeque<Arc<Event>>,
    watch: store::Watch,
    deadline: Instant,
    next_bookmark: Instant,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

enum Step {
    Events(Result<store::Batch, WatchError>),
    Bookmark,
    Deadline,
}

impl Stream {
    /// The next lines; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            let mut chunk = Vec::new();
            self.take_waiting(&mut chunk);
            if chunk.is_empty() {
                self.wait(&mut chunk).await;
            }
            if !chunk.is_empty() {
                return Some(chunk.into());
            }
        }
        None
    }

    /// Encodes what need not be waited for.
    fn take_waiting(&mut self, chunk: &mut Vec<u8>) {
        while chunk.len() < CHUNK_BYTES {
            if let Some(object) = self.initial.next() {
                self.line(chunk, "ADDED", &object);
            } else if let Some(revision) = self.end_initial.take() {
                self.bookmark(chunk, revision, true);
            } else if let Some(event) = self.pending.pop_front() {
                self.event(chunk, &event);
            } else {
                return;
            }
        }
    }

    async fn wait(&mut self, chunk: &mut Vec<u8>) {
        let step = tokio::select! {
            // A busy watch must end in time too.
            biased;
            () = sleep_until(self.deadline) => Step::Deadline,
            batch = self.watch.next() => Step::Events(batch),
            () = sleep_until(self.next_bookmark), if self.bookmarks => Step::Bookmark,
        };
        match step {
            Step::Events(Ok(batch)) => self.pending.extend(batch.events),
            Step::Events(Err(error)) => self.fail(chunk, &error),
            Step::Bookmark => {
                self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                self.stand(chunk);
            }
            Step::Deadline => {
                self.ended = true;
                if self.bookmarks {
                    self.stand(chunk);
                }
            }
        }
    }

    /// A bookmark of where the watch stands, after whatever has come in meanwhile.
    fn stand(&mut self, chunk: &mut Vec<u8>) {
        match self.watch.poll() {
            Ok(batch) => {
                for event in batch.events {
                    self.event(chunk, &event);
                }
                self.bookmark(chunk, batch.revision, false);
            }
            Err(error) => self.fail(chunk, &error),
        }
    }

    fn fail(&mut self, chunk: &mut Vec<u8>, error: &WatchError) {
        self.ended = true;
        if let WatchError::Expired { .. } = error {
            let status = Status::new(410, "Expired", error.to_string());
            write_line(chunk, "ERROR", &status.to_json());
        }
    }

    fn event(&self, chunk: &mut Vec<u8>, event: &Event) {
        let here = self.namespace.is_empty()
            || text(&event.object, "/metadata/namespace") == self.namespace;
        if !here {
            return;
        }
        let previous = event.previous.as_deref();
        let was = previous.is_some_and(|object| self.selection.matches(object));
        let is = event.kind == EventKind::Put && self.selection.matches(&event.object);
        match (was, is) {
            (false, false) => {}
            (false, true) => self.line(chunk, "ADDED", &event.object),
            (true, true) => self.line(chunk, "MODIFIED", &event.object),
            (true, false) if event.kind == EventKind::Delete => {
                self.line(chunk, "DELETED", &event.object);
            }
            // Out of sight is as good as gone: the client gets what it last saw, with the revision of the change.
            (true, false) => {
                let mut last = previous.cloned().unwrap_or_default();
                last["metadata"]["resourceVersion"] = event.revision.to_string().into();
                self.line(chunk, "DELETED", &last);
            }
        }
    }

    fn line(&self, chunk: &mut Vec<u8>, kind: &str, object: &Value) {
        let shown = self.accept.object(self.resource, object, Timestamp::now());
        write_line(chunk, kind, &shown);
    }

    fn bookmark(&self, chunk: &mut Vec<u8>, revision: u64, end_of_initial: bool) {
        let bookmark = self
            .accept
            .bookmark(self.resource, revision, end_of_initial);
        write_line(chunk, "BOOKMARK", &bookmark);
    }
}

fn write_line(chunk: &mut Vec<u8>, kind: &str, object: &Value) {
    chunk.extend_from_slice(format!("{{\"type\":{},\"object\":", json!(kind)).as_bytes());
    // Writing JSON into memory cannot fail.
    let _ = serde_json::to_writer(&mut *chunk, object);
    chunk.extend_from_slice(b"}\n");
}
