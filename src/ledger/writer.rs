//! What is known of the ledger's files while they are written, and what waits to be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IoSlice};
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::found::{BucketId, FoundLedger, OpenBucket, Tally};
use super::scan::Head;
use super::{DropNote, LedgerParts};
use crate::bucket::Bucket;
use crate::disk::{Access, DiskFile, write_all_at};
use crate::error::{Error, Result};
use crate::format::ledger::{EntryFields, EntryKind, LedgerMark, Turn, genesis, offset_of};
use crate::time::Timestamp;

/// What is written, and what waits to be.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) current: Option<Current>,
    pub(super) older: VecDeque<Older>,
    pub(super) oldest: u64,
    pub(super) newest: u64,
    pub(super) head: Head,
    /// Why the next file will be begun, if not because the one before is full.
    pub(super) turn: Turn,
    /// Where the chain is broken, as file and offset.
    pub(super) broken: (u64, u64),
    pub(super) queue: Vec<Queued>,
    /// Buckets that were born, and of which no entry on the disk says that they have left.
    pub(super) open: BTreeMap<BucketId, OpenBucket>,
    /// Those of them that have left, though a power cut may bring them back: a sync failed, and another
    /// may succeed without having written anything. The next opening finds out.
    pub(super) uncertain: BTreeSet<BucketId>,
    /// All invalidations up to this sequence number are written down.
    pub(super) through: u64,
    pub(super) suspect_ms: u64,
    /// False while the newest file's name may not be durable.
    pub(super) named: bool,
    pub(super) closed: bool,
}

/// An entry that waits for the next sync.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) fields: EntryFields,
    /// Directories to sync before it is true.
    pub(super) unsynced: Vec<PathBuf>,
}

/// The file being appended to.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) number: u64,
    pub(super) file: Arc<dyn DiskFile>,
    /// Entries in it, all durable.
    pub(super) next: usize,
    pub(super) capacity: usize,
    pub(super) newest_at_ms: u64,
}

/// A file that is not written any more.
#[derive(Debug)]
pub(super) struct Older {
    pub(super) number: u64,
    pub(super) newest_at_ms: u64,
}

impl Writer {
    /// Takes up what was found, but begins no file.
    pub(super) fn take_up(parts: &LedgerParts, found: FoundLedger, tally: &Tally) -> Result<Self> {
        for path in &found.stale {
            // It is met again by the next open.
            let _ = parts.disk.remove_file(path);
        }
        let known = parts.state.current().ledger;
        let mut older: VecDeque<Older> = VecDeque::new();
        // A file without a readable entry is kept for as long as the one behind it.
        let mut at_ms = u64::MAX;
        for file in found.files.iter().rev() {
            at_ms = if file.newest_at_ms == 0 { at_ms } else { file.newest_at_ms };
            older.push_front(Older { number: file.number, newest_at_ms: at_ms });
        }
        let newest = older.back().map_or(0, |file| file.number).max(known.newest);
        let oldest = older.front().map_or(known.oldest, |file| file.number.min(known.oldest));
        let found_head = found.head.unwrap_or(Head { number: 0, hash: genesis(parts.store_id) });
        let is_known = found.broken.is_some() && known.number >= found_head.number;
        let known_head = Head { number: known.number, hash: known.hash };
        let is_first = newest == 0;
        let mut writer = Self {
            current: None,
            older,
            oldest,
            newest,
            head: if is_known && known.number > 0 { known_head } else { found_head },
            turn: if is_first { Turn::First } else { Turn::Full },
            broken: (0, 0),
            queue: Vec::new(),
            open: tally.open.clone(),
            uncertain: BTreeSet::new(),
            through: tally.through.iter().copied().min().unwrap_or(0),
            suspect_ms: tally.suspect_ms,
            named: true,
            closed: false,
        };
        match (found.broken, found.newest) {
            (Some(broken), _) => {
                writer.turn = Turn::Resumed;
                writer.broken = broken;
            }
            (None, Some(newest)) => {
                writer.older.pop_back();
                // One that STATE does not know may have been left by a process whose sync of its name failed.
                writer.named = newest.number <= known.newest;
                writer.go_on(parts, newest, at_ms_of(&found.files))?;
                if writer.named {
                    parts.state.note_ledger(writer.mark());
                }
            }
            (None, None) => {}
        }
        Ok(writer)
    }

    fn go_on(
        &mut self,
        parts: &LedgerParts,
        newest: super::found::Newest,
        newest_at_ms: u64,
    ) -> Result<()> {
        let path = &newest.path;
        let opened = parts.disk.open(path, Access::ReadWrite);
        let file = opened.map_err(|e| Error::io("open", path, e))?;
        if !newest.rewrite.is_empty() {
            write_at(&*file, &newest.rewrite, offset_of(newest.bound))
                .map_err(|e| Error::io("write", path, e))?;
        }
        let (number, capacity) = (newest.number, newest.capacity);
        self.current = Some(Current { number, file, next: newest.end, capacity, newest_at_ms });
        Ok(())
    }

    /// What is durable for certain.
    pub(super) fn mark(&self) -> LedgerMark {
        LedgerMark {
            oldest: self.oldest,
            newest: self.newest,
            number: self.head.number,
            hash: self.head.hash,
        }
    }

    /// True if nothing that was not acknowledged can stand behind the last entry.
    pub(super) fn is_settled(&self) -> bool {
        self.current.is_some()
    }

    /// Files on the disk.
    pub(super) fn files(&self) -> u64 {
        self.older.len() as u64 + u64::from(self.current.is_some())
    }

    pub(super) fn queue_drop(&mut self, at: Timestamp, note: DropNote) {
        let mut fields = note.entry(at);
        // When it was due, its birth says.
        if note.bucket.deadline == Bucket::CONDEMNED {
            let open = self.open.get(&note.bucket.id());
            fields.deadline_ms = open.map_or(fields.at_ms, |open| open.deadline_ms);
        }
        self.queue.push(Queued { fields, unsynced: note.unsynced });
    }

    pub(super) fn queue_count(&mut self, at: Timestamp, scope: u8, count: u64, through: u64) {
        if count > 0 {
            let entry = EntryFields::new(EntryKind::Invalidated, scope, at.as_millis());
            let fields = EntryFields { records: count, through, ..entry };
            self.queue.push(Queued { fields, unsynced: Vec::new() });
        }
    }

    /// The buckets whose drop waits to be written.
    pub(super) fn leaving(&self) -> BTreeSet<BucketId> {
        let drops = self.queue.iter().filter(|queued| queued.fields.kind == EntryKind::Dropped);
        drops.map(|queued| (queued.fields.owner_id, queued.fields.start_ms)).collect()
    }

    /// The buckets in this range that have not left, not even uncertainly.
    pub(super) fn still_open(
        &self,
        range: impl RangeBounds<BucketId>,
    ) -> Vec<(BucketId, OpenBucket)> {
        let leaving = self.leaving();
        let open = self.open.range(range).map(|(id, open)| (*id, *open));
        open.filter(|(id, _)| !leaving.contains(id) && !self.uncertain.contains(id)).collect()
    }

    /// The oldest file, if all in it is older than this.
    pub(super) fn expired(&self, now: Timestamp, retention: Duration) -> Option<u64> {
        let oldest = self.older.front().filter(|_| self.current.is_some() && !self.closed)?;
        // It is no newer than those behind it: one that ended in a future that was wrong would stay.
        let newest_at_ms = self.older.iter().map(|file| file.newest_at_ms).min()?;
        let gone_at = Timestamp::from_millis(newest_at_ms) + retention;
        (gone_at < now).then_some(oldest.number)
    }

    /// An entry for each bucket that is open in this file, or whose drop is not written yet.
    pub(super) fn carried(&self, file: u64, now: Timestamp) -> Vec<EntryFields> {
        let open = self.open.iter().filter(|(_, bucket)| bucket.file <= file);
        open.map(|((owner_id, start_ms), bucket)| EntryFields {
            owner_id: *owner_id,
            start_ms: *start_ms,
            deadline_ms: bucket.deadline_ms,
            instance: bucket.born_by,
            ..EntryFields::new(EntryKind::Carried, bucket.detail, now.as_millis())
        })
        .collect()
    }

    /// What follows from an entry that is durable now.
    pub(super) fn written(&mut self, fields: &EntryFields, file: u64) {
        let bucket = (fields.owner_id, fields.start_ms);
        let born_by = match fields.kind {
            EntryKind::Born => fields.number,
            EntryKind::Carried => fields.instance,
            EntryKind::Dropped => {
                self.open.remove(&bucket);
                return;
            }
            _ => return,
        };
        let (deadline_ms, detail) = (fields.deadline_ms, fields.detail);
        self.open.insert(bucket, OpenBucket { file, deadline_ms, detail, born_by });
    }

    /// Gives up the file being written.
    pub(super) fn give_up(&mut self) {
        if let Some(failed) = self.current.take() {
            let (number, newest_at_ms) = (failed.number, failed.newest_at_ms);
            self.older.push_back(Older { number, newest_at_ms });
            self.turn = Turn::GivenUp;
        }
    }
}

fn at_ms_of(files: &[super::found::FoundFile]) -> u64 {
    files.last().map_or(0, |file| file.newest_at_ms)
}

/// Writes, and waits until it is durable.
pub(super) fn write_at(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    write_all_at(file, &mut [IoSlice::new(bytes)], offset).map_err(|e| e.source)?;
    file.sync_data()
}
