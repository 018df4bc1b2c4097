//! A fill: a write that takes its place in the order before its value is there.

use super::Keyspace;
use super::write::Item;
use crate::error::{Error, Result};
use crate::hash::KeyedHash;
use crate::options;
use crate::sequence::Ticket;
use crate::time::Timestamp;

/// What became of a fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The value is there.
    Stored,
    /// An invalidation or a newer insert came in between: the value is not there, and will not be.
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

/// A write that has begun: made by [`Keyspace::fill`], ended by [`Fill::commit`], or abandoned by
/// dropping it. While it is open, tombstones that it may have to meet are kept.
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
}

impl Fill {
    pub(super) fn begin(keyspace: Keyspace, key: Vec<u8>) -> Self {
        let ticket = keyspace.core.owner.engine.sequence.begin();
        Self {
            keyspace,
            ticket,
            key,
            tags: Vec::new(),
            metadata: Vec::new(),
            expires_at: None,
            durability: Durability::Buffered,
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

    /// The number it has in the order of writes.
    pub fn sequence(&self) -> u64 {
        self.ticket.seq()
    }

    /// Stores the value, unless an invalidation of the key, of one of the tags or of everything, or
    /// a newer insert came since the fill began.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::insert`], and [`Limit`](Error::Limit) for too many or too long tags or
    /// metadata. After a failed sync the value is visible until the store is closed.
    pub fn commit(self, value: impl AsRef<[u8]>) -> Result<Outcome> {
        let core = &self.keyspace.core;
        options::check_tags(self.tags.iter().map(Vec::as_slice))?;
        options::check_metadata(&self.metadata)?;
        let hasher = &core.owner.engine.hasher;
        let tags: Vec<KeyedHash> = self.tags.iter().map(|tag| hasher.tag(tag)).collect();
        let mut item = Item::plain(core, &self.key, value.as_ref())?;
        item.tags = &tags;
        item.metadata = &self.metadata;
        item.expires_at = self.expires_at;
        let (outcome, segment) = core.put(&item, Some(&self.ticket))?;
        if let (Durability::Sync, Some(segment)) = (self.durability, segment) {
            segment.sync().map_err(|e| match e {
                Error::Poisoned { .. } => e,
                e => core.owner.engine.poison(e),
            })?;
        }
        Ok(outcome)
    }
}
