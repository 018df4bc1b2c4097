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

/// Shards that are filled together: of ten million keys, lines of 2 MB, which stay in the processor's
/// cache meanwhile.
const SPAN_SHARDS: usize = 64;
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
    let count = segments.iter().map(|taken| taken.listing.entries.len()).sum();
    let mut index = Index::with_room(count);
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
    let mut spans = index.spans(SPAN_SHARDS);
    let share_len = spans.len().div_ceil(threads).max(1);
    let mut shares = Vec::new();
    while !spans.is_empty() {
        let rest = spans.split_off(share_len.min(spans.len()));
        shares.push(Mutex::new(std::mem::replace(&mut spans, rest)));
    }
    let fill = |share: &Mutex<Vec<Span<'_>>>| {
        fill_share(&mut share.lock(), floors, listed, MAX_NOTES / threads.max(1))
    };
    let mut live = vec![0; listed.len()];
    for share in parallel::map(&shares, threads, fill) {
        live.iter_mut().zip(share).for_each(|(sum, of_share)| *sum += of_share);
    }
    live
}

fn fill_share(
    spans: &mut [Span<'_>],
    floors: &Floors,
    listed: &[Listed],
    max_notes: usize,
) -> Vec<u64> {
    let first = spans.first().map_or(0, Span::first_shard);
    let first_ordinal = listed.first().map_or(0, |(ordinal, ..)| *ordinal);
    let mut notes: Vec<Vec<Note>> = spans.iter().map(|_| Vec::new()).collect();
    let mut noted = 0;
    let mut live = vec![0_u64; listed.len()];
    let mut make = |notes: &mut [Vec<Note>]| {
        for (span, notes) in spans.iter_mut().zip(notes) {
            for Note { fingerprint, change } in notes.drain(..) {
                let before = span.change(fingerprint, change);
                let mut count = |location: Location, add: fn(u64, u64) -> u64| {
                    let at = (location.ordinal - first_ordinal) as usize;
                    live.get_mut(at).into_iter().for_each(|live| *live = add(*live, 1));
                };
                if let Some(before) = before {
                    count(before, u64::saturating_sub);
                }
                if let Change::Put(location) = change {
                    count(location, u64::saturating_add);
                }
            }
        }
    };
    for (ordinal, _, listing) in listed {
        for entry in &listing.entries {
            let fingerprint = entry.hash.fingerprint();
            let at = Index::shard_of(fingerprint).checked_sub(first).map(|at| at / SPAN_SHARDS);
            let Some(of_span) = at.and_then(|at| notes.get_mut(at)) else { continue };
            // One that was erased wins over older ones all the same.
            let gone = entry.body != Body::Whole || floors.of_key(entry.hash, entry.seq).is_some();
            if gone && is_planted(Bug::InvisibleSkipped) {
                continue;
            }
            let location = Location { ordinal: *ordinal, position: entry.position };
            let change = if gone { Change::Remove } else { Change::Put(location) };
            of_span.push(Note { fingerprint, change });
            noted += 1;
            if noted == max_notes {
                make(&mut notes);
                noted = 0;
            }
        }
    }
    make(&mut notes);
    live
}
