//! Reading the ledger as it was left: file by file, what it says, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::scan::{Around, Behind, FileBytes, Head, Scan, opening, scan};
use crate::disk::{Access, Disk, EntryKind as DirEntryKind};
use crate::error::{Error, Result};
use crate::format::ledger::{
    ChainedEntry, EntryKind, LedgerMark, MAX_FILE_LEN, Turn, entries_in_file, offset_of,
};
use crate::format::record::RecordKind;
use crate::format::state::MAX_GENERATION;
use crate::format::tombstone::TombstoneScope;
use crate::sequence::generation_of;
use crate::tombstone::{count_without_strays, log_name, parse_log_name, retain_following};

/// A bucket that was born and has not left, by its owner and its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenBucket {
    /// The file that says so.
    pub(super) file: u64,
    pub(crate) deadline_ms: u64,
    pub(crate) detail: u8,
    /// The number of the entry of its birth.
    pub(super) born_by: u64,
}

/// Owner and start of a bucket.
pub(crate) type BucketId = (u64, u64);

/// What all the entries come to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) open: BTreeMap<BucketId, OpenBucket>,
    /// Owners that have an entry.
    pub(crate) owners: BTreeSet<u64>,
    /// Dropped buckets of logs, by the number of their drop, whose keys are not known to be gone.
    pub(crate) keyed: BTreeMap<u64, BucketId>,
    /// Those of which it was written down first that the keys are gone.
    keyless: BTreeSet<u64>,
    /// Up to which sequence number the invalidations of each scope are counted.
    pub(super) through: [u64; 3],
    /// The last step of the wall clock that was written down.
    pub(crate) suspect_ms: u64,
    /// The highest generation that gave one of the numbers in them out.
    pub(crate) generation: u64,
}

impl Tally {
    /// Takes the next entry into account.
    pub(crate) fn take(&mut self, file: u64, entry: &ChainedEntry) {
        let fields = &entry.fields;
        let bucket = (fields.owner_id, fields.start_ms);
        let generation = match fields.kind {
            EntryKind::Dropped => fields.instance >> 32,
            _ => generation_of(fields.through),
        };
        if generation < MAX_GENERATION {
            self.generation = self.generation.max(generation);
        }
        match fields.kind {
            EntryKind::Checkpoint => {
                for through in &mut self.through {
                    *through = (*through).max(fields.through);
                }
            }
            EntryKind::Owner => drop(self.owners.insert(fields.owner_id)),
            EntryKind::Born | EntryKind::Carried => {
                let is_carried = fields.kind == EntryKind::Carried;
                let born_by = if is_carried { fields.instance } else { fields.number };
                let (deadline_ms, detail) = (fields.deadline_ms, fields.detail);
                self.open.insert(bucket, OpenBucket { file, deadline_ms, detail, born_by });
            }
            EntryKind::Dropped => {
                self.open.remove(&bucket);
                let is_log = fields.detail & 0x0f == RecordKind::Rows as u8;
                if is_log && fields.instance != 0 && !self.keyless.remove(&fields.instance) {
                    self.keyed.insert(fields.instance, bucket);
                }
            }
            EntryKind::KeysDestroyed => {
                if self.keyed.remove(&fields.instance).is_none() {
                    self.keyless.insert(fields.instance);
                }
            }
            EntryKind::Invalidated => {
                let scope = usize::from(fields.detail.saturating_sub(1));
                if let Some(through) = self.through.get_mut(scope) {
                    *through = (*through).max(fields.through);
                }
            }
            EntryKind::ClockSuspect => self.suspect_ms = fields.records,
            EntryKind::Released | EntryKind::Scrubbed => {}
        }
    }

    /// Up to which sequence number the invalidations of a scope are counted.
    pub(crate) fn counted_through(&self, scope: TombstoneScope) -> u64 {
        self.through.get(scope as usize - 1).copied().unwrap_or(0)
    }
}

/// A file as found.
#[derive(Debug)]
pub(super) struct FoundFile {
    pub(super) number: u64,
    /// When its newest entry was written; 0 if none can be read.
    pub(super) newest_at_ms: u64,
}

/// The newest file, if it can be gone on with.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) capacity: usize,
    pub(super) bound: usize,
    pub(super) end: usize,
    /// What must be written once more, from the bound on: the entries above it, and zeros for what
    /// was never acknowledged.
    pub(super) rewrite: Vec<u8>,
}

/// The ledger as found.
#[derive(Debug, Default)]
pub(crate) struct FoundLedger {
    /// What is wrong: the file, the offset in it, and a word about it.
    pub(crate) problems: Vec<(PathBuf, u64, &'static str)>,
    pub(super) files: Vec<FoundFile>,
    /// Entries that count.
    pub(crate) entries: u64,
    /// The last of them.
    pub(crate) head: Option<Head>,
    /// The first place at which the newest part of the chain is broken, as file and offset.
    pub(super) broken: Option<(u64, u64)>,
    /// Files that had been given up to retention, but were not removed.
    pub(super) stale: Vec<PathBuf>,
    pub(super) newest: Option<Newest>,
    /// The file that ends with something that was never acknowledged.
    pub(crate) torn: Option<PathBuf>,
}

impl FoundLedger {
    /// Files that were read.
    pub(crate) fn file_count(&self) -> u64 {
        self.files.len() as u64
    }
}

/// Where the ledger of a store is, and what STATE says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) dir: &'a Path,
    pub(crate) store_id: [u8; 16],
    pub(crate) known: Option<LedgerMark>,
    /// True if nothing can have been written behind what STATE knows: after a clean close.
    pub(crate) exact: bool,
}

/// Reads all files, the oldest first, and shows every entry that counts, with its file.
pub(crate) fn read_ledger(
    place: Place<'_>,
    visit: &mut dyn FnMut(u64, &ChainedEntry),
) -> Result<FoundLedger> {
    let mut found = FoundLedger::default();
    let numbers = list(place, &mut found)?;
    let mut before = None;
    let mut next = None;
    for (at, number) in numbers.iter().enumerate() {
        let bytes = match next.take() {
            Some(bytes) => bytes,
            None => read_whole(place, *number)?,
        };
        let following = numbers.get(at + 1).copied();
        let mut behind = Behind::Nothing;
        if let Some(following) = following {
            let bytes = read_whole(place, following)?;
            let opened = opening(place.store_id, following, &bytes.used);
            behind = match opened.filter(|_| following == number + 1) {
                Some(opened) => Behind::File(opened.carried, opened.turn),
                None => Behind::Unknown,
            };
            next = Some(bytes);
        }
        let around = Around {
            store_id: place.store_id,
            number: *number,
            before: before.filter(|_| at > 0 && numbers.get(at - 1) == Some(&(number - 1))),
            behind,
            known: place.known.map(|known| Head { number: known.number, hash: known.hash }),
            exact: place.exact && place.known.is_some_and(|known| known.newest <= *number),
        };
        let scan = scan(&bytes, &around);
        before = scan.head;
        found.take(place, *number, &bytes, scan, visit);
    }
    Ok(found)
}

/// The numbers of the files that count; those that must be there and are not are problems.
fn list(place: Place<'_>, found: &mut FoundLedger) -> Result<Vec<u64>> {
    let entries = match place.disk.read_dir(place.dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(|e| Error::io("list", place.dir, e))?,
    };
    let files = entries.iter().filter(|entry| entry.kind == DirEntryKind::File);
    let mut numbers: Vec<u64> = files.filter_map(|entry| parse_log_name(&entry.name)).collect();
    numbers.sort_unstable();
    let known = place.known.unwrap_or_default();
    let stale = numbers.iter().filter(|number| **number < known.oldest);
    found.stale = stale.map(|number| place.dir.join(log_name(*number))).collect();
    numbers.retain(|number| *number >= known.oldest);
    match place.known {
        Some(known) => retain_following(&mut numbers, known.newest),
        None => {
            let says_nothing = |number: u64| {
                let read = read_whole(place, number);
                read.is_ok_and(|bytes| opening(place.store_id, number, &bytes.used).is_none())
            };
            let is_known = |at: usize| numbers.get(at).is_some_and(|number| !says_nothing(*number));
            let count = count_without_strays(&numbers, is_known);
            if let Some(stray) = numbers.get(count).copied() {
                let what = "a ledger file of another store, or without a readable header";
                found.problems.push((place.dir.join(log_name(stray)), 0, what));
                found.broken = Some((stray, 0));
            }
            numbers.truncate(count);
        }
    }
    let first = match place.known {
        Some(known) => known.oldest,
        None => numbers.first().copied().unwrap_or(1),
    };
    let last = numbers.last().copied().unwrap_or(0).max(known.newest);
    let mut expected = first;
    for number in numbers.iter().copied().chain([last + 1]) {
        if expected < number {
            let path = place.dir.join(log_name(expected));
            found.problems.push((path, 0, "a ledger file is missing"));
            if expected > numbers.last().copied().unwrap_or(0) {
                found.broken = Some((expected, 0));
            }
        }
        expected = number + 1;
    }
    Ok(numbers)
}

/// A file's bytes; none if it cannot be read, which is as good as damaged, as is one that is longer than
/// any. What is found damaged stays marked so for good, so a read that fails is tried once more.
fn read_whole(place: Place<'_>, number: u64) -> Result<FileBytes> {
    let path = place.dir.join(log_name(number));
    let file = place.disk.open(&path, Access::Read).map_err(|e| Error::io("open", &path, e))?;
    let len = file.len().map_err(|e| Error::io("measure", &path, e))?;
    if len > MAX_FILE_LEN {
        return Ok(FileBytes::default());
    }
    let read = || FileBytes::read(&*file, len);
    Ok(read().or_else(|_| read()).unwrap_or_default())
}

impl FoundLedger {
    fn take(
        &mut self,
        place: Place<'_>,
        number: u64,
        bytes: &FileBytes,
        scan: Scan,
        visit: &mut dyn FnMut(u64, &ChainedEntry),
    ) {
        let path = place.dir.join(log_name(number));
        for (offset, what) in &scan.problems {
            self.problems.push((path.clone(), *offset, what));
        }
        if let Some((0, first)) = scan.entries.first() {
            self.resumed(place, &path, first);
        }
        scan.entries.iter().for_each(|(_, entry)| visit(number, entry));
        self.entries += scan.entries.len() as u64;
        self.head = scan.head.or(self.head);
        let newest_at_ms = scan.entries.last().map_or(0, |(_, entry)| entry.fields.at_ms);
        self.files.push(FoundFile { number, newest_at_ms });
        self.newest = Some(Newest {
            number,
            capacity: entries_in_file(bytes.len),
            bound: scan.bound,
            end: scan.end,
            rewrite: rewrite(&bytes.used, &scan),
            path: path.clone(),
        });
        self.torn = (scan.used > scan.end && scan.problems.is_empty()).then_some(path);
        let first = scan.problems.iter().map(|(offset, _)| *offset).min();
        if self.broken.is_none_or(|(file, _)| file <= number) {
            self.broken = first.map(|offset| (number, offset));
        }
    }

    /// A file that was begun after a break says where that was, in its first entry.
    fn resumed(&mut self, place: Place<'_>, path: &Path, first: &ChainedEntry) {
        let fields = &first.fields;
        let is_checkpoint = fields.kind == EntryKind::Checkpoint;
        if !is_checkpoint || Turn::from_detail(fields.detail) != Turn::Resumed {
            return;
        }
        let (file, offset) = (fields.instance, fields.bytes);
        let broken = place.dir.join(log_name(file));
        if place.known.is_some_and(|known| file < known.oldest) {
            let what = "it goes on after a break in a file that is gone by now";
            self.problems.push((path.to_owned(), offset_of(0), what));
        } else if !self.problems.iter().any(|(path, at, _)| *path == broken && *at == offset) {
            self.problems.push((broken, offset, "the ledger was found broken here"));
        }
    }
}

fn rewrite(bytes: &[u8], scan: &Scan) -> Vec<u8> {
    let at = |index: usize| usize::try_from(offset_of(index)).unwrap_or(usize::MAX);
    let entries = bytes.get(at(scan.bound)..at(scan.end)).unwrap_or_default();
    let mut rewrite = entries.to_vec();
    rewrite.resize(at(scan.used).saturating_sub(at(scan.bound)), 0);
    rewrite
}
