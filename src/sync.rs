//! Locks, in one place, so that a model checker's can stand in for them.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
