//! The locks of the model checker shuttle behind the methods of `parking_lot`'s.
//!
//! They work only inside of a schedule that shuttle runs: it decides at every lock and at every
//! atomic which thread goes on. All atomics are sequentially consistent here, so a schedule shows
//! wrong orders of steps, not orderings of memory that are too weak.

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::Duration;

use ::shuttle::sync as checked;
pub(crate) use ::shuttle::sync::atomic;
use checked::LockResult;

/// A lock; no panic poisons it.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(checked::Mutex<T>);

/// Holds a [`Mutex`].
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a checked::Mutex<T>,
    /// Taken out only while a condition is waited for.
    held: Option<checked::MutexGuard<'a, T>>,
}

/// A lock for many readers or one writer; no panic poisons it.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(checked::RwLock<T>);

/// Wakes threads that wait for a change.
#[derive(Debug, Default)]
pub(crate) struct Condvar(checked::Condvar);

impl<T> Mutex<T> {
    #[track_caller]
    pub(crate) fn new(value: T) -> Self {
        Self(checked::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: &self.0, held: Some(unpoisoned(self.0.lock())) }
    }
}

impl<T> MutexGuard<'_, T> {
    /// Gives the lock back while something is done.
    pub(crate) fn unlocked<R>(guard: &mut Self, work: impl FnOnce() -> R) -> R {
        drop(guard.held.take());
        let result = work();
        guard.held = Some(unpoisoned(guard.mutex.lock()));
        result
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.held {
            Some(held) => held,
            None => unreachable!("a guard is used while it waits"),
        }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.held {
            Some(held) => held,
            None => unreachable!("a guard is used while it waits"),
        }
    }
}

impl<T> RwLock<T> {
    #[track_caller]
    pub(crate) fn new(value: T) -> Self {
        Self(checked::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> checked::RwLockReadGuard<'_, T> {
        unpoisoned(self.0.read())
    }

    pub(crate) fn write(&self) -> checked::RwLockWriteGuard<'_, T> {
        unpoisoned(self.0.write())
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        unpoisoned(self.0.get_mut())
    }
}

impl Condvar {
    #[track_caller]
    pub(crate) fn new() -> Self {
        Self(checked::Condvar::new())
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if let Some(held) = guard.held.take() {
            guard.held = Some(unpoisoned(self.0.wait(held)));
        }
    }

    /// No time passes in a schedule: this lets the others go on and returns, as if for no reason.
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _timeout: Duration) {
        drop(guard.held.take());
        ::shuttle::thread::yield_now();
        guard.held = Some(unpoisoned(guard.mutex.lock()));
    }
}

fn unpoisoned<G>(result: LockResult<G>) -> G {
    result.unwrap_or_else(PoisonError::into_inner)
}
