//! Invalidating in all keyspaces, and in all logs, with one durable note.

use std::sync::Arc;

use super::{Store, StoreCore};
use crate::engine::count;
use crate::error::{Error, Result};
use crate::format::tombstone::{Reach, Tombstone, TombstoneMode};
use crate::invalidation::Invalidation;
use crate::keyspace::{Erase, KeyspaceCore};
use crate::log::LogCore;
use crate::owner::Owned;
use crate::receipt::Receipt;

/// Where an invalidation of the whole store applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In all keyspaces.
    Keyspaces,
    /// In all keyspaces, and to the rows of all logs.
    Everything,
}

impl Store {
    /// Hides all records that carry a tag, in all keyspaces, and rows too if asked to: durably, and
    /// with one write, so that a crash or power cut leaves it done everywhere or nowhere.
    ///
    /// On a disk so full that not even this note fits, keyspaces give up what they must, as with
    /// [`Keyspace::invalidate`](crate::Keyspace::invalidate).
    ///
    /// # Errors
    ///
    /// As [`Keyspace::invalidate`](crate::Keyspace::invalidate); on a full disk also
    /// [`NoSpace`](Error::NoSpace) if rows of a log are to be hidden, since a log gives up no rows.
    /// They are then hidden in this process, but may be back after a restart.
    pub fn invalidate_tag(&self, tag: impl AsRef<[u8]>, scope: Scope) -> Result<Receipt> {
        self.invalidate_tags([tag], scope)
    }

    /// Hides all records that carry one of these tags, as [`Store::invalidate_tag`] does for one.
    /// Takes as many tags as [`Keyspace::invalidate_tags`](crate::Keyspace::invalidate_tags).
    ///
    /// # Errors
    ///
    /// As [`Store::invalidate_tag`]; [`Limit`](Error::Limit) is checked for all tags before anything
    /// is hidden.
    pub fn invalidate_tags<T: AsRef<[u8]>>(
        &self,
        tags: impl IntoIterator<Item = T>,
        scope: Scope,
    ) -> Result<Receipt> {
        let core = &self.shared.core;
        let tags: Vec<T> = tags.into_iter().collect();
        core.invalidate(&Invalidation::of_tags(&core.engine, &tags)?, scope)
    }

    /// Erases all records that carry a tag, as [`Store::invalidate_tag`] hides them, and denies the
    /// tag in all keyspaces if asked to, those made later too; logs deny nothing. Nothing happens
    /// before [`Erase::commit`].
    pub fn erase_tag(&self, tag: impl AsRef<[u8]>, scope: Scope) -> Erase {
        let (core, tag) = (Arc::clone(&self.shared.core), tag.as_ref().to_vec());
        Erase::new(move |until| {
            let invalidation = Invalidation::of_tags(&core.engine, &[tag])?;
            let now = core.engine.trusted_now();
            let receipt = core.invalidate(&invalidation.deny_until(until, now), scope)?;
            receipt.hurry();
            Ok(receipt)
        })
    }
}

/// The keyspaces and logs that an invalidation covers.
struct Covered {
    keyspaces: Vec<Arc<KeyspaceCore>>,
    logs: Vec<Arc<LogCore>>,
}

impl StoreCore {
    fn invalidate(&self, invalidation: &Invalidation, scope: Scope) -> Result<Receipt> {
        let engine = &self.engine;
        let side = engine.write_side()?;
        invalidation.begin_denial(&engine.denials);
        let at = engine.trusted_now();
        // Open until the tombstone is durable, so that it is not forgotten before.
        let (ticket, tombstone, covered) = {
            // No keyspace or log is born meanwhile: what it held could have a number below the floor.
            let (keyspaces, logs) = (self.keyspaces.read(), self.logs.read());
            let ticket = engine.sequence.begin_invalidation();
            let (reach, logs) = match scope {
                Scope::Keyspaces => (Reach::Keyspaces, Vec::new()),
                Scope::Everything => (Reach::Everything, logs.values().cloned().collect()),
            };
            let tombstone = invalidation.tombstone(reach, ticket.seq(), at);
            let covered = Covered { keyspaces: keyspaces.values().cloned().collect(), logs };
            covered.hide(&tombstone);
            (ticket, tombstone, covered)
        };
        count(&engine.counters.invalidations);
        let receipt = Receipt::new(invalidation.target, ticket.seq(), at);
        let committed = match side.tombstones.commit(tombstone.clone()) {
            Ok(()) => Ok(receipt),
            Err(error) => self.invalidate_without_room(&covered, &tombstone, error, receipt),
        };
        invalidation.end_denial(&engine.denials, committed.is_ok());
        if committed.is_ok() {
            side.ledger.invalidated(invalidation.scope(), ticket.seq());
        }
        Ok(covered.cores().fold(committed?, Receipt::follow))
    }

    /// As for a keyspace, with all of them in turn. No row is given up, so where rows are to be hidden
    /// too the error stands.
    fn invalidate_without_room(
        &self,
        covered: &Covered,
        tombstone: &Tombstone,
        mut error: Error,
        receipt: Receipt,
    ) -> Result<Receipt> {
        let side = self.engine.write_side()?;
        while matches!(error, Error::NoSpace { .. }) && covered.evict_for_space()? {
            match side.tombstones.commit(tombstone.clone()) {
                Ok(()) => return Ok(receipt),
                Err(again) => error = again,
            }
        }
        let mut raised = Ok(());
        for core in &covered.keyspaces {
            raised = raised.and(core.hide_all_without_room(tombstone));
        }
        raised?;
        let is_whole = covered.logs.is_empty() && tombstone.mode != TombstoneMode::Deny;
        if is_whole { Ok(receipt.widen()) } else { Err(error) }
    }
}

impl Covered {
    fn hide(&self, tombstone: &Tombstone) {
        for core in &self.keyspaces {
            core.hide(tombstone);
        }
        for core in &self.logs {
            core.hide(tombstone);
        }
    }

    /// Gives back the space of the oldest segment of each keyspace; false if there is none.
    fn evict_for_space(&self) -> Result<bool> {
        let mut evicted = false;
        for core in &self.keyspaces {
            evicted |= core.evict_for_space()?;
        }
        Ok(evicted)
    }

    fn cores(&self) -> impl Iterator<Item = Arc<dyn Owned>> {
        let keyspaces = self.keyspaces.iter().map(|core| Arc::clone(core) as Arc<dyn Owned>);
        keyspaces.chain(self.logs.iter().map(|core| Arc::clone(core) as Arc<dyn Owned>))
    }
}
