//! Handles on a segment's bytes, and knowing when those given out before are gone.
//!
//! Whoever reads a segment holds a handle while it does, and what is read from a mapping goes on
//! holding it. To erase bytes, the handle is replaced, and all handles given out before are waited
//! for.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::disk::DiskLock;
use crate::map::{Map, Pin};
use crate::sync::{Mutex, Striped};

/// A right to read.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    /// The durable bytes, if the segment is mapped; empty if it is not.
    pub(super) window: Bytes,
    /// What is waited for; the window holds it itself.
    _pin: Option<Arc<Pin>>,
}

/// The lock of a store whose values lie in mapped files: it is kept until the last of them goes, so
/// that no later opening erases what they show.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    lock: Mutex<Option<Arc<dyn DiskLock>>>,
}

impl Lease {
    /// What values are to keep.
    pub(crate) fn new(lock: Option<Arc<dyn DiskLock>>) -> Self {
        Self { lock: Mutex::new(lock) }
    }

    /// Leaves it to the values that are held.
    pub(crate) fn end(&self) {
        let lock = self.lock.lock().take();
        drop(lock);
    }
}

/// Gives out handles.
#[derive(Debug)]
pub(super) struct Gate {
    map: Option<Arc<Map>>,
    lease: Arc<Lease>,
    /// The handle given out now; none once the segment has left. Each copy counts its references by
    /// itself.
    current: Striped<Option<Handle>>,
    issued: Mutex<Vec<Weak<Pin>>>,
}

impl Gate {
    /// The gate of a segment, mapped or not.
    pub(super) fn new(map: Option<Arc<Map>>, lease: Arc<Lease>) -> Self {
        let gate = Self { map, lease, current: Striped::new(|| None), issued: Mutex::default() };
        gate.give_out(|_| true);
        gate
    }

    /// The mapping.
    pub(super) fn map(&self) -> Option<&Arc<Map>> {
        self.map.as_ref()
    }

    /// A handle on the bytes that are durable now.
    pub(super) fn handle(&self) -> Option<Handle> {
        self.current.read().clone()
    }

    /// Replaces the handle, unless none is given out any more; gives the pins of all handles given out
    /// before that may still be held.
    pub(super) fn renew(&self) -> Vec<Weak<Pin>> {
        self.give_out(Option::is_some)
    }

    fn give_out(&self, replaces: impl Fn(&Option<Handle>) -> bool) -> Vec<Weak<Pin>> {
        let lock = self.map.as_ref().and_then(|_| self.lease.lock.lock().clone());
        let pin = Arc::new(Pin::new(lock));
        let mut issued = self.issued.lock();
        issued.retain(|pin| pin.strong_count() > 0);
        let before = issued.clone();
        issued.push(Arc::downgrade(&pin));
        let mut old = Vec::new();
        self.current.write(|current| {
            if !replaces(current) {
                return;
            }
            let pin = Arc::clone(&pin);
            let handle = match &self.map {
                Some(map) => Handle { window: map.window(pin), _pin: None },
                None => Handle { window: Bytes::new(), _pin: Some(pin) },
            };
            old.push(current.replace(handle));
        });
        // The last reference to a mapping may go here: not under a lock.
        drop(issued);
        drop(old);
        before
    }

    /// Gives out no handle any more.
    pub(super) fn shut(&self) {
        let mut handles = Vec::new();
        self.current.write(|current| handles.push(current.take()));
        drop(handles);
    }

    /// How many handles readers hold.
    pub(super) fn held(&self) -> usize {
        if self.current.read().is_some() {
            self.renew();
        }
        let own = usize::from(self.current.read().is_some());
        let mut issued = self.issued.lock();
        issued.retain(|pin| pin.strong_count() > 0);
        issued.len().saturating_sub(own)
    }
}

/// True if none of these is held any more.
pub(super) fn are_released(pins: &[Weak<Pin>]) -> bool {
    pins.iter().all(|pin| pin.strong_count() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_shut_it_stays_shut() {
        let gate = Gate::new(None, Arc::default());
        gate.renew();
        let held = gate.handle();
        assert!(held.is_some());
        gate.shut();
        let before = gate.renew();
        assert!(gate.handle().is_none(), "a sync that was under way opened it again");
        assert!(!are_released(&before));
        drop(held);
        assert!(are_released(&before));
    }
}
