//! The course of an invalidation, wherever it applies: denied and hidden in memory, then durable, then
//! counted.

use std::sync::Arc;

use super::Invalidation;
use crate::denials::Denials;
use crate::engine::{Engine, WriteSide, count};
use crate::error::{Error, Result};
use crate::format::tombstone::{Reach, Tombstone, TombstoneMode};
use crate::owner::Owned;
use crate::planted::{Bug, is_planted};
use crate::receipt::Receipt;
use crate::sequence::Ticket;
use crate::time::Timestamp;

/// A keyspace or log, as an invalidation that covers it sees it.
pub(crate) trait Covered: Owned {
    /// Hides in memory what a tombstone is about.
    fn hide(&self, tombstone: &Tombstone);

    /// Gives back the space of the oldest segment; false if there is none to give up.
    fn give_up_oldest(&self) -> Result<bool>;

    /// Hides everything up to a tombstone's floor, durably and without space; false if that is not
    /// done here.
    fn hide_all_without_room(&self, tombstone: &Tombstone) -> Result<bool>;
}

/// An invalidation that has begun: what it denies is denied, but nothing is hidden yet.
#[must_use = "what it denies stays so until it is committed"]
pub(crate) struct Begun<'a> {
    invalidation: &'a Invalidation,
    engine: &'a Engine,
    side: &'a WriteSide,
    /// Where it denies; nowhere if it covers a log alone.
    denials: Option<&'a Denials>,
    at: Timestamp,
}

/// An invalidation that hides what it covers, in memory.
#[must_use = "what is hidden is to be made durable"]
pub(crate) struct Hidden<'a> {
    begun: Begun<'a>,
    covered: Vec<Arc<dyn Covered>>,
    tombstone: Tombstone,
    /// Open until the tombstone is durable, so that it is not forgotten before, and until it is
    /// counted.
    ticket: Ticket,
}

impl Invalidation {
    /// Denies what it denies, in memory. Before the number of the floor is taken: whoever takes a
    /// higher one then meets the denial.
    pub(crate) fn begin<'a>(
        &'a self,
        engine: &'a Engine,
        denials: Option<&'a Denials>,
    ) -> Result<Begun<'a>> {
        let side = engine.write_side()?;
        if let Some(denials) = denials.filter(|_| self.denies()) {
            denials.begin(self.scope, &self.hashes, self.until_ms);
        }
        let at = engine.trusted_now();
        Ok(Begun { invalidation: self, engine, side, denials, at })
    }
}

impl<'a> Begun<'a> {
    /// Takes the number of the floor, and hides all that is covered, in memory.
    pub(crate) fn hide(self, reach: Reach, covered: Vec<Arc<dyn Covered>>) -> Hidden<'a> {
        let ticket = self.engine.sequence.begin_invalidation();
        let tombstone = self.invalidation.tombstone(reach, ticket.seq(), self.at);
        for core in &covered {
            core.hide(&tombstone);
        }
        count(&self.engine.counters.invalidations);
        Hidden { begun: self, covered, tombstone, ticket }
    }
}

impl Hidden<'_> {
    /// Makes it durable, and counts it in the ledger. A denial that is not durable is lifted.
    pub(crate) fn commit(self) -> Result<Receipt> {
        let Begun { invalidation, side, at, .. } = self.begun;
        let receipt = Receipt::new(invalidation.target, self.ticket.seq(), at);
        let committed = match side.tombstones.commit(self.tombstone.clone()) {
            Ok(()) => Ok(receipt),
            Err(error) => self.commit_without_room(error, receipt),
        };
        self.end_denial(committed.is_ok());
        let receipt = committed?;
        side.ledger.invalidated(invalidation.scope, self.ticket.seq());
        let covered = self.covered.iter().map(|core| Arc::clone(core) as Arc<dyn Owned>);
        Ok(covered.fold(receipt, |receipt, core| invalidation.follow(receipt, core)))
    }

    /// What is left when the tombstone log takes no more: evict the oldest segments until a new log
    /// file fits, and at last raise the floor of everything, which needs no space. Nothing that was
    /// hidden can be back then, at the price of a cache that is emptier than asked for. A log gives
    /// up no row, so where rows are to be hidden the error stands.
    fn commit_without_room(&self, mut error: Error, receipt: Receipt) -> Result<Receipt> {
        // Once the store is closed nothing may be written, manifests no more than the log.
        self.begun.engine.write_side()?;
        if is_planted(Bug::FullDiskPoisons) {
            return Err(self.begun.engine.poison(error));
        }
        // Where a segment cannot be evicted, the floor covers that too.
        while matches!(error, Error::NoSpace { .. }) && self.give_up_oldest() {
            match self.begun.side.tombstones.commit(self.tombstone.clone()) {
                Ok(()) => return Ok(receipt),
                Err(again) => error = again,
            }
        }
        // The floor does not say what is denied.
        let is_whole = self.hide_all_without_room()? && self.tombstone.mode != TombstoneMode::Deny;
        if is_whole { Ok(receipt.widen()) } else { Err(error) }
    }

    /// Gives back the space of the oldest segment of each that can; false if none does.
    fn give_up_oldest(&self) -> bool {
        let given_up = self.covered.iter().filter(|core| core.give_up_oldest().unwrap_or(false));
        given_up.count() > 0
    }

    /// All of them in turn, also after a failure; false if one of them does not do it.
    fn hide_all_without_room(&self) -> Result<bool> {
        let mut hidden = Ok(true);
        for core in &self.covered {
            let done = core.hide_all_without_room(&self.tombstone);
            hidden = hidden.and_then(|all| done.map(|done| all && done));
        }
        hidden
    }

    /// Keeps the denial if it is durable, and lifts it if not.
    fn end_denial(&self, durable: bool) {
        let Begun { invalidation, denials, .. } = &self.begun;
        let Invalidation { scope, hashes, until_ms, .. } = invalidation;
        match denials.filter(|_| invalidation.denies()) {
            Some(denials) if durable => denials.keep(*scope, hashes, *until_ms),
            Some(denials) => denials.lift(*scope, hashes, *until_ms),
            None => {}
        }
    }
}
