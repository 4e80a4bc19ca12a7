//! The verbs.
use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use ipnet::IpNet;
use malha_datapath::Datapath;
use malha_kernel::Handle;

use crate::attachment::{AddRequest, CheckRequest, Endpoint, Key};
use crate::config::{Config, Step};
use crate::error::{Error, Result};
use crate::ports::Ports;
use crate::reconcile::Reconciled;
use crate::record::{Phase, Records};
use crate::state::{Slot, State, Status};

/// This node's endpoints. Its calls may come from many threads at once; those for one attachment wait for each other.
#[derive(Debug)]
pub struct Manager {
    shared: Arc<Shared>,
    reaper: Option<JoinHandle<()>>,
}

/// What the manager and its reaper share.
#[derive(Debug)]
pub struct Shared {
    pub config: Config,
    pub datapath: Arc<Datapath>,
    pub records: Records,
    /// In the node's network namespace.
    pub handle: Handle,
    state: Mutex<State>,
    /// Locked before the state.
    ports: Mutex<Ports>,
    /// Some attachment is no longer busy.
    idle: Condvar,
    /// Something is doomed, or it is time to stop.
    pub work: Condvar,
    /// Held while links are deleted.
    pub reaping: Mutex<()>,
}

impl Manager {
    /// Take over the node's endpoints: read the records, drop those of another boot, undo what was half made, and bring
    /// kernel and datapath to what the records say, as [`Manager::reconcile`] does.
    ///
    /// # Errors
    /// [`Error::Record`], [`Error::TooSmall`], [`Error::SameFamily`], [`Error::Kernel`], [`Error::Datapath`].
    pub fn open(config: Config, datapath: Arc<Datapath>) -> Result<Self> {
        let records = Records::open(&config.state, &config.boot_id)?;
        let found = records.load()?;
        let mut state = State::new(config.mtu);
        state.set_prefixes(&config.prefixes)?;
        // Those that hold addresses before those whose addresses rest.
        let (freed, held): (Vec<_>, Vec<_>) = found
            .records
            .into_iter()
            .partition(|(phase, _)| *phase == Phase::Freed);
        held.into_iter()
            .chain(freed)
            .for_each(|(phase, endpoint)| state.restore(phase, endpoint));
        let mut ports = Ports::default();
        state
            .slots
            .values()
            .for_each(|slot| ports.restore(&slot.endpoint));
        let shared = Arc::new(Shared {
            records,
            handle: Handle::new()?,
            datapath,
            state: Mutex::new(state),
            ports: Mutex::new(ports),
            idle: Condvar::new(),
            work: Condvar::new(),
            reaping: Mutex::new(()),
            config,
        });
        shared.identify_doomed()?;
        let done = shared.reconcile()?;
        tracing::info!(?done, dropped = found.dropped, "endpoints taken over");
        let reaper = std::thread::Builder::new().name("endpoint-reaper".to_owned());
        let reaper = reaper.spawn({
            let shared = Arc::clone(&shared);
            move || shared.reap_until_stopped()
        });
        let reaper = reaper.map_err(|source| Error::Thread { source })?;
        Ok(Self {
            shared,
            reaper: Some(reaper),
        })
    }

    /// Use these prefixes from now on, at most one of each family. Attachments with other addresses keep them.
    ///
    /// # Errors
    /// [`Error::TooSmall`], [`Error::SameFamily`]; then nothing has changed.
    pub fn set_prefixes(&self, prefixes: &[IpNet]) -> Result<()> {
        self.shared.state().set_prefixes(prefixes)
    }

    /// Give attachments that are made from now on another MTU, in bytes. See also [`Manager::resize`].
    pub fn set_mtu(&self, mtu: u32) {
        self.shared.state().mtu = mtu;
    }

    /// Give all attachments another MTU, in bytes, those that live at both ends; how many of these were changed. One
    /// whose network namespace cannot be opened from here (by the name its runtime gave, or that of a process in it)
    /// keeps what it has. An MTU that a pod has made smaller itself stays.
    ///
    /// # Errors
    /// [`Error::Resize`], with each that failed.
    pub fn resize(&self, mtu: u32) -> Result<usize> {
        self.shared.resize(mtu)
    }

    /// Attach a container. For an attachment that is there and whole, in the same network namespace, the answer is what
    /// it was the first time: its runtime has lost it. (CNI asks for an error if the interface exists; what it guards
    /// against, an interface that is somebody else's, is [`Error::InterfaceExists`].) One that is there in another
    /// namespace, or broken, is removed and made again.
    ///
    /// # Errors
    /// Any of [`Error`]; then nothing is left that the reaper will not remove.
    pub fn add(&self, request: &AddRequest<'_>) -> Result<Endpoint> {
        let _turn = self.shared.turn(&request.key);
        let known = self.shared.state().find(&request.key).cloned();
        if let Some(slot) = known {
            if slot.endpoint.netns() == request.netns.id() && self.shared.is_whole(&slot) {
                tracing::info!(key = %request.key, id = slot.endpoint.id, "attachment is there already");
                return Ok(slot.endpoint);
            }
            self.shared.unplug(slot.endpoint.id)?;
        }
        let endpoint = self.shared.reserve(request)?;
        let made = self.shared.make(&endpoint, request.netns);
        if let Err(error) = made {
            tracing::warn!(key = %request.key, %error, "undoing a failed ADD");
            if let Err(second) = self.shared.unplug(endpoint.id) {
                tracing::warn!(key = %request.key, error = %second, "a failed ADD is not undone yet");
            }
            return Err(error);
        }
        tracing::debug!(key = %request.key, id = endpoint.id, addresses = ?endpoint.addresses, "attached");
        Ok(endpoint)
    }

    /// Detach a container. Not attached is fine; needs neither the container nor its network namespace. When this
    /// returns, nothing passes any more; the link is deleted soon after.
    ///
    /// # Errors
    /// [`Error::Datapath`]: it is not closed. Try again.
    pub fn del(&self, key: &Key) -> Result<()> {
        let _turn = self.shared.turn(key);
        let Some(id) = self.shared.state().find(key).map(|slot| slot.endpoint.id) else {
            return Ok(());
        };
        self.shared.unplug(id)?;
        tracing::debug!(%key, id, "detached");
        Ok(())
    }

    /// Whether an attachment is as it was made.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::Check`] with every difference.
    pub fn check(&self, request: &CheckRequest<'_>) -> Result<()> {
        let _turn = self.shared.turn(&request.key);
        let slot = self.shared.state().find(&request.key).cloned();
        let slot = slot.ok_or_else(|| Error::Unknown(request.key.clone()))?;
        self.shared.check(&slot, request)
    }

    /// Remove every attachment that is not among these. Goes on after errors. What is being made meanwhile is spared.
    ///
    /// # Errors
    /// [`Error::EmptyList`] if nothing is valid although containers live: then only those without are removed;
    /// [`Error::Removal`].
    pub fn gc(&self, valid: &[Key]) -> Result<()> {
        let valid: HashSet<&Key> = valid.iter().collect();
        let mut failures = Vec::new();
        let mut alive = 0;
        for slot in self.shared.ready() {
            let key = &slot.endpoint.key;
            if valid.contains(key) {
                continue;
            }
            if valid.is_empty() && self.shared.has_link(&slot)? {
                alive += 1;
                continue;
            }
            tracing::info!(%key, id = slot.endpoint.id, "removing an attachment that is not valid any more");
            if let Err(error) = self.shared.unplug_if_same(&slot) {
                failures.push(format!("{key}: {error}"));
            }
        }
        match (failures.is_empty(), alive) {
            (false, _) => Err(Error::Removal(failures)),
            (true, 0) => Ok(()),
            (true, alive) => Err(Error::EmptyList { alive }),
        }
    }

    /// Bring kernel and datapath to what the records say: give back what nobody holds any more (an attachment whose link
    /// is gone, because its network namespace is), remove links and entries without a record, repair what is missing.
    /// Meant to be called now and then, since few runtimes call GC, and some skip DEL.
    ///
    /// # Errors
    /// [`Error::Kernel`], [`Error::Datapath`].
    pub fn reconcile(&self) -> Result<Reconciled> {
        self.shared.reconcile()
    }

    /// Wait until every detached container's link is deleted.
    ///
    /// # Errors
    /// [`Error::Kernel`], [`Error::Datapath`]: some are not; the reaper will try again.
    pub fn flush(&self) -> Result<()> {
        self.shared.reap()
    }

    /// How full the node is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.state().status()
    }

    /// The attachments that are there, by number.
    #[must_use]
    pub fn list(&self) -> Vec<Endpoint> {
        self.shared
            .ready()
            .into_iter()
            .map(|slot| slot.endpoint)
            .collect()
    }

    /// An attachment, if it is there.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Endpoint> {
        let state = self.shared.state();
        let slot = state.find(key).filter(|slot| slot.phase == Phase::Ready)?;
        Some(slot.endpoint.clone())
    }
}

/// The links of detached containers are deleted first.
impl Drop for Manager {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.work.notify_all();
        if let Some(reaper) = self.reaper.take() {
            let _ = reaper.join();
        }
    }
}

/// The right to work on an attachment.
pub(crate) struct Turn<'a> {
    shared: &'a Shared,
    key: Key,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.shared.state().busy.remove(&self.key);
        self.shared.idle.notify_all();
    }
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The attachments that are there, by number.
    pub fn ready(&self) -> Vec<Slot> {
        let state = self.state();
        let mut ready: Vec<Slot> = state
            .slots
            .values()
            .filter(|slot| slot.phase == Phase::Ready)
            .cloned()
            .collect();
        ready.sort_by_key(|slot| slot.endpoint.id);
        ready
    }

    /// Close an endpoint and doom its link. The caller has the attachment's turn. However it ends, the endpoint is doomed.
    pub fn unplug(&self, id: u32) -> Result<()> {
        self.state().condemn(id);
        let result = self.close_recorded(id);
        self.state().doomed.push(id);
        self.work.notify_one();
        result
    }

    /// Unplug an attachment unless its endpoint is another one by now.
    pub fn unplug_if_same(&self, slot: &Slot) -> Result<()> {
        let _turn = self.turn(&slot.endpoint.key);
        let same = self
            .state()
            .find(&slot.endpoint.key)
            .is_some_and(|now| now.endpoint.id == slot.endpoint.id);
        if same {
            self.unplug(slot.endpoint.id)
        } else {
            Ok(())
        }
    }

    fn close_recorded(&self, id: u32) -> Result<()> {
        let Some(slot) = self.state().slots.get(&id).cloned() else {
            return Ok(());
        };
        if let Err(error) = self.identify_link(&slot) {
            tracing::warn!(id, %error, "a link may be left to the next reconciliation");
        }
        match self.records.advance(id, slot.stored, Phase::Deleting) {
            Ok(()) => self.store_phase(id, Phase::Deleting),
            // A disk that refuses must not keep a container alive: reconciliation finds that the link is gone.
            Err(error) => tracing::warn!(id, %error, "going on without a record of the deletion"),
        }
        self.config.at(Step::Deleting)?;
        self.close(&slot.endpoint)?;
        self.config.at(Step::Closed)
    }

    /// Note the index of a link whose maker did not come to it. Not if a newer endpoint has the attachment: the link of
    /// that name is its link.
    fn identify_link(&self, slot: &Slot) -> Result<()> {
        if slot.ifindex.is_some() {
            return Ok(());
        }
        let link = self.handle.link(&slot.endpoint.host_link)?;
        let mut state = self.state();
        let newer = state
            .find(&slot.endpoint.key)
            .is_some_and(|now| now.endpoint.id != slot.endpoint.id);
        let index = link
            .map(|link| link.index)
            .filter(|index| !newer && state.owner(*index).is_none());
        if let Some(slot) = state.slots.get_mut(&slot.endpoint.id) {
            slot.ifindex = index;
        }
        Ok(())
    }

    /// What an earlier process left half done.
    fn identify_doomed(&self) -> Result<()> {
        let doomed: Vec<Slot> = self
            .state()
            .slots
            .values()
            .filter(|slot| slot.phase == Phase::Deleting)
            .cloned()
            .collect();
        doomed.iter().try_for_each(|slot| self.identify_link(slot))
    }

    pub fn store_phase(&self, id: u32, stored: Phase) {
        if let Some(slot) = self.state().slots.get_mut(&id) {
            slot.stored = stored;
        }
    }

    /// Addresses and a record.
    fn reserve(&self, request: &AddRequest<'_>) -> Result<Endpoint> {
        let endpoint = self.state().reserve(request, self.config.quarantine)?;
        if let Err(error) = self.records.write(&endpoint, Phase::Adding) {
            self.state().release(endpoint.id);
            return Err(error);
        }
        Ok(endpoint)
    }

    /// Wait for the attachment's turn.
    pub(crate) fn turn(&self, key: &Key) -> Turn<'_> {
        let busy = |state: &mut State| state.busy.contains(key);
        let mut state = self
            .idle
            .wait_while(self.state(), busy)
            .unwrap_or_else(PoisonError::into_inner);
        state.busy.insert(key.clone());
        Turn {
            shared: self,
            key: key.clone(),
        }
    }
}
