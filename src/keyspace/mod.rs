//! A keyspace: keyed blobs with one retention window.
//!
//! `write` appends and publishes, `read` finds and judges, `invalidate` hides, `upkeep` drops, seals
//! and keeps the capacity. All of them agree through the index's shard locks and the floors.

mod fill;
mod invalidate;
mod iter;
mod read;
pub(crate) mod upkeep;
mod write;

use std::sync::Arc;

pub use fill::{Durability, Fill, Outcome};
pub use iter::Iter;

use crate::error::Result;
use crate::floors::Floors;
use crate::index::{Index, Location};
use crate::options;
use crate::owner::Owner;
use crate::receipt::Receipt;
use crate::segment::Segment;
use crate::sync::Mutex;
use crate::value::{Stat, Value};
use write::{Active, Item};

/// A keyspace of an open store. Clones are cheap and share it; all methods take `&self`.
#[derive(Debug, Clone)]
pub struct Keyspace {
    pub(crate) core: Arc<KeyspaceCore>,
}

/// What all handles of a keyspace share.
#[derive(Debug)]
pub(crate) struct KeyspaceCore {
    pub(crate) owner: Owner,
    pub(crate) index: Index,
    pub(crate) floors: Floors,
    active: Mutex<Option<Active>>,
}

impl KeyspaceCore {
    /// A keyspace over an owner whose segments and floors recovery has filled in.
    pub(crate) fn new(owner: Owner, index: Index, floors: Floors) -> Self {
        Self { owner, index, floors, active: Mutex::new(None) }
    }

    /// The segment and offset that a location names, unless the segment is gone.
    fn resolve(&self, location: Location) -> Option<(Arc<Segment>, u64)> {
        let segment = self.owner.table.read().get(location.ordinal).cloned()?;
        Some((segment, u64::from(location.position) * crate::format::record::ALIGN))
    }
}

impl Keyspace {
    /// The keyspace's name.
    pub fn name(&self) -> &str {
        &self.core.owner.name
    }

    /// Stores a value under a key, in place of what was there. It survives the death of the
    /// process at once, and a power cut after the next sync (see [`Fill::durability`]).
    ///
    /// # Errors
    ///
    /// [`Limit`](crate::Error::Limit) for a key or value that is too long,
    /// [`NoSpace`](crate::Error::NoSpace) on a full disk,
    /// [`CapacityExceeded`](crate::Error::CapacityExceeded),
    /// [`Poisoned`](crate::Error::Poisoned) after an earlier failure, and the system's own. After an
    /// error the old value can still be read; after a restart it may be either of the two.
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        let item = Item::plain(&self.core, key, value)?;
        self.core.insert(&item).map(|_| ())
    }

    /// Stores many small values with few writes. They are ordered as given; after an error those
    /// before it may have been stored.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::insert`]. All keys and values are checked before the first one is stored.
    pub fn insert_batch<K, V>(&self, items: impl IntoIterator<Item = (K, V)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let pairs: Vec<(K, V)> = items.into_iter().collect();
        let items: Result<Vec<Item<'_>>> = pairs
            .iter()
            .map(|(key, value)| Item::plain(&self.core, key.as_ref(), value.as_ref()))
            .collect();
        self.core.insert_many(&items?)
    }

    /// Begins to fill a key: takes its place in the order of writes now, before the value is there.
    /// An invalidation or a newer insert that comes in between wins over it.
    pub fn fill(&self, key: impl AsRef<[u8]>) -> Fill {
        Fill::begin(self.clone(), key.as_ref().to_vec())
    }

    /// The value of a key, unless it is absent, invalidated or past its time. A record that is
    /// damaged on disk is absent too; it is counted, and [`Store::verify`](crate::Store::verify)
    /// names it.
    ///
    /// # Errors
    ///
    /// [`Limit`](crate::Error::Limit) for an impossible key, [`Closed`](crate::Error::Closed), and
    /// the system's own.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.core.get(key.as_ref())
    }

    /// What is known of a key's record; its value is not read.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::get`].
    pub fn stat(&self, key: impl AsRef<[u8]>) -> Result<Option<Stat>> {
        self.core.stat(key.as_ref())
    }

    /// True if [`Keyspace::get`] would give a value, its checksum apart.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::get`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.core.stat(key.as_ref())?.is_some())
    }

    /// Goes through all visible records, in no order. What is inserted or goes meanwhile may or may
    /// not be met; nothing is met that is not visible at that moment.
    pub fn iter(&self) -> Iter {
        Iter::new(Arc::clone(&self.core))
    }

    /// Hides a key's value, durably: when this returns, no read gives it any more, and neither does
    /// any after a crash or power cut. A fill begun before is covered too.
    ///
    /// # Errors
    ///
    /// [`Limit`](crate::Error::Limit) for an impossible key, and the system's own; the value is then
    /// hidden in this process, but may be back after a restart.
    pub fn invalidate(&self, key: impl AsRef<[u8]>) -> Result<Receipt> {
        self.core.invalidate_key(key.as_ref())
    }

    /// Hides all records that carry a tag, durably, with one write however many they are.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::invalidate`].
    pub fn invalidate_tag(&self, tag: impl AsRef<[u8]>) -> Result<Receipt> {
        options::check_tag(tag.as_ref())?;
        self.core.invalidate_tag(tag.as_ref())
    }

    /// Hides everything in the keyspace, durably, with one write. The space comes back with the next
    /// upkeep.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::invalidate`].
    pub fn invalidate_all(&self) -> Result<Receipt> {
        self.core.invalidate_all()
    }
}

impl IntoIterator for &Keyspace {
    type Item = Result<crate::value::Entry>;
    type IntoIter = Iter;

    fn into_iter(self) -> Iter {
        self.iter()
    }
}
