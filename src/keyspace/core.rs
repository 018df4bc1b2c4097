//! What all handles of a keyspace share.

use super::doubts::Doubts;
use super::flight::Flights;
use super::write::Active;
use crate::denials::Denials;
use crate::floors::Floors;
use crate::format::record::ALIGN;
use crate::index::{Index, Location};
use crate::owner::{Owned, Owner};
use crate::sync::Mutex;
use crate::sync::atomic::AtomicU64;
use crate::table::NearSegment;

/// What all handles of a keyspace share.
#[derive(Debug)]
pub(crate) struct KeyspaceCore {
    pub(crate) owner: Owner,
    pub(crate) index: Index,
    pub(crate) floors: Floors,
    /// What is denied here alone; what is denied in all keyspaces is the engine's.
    pub(crate) denials: Denials,
    /// Which of the writing process's tombstones a read-only store has taken over.
    pub(super) watched: AtomicU64,
    pub(super) active: Mutex<Option<Active>>,
    /// Bytes that values being written take, or have been promised.
    pub(super) part_bytes: AtomicU64,
    /// Slots that may name what their keys' floors hide.
    pub(crate) doubts: Doubts,
    pub(super) flights: Flights,
}

impl Owned for KeyspaceCore {
    fn owner(&self) -> &Owner {
        &self.owner
    }
}

impl KeyspaceCore {
    /// A keyspace over an owner whose segments and floors recovery has filled in.
    pub(crate) fn new(owner: Owner, index: Index, floors: Floors) -> Self {
        Self {
            owner,
            index,
            floors,
            denials: Denials::default(),
            watched: AtomicU64::new(0),
            active: Mutex::new(None),
            part_bytes: AtomicU64::new(0),
            doubts: Doubts::default(),
            flights: Flights::default(),
        }
    }

    /// The segment and offset that a location names, unless the segment is gone.
    pub(super) fn resolve(&self, location: Location) -> Option<(NearSegment, u64)> {
        let segment = self.owner.table.read().get(location.ordinal).cloned()?;
        Some((segment, u64::from(location.position) * ALIGN))
    }
}
