//! Making an index anew from all records there are.

use std::sync::Arc;

use super::segments::Taken;
use crate::floors::Floors;
use crate::format::sidecar::{Body, Listing, SidecarEntry};
use crate::index::{Change, Index, Location, Span};
use crate::owner::Owner;
use crate::parallel;
use crate::planted::{Bug, is_planted};
use crate::segment::Segment;
use crate::sync::Mutex;

/// Changes that all threads together note down before they make them, of 24 B each.
const MAX_NOTES: usize = 2 << 20;

/// A segment by the ordinal it was given, and its records.
type Listed = (u32, Arc<Segment>, Listing);

/// What becomes of a slot.
struct Note {
    fingerprint: u64,
    change: Change,
}

/// The winner of each key is the record written last: for one key the orders of sequence numbers,
/// segments and offsets agree.
pub(super) fn rebuild(owner: &Owner, floors: &Floors, segments: Vec<Taken>) -> Index {
    let entries = || segments.iter().flat_map(|taken| &taken.listing.entries);
    let count = entries().count();
    let mut index = Index::with_room(entries().map(|entry| entry.hash.fingerprint()));
    let listed: Vec<Listed> = segments
        .into_iter()
        .map(|taken| (owner.table.push(&taken.segment), taken.segment, taken.listing))
        .collect();
    let threads = parallel::threads_for((count * size_of::<SidecarEntry>()) as u64);
    for ((_, segment, _), live) in listed.iter().zip(fill(&mut index, floors, &listed, threads)) {
        segment.add_live(live);
    }
    index.shrink();
    index
}

/// Lets an empty index name the winners, and gives how many of them each segment has. Each thread has
/// shards of its own, so what it meets is in order.
fn fill(index: &mut Index, floors: &Floors, listed: &[Listed], threads: usize) -> Vec<u64> {
    let mut spans = index.spans();
    let share_len = spans.len().div_ceil(threads).max(1);
    let mut shares = Vec::new();
    while !spans.is_empty() {
        let rest = spans.split_off(share_len.min(spans.len()));
        shares.push(Mutex::new(std::mem::replace(&mut spans, rest)));
    }
    let fill = |share: &Mutex<Vec<Span<'_>>>| {
        let first_ordinal = listed.first().map_or(0, |(ordinal, ..)| *ordinal);
        let mut spans = share.lock();
        let mut share = Share {
            notes: spans.iter().map(|_| Vec::new()).collect(),
            spans: &mut spans,
            first_ordinal,
            live: vec![0; listed.len()],
        };
        share.fill(floors, listed, MAX_NOTES / threads.max(1));
        share.live
    };
    let mut live = vec![0; listed.len()];
    for share in parallel::map(&shares, threads, fill) {
        live.iter_mut().zip(share).for_each(|(sum, of_share)| *sum += of_share);
    }
    live
}

/// What one thread fills.
struct Share<'a, 'i> {
    spans: &'a mut [Span<'i>],
    /// What is to become of slots of each span.
    notes: Vec<Vec<Note>>,
    first_ordinal: u32,
    /// How many records of each segment the spans name.
    live: Vec<u64>,
}

impl Share<'_, '_> {
    fn fill(&mut self, floors: &Floors, listed: &[Listed], max_notes: usize) {
        let first_shard = self.spans.first().map_or(0, Span::first_shard);
        let mut noted = 0;
        for (ordinal, _, listing) in listed {
            for entry in &listing.entries {
                let fingerprint = entry.hash.fingerprint();
                let at = Index::shard_of(fingerprint).checked_sub(first_shard);
                let notes = at.and_then(|at| self.notes.get_mut(at / Index::SPAN_SHARDS));
                let Some(notes) = notes else { continue };
                // One that was erased wins over older ones all the same.
                let gone =
                    entry.body() != Body::Whole || floors.of_key(entry.hash, entry.seq).is_some();
                if gone && is_planted(Bug::InvisibleSkipped) {
                    continue;
                }
                let location = Location { ordinal: *ordinal, position: entry.position };
                let change = if gone { Change::Remove } else { Change::Put(location) };
                notes.push(Note { fingerprint, change });
                noted += 1;
                if noted == max_notes {
                    self.change_slots();
                    noted = 0;
                }
            }
        }
        self.change_slots();
    }

    /// Does what has been noted down, one span after the other.
    fn change_slots(&mut self) {
        let at = |location: Location| (location.ordinal - self.first_ordinal) as usize;
        for (span, notes) in self.spans.iter_mut().zip(&mut self.notes) {
            for Note { fingerprint, change } in notes.drain(..) {
                if let Some(before) = span.change(fingerprint, change)
                    && let Some(live) = self.live.get_mut(at(before))
                {
                    *live -= 1;
                }
                if let Change::Put(location) = change
                    && let Some(live) = self.live.get_mut(at(location))
                {
                    *live += 1;
                }
            }
        }
    }
}
