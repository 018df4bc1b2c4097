//! What a walk over a whole segment finds: which of its records count, and what a sidecar would list.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::collections::VecDeque;
use std::io;

use super::walker::{Found, Source, Walker};
use crate::format::checksum::Seed;
use crate::format::segment_header::{HEADER_LEN, MAX_LEN};
use crate::format::sidecar::{Listing, SidecarEntry, SidecarTag, for_each_fingerprint};
use crate::format::{Parsed, Unreadable};

/// What a walk over a whole segment found.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) listing: Listing,
    /// How many tags its sidecar lists.
    pub(crate) tags: u64,
    /// The end of the last record that counts.
    pub(crate) end: u64,
    /// All below had been made durable when a later record was written.
    pub(crate) mark: u64,
    /// Why the walk ended before the file did.
    pub(crate) stopped: Option<&'static str>,
}

/// Walks a segment. Above the durable mark a record counts only if all of it is as it was written,
/// and nothing behind one that is not. Where the walk ends early, what lies behind is asked for its
/// mark alone: a record that is damaged below it was no torn end. Without `keep_tags` these are counted
/// and not listed.
pub(crate) fn scan<S: Source + Copy>(
    source: S,
    seed: &Seed,
    len: u64,
    keep_tags: bool,
) -> io::Result<Scanned> {
    let mut walker = Walker::new(source, seed, len.min(MAX_LEN));
    let listing = Listing::default();
    let (end, mark) = (HEADER_LEN, HEADER_LEN);
    let mut scanned = Scanned { listing, tags: 0, end, mark, stopped: None };
    let mut above = Above::default();
    while let Some(step) = walker.next()? {
        match step {
            Ok(record) => {
                scanned.mark = scanned.mark.max(record.head.durable_mark.min(record.offset));
                let tags = scanned.take(&walker, &record, keep_tags)?;
                above.push(&scanned, tags);
            }
            Err(unreadable) => {
                scanned.stopped = Some(reason(unreadable));
                scanned.mark = scanned.mark.max(walker.mark_ahead()?);
                break;
            }
        }
    }
    // Only now is it known which of them have to be checked.
    scanned.give_back(above);
    let mut walker = Walker::between(source, seed, (scanned.end, walker.offset()));
    while let Some(step) = walker.next()? {
        if let Err(unreadable) = scanned.take_checked(&mut walker, step, keep_tags)? {
            scanned.stopped = Some(reason(unreadable));
            break;
        }
    }
    Ok(scanned)
}

/// The records above the mark so far, the first one first: where they end, and how many tags are listed
/// of them.
#[derive(Debug, Default)]
struct Above(VecDeque<(u64, u64)>);

impl Above {
    /// Adds the record taken last, and lets go of those that the mark has passed.
    fn push(&mut self, scanned: &Scanned, tags: u64) {
        self.0.push_back((scanned.end, tags));
        self.let_go(scanned.mark);
    }

    fn let_go(&mut self, mark: u64) {
        while self.0.front().is_some_and(|(end, _)| *end <= mark) {
            self.0.pop_front();
        }
    }
}

impl Scanned {
    /// Takes the next record; gives how many tags are listed of it.
    fn take<S: Source>(
        &mut self,
        walker: &Walker<S>,
        record: &Found,
        keep_tags: bool,
    ) -> io::Result<u64> {
        let tags = walker.tags(record)?;
        let mut count = 0;
        for_each_fingerprint(&tags, |_| count += 1);
        let listed = if keep_tags { tags.as_slice() } else { &[] };
        self.listing.push(SidecarEntry::of(&record.head, record.offset), listed);
        self.tags += count;
        self.end = record.offset + record.head.record_len();
        Ok(count)
    }

    /// Takes the next record, if all of it is as it was written.
    fn take_checked<S: Source>(
        &mut self,
        walker: &mut Walker<S>,
        step: Parsed<Found>,
        keep_tags: bool,
    ) -> io::Result<Parsed<()>> {
        let written = match step {
            Ok(found) => walker.checked(found, check_written)?,
            Err(unreadable) => Err(unreadable),
        };
        match written {
            Ok(record) => self.take(walker, &record, keep_tags).map(|_| Ok(())),
            Err(unreadable) => Ok(Err(unreadable)),
        }
    }

    /// Gives back the records above the mark.
    fn give_back(&mut self, mut above: Above) {
        above.let_go(self.mark);
        self.tags -= above.0.iter().map(|(_, tags)| tags).sum::<u64>();
        let left = self.listing.entries.len() - above.0.len();
        self.listing.entries.truncate(left);
        let tags = self.listing.tags.partition_point(|tag| (tag.entry as usize) < left);
        self.listing.tags.truncate(tags);
        self.end = self.listing.entries.last().map_or(HEADER_LEN, SidecarEntry::end);
    }
}

/// Fails unless all of a record is as it was written, the zeros that no checksum covers included: where these are
/// not, the sector they end in never was, and what is right before them is so by chance.
fn check_written<S: Source>(walker: &Walker<S>, record: &Found) -> io::Result<Parsed<()>> {
    let checked = walker.check(record)?;
    if checked.is_err() || walker.find_unused(record, false)?.is_none() {
        return Ok(checked);
    }
    Ok(Err(Unreadable::Damaged("zeros of a record")))
}

/// Walks a segment once more, up to the end of what counts of it, and shows the tags of its records.
pub(crate) fn show_tags<S: Source>(
    source: S,
    seed: &Seed,
    end: u64,
    show: &mut dyn FnMut(SidecarTag) -> io::Result<()>,
) -> io::Result<()> {
    let mut walker = Walker::new(source, seed, end);
    for entry in 0.. {
        let Some(step) = walker.next()? else { break };
        let Ok(record) = step else { return Err(io::ErrorKind::InvalidData.into()) };
        let mut shown = Ok(());
        for_each_fingerprint(&walker.tags(&record)?, |fingerprint| {
            if shown.is_ok() {
                shown = show(SidecarTag { fingerprint, entry });
            }
        });
        shown?;
    }
    Ok(())
}

fn reason(unreadable: Unreadable) -> &'static str {
    match unreadable {
        Unreadable::Damaged(what) => what,
        Unreadable::Version(_) => "version of a record",
    }
}
