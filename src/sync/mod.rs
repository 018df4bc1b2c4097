//! Locks and atomics, in one place, so that a model checker's can stand in for them.

mod gathering;
#[cfg(shuttle)]
mod shuttle;
mod striped;

pub(crate) use striped::{Striped, StripedCount};

pub(crate) use gathering::{Callers, Gathering};

#[cfg(not(shuttle))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(not(shuttle))]
pub(crate) use std::sync::atomic;

#[cfg(shuttle)]
pub(crate) use self::shuttle::{Condvar, Mutex, MutexGuard, RwLock, atomic};

/// True if a model checker chooses the schedules.
pub(crate) const MODEL_CHECKED: bool = cfg!(shuttle);
