//! The tombstone log on disk: durable notes of what was invalidated.
//!
//! Files of fixed length, zeroed before use, hold every entry in two distant regions; a spare waits,
//! so that an invalidation needs no space. Callers that arrive together share one `fdatasync`.

mod current;
mod found;
mod position;
mod regions;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

pub(crate) use found::{
    FoundLogs, LogIdentity, count_without_strays, log_name, parse_log_name, read_logs,
    read_logs_beside, retain_following,
};

use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::format::state::MAX_LOG_NUMBER;
use crate::format::tombstone::{
    self, Tombstone, TombstoneHeader, TombstoneMode, entries_in_file, entries_of, hashes_in_file,
};
use crate::planted::{Bug, is_planted};
use crate::spare::Spare;
use crate::state::StateFile;
use crate::sync::{Callers, Condvar, Gathering, Mutex, MutexGuard};
use current::Current;
pub(crate) use position::Position;
use regions::OpenRegions;

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct TombstoneLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    state: Arc<StateFile>,
    identity: LogIdentity,
    spare: Spare,
    queue: Mutex<Queue>,
    queue_moved: Condvar,
    queue_callers: Gathering,
    files: Mutex<Files>,
}

/// Tombstones waiting for the next sync.
#[derive(Debug, Default)]
struct Queue {
    pending: Vec<Tombstone>,
    next_ticket: u64,
    /// All tickets below have been answered.
    answered: u64,
    /// Answered tickets whose sync failed.
    failed: Vec<u64>,
    syncing: bool,
    callers: Callers,
}

#[derive(Debug)]
struct Files {
    current: Option<Current>,
    older: VecDeque<Older>,
    newest: u64,
    closed: bool,
}

/// A file that is full, or was given up.
#[derive(Debug)]
struct Older {
    number: u64,
    max_floor: u64,
    denials: Vec<Tombstone>,
}

impl TombstoneLog {
    /// A log in a new, empty directory.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        state: Arc<StateFile>,
        identity: LogIdentity,
        file_len: u64,
    ) -> Self {
        let files = Files { current: None, older: VecDeque::new(), newest: 0, closed: false };
        let spare = Spare::new(Arc::clone(&disk), dir.clone(), file_len);
        Self {
            disk,
            dir,
            state,
            identity,
            spare,
            queue: Mutex::default(),
            queue_moved: Condvar::new(),
            queue_callers: Gathering::default(),
            files: Mutex::new(files),
        }
    }

    /// Takes up what was found: what was not durable for certain is written once more, and entries
    /// that were never acknowledged become void, so that appending can go on.
    pub(crate) fn resume(&self, found: &FoundLogs) -> Result<()> {
        let mut files = self.files.lock();
        files.newest = self.state.current().newest_log;
        let Some((newest, logs)) = found.logs.split_last() else { return Ok(()) };
        for log in logs {
            // It may have been given up when its last entries, which count, could not be synced.
            self.repair(log)?;
            let (number, max_floor) = (log.number, log.max_floor());
            files.older.push_back(Older { number, max_floor, denials: log.denials() });
        }
        // Nothing is written to one before STATE names it. Its name may be lost, as its sync may have been; the next
        // file takes it over.
        if newest.number <= files.newest || newest.scan.end > 0 {
            files.newest = files.newest.max(newest.number);
            files.current = self.repair(newest)?;
        }
        Ok(())
    }

    fn repair(&self, log: &found::FoundLog) -> Result<Option<Current>> {
        let Some(header) = log.header else { return Ok(None) };
        let file = self
            .disk
            .open(&log.path, Access::ReadWrite)
            .map_err(|e| Error::io("open", &log.path, e))?;
        let regions = OpenRegions::open(&*self.disk, &log.path)
            .map_err(|e| Error::io("open", &log.path, e))?;
        let Some(bytes) = tombstone::repaired(&header.seed(), &regions, &log.scan) else {
            let e = io::Error::other("what could be read of it just now");
            return Err(Error::io("read", &log.path, e));
        };
        let (number, max_floor) = (log.number, log.max_floor());
        let denials = log.denials();
        let current = Current { number, file, header, next: log.scan.mark, max_floor, denials };
        if !bytes.is_empty() && !is_planted(Bug::AppendedAfterTornTail) {
            current.write(&bytes).map_err(|e| Error::io("write", &log.path, e))?;
        }
        Ok(Some(Current { next: log.scan.end, ..current }))
    }

    /// Starts a new file in place of those found: every floor in them is held elsewhere, or by `instead`, which the
    /// new file begins with. What can be read of their denials goes to it too.
    pub(crate) fn start_over(&self, found: FoundLogs, instead: Option<Tombstone>) -> Result<()> {
        let mut files = self.files.lock();
        let highest = found.logs.iter().map(|log| log.number).max().unwrap_or(0);
        files.newest = self.state.current().newest_log.max(highest);
        self.rotate(&mut files)?;
        let kept = files.newest;
        let denials = found.logs.iter().flat_map(found::FoundLog::denials);
        let tombstones: Vec<Tombstone> = instead.into_iter().chain(denials).collect();
        self.write_all(&mut files, &tombstones)?;
        self.state.update(|state| state.oldest_log = kept)?;
        for log in found.logs {
            // One that stays lies below the oldest that counts.
            let _ = self.disk.remove_file(&log.path);
        }
        Ok(())
    }

    /// Writes a tombstone durably. When this returns well, no stop of any kind loses it.
    pub(crate) fn commit(&self, tombstone: Tombstone) -> Result<()> {
        let mut queue = self.queue.lock();
        self.queue_callers.join(&mut queue.callers);
        let committed = self.commit_in_turn(&mut queue, &tombstone);
        queue.callers.leave();
        committed
    }

    fn commit_in_turn(
        &self,
        queue: &mut MutexGuard<'_, Queue>,
        tombstone: &Tombstone,
    ) -> Result<()> {
        let mut ticket = queue.push(tombstone.clone());
        loop {
            if queue.answered > ticket {
                let Some(at) = queue.failed.iter().position(|failed| *failed == ticket) else {
                    return Ok(());
                };
                queue.failed.swap_remove(at);
                ticket = queue.push(tombstone.clone());
            }
            if queue.syncing {
                self.queue_moved.wait(queue);
                continue;
            }
            queue.syncing = true;
            self.queue_callers.wait(queue, |queue| &queue.callers);
            let batch = std::mem::take(&mut queue.pending);
            let first = queue.next_ticket - batch.len() as u64;
            let last = queue.next_ticket;
            let begun = Instant::now();
            let written = MutexGuard::unlocked(queue, || self.write_batch(&batch));
            queue.syncing = false;
            queue.answered = last;
            queue.callers.note_sync(begun);
            if written.is_err() {
                queue.failed.extend((first..last).filter(|failed| *failed != ticket));
            }
            self.queue_moved.notify_all();
            return written;
        }
    }

    fn write_batch(&self, batch: &[Tombstone]) -> Result<()> {
        let mut files = self.files.lock();
        if files.closed {
            return Err(Error::Closed);
        }
        self.write_all(&mut files, batch)
    }

    fn write_all(&self, files: &mut Files, batch: &[Tombstone]) -> Result<()> {
        let mut rest = batch;
        while !rest.is_empty() {
            let taken = match self.write_some(files, rest) {
                Ok(taken) => taken,
                // The file may have failed: the spare gets one try.
                Err(_) => {
                    self.rotate(files)?;
                    self.write_some(files, rest)?
                }
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Writes as many of these as fit into the current file, at least one; a unit is never split.
    fn write_some(&self, files: &mut Files, batch: &[Tombstone]) -> Result<usize> {
        let first_len = batch.first().map_or(0, |tombstone| entries_of(tombstone.hashes.len()));
        if files.current.as_ref().is_none_or(|current| current.room() < first_len) {
            self.rotate(files)?;
        }
        let Some(current) = &mut files.current else {
            return Err(Error::Closed);
        };
        let mut bytes = Vec::new();
        let mut taken = 0;
        let mut index = current.next;
        for tombstone in batch {
            let len = entries_of(tombstone.hashes.len());
            if index + len - current.next > current.room() {
                break;
            }
            tombstone.encode(&current.header.seed(), index, current.next, &mut bytes);
            current.max_floor = current.max_floor.max(tombstone.floor);
            index += len;
            taken += 1;
        }
        if taken == 0 {
            return Err(Error::Unsupported { what: "a tombstone longer than a tombstone log" });
        }
        if let Err(e) = current.write(&bytes) {
            let path = self.dir.join(log_name(current.number));
            files.older.extend(files.current.take().map(Older::from));
            return Err(Error::io("write", &path, e));
        }
        current.next = index;
        current.denials.extend(denials(batch.iter().take(taken)));
        Ok(taken)
    }

    /// Goes on to the next file: the spare, or a new one if there is none.
    fn rotate(&self, files: &mut Files) -> Result<()> {
        let number = files.newest + 1;
        if number > MAX_LOG_NUMBER {
            return Err(Error::Unsupported { what: "more tombstone logs than have names" });
        }
        let file = self.spare.open()?;
        let spare = self.spare.path();
        let mut salt = [0; 8];
        self.disk.fill_random(&mut salt).map_err(|e| Error::io("read", &spare, e))?;
        let header = TombstoneHeader {
            store_id: self.identity.store_id,
            number,
            generation: self.identity.generation,
            salt: u64::from_le_bytes(salt),
            check_value: self.identity.check_value,
            file_len: self.spare.file_len(),
        };
        let denials = Vec::new();
        let current = Current { number, file, header, next: 0, max_floor: 0, denials };
        current.write_header().map_err(|e| Error::io("write", &spare, e))?;
        self.spare.rename(&self.dir.join(log_name(number)))?;
        // Nothing goes to an older file from here on: whoever only looks would not meet it there.
        files.older.extend(files.current.take().map(Older::from));
        // If its name was not synced, syncing that again could lie: the next attempt gives it to another file.
        self.disk.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
        files.newest = number;
        self.state.update(|state| state.newest_log = number)?;
        files.current = Some(current);
        Ok(())
    }

    /// Makes sure that a zeroed file waits.
    pub(crate) fn ensure_spare(&self) -> Result<()> {
        let _files = self.files.lock();
        self.spare.ensure()
    }

    /// Deletes the oldest files whose floors all lie below the mark. Denials in them that are not
    /// over are written once more first, unless that would take more than half of what it frees.
    pub(crate) fn forget_below(&self, mark: u64, now_ms: u64) -> Result<()> {
        let mut files = self.files.lock();
        let leaving = files.older.iter().take_while(|older| older.max_floor < mark);
        let denials = leaving.clone().flat_map(|older| &older.denials);
        let kept: Vec<Tombstone> =
            denials.filter(|denial| denial.until_ms > now_ms).cloned().collect();
        let count = leaving.count();
        let entries: usize = kept.iter().map(|denial| entries_of(denial.hashes.len())).sum();
        if entries * 2 > count * entries_in_file(self.spare.file_len()) {
            return Ok(());
        }
        self.write_all(&mut files, &kept)?;
        for older in files.older.iter_mut().take(count) {
            // Another attempt need not write them again.
            older.denials.clear();
        }
        for _ in 0..count {
            let Some(number) = files.older.front().map(|older| older.number) else { break };
            self.state.update(|state| state.oldest_log = number + 1)?;
            let path = self.dir.join(log_name(number));
            match self.disk.remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path, e));
                }
                _ => drop(files.older.pop_front()),
            }
        }
        Ok(())
    }

    /// The most hashes one tombstone can carry.
    pub(crate) fn most_hashes(&self) -> usize {
        hashes_in_file(self.spare.file_len())
    }

    /// Waits for a write under way, and takes no more.
    pub(crate) fn close(&self) {
        self.files.lock().closed = true;
    }

    /// Bytes the log and its spare take.
    pub(crate) fn bytes(&self) -> u64 {
        let files = self.files.lock();
        (files.older.len() as u64 + u64::from(files.current.is_some()) + 1) * self.spare.file_len()
    }
}

/// Those that deny.
fn denials<'a>(tombstones: impl Iterator<Item = &'a Tombstone>) -> impl Iterator<Item = Tombstone> {
    tombstones.filter(|tombstone| tombstone.mode == TombstoneMode::Deny).cloned()
}

impl From<Current> for Older {
    fn from(current: Current) -> Self {
        Self { number: current.number, max_floor: current.max_floor, denials: current.denials }
    }
}

impl Queue {
    fn push(&mut self, tombstone: Tombstone) -> u64 {
        self.pending.push(tombstone);
        self.next_ticket += 1;
        self.next_ticket - 1
    }
}
