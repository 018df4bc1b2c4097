//! Appending to the ledger: what waits is written with one sync, and a full file is followed by the spare.

use super::Ledger;
use super::scan::Head;
use super::writer::{Current, Older, Writer, write_at};
use crate::disk::touch_dir;
use crate::error::{Error, Result};
use crate::format::ledger::{
    ENTRY_LEN, EntryFields, EntryKind, LedgerHeader, LedgerMark, Turn, entries_in_file, offset_of,
};
use crate::format::state::MAX_LOG_NUMBER;
use crate::tombstone::log_name;

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
        self.spare.rename(&self.parts.dir.join(log_name(number)))?;
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
        self.sync_name(writer)
    }

    /// Makes the name of the newest file durable, if it may not be since a sync failed.
    pub(super) fn name_durably(&self, writer: &mut Writer) -> Result<()> {
        if writer.named {
            return Ok(());
        }
        let file = self.spare.path().with_extension("tmp");
        touch_dir(&*self.parts.disk, &file).map_err(|e| Error::io("create", &file, e))?;
        self.sync_name(writer)
    }

    fn sync_name(&self, writer: &mut Writer) -> Result<()> {
        let dir = &self.parts.dir;
        self.parts.disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
        writer.named = true;
        self.parts.state.note_ledger(writer.mark());
        Ok(())
    }

    /// Deletes the oldest file. STATE says first that it may be missing.
    pub(super) fn forget_file(&self, writer: &mut Writer, number: u64) -> Result<()> {
        self.name_durably(writer)?;
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
