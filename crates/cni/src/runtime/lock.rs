//! Who waits for whom.

use std::{
    collections::HashSet,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// One turn per container, or one turn for all of them.
#[derive(Clone, Debug, Default)]
pub struct Locks(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    busy: HashSet<String>,
    /// Somebody has all, or waits for all: nobody else begins.
    all: bool,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    shared: Arc<Shared>,
    container: Option<String>,
}

impl Locks {
    /// Waits for the turn of a container.
    pub fn container(&self, id: &str) -> Turn {
        let taken = |state: &mut State| state.all || state.busy.contains(id);
        let mut state = self.0.wait_while(self.0.lock(), taken);
        state.busy.insert(id.to_owned());
        Turn {
            shared: self.0.clone(),
            container: Some(id.to_owned()),
        }
    }

    /// Waits until every turn that began has ended.
    pub fn all(&self) -> Turn {
        let mut state = self.0.wait_while(self.0.lock(), |state| state.all);
        state.all = true;
        drop(self.0.wait_while(state, |state| !state.busy.is_empty()));
        Turn {
            shared: self.0.clone(),
            container: None,
        }
    }
}

impl Shared {
    /// A panic elsewhere leaves the state whole: it is changed in single steps.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'a>(
        &self,
        guard: MutexGuard<'a, State>,
        condition: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        self.changed
            .wait_while(guard, condition)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        match &self.container {
            Some(id) => {
                state.busy.remove(id);
            }
            None => state.all = false,
        }
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    #[test]
    fn one_container_is_served_one_at_a_time_and_all_alone() {
        let locks = Locks::default();
        let inside: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
        thread::scope(|scope| {
            for worker in 0..8 {
                let (locks, inside) = (&locks, &inside);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let which = worker % 2;
                        let _turn = locks.container(["a", "b"][which]);
                        assert_eq!(inside[which].fetch_add(1, Ordering::SeqCst), 0);
                        inside[which].fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..50 {
                    let _alone = locks.all();
                    assert!(inside.iter().all(|n| n.load(Ordering::SeqCst) == 0));
                }
            });
        });
    }

    #[test]
    fn different_containers_do_not_wait_for_each_other() {
        let locks = Locks::default();
        let _a = locks.container("a");
        let _b = locks.container("b");
    }
}
