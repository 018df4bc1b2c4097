//! Appending to the ledger: the file being written, what waits, and going on to the next file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IoSlice};
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::found::{BucketId, FoundLedger, OpenBucket, Tally};
use super::scan::Head;
use super::{DropNote, Ledger, LedgerParts};
use crate::disk::{Access, DiskFile, write_all_at};
use crate::error::{Error, Result};
use crate::format::ledger::{
    ENTRY_LEN, EntryFields, EntryKind, LedgerHeader, LedgerMark, Turn, entries_in_file, genesis,
    offset_of,
};
use crate::format::state::MAX_LOG_NUMBER;
use crate::time::Timestamp;
use crate::tombstone::log_name;

/// What is written, and what waits to be.
#[derive(Debug)]
pub(super) struct Writer {
    current: Option<Current>,
    older: VecDeque<Older>,
    oldest: u64,
    pub(super) newest: u64,
    pub(super) head: Head,
    /// Why the next file will be begun, if not because the one before is full.
    turn: Turn,
    /// Where the chain is broken, as file and offset.
    broken: (u64, u64),
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
    named: bool,
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
struct Current {
    number: u64,
    file: Arc<dyn DiskFile>,
    /// Entries in it, all durable.
    next: usize,
    capacity: usize,
    newest_at_ms: u64,
}

/// A file that is not written any more.
#[derive(Debug)]
struct Older {
    number: u64,
    newest_at_ms: u64,
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
                writer.go_on(parts, newest, at_ms_of(&found.files))?;
                parts.state.note_ledger(writer.mark());
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
        let fields = note.entry(at);
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
    fn written(&mut self, fields: &EntryFields, file: u64) {
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

    fn give_up(&mut self) {
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

fn write_at(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    write_all_at(file, &mut [IoSlice::new(bytes)], offset).map_err(|e| e.source)?;
    file.sync_data()
}

impl Ledger {
    /// Writes what waits and then this entry, durably. What cannot be written goes on waiting, but
    /// for this entry.
    pub(super) fn flush_with(&self, writer: &mut Writer, entry: Option<EntryFields>) -> Result<()> {
        if writer.closed {
            return Err(Error::Closed);
        }
        self.sync_drops(writer);
        let queue = std::mem::take(&mut writer.queue);
        let mut entries: Vec<EntryFields> = queue.iter().map(|queued| queued.fields).collect();
        entries.extend(entry);
        let (written, result) = self.write_all(writer, &entries);
        writer.queue = queue.into_iter().skip(written).collect();
        result
    }

    /// Makes the drops that wait certain. What cannot be synced is left to the next opening.
    pub(super) fn sync_drops(&self, writer: &mut Writer) {
        let Writer { queue, uncertain, .. } = writer;
        queue.retain_mut(|queued| {
            let mut dirs = queued.unsynced.drain(..);
            let is_certain = dirs.all(|dir| self.parts.disk.sync_dir(&dir).is_ok());
            if !is_certain {
                uncertain.insert((queued.fields.owner_id, queued.fields.start_ms));
            }
            is_certain
        });
    }

    /// Writes these entries, and gives how many of them are durable.
    pub(super) fn write_all(
        &self,
        writer: &mut Writer,
        entries: &[EntryFields],
    ) -> (usize, Result<()>) {
        let mut written = 0;
        while let Some(rest) = entries.get(written..).filter(|rest| !rest.is_empty()) {
            let taken = match self.write_some(writer, rest) {
                Ok(taken) => Ok(taken),
                // The file may have failed: the spare gets one try.
                Err(_) => self.write_some(writer, rest),
            };
            match taken {
                Ok(taken) => written += taken,
                Err(e) => return (written, Err(e)),
            }
        }
        (written, Ok(()))
    }

    /// Writes as many of these as fit into the current file, at least one, under one sync.
    fn write_some(&self, writer: &mut Writer, entries: &[EntryFields]) -> Result<usize> {
        let at_ms = entries.first().map_or(0, |entry| entry.at_ms);
        if writer.current.as_ref().is_none_or(|current| current.next >= current.capacity) {
            self.rotate(writer, at_ms)?;
        }
        self.name_durably(writer)?;
        let Some(current) = &mut writer.current else { return Err(Error::Closed) };
        let mut bytes = Vec::with_capacity(entries.len() * ENTRY_LEN);
        let mut head = writer.head;
        let mut chained = Vec::new();
        for entry in entries.iter().take(current.capacity - current.next) {
            let number = head.number.saturating_add(1);
            let fields = EntryFields { number, mark: current.next as u32, ..*entry };
            head = Head { number, hash: fields.encode(head.hash, &mut bytes) };
            chained.push(fields);
        }
        if let Err(e) = write_at(&*current.file, &bytes, offset_of(current.next)) {
            let path = self.parts.dir.join(log_name(current.number));
            writer.give_up();
            return Err(Error::io("write", &path, e));
        }
        current.next += chained.len();
        current.newest_at_ms = chained.iter().map(|f| f.at_ms).max().unwrap_or(0);
        let file = current.number;
        writer.head = head;
        for fields in &chained {
            writer.written(fields, file);
        }
        self.parts.state.note_ledger(writer.mark());
        Ok(chained.len())
    }

    /// Begins a new file at once if the one before was found broken or has been given up.
    pub(super) fn begin_after_break(&self, writer: &mut Writer, at_ms: u64) -> Result<()> {
        match writer.turn {
            Turn::Resumed | Turn::GivenUp => self.rotate(writer, at_ms),
            Turn::First | Turn::Full => Ok(()),
        }
    }

    /// Goes on to the next file. Its header and its checkpoint are durable before it has a name.
    fn rotate(&self, writer: &mut Writer, at_ms: u64) -> Result<()> {
        let number = writer.newest + 1;
        if number > MAX_LOG_NUMBER {
            return Err(Error::Unsupported { what: "more ledger files than have names" });
        }
        let file = self.spare.open()?;
        let spare = self.spare.path();
        let header = LedgerHeader {
            store_id: self.parts.store_id,
            number,
            generation: self.parts.generation,
            file_len: self.parts.file_len,
            carried_number: writer.head.number,
            carried_hash: writer.head.hash,
        };
        let checkpoint = EntryFields {
            number: writer.head.number.saturating_add(1),
            instance: writer.broken.0,
            bytes: writer.broken.1,
            through: writer.through,
            ..EntryFields::new(EntryKind::Checkpoint, writer.turn as u8, at_ms)
        };
        let mut bytes = header.encode();
        let hash = checkpoint.encode(writer.head.hash, &mut bytes);
        write_at(&*file, &bytes, 0).map_err(|e| Error::io("write", &spare, e))?;
        let path = self.parts.dir.join(log_name(number));
        self.parts.disk.rename(&spare, &path).map_err(|e| Error::io("rename", &spare, e))?;
        let capacity = entries_in_file(self.parts.file_len);
        let current = Current { number, file, next: 1, capacity, newest_at_ms: at_ms };
        if let Some(full) = writer.current.replace(current) {
            let (number, newest_at_ms) = (full.number, full.newest_at_ms);
            writer.older.push_back(Older { number, newest_at_ms });
        }
        writer.newest = number;
        writer.head = Head { number: writer.head.number.saturating_add(1), hash };
        writer.turn = Turn::Full;
        writer.broken = (0, 0);
        writer.named = false;
        self.name_durably(writer)
    }

    /// Makes the name of the newest file durable, if it may not be.
    fn name_durably(&self, writer: &mut Writer) -> Result<()> {
        if writer.named {
            return Ok(());
        }
        let dir = &self.parts.dir;
        self.parts.disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
        writer.named = true;
        self.parts.state.note_ledger(writer.mark());
        Ok(())
    }

    /// Deletes the oldest file. STATE says first that it may be missing.
    pub(super) fn forget_file(&self, writer: &mut Writer, number: u64) -> Result<()> {
        let oldest = number + 1;
        let mark = LedgerMark { oldest, ..writer.mark() };
        self.parts.state.note_ledger(mark);
        self.parts.state.update(|_| {})?;
        writer.oldest = oldest;
        writer.older.pop_front();
        let path = self.parts.dir.join(log_name(number));
        self.parts.disk.remove_file(&path).map_err(|e| Error::io("remove", &path, e))
    }
}
