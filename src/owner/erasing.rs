//! Erasing dead records of an owner, whatever they are.

use super::Owner;
use crate::error::Result;
use crate::format::sidecar::Remains;
use crate::ledger::Event;
use crate::scrub::Pass;
use crate::segment::Segment;
use crate::segment::erase::Failed;
use crate::segment::sidecar::overwrite_sidecar;
use crate::time::Timestamp;

impl Owner {
    /// Lets `look` look for dead records if that is due, or wanted now, and erases whatever was found
    /// and is no longer read. `note` is told what of a segment has been overwritten.
    ///
    /// # Errors
    ///
    /// The first one met. What is left is looked for, or tried, again.
    pub(crate) fn scrub(
        &self,
        now: Timestamp,
        wanted: bool,
        look: impl FnOnce(Pass) -> Result<bool>,
        note: impl Fn(&Segment, &[Remains]) -> Result<()>,
    ) -> Result<()> {
        let mut looked = Ok(true);
        let clock = || self.engine.trusted_now();
        if let Some(pass) = self.scrubbing.begin(clock, self.erase_within(), wanted) {
            looked = look(pass);
            self.scrubbing.end(pass, matches!(looked, Ok(true)));
        }
        let erased = self.erase_waiting(now, note);
        looked.and(erased)
    }

    /// Erases what waits for it and is no longer read. `note` is told what of a segment has been
    /// overwritten.
    ///
    /// # Errors
    ///
    /// The first one met; the rest is erased all the same, and what is left is tried again. After a
    /// failed sync writing is poisoned.
    fn erase_waiting(
        &self,
        now: Timestamp,
        note: impl Fn(&Segment, &[Remains]) -> Result<()>,
    ) -> Result<()> {
        let side = self.engine.write_side()?;
        let mut first = Ok(());
        for segment in self.segments() {
            self.engine.check_writable()?;
            let batch = match segment.try_erase(&*self.engine.disk, &self.engine.capabilities) {
                Ok(Some(batch)) => batch,
                Ok(None) => continue,
                // Its bucket has left meanwhile, and its bytes with it.
                Err(Failed::Refused(e)) if e.is_not_found() => continue,
                Err(Failed::Refused(e)) => {
                    first = first.and(Err(e));
                    continue;
                }
                Err(Failed::Unsynced(e)) => return Err(self.engine.poison(e)),
            };
            // Until its sidecar says nothing of it any more, it is not done, and is tried again.
            if let Err(e) = note(&segment, &batch.remains) {
                first = first.and(if e.is_not_found() { Ok(()) } else { Err(e) });
                continue;
            }
            segment.end_erase();
            let (records, bytes) = (batch.doomed.len() as u64, batch.bytes());
            self.scrubbing.count(records, bytes, now.since(batch.dead_since));
            let start = Timestamp::from_millis(segment.header.bucket_start_ms);
            let event = Event::Scrubbed { owner_id: self.id, start, records, bytes };
            if records > 0 {
                side.ledger.note(now, event);
            }
        }
        first
    }

    /// True if what waits in the trash holds nothing that was dead before this pass began.
    pub(crate) fn trash_is_scrubbed(&self, pass: u64) -> bool {
        self.engine.trash().is_none_or(|trash| trash.is_scrubbed(self.id, pass))
    }

    /// Notes what of a segment that is no longer appended to has been overwritten: in what its
    /// sidecar will say, or in its sidecar.
    pub(crate) fn note_scrubbed(&self, segment: &Segment, remains: &[Remains]) -> Result<()> {
        let _turn = self.sealing_turn.lock();
        let mut sealing = self.sealing.lock();
        let number = segment.number();
        if let Some(writer) = sealing.iter_mut().find(|w| w.segment().number() == number) {
            writer.note_scrubbed(remains);
            return Ok(());
        }
        drop(sealing);
        let mut listing = self.listing(segment)?;
        if (listing.entries.len() as u64) < segment.records() {
            // Damage hides the rest, and a sidecar without it would hide the damage. The one there is
            // cannot be believed either.
            return Ok(());
        }
        listing.note_scrubbed(remains);
        segment.set_scrubbed(listing.scrubbed());
        overwrite_sidecar(&*self.engine.disk, segment, &listing)
    }
}
