//! Finding the dead records of a keyspace and erasing them.
//!
//! Dead is what the index does not name: replaced, invalidated by key, or stored too late. What a
//! floor of a tag or of everything hides is looked for by the tags that the sidecars list, and its
//! slot is taken away first.

use std::collections::BTreeSet;

use super::KeyspaceCore;
use crate::error::Result;
use crate::floors::SharedFloors;
use crate::format::record::{HEAD_LEN, STATE_OFFSET};
use crate::format::sidecar::{Body, Listing, Remains, SidecarEntry};
use crate::index::Location;
use crate::planted::{Bug, is_planted};
use crate::scrub::Pass;
use crate::segment::erase::{Batch, Doomed};
use crate::segment::{Damage, Segment};
use crate::time::Timestamp;

/// What becomes of a dead record in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Erase,
    /// What replaced it is not durable yet: the next pass finds it.
    Replaced,
    /// The invalidation that hides it is not durable yet. Another may hide it too that is, and that
    /// counts on this pass, so the pass has not seen everything.
    Missed,
}

impl KeyspaceCore {
    /// Erases dead records if that is due, or wanted now, and whatever has waited for readers.
    ///
    /// # Errors
    ///
    /// The first one met; what is left is looked for again.
    pub(crate) fn scrub(&self, now: Timestamp, wanted: bool) -> Result<()> {
        let look = |pass| self.look_for_dead(pass, now);
        self.owner.scrub(now, wanted, look, |segment, remains| self.note(segment, remains))
    }

    /// One pass over all segments; true if nothing dead has to be looked for again.
    fn look_for_dead(&self, pass: Pass, now: Timestamp) -> Result<bool> {
        // What replaced or hid a record must outlast a power cut before the record is given up.
        let certain = self.owner.engine.sequence.lowest_invalidation();
        self.sync()?;
        let doubts = self.doubts.count();
        // What has been appended to these has been published.
        let segments = self.between_writes(|| self.owner.segments_by_ordinal());
        let floors = self.floors.shared();
        let mut found_all = Ok(true);
        for (ordinal, segment) in segments {
            let found = self.look_into(ordinal, &segment, (pass, now), &floors, certain);
            found_all = found_all.and_then(|all| found.map(|found| all && found));
        }
        if let Ok(true) = found_all {
            self.doubts.settle(doubts);
        }
        found_all
    }

    fn look_into(
        &self,
        ordinal: u32,
        segment: &Segment,
        (pass, now): (Pass, Timestamp),
        floors: &SharedFloors,
        certain: u64,
    ) -> Result<bool> {
        let highest = floors.all.max(floors.highest_tag);
        let to_sweep = floors.raises > segment.swept() && highest >= segment.min_seq();
        // In this order: what is written meanwhile must not stand in for what has died.
        let accounted_for = segment.scrubbed() + segment.live();
        let records = segment.records();
        let is_doubtful = self.doubts.count() > 0;
        if !to_sweep && !is_doubtful && records <= accounted_for {
            return Ok(true);
        }
        let listing = self.listing(segment)?;
        // What damage hides has not been looked at.
        let mut found_all = listing.entries.len() as u64 >= records || !self.owner.has(segment);
        if to_sweep {
            found_all &= self.sweep(ordinal, segment, &listing, floors, certain)?;
            if found_all {
                segment.set_swept(floors.raises);
            }
        }
        let mut batch = Batch::of(pass);
        for entry in listing.entries.iter().filter(|entry| entry.body() != Body::Scrubbed) {
            let named = self.index.get(entry.hash.fingerprint());
            let by_key =
                is_planted(Bug::ReinsertedScrubbed) && self.floors.of_key(entry.hash, 0).is_some();
            let location = Location { ordinal, position: entry.position };
            if named == Some(location) && !by_key {
                // An earlier process gave it up, though the sidecar that the index was made of did not say so.
                // Which tags it had, a walk does not tell.
                let is_given_up = entry.body() == Body::Gone;
                let is_hidden = is_doubtful && self.floors.of_key(entry.hash, entry.seq).is_some();
                if !is_given_up && !is_hidden {
                    continue;
                }
                self.take_slot(entry.hash, location, segment);
            }
            let fate = self.fate(segment, entry, named, certain);
            if fate != Fate::Erase {
                self.owner.scrubbing.note_dead(now);
                found_all &= fate != Fate::Missed;
                continue;
            }
            let offset = entry.offset();
            let start = offset + HEAD_LEN as u64;
            batch.doomed.push(Doomed { state_at: offset + STATE_OFFSET, start, end: entry.end() });
            let position = entry.position;
            batch.remains.push(Remains { position, whole_record: true, tags: BTreeSet::new() });
        }
        if !batch.doomed.is_empty() {
            segment.begin_erase(batch, now);
        }
        Ok(found_all)
    }

    /// The records of a segment, also of the one that is appended to.
    pub(super) fn listing(&self, segment: &Segment) -> Result<Listing> {
        {
            let active = self.active.lock();
            let writer = active.as_ref().map(|active| &active.writer);
            let writer = writer.filter(|writer| writer.segment().number() == segment.number());
            if let Some(writer) = writer {
                return Ok(writer.listing().clone());
            }
        }
        self.owner.listing(segment)
    }

    /// What is to become of a record that the index does not name. A power cut must not be able to take
    /// what hid or replaced it once it has been given up.
    fn fate(
        &self,
        segment: &Segment,
        entry: &SidecarEntry,
        named: Option<Location>,
        certain: u64,
    ) -> Fate {
        if entry.end() > segment.durable() {
            // It was written since this pass began, and so was not covered before.
            return Fate::Replaced;
        }
        let under =
            |floor| if self.is_certain(floor, certain) { Fate::Erase } else { Fate::Missed };
        let floor = self.floors.of_key(entry.hash, entry.seq);
        if let Some(floor) = floor.or_else(|| self.floors.of_all(entry.seq)) {
            return under(floor);
        }
        let Some((successor, offset)) = named.and_then(|named| self.resolve(named)) else {
            return Fate::Erase;
        };
        if offset < successor.durable() {
            return Fate::Erase;
        }
        let read = segment.read_prefix(entry.offset());
        let floor = read.ok().and_then(|view| self.floors.of_tags(view.tags(), entry.seq));
        floor.map_or(Fate::Replaced, under)
    }

    /// True if an invalidation is durable. By `certain` it was when the pass began; it may be since.
    fn is_certain(&self, floor: u64, certain: u64) -> bool {
        floor < certain || floor < self.owner.engine.sequence.lowest_invalidation()
    }

    /// Takes the slots away from records that a floor of everything or of a tag hides; false if
    /// some have to stay for now.
    fn sweep(
        &self,
        ordinal: u32,
        segment: &Segment,
        listing: &Listing,
        floors: &SharedFloors,
        certain: u64,
    ) -> Result<bool> {
        let mut took_all = true;
        for entry in &listing.entries {
            match self.floors.of_all(entry.seq).filter(|_| entry.body() == Body::Whole) {
                Some(floor) if self.is_certain(floor, certain) => {
                    let location = Location { ordinal, position: entry.position };
                    self.take_slot(entry.hash, location, segment);
                }
                Some(_) => took_all = false,
                None => {}
            }
        }
        let min_seq = segment.min_seq();
        let engine = &self.owner.engine;
        let lowest_open = engine.sequence.lowest_open(engine.clock.boot_ms());
        let mut last = None;
        for tag in listing.tags.iter().filter(|tag| floors.may_cover(tag.fingerprint, min_seq)) {
            if last.replace(tag.entry) == Some(tag.entry) {
                continue;
            }
            let Some(entry) = listing.entries.get(tag.entry as usize) else { continue };
            let Some(floor) = self.tag_floor(ordinal, segment, entry)? else { continue };
            // A fill begun before this record would be taken for its successor without the slot.
            if entry.seq < lowest_open && self.is_certain(floor, certain) {
                let location = Location { ordinal, position: entry.position };
                self.take_slot(entry.hash, location, segment);
            } else {
                took_all = false;
            }
        }
        Ok(took_all)
    }

    /// The floor of a tag that hides a record which the index names. One that has been given up, while
    /// its sidecar does not say so, was under one when that was begun. One that is damaged, which
    /// nobody gets, goes with those that its sidecar takes it for.
    fn tag_floor(
        &self,
        ordinal: u32,
        segment: &Segment,
        entry: &SidecarEntry,
    ) -> Result<Option<u64>> {
        let location = Location { ordinal, position: entry.position };
        if self.index.get(entry.hash.fingerprint()) != Some(location) {
            return Ok(None);
        }
        match segment.read_prefix(entry.offset()) {
            Ok(view) => Ok(self.floors.of_tags(view.tags(), entry.seq)),
            Err(Damage::Erased | Damage::Corrupt(_)) => Ok(Some(entry.seq)),
            Err(Damage::Failed(error)) => Err(error),
            Err(Damage::Gone) => Ok(None),
        }
    }

    fn note(&self, segment: &Segment, remains: &[Remains]) -> Result<()> {
        {
            let mut active = self.active.lock();
            let writer = active.as_mut().map(|active| &mut active.writer);
            let writer = writer.filter(|writer| writer.segment().number() == segment.number());
            if let Some(writer) = writer {
                writer.note_scrubbed(remains);
                return Ok(());
            }
        }
        self.owner.note_scrubbed(segment, remains)
    }
}
