//! What all keyspaces and logs of a store share: disk, time, numbers, tombstones, trash, poison.

mod time;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::denials::Denials;
use crate::disk::{Capabilities, Disk};
use crate::error::{Error, Result};
use crate::hash::Hasher;
use crate::ledger::{Event, Ledger};
use crate::process::Process;
use crate::segment::SegmentHost;
use crate::segment::writer::AppendError;
use crate::sequence::{Sequence, first_of};
use crate::state::StateFile;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, RwLock, StripedCount};
use crate::time::{Clock, EngineTime, Glance, Timestamp};
use crate::tombstone::TombstoneLog;
use crate::trash::{Trash, TrashEvent};

use time::Times;
pub(crate) use time::read_clock;
use watch::Watch;

/// The shared part of an open store.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) root: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) host: SegmentHost,
    pub(crate) hasher: Hasher,
    pub(crate) store_id: [u8; 16],
    pub(crate) generation: u64,
    /// The process that has opened the store.
    pub(crate) process: Process,
    pub(crate) sequence: Arc<Sequence>,
    pub(crate) counters: Counters,
    /// What the file system does with bytes that are erased.
    pub(crate) capabilities: Capabilities,
    /// What is denied in all keyspaces.
    pub(crate) denials: Denials,
    /// Everything that only a writing store has.
    write_side: Option<WriteSide>,
    pub(crate) clock: Arc<dyn Clock>,
    time: RwLock<Times>,
    glance: Glance,
    /// Held while the time is written down, so that none is written over a later one.
    saving: Mutex<()>,
    next_number: AtomicU64,
    poison: Mutex<Option<String>>,
    is_poisoned: AtomicBool,
    closed: AtomicBool,
    problems: Mutex<Vec<Problem>>,
    /// Counts rounds of upkeep, for those who wait for what it does.
    rounds: Mutex<u64>,
    round_done: Condvar,
    /// In a read-only store, what the writer has invalidated since.
    watch: Mutex<Option<Watch>>,
}

/// What only a writing store has.
#[derive(Debug)]
pub(crate) struct WriteSide {
    pub(crate) state: Arc<StateFile>,
    pub(crate) tombstones: TombstoneLog,
    pub(crate) trash: Trash,
    pub(crate) ledger: Ledger,
}

/// What an [`Engine`] is made from.
#[derive(Debug)]
pub(crate) struct EngineParts {
    pub(crate) root: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) host: SegmentHost,
    pub(crate) hasher: Hasher,
    pub(crate) store_id: [u8; 16],
    pub(crate) generation: u64,
    pub(crate) capabilities: Capabilities,
    pub(crate) write_side: Option<WriteSide>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) time: EngineTime,
}

/// Counts since open.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: StripedCount,
    pub(crate) misses: StripedCount,
    pub(crate) corrupt_reads: AtomicU64,
    pub(crate) inserts: AtomicU64,
    pub(crate) superseded: AtomicU64,
    pub(crate) invalidations: AtomicU64,
    pub(crate) buckets_dropped: AtomicU64,
    pub(crate) segments_evicted: AtomicU64,
}

/// Damage met while reading: where, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is wrong.
    pub what: &'static str,
}

/// Problems kept for the asking; later ones are only counted.
const MAX_PROBLEMS: usize = 64;

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Engine {
    pub(crate) fn new(parts: EngineParts) -> Arc<Self> {
        let glance = Glance::default();
        glance.show(&parts.time);
        Arc::new(Self {
            root: parts.root,
            disk: parts.disk,
            host: parts.host,
            hasher: parts.hasher,
            store_id: parts.store_id,
            generation: parts.generation,
            process: Process::current(),
            sequence: Sequence::new(parts.generation),
            counters: Counters::default(),
            capabilities: parts.capabilities,
            denials: Denials::default(),
            write_side: parts.write_side,
            clock: parts.clock,
            time: RwLock::new(Times { now: parts.time, coming: None }),
            glance,
            saving: Mutex::new(()),
            next_number: AtomicU64::new((parts.generation << 32) + 1),
            poison: Mutex::new(None),
            is_poisoned: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            problems: Mutex::default(),
            rounds: Mutex::new(0),
            round_done: Condvar::new(),
            watch: Mutex::new(None),
        })
    }

    /// A number for a file, never used before.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::AcqRel)
    }

    /// The highest sequence number of all generations before this one.
    pub(crate) fn last_seq_before(&self) -> u64 {
        first_of(self.generation) - 1
    }

    /// The parts for writing, unless the store is read-only or closed.
    pub(crate) fn write_side(&self) -> Result<&WriteSide> {
        self.check_open()?;
        // Not `ok_or`, which makes an error and drops it again each time.
        match &self.write_side {
            Some(side) => Ok(side),
            None => Err(Error::ReadOnly),
        }
    }

    /// The trash, also of a closed store: receipts outlive it.
    pub(crate) fn trash(&self) -> Option<&Trash> {
        self.write_side.as_ref().map(|side| &side.trash)
    }

    /// True if the store was opened read-only.
    pub(crate) fn is_read_only(&self) -> bool {
        self.write_side.is_none()
    }

    /// An error unless data may be written.
    pub(crate) fn check_writable(&self) -> Result<&WriteSide> {
        let side = self.write_side()?;
        if !self.is_poisoned.load(Ordering::Acquire) {
            return Ok(side);
        }
        Err(Error::Poisoned { reason: self.poison_reason().unwrap_or_default() })
    }

    /// An error once the store is closed, and in a child that was forked.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closed() {
            return Err(Error::Closed);
        }
        self.check_process()
    }

    /// An error in a child that was forked: it would write over what its parent writes, and show what
    /// its parent has invalidated since. To be asked before a lock is taken, since a thread that the
    /// child does not have may hold it for good.
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.process.is_current() { Ok(()) } else { Err(Error::Forked) }
    }

    /// True once the store is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Hands what happened in the trash and to the clock to the ledger, and writes what waits there.
    pub(crate) fn flush_ledger(&self) -> Result<()> {
        let side = self.write_side()?;
        let now = self.trusted_now();
        self.gather_events(side, now);
        side.ledger.flush()
    }

    /// As [`Engine::flush_ledger`], with the invalidations that are done with.
    pub(crate) fn settle_ledger(&self) -> Result<()> {
        let side = self.write_side()?;
        let now = self.trusted_now();
        self.gather_events(side, now);
        side.ledger.settle(now, self.sequence.lowest_open(self.clock.boot_ms()))
    }

    fn gather_events(&self, side: &WriteSide, now: Timestamp) {
        side.ledger.note_clock(now, self.suspect_ms());
        for event in side.trash.take_events() {
            let event = match event {
                TrashEvent::KeysDestroyed(bucket) => Event::KeysDestroyed {
                    owner_id: bucket.owner_id,
                    start: bucket.start,
                    instance: bucket.instance,
                    found: false,
                },
                TrashEvent::Released(bucket, segments, bytes) => Event::Released {
                    owner_id: bucket.owner_id,
                    start: bucket.start,
                    instance: bucket.instance,
                    segments,
                    bytes,
                },
            };
            side.ledger.note(now, event);
        }
    }

    /// Waits for invalidations under way, and takes no more.
    pub(crate) fn close_tombstones(&self) {
        if let Some(side) = &self.write_side {
            side.tombstones.close();
        }
    }

    /// Closes the engine; false if it was closed before.
    pub(crate) fn close(&self) -> bool {
        let first = !self.closed.swap(true, Ordering::AcqRel);
        self.note_progress();
        first
    }

    /// Wakes those who wait for the upkeep.
    pub(crate) fn note_progress(&self) {
        *self.rounds.lock() += 1;
        self.round_done.notify_all();
    }

    /// How far the upkeep has come.
    pub(crate) fn progress(&self) -> u64 {
        *self.rounds.lock()
    }

    /// Waits until the upkeep has come further than this, or for so long.
    pub(crate) fn wait_for_progress(&self, seen: u64, timeout: Option<Duration>) {
        let mut rounds = self.rounds.lock();
        if *rounds == seen {
            match timeout {
                Some(timeout) => {
                    self.round_done.wait_for(&mut rounds, timeout);
                }
                None => self.round_done.wait(&mut rounds),
            }
        }
    }

    /// Stops writing for good after a failure, and gives the failure back.
    pub(crate) fn poison(&self, error: Error) -> Error {
        let mut poison = self.poison.lock();
        if poison.is_none() {
            *poison = Some(error.to_string());
            self.is_poisoned.store(true, Ordering::Release);
        }
        error
    }

    /// Why writing stopped, if it did.
    pub(crate) fn poison_reason(&self) -> Option<String> {
        self.poison.lock().clone()
    }

    /// Turns a failed append into the caller's error, poisoned if the file cannot be trusted.
    pub(crate) fn append_failed(&self, error: AppendError) -> Error {
        match error {
            AppendError::Refused(error) => error,
            AppendError::Broken(error) => self.poison(error),
        }
    }

    /// Counts a damaged record, and remembers the first few.
    pub(crate) fn note_corrupt(&self, path: &Path, offset: u64, what: &'static str) {
        count(&self.counters.corrupt_reads);
        let problem = Problem { path: path.to_owned(), offset, what };
        let mut problems = self.problems.lock();
        if problems.len() < MAX_PROBLEMS && !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// The damage met so far.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.problems.lock().clone()
    }

    /// Makes the entries of a directory durable.
    pub(crate) fn sync_dir(&self, path: &Path) -> Result<()> {
        self.disk.sync_dir(path).map_err(|e| Error::io("sync", path, e))
    }
}
