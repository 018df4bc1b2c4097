//! A fill: a write that takes its place in the order before its value is there.

use std::sync::Arc;
use std::time::Duration;

use super::stream::{FillWriter, Spill};
use super::write::Item;
use super::{Keyspace, KeyspaceCore};
use crate::error::Result;
use crate::hash::{KeyedHash, value_hash};
use crate::options;
use crate::sequence::Ticket;
use crate::time::Timestamp;

/// What became of a fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The value is there.
    Stored,
    /// An invalidation or a newer insert came in between: the value is not there, and will not be,
    /// unless what came in between fails, or a stop of the process or the power overtakes it.
    Superseded,
}

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it survives the death of the process; a power cut may take it until the next sync.
    #[default]
    Buffered,
    /// When it survives a power cut. Callers that wait at the same time share one sync.
    Sync,
}

/// A write that has begun: made by [`Keyspace::fill`], ended by [`Fill::commit`] or
/// [`Fill::into_writer`], or abandoned by [`Fill::abort`] or by dropping it. While it is open and
/// within its time limit, tombstones that it may have to meet are kept.
#[derive(Debug)]
#[must_use = "a fill stores nothing until it is committed"]
pub struct Fill {
    keyspace: Keyspace,
    ticket: Ticket,
    key: Vec<u8>,
    tags: Vec<Vec<u8>>,
    metadata: Vec<u8>,
    expires_at: Option<Timestamp>,
    durability: Durability,
    limit_ms: u64,
    memory_limit_bytes: usize,
}

impl Fill {
    pub(super) fn begin(keyspace: Keyspace, key: Vec<u8>) -> Self {
        let engine = &keyspace.core.owner.engine;
        let limit_ms = options::DEFAULT_FILL_LIMIT_MS;
        let ticket = engine.sequence.begin_limited(engine.clock.boot_ms(), limit_ms);
        Self {
            keyspace,
            ticket,
            key,
            tags: Vec::new(),
            metadata: Vec::new(),
            expires_at: None,
            durability: Durability::Buffered,
            limit_ms,
            memory_limit_bytes: options::DEFAULT_MEMORY_LIMIT_BYTES,
        }
    }

    /// Adds a tag, 1 to 1,024 bytes; up to 16 of them. [`Keyspace::invalidate_tag`] hides all
    /// records that carry it.
    pub fn tag(mut self, tag: impl AsRef<[u8]>) -> Self {
        self.tags.push(tag.as_ref().to_vec());
        self
    }

    /// Sets metadata, up to 64 KiB, that can be read without the value.
    pub fn metadata(mut self, metadata: impl AsRef<[u8]>) -> Self {
        self.metadata = metadata.as_ref().to_vec();
        self
    }

    /// Lets the record become invisible at this time, if its bucket's deadline is not earlier.
    pub fn expires_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Sets when [`Fill::commit`] may return.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets how long after its beginning the fill may still be committed: 1 ms to 24 hours, 10
    /// minutes if this is not called. It is measured by a clock that never jumps and counts the
    /// machine's sleep. A fill whose time is over no longer keeps tombstones from being forgotten;
    /// it cannot be given more.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.ticket.set_limit(self.limit_ms.min(options::MAX_FILL_LIMIT_MS));
        self
    }

    /// Sets how many bytes of the value [`Fill::into_writer`] keeps in memory, 1 MiB if this is not
    /// called. A longer value is written to a file of its own.
    pub fn memory_limit_bytes(mut self, bytes: usize) -> Self {
        self.memory_limit_bytes = bytes;
        self
    }

    /// The number it has in the order of writes.
    pub fn sequence(&self) -> u64 {
        self.ticket.seq()
    }

    /// Stores the value, unless an invalidation of the key, of one of the tags or of everything, or
    /// a newer insert came since the fill began.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::insert`]; [`Limit`](crate::Error::Limit) for too many or too long tags or metadata or
    /// an impossible time limit; [`FillTimedOut`](crate::Error::FillTimedOut) after that limit. After a
    /// failed sync the value is visible until the store is closed.
    pub fn commit(self, value: impl AsRef<[u8]>) -> Result<Outcome> {
        let value = value.as_ref();
        self.store(value, value_hash(value), None)
    }

    /// Lets the value be written in pieces, however long it will be.
    ///
    /// # Errors
    ///
    /// [`Limit`](crate::Error::Limit) for an impossible key, tags, metadata or time limit,
    /// [`ReadOnly`](crate::Error::ReadOnly), [`Poisoned`](crate::Error::Poisoned) after an earlier failure, and
    /// [`Closed`](crate::Error::Closed).
    pub fn into_writer(self) -> Result<FillWriter> {
        self.check()?;
        self.core().owner.engine.check_writable()?;
        Ok(FillWriter::new(self))
    }

    /// Ends the fill without storing anything, as dropping it does.
    pub fn abort(self) {
        drop(self);
    }

    /// Stores this value, or that of a finished part.
    pub(super) fn store(
        &self,
        value: &[u8],
        value_hash: u128,
        part: Option<&mut Spill>,
    ) -> Result<Outcome> {
        self.check()?;
        let core = self.core();
        let tags = self.tag_hashes();
        let item = self.item(&tags, value, value_hash)?;
        let (outcome, segment) = core.put(&item, part, Some(&self.ticket))?;
        if let (Durability::Sync, Some(segment)) = (self.durability, segment) {
            core.sync_segment(&segment)?;
        }
        Ok(outcome)
    }

    /// An error unless everything but the value is within its limits.
    fn check(&self) -> Result<()> {
        options::check_key(&self.key)?;
        options::check_fill_limit(self.limit_ms)?;
        options::check_tags(self.tags.iter().map(Vec::as_slice))?;
        options::check_metadata(&self.metadata)
    }

    /// What is stored, with the hashes of the tags beside it.
    pub(super) fn item<'a>(
        &'a self,
        tags: &'a [KeyedHash],
        value: &'a [u8],
        value_hash: u128,
    ) -> Result<Item<'a>> {
        let plain = Item::hashed(self.core(), &self.key, value, value_hash)?;
        Ok(Item { tags, metadata: &self.metadata, expires_at: self.expires_at, ..plain })
    }

    pub(super) fn tag_hashes(&self) -> Vec<KeyedHash> {
        let hasher = &self.core().owner.engine.hasher;
        self.tags.iter().map(|tag| hasher.tag(tag)).collect()
    }

    pub(super) fn core(&self) -> &Arc<KeyspaceCore> {
        &self.keyspace.core
    }

    pub(super) fn buffer_bytes(&self) -> usize {
        self.memory_limit_bytes
    }

    pub(super) fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// The number alone, which stays under way until it is dropped.
    pub(super) fn into_ticket(self) -> Ticket {
        self.ticket
    }
}
