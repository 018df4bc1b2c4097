//! Finding rows that an invalidation of their tag has hidden, and erasing them.

use std::collections::BTreeSet;

use super::LogCore;
use crate::error::Result;
use crate::floors::SharedFloors;
use crate::format::rows::is_unfinished;
use crate::format::sidecar::{Listing, Remains, SidecarEntry, UNFINISHED_ROWS, tag_fingerprint};
use crate::scrub::Pass;
use crate::segment::erase::{Batch, Doomed};
use crate::segment::{Damage, Segment};
use crate::time::Timestamp;

/// Bytes of a row's state word, behind which lies what is erased.
pub(super) const STATE_LEN: u64 = 4;

/// What a pass looks for.
struct LookedFor {
    floors: SharedFloors,
    /// Numbers below this one are not under way.
    lowest_open: u64,
    /// Floors below this number are durable.
    certain: u64,
    pass: Pass,
    now: Timestamp,
}

/// The rows of a block, as a pass finds them.
#[derive(Debug, Default)]
struct Rows {
    dead: Vec<Doomed>,
    /// Fingerprints of the tags that these carry.
    died: BTreeSet<u32>,
    /// Those that were erased before, or look like it.
    given_up: Vec<Doomed>,
    /// Fingerprints of the tags that the others carry.
    kept: BTreeSet<u32>,
    /// One of these is hidden, by an invalidation that is not known to be durable. An earlier one may hide it
    /// too, which counts on this pass.
    missed: bool,
}

impl Rows {
    fn carry(&self, fingerprint: u32) -> bool {
        self.kept.contains(&fingerprint) || self.died.contains(&fingerprint)
    }
}

impl LogCore {
    /// Erases dead rows if that is due, or wanted now, and whatever has waited for readers.
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
        let engine = &self.owner.engine;
        // Rows that wait in an appender may have a number below a floor, and are written later.
        let lowest_open = engine.sequence.lowest_open(engine.clock.boot_ms());
        let certain = engine.sequence.lowest_invalidation();
        self.sync()?;
        let mut found_all = Ok(self.floors.highest_tag() < lowest_open);
        let segments = self.owner.segments();
        let looked_for =
            LookedFor { floors: self.floors.shared(), lowest_open, certain, pass, now };
        for segment in segments {
            let found = self.look_into(&segment, &looked_for);
            found_all = found_all.and_then(|all| found.map(|found| all && found));
        }
        found_all
    }

    fn look_into(&self, segment: &Segment, looked_for: &LookedFor) -> Result<bool> {
        let LookedFor { floors, lowest_open, certain, pass, now } = looked_for;
        let (records, min_seq) = (segment.records(), segment.min_seq());
        let is_swept = floors.raises <= segment.swept() || floors.highest_tag < min_seq;
        if is_swept || segment.tags() == 0 {
            return Ok(true);
        }
        let listing = self.listing(segment)?;
        let named = listing.tags.iter().filter(|tag| {
            floors.may_cover(tag.fingerprint, min_seq) || tag.fingerprint == UNFINISHED_ROWS
        });
        let blocks: BTreeSet<u32> = named.map(|tag| tag.entry).collect();
        let mut batch = Batch::of(*pass);
        // What damage hides has not been looked at.
        let mut found_all = listing.entries.len() as u64 >= records || !self.owner.has(segment);
        for at in blocks {
            let Some(entry) = listing.entries.get(at as usize) else { continue };
            if entry.end() > segment.durable() {
                found_all = false;
                continue;
            }
            let Some(mut rows) = self.look_at_rows(segment, entry, *certain)? else {
                found_all &= !self.owner.has(segment);
                continue;
            };
            if rows.missed {
                // All that a tag hides in a block is noted together, or what a stop leaves could not be told.
                found_all = false;
                continue;
            }
            // A stop may have come before it was noted what has been overwritten. Its zeros may be in the page
            // cache alone, if their sync failed.
            let mut listed = listing.tags.iter().filter(|tag| tag.entry == at);
            if listed.any(|tag| !rows.carry(tag.fingerprint)) {
                rows.dead.append(&mut rows.given_up);
                rows.dead.sort_unstable();
            } else if rows.dead.is_empty() {
                continue;
            }
            batch.doomed.append(&mut rows.dead);
            let position = entry.position;
            batch.remains.push(Remains { position, whole_record: false, tags: rows.kept });
        }
        if !batch.remains.is_empty() {
            segment.begin_erase(batch, *now);
        }
        if found_all && floors.highest_tag < *lowest_open {
            segment.set_swept(floors.raises);
        }
        Ok(found_all)
    }

    /// What has become of the rows of a block; nothing if the block cannot be read.
    fn look_at_rows(
        &self,
        segment: &Segment,
        entry: &SidecarEntry,
        certain: u64,
    ) -> Result<Option<Rows>> {
        let Some(block) = self.block(segment.number(), entry.offset())? else { return Ok(None) };
        let mut rows = Rows::default();
        for row in &block.entries {
            let start = block.value_start + u64::from(row.offset);
            let end = start + u64::from(row.len);
            if u64::from(row.len) < STATE_LEN || end > entry.end() {
                return Ok(None);
            }
            let bytes = match segment.read_row(start, u64::from(row.len)) {
                Ok(bytes) => bytes,
                Err(Damage::Failed(error)) => return Err(error),
                Err(_) => continue,
            };
            let doomed = Doomed { state_at: start, start: start + STATE_LEN, end };
            match row.decode(&bytes, &segment.seed, block.offset) {
                Ok(Some(body)) => {
                    let tags = body.tags.iter().map(|tag| tag_fingerprint(*tag));
                    let floor = self.floors.of_tags(&body.tags, block.seq);
                    if floor.is_some_and(|floor| floor < certain) {
                        rows.died.extend(tags);
                        rows.dead.push(doomed);
                    } else {
                        rows.missed |= floor.is_some();
                        rows.kept.extend(tags);
                    }
                }
                // A stop may have come between its state word and the rest.
                Ok(None) if is_unfinished(&bytes) => rows.dead.push(doomed),
                Ok(None) => rows.given_up.push(doomed),
                // Nobody gets it, and what it was about cannot be told.
                Err(_) => rows.dead.push(doomed),
            }
        }
        Ok(Some(rows))
    }

    /// The blocks of a segment, also of one that is appended to.
    pub(super) fn listing(&self, segment: &Segment) -> Result<Listing> {
        {
            let writers = self.writers.lock();
            let number = segment.number();
            let writer = writers.values().find(|writer| writer.segment().number() == number);
            if let Some(writer) = writer {
                return Ok(writer.listing().clone());
            }
        }
        self.owner.listing(segment)
    }

    fn note(&self, segment: &Segment, remains: &[Remains]) -> Result<()> {
        {
            let mut writers = self.writers.lock();
            let number = segment.number();
            let writer = writers.values_mut().find(|writer| writer.segment().number() == number);
            if let Some(writer) = writer {
                writer.note_scrubbed(remains);
                return Ok(());
            }
        }
        self.owner.note_scrubbed(segment, remains)
    }
}
