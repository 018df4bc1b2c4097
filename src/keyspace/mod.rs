//! A keyspace: keyed blobs with one retention window.
//!
//! `write` appends and publishes, `read` finds and judges, `invalidate` and `erase` hide, `explain` says
//! why something is hidden, `scrub` erases what is dead, `upkeep` drops, seals and keeps the capacity.
//! All of them agree through the index's shard locks and the floors. `fill` and `stream` are writes
//! that begin before their value is there; `fetch` and `flight` let one of several callers do the
//! work for all.

mod core;
mod doubts;
mod erase;
mod explain;
mod fetch;
mod fill;
mod flight;
mod invalidate;
mod iter;
mod read;
mod scrub;
mod stream;
mod tagged;
pub(crate) mod upkeep;
mod write;

use std::sync::Arc;

pub(crate) use self::core::KeyspaceCore;
pub use erase::Erase;
pub use explain::{Explanation, Reason};
pub use fetch::{Fetched, NewValue, Origin, TryGetError};
pub use fill::{Durability, Fill, Outcome};
pub use iter::Iter;
pub use read::Lookup;
pub use stream::FillWriter;

use crate::error::Result;
use crate::invalidation::Invalidation;
use crate::receipt::Receipt;
use crate::value::{Entry, Stat, Value};
use write::Item;

/// A keyspace of an open store. Clones are cheap and share it; all methods take `&self`.
#[derive(Debug, Clone)]
pub struct Keyspace {
    pub(crate) core: Arc<KeyspaceCore>,
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
    /// [`Denied`](crate::Error::Denied) for a key that is denied,
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
    /// As [`Keyspace::insert`]. All keys and values are checked before the first one is stored, also
    /// for what is denied by then.
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
        let items = items?;
        for item in &items {
            self.core.check_denied(item)?;
        }
        self.core.insert_many(&items)
    }

    /// Begins to fill a key: takes its place in the order of writes now, before the value is there.
    /// An invalidation or a newer insert that comes in between wins over it. It has ten minutes, see
    /// [`Fill::time_limit`].
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

    /// The values of many keys, in the order of the keys, each as [`Keyspace::get`] gives it at some
    /// moment of the call. What lies on the disk and not in memory is fetched together instead of one
    /// after the other. All values are in memory at once: ask for no more than it has room for.
    ///
    /// ```
    /// use ebbtide::{KeyspaceOptions, Retention, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path().join("data"))?;
    /// let images = store.keyspace("images", KeyspaceOptions::new(Retention::days(30)))?;
    /// images.insert_batch([("cat.jpg?w=64", "small"), ("cat.jpg?w=320", "large")])?;
    /// let values = images.get_many(["cat.jpg?w=320", "dog.jpg?w=320", "cat.jpg?w=64"])?;
    /// let lengths: Vec<_> = values.iter().map(|value| value.as_ref().map(|v| v.len())).collect();
    /// assert_eq!(lengths, [Some(5), None, Some(5)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Keyspace::get`], for all keys together: limits are checked before the first is read.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Value>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        self.core.get_many(&keys)
    }

    /// The value of a key, or what `work` makes of it. Callers that ask for the same key at the same
    /// time wait for one of them to do the work, and share its bytes.
    ///
    /// What `work` gives is stored under the rules of a [fill](Keyspace::fill) that begins before
    /// it is called: an invalidation that comes meanwhile wins. The caller that worked gets its bytes
    /// all the same, since its call began before; those who waited start over. So a call that began
    /// after an invalidation had returned never gets bytes that were made before it.
    ///
    /// If the store cannot take the value, because the disk is full, a limit is exceeded, writing
    /// has stopped or the work took longer than a fill may, the bytes are given out without being
    /// stored, and [`Fetched::not_stored`] says why. In a store opened read-only nobody waits, and
    /// every caller that finds nothing works for itself.
    ///
    /// An error of `work` goes to all who waited for it, and is not remembered. If `work` panics,
    /// its own caller panics, and another one of those who wait works instead. `work` must not ask
    /// for the same key itself: it would wait for ever.
    ///
    /// ```
    /// use ebbtide::{KeyspaceOptions, NewValue, Retention, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path().join("data"))?;
    /// let images = store.keyspace("images", KeyspaceOptions::new(Retention::days(30)))?;
    /// let render = || -> std::io::Result<NewValue> {
    ///     let bytes = b"rendered bytes".to_vec();
    ///     Ok(NewValue::new(bytes).tag("cat.jpg").metadata("image/jpeg"))
    /// };
    /// let fetched = images.try_get_with("cat.jpg?w=64", render)?;
    /// assert_eq!(&fetched[..], b"rendered bytes");
    /// assert_eq!(fetched.metadata(), b"image/jpeg");
    /// assert!(images.contains("cat.jpg?w=64")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryGetError::Work`] with the error of `work`; [`TryGetError::Store`] as
    /// [`Keyspace::get`], also for those who wait when the store is closed.
    pub fn try_get_with<V, E>(
        &self,
        key: impl AsRef<[u8]>,
        work: impl FnOnce() -> Result<V, E>,
    ) -> Result<Fetched, TryGetError<E>>
    where
        V: Into<NewValue>,
        E: Send + Sync + 'static,
    {
        fetch::try_get_with(self, key.as_ref(), work)
    }

    /// What is known of a key's record; its value is not read.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::get`].
    pub fn stat(&self, key: impl AsRef<[u8]>) -> Result<Option<Stat>> {
        self.core.stat(key.as_ref())
    }

    /// The value of a key, also if a soft invalidation made it stale: it may be served while it is
    /// being made anew.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::get`].
    pub fn lookup(&self, key: impl AsRef<[u8]>) -> Result<Lookup> {
        self.core.lookup(key.as_ref())
    }

    /// Why a key's value can be read, or why not: what hides it, and since when. Works on a store
    /// that was opened read-only too. Reads the value, and counts neither as hit nor as miss.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::get`].
    pub fn explain(&self, key: impl AsRef<[u8]>) -> Result<Explanation> {
        self.core.explain(key.as_ref())
    }

    /// True if [`Keyspace::get`] would give a value, its checksum apart.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::get`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.core.contains(key.as_ref())
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
        self.invalidate_keys([key])
    }

    /// Hides the values of keys, durably, all of them or none: with one write, which a crash or power
    /// cut leaves whole or not at all. Takes 1 to 1,024 keys; with tombstone logs of 4 KiB, 70.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::invalidate`]; [`Limit`](crate::Error::Limit) is checked for all keys before
    /// anything is hidden.
    pub fn invalidate_keys<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Receipt> {
        let keys: Vec<K> = keys.into_iter().collect();
        self.core.invalidate(&Invalidation::of_keys(&self.core.owner.engine, &keys)?)
    }

    /// Hides all records that carry a tag, durably, with one write however many they are.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::invalidate`].
    pub fn invalidate_tag(&self, tag: impl AsRef<[u8]>) -> Result<Receipt> {
        self.invalidate_tags([tag])
    }

    /// Hides all records that carry one of these tags, durably, those of all tags or of none. Takes
    /// as many tags as [`Keyspace::invalidate_keys`] takes keys.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::invalidate_keys`].
    pub fn invalidate_tags<T: AsRef<[u8]>>(
        &self,
        tags: impl IntoIterator<Item = T>,
    ) -> Result<Receipt> {
        let tags: Vec<T> = tags.into_iter().collect();
        self.core.invalidate(&Invalidation::of_tags(&self.core.owner.engine, &tags)?)
    }

    /// The visible records that carry a tag, the oldest first: their keys, and what is known of them
    /// without reading their values. Takes time with the number of segments and of records that carry
    /// the tag, since it reads what each segment lists.
    ///
    /// # Errors
    ///
    /// [`Limit`](crate::Error::Limit) for an impossible tag, [`Closed`](crate::Error::Closed), and
    /// the system's own.
    pub fn list_tag(&self, tag: impl AsRef<[u8]>) -> Result<Vec<Entry>> {
        self.core.list_tag(tag.as_ref())
    }

    /// How many visible records carry a tag. Takes as long as [`Keyspace::list_tag`].
    ///
    /// # Errors
    ///
    /// As [`Keyspace::list_tag`].
    pub fn count_tag(&self, tag: impl AsRef<[u8]>) -> Result<u64> {
        self.core.count_tag(tag.as_ref())
    }

    /// Makes a key's value stale, durably: [`Keyspace::get`], [`Keyspace::stat`] and iteration pass
    /// it over, and [`Keyspace::lookup`] still gives it, as stale, until it is replaced, invalidated
    /// or past its time. A fill begun before is covered too. A disk so full that not even this note
    /// fits hides more, as the receipt says.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::invalidate`].
    pub fn invalidate_soft(&self, key: impl AsRef<[u8]>) -> Result<Receipt> {
        let invalidation = Invalidation::of_keys(&self.core.owner.engine, &[key])?;
        self.core.invalidate(&invalidation.softly())
    }

    /// Makes all records stale that carry a tag, as [`Keyspace::invalidate_soft`] does one.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::invalidate`].
    pub fn invalidate_tag_soft(&self, tag: impl AsRef<[u8]>) -> Result<Receipt> {
        let invalidation = Invalidation::of_tags(&self.core.owner.engine, &[tag])?;
        self.core.invalidate(&invalidation.softly())
    }

    /// Erases a key: hides its value as [`Keyspace::invalidate`] does and, if asked to, denies the
    /// key. Nothing happens before [`Erase::commit`].
    pub fn erase(&self, key: impl AsRef<[u8]>) -> Erase {
        let (core, key) = (Arc::clone(&self.core), key.as_ref().to_vec());
        Erase::new(move |until| {
            core.erase(Invalidation::of_keys(&core.owner.engine, &[key])?, until)
        })
    }

    /// Erases all records that carry a tag, and denies the tag if asked to. Nothing happens before
    /// [`Erase::commit`].
    pub fn erase_tag(&self, tag: impl AsRef<[u8]>) -> Erase {
        let (core, tag) = (Arc::clone(&self.core), tag.as_ref().to_vec());
        Erase::new(move |until| {
            core.erase(Invalidation::of_tags(&core.owner.engine, &[tag])?, until)
        })
    }

    /// Hides everything in the keyspace, durably, with one write. The space comes back with the next
    /// upkeep.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::invalidate`].
    pub fn invalidate_all(&self) -> Result<Receipt> {
        self.core.invalidate(&Invalidation::of_all())
    }
}

impl IntoIterator for &Keyspace {
    type Item = Result<Entry>;
    type IntoIter = Iter;

    fn into_iter(self) -> Iter {
        self.iter()
    }
}
