//! What a sidecar lists: records and their tags.

use std::collections::{BTreeSet, HashSet};

use super::{Body, SidecarEntry};
use crate::format::record::MAX_TAGS;
use crate::hash::KeyedHash;

/// That a record, or a row of a block of rows, carries a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SidecarTag {
    /// Part of the tag's keyed hash; the record says the rest.
    pub(crate) fingerprint: u32,
    /// Which of the entries.
    pub(crate) entry: u32,
}

/// Stands for the tags of rows that have been given up and may not have been overwritten: nothing
/// tells any more which they were.
pub(crate) const UNFINISHED_ROWS: u32 = 0;

/// What of a tag's hash is kept beside the records.
pub(crate) fn tag_fingerprint(tag: KeyedHash) -> u32 {
    (tag.0 >> 96) as u32
}

/// Shows of each different tag that a record carries what a sidecar says of it, in their order.
pub(crate) fn for_each_fingerprint(tags: &[KeyedHash], mut show: impl FnMut(u32)) {
    if tags.len() > MAX_TAGS {
        distinct_of_many(tags).into_iter().for_each(show);
        return;
    }
    let fingerprints = tags.iter().map(|tag| tag_fingerprint(*tag));
    for (at, tag) in fingerprints.clone().enumerate() {
        if !fingerprints.clone().take(at).any(|before| before == tag) {
            show(tag);
        }
    }
}

/// The rows of a block may carry thousands. Apart, since records are stored without it.
#[inline(never)]
fn distinct_of_many(tags: &[KeyedHash]) -> Vec<u32> {
    let mut seen = HashSet::new();
    tags.iter().map(|tag| tag_fingerprint(*tag)).filter(|tag| seen.insert(*tag)).collect()
}

/// What a sidecar lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// In the order of their offsets.
    pub(crate) entries: Vec<SidecarEntry>,
    /// In the order of their records.
    pub(crate) tags: Vec<SidecarTag>,
}

impl Listing {
    /// Adds a record and its tags.
    pub(crate) fn push(&mut self, entry: SidecarEntry, tags: &[KeyedHash]) {
        let at = self.entries.len() as u32;
        let push = |fingerprint| self.tags.push(SidecarTag { fingerprint, entry: at });
        for_each_fingerprint(tags, push);
        self.entries.push(entry);
    }

    /// Notes what has been overwritten: nothing is said of tags that are no longer carried.
    /// `remains` are in the order of their positions.
    pub(crate) fn note_scrubbed(&mut self, remains: &[Remains]) {
        let find = |position: u32| {
            let at = remains.binary_search_by_key(&position, |remains| remains.position).ok()?;
            remains.get(at)
        };
        for tag in &mut self.tags {
            let Some(entry) = self.entries.get(tag.entry as usize) else { continue };
            if find(entry.position).is_some_and(|left| !left.tags.contains(&tag.fingerprint)) {
                *tag = SidecarTag { fingerprint: 0, entry: u32::MAX };
            }
        }
        for entry in &mut self.entries {
            if find(entry.position).is_some_and(|left| left.whole_record) {
                entry.set_body(Body::Scrubbed);
            }
        }
    }

    /// Records that have been overwritten.
    pub(crate) fn scrubbed(&self) -> u64 {
        self.entries.iter().filter(|entry| entry.body() == Body::Scrubbed).count() as u64
    }
}

/// What scrubbing left of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remains {
    /// Where the record starts, divided by 8.
    pub(crate) position: u32,
    /// True if all of its body is gone; false if rows of a block are.
    pub(crate) whole_record: bool,
    /// Fingerprints of the tags that rows still carry.
    pub(crate) tags: BTreeSet<u32>,
}
