//! One segment: an append-only file of records, read by position or through a mapping.
//!
//! `published` is the end of the completed writes, `durable` the end of what an `fdatasync` has
//! confirmed; records are handed out without a copy below `durable` only. What is there never
//! changes, unless it is erased, which waits until nobody reads it. It knows records and bytes, not
//! which of them are visible.

pub(crate) mod erase;
mod gate;
pub(crate) mod load;
pub(crate) mod part;
mod reader;
pub(crate) mod scan;
pub(crate) mod sidecar;
mod touched;
mod turn;
mod unused;
mod verified;
pub(crate) mod walker;
pub(crate) mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Descriptors, DiskFile};
use crate::error::{Error, Result};
use crate::format::checksum::Seed;
use crate::format::segment_header::{HEADER_LEN, SegmentHeader};
use crate::format::sidecar::encoded_len;
use crate::map::Map;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, RwLock};
use crate::time::Timestamp;

use erase::Waiting;
use gate::Gate;
pub(crate) use gate::Lease;
pub(crate) use reader::{Damage, RecordView};
use touched::Touched;
use turn::Turn;
use verified::Verified;

/// How exactly it is known when something was read last.
const READ_AT_STEP_MS: u64 = 250;

/// What all segments of a store share.
#[derive(Debug, Clone)]
pub(crate) struct SegmentHost {
    pub(crate) descriptors: Arc<Descriptors>,
    /// True if segments are mapped.
    pub(crate) mapped: bool,
    /// True if a value's checksum is compared at every read, not only at the first.
    pub(crate) always_verify: bool,
    /// What values of mapped segments keep locked.
    pub(crate) lease: Arc<Lease>,
    /// When something was read last, by the engine's time in milliseconds; about that.
    pub(crate) read_at_ms: Arc<AtomicU64>,
}

impl SegmentHost {
    /// Notes that something is read now.
    pub(crate) fn note_read(&self, now: Timestamp) {
        // Seldom, so that reading threads share the place.
        let before = self.read_at_ms.load(Ordering::Relaxed);
        if now.as_millis().abs_diff(before) >= READ_AT_STEP_MS {
            self.read_at_ms.store(now.as_millis(), Ordering::Relaxed);
        }
    }
}

/// A segment of a bucket.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    /// That of its header.
    pub(crate) seed: Seed,
    host: SegmentHost,
    path: PathBuf,
    /// Held while records are appended, and in positional mode left to the descriptor cache after.
    file: RwLock<Option<Arc<dyn DiskFile>>>,
    gate: Gate,
    published: AtomicU64,
    durable: AtomicU64,
    turn: Turn,
    has_left: AtomicBool,
    deadline_ms: AtomicU64,
    min_seq: AtomicU64,
    max_seq: AtomicU64,
    /// The highest number of what was refused, and may have been left behind the end.
    refused_seq: AtomicU64,
    records: AtomicU64,
    live: AtomicU64,
    /// Records that have been erased.
    scrubbed: AtomicU64,
    /// Tags that records carry, as the sidecar lists them.
    tags: AtomicU64,
    /// Bytes of blocks given back by erasing.
    punched: AtomicU64,
    /// What is to be erased and waits for readers.
    waiting: Mutex<Option<Waiting>>,
    /// Where the state words of what waits stand, in order.
    doomed: RwLock<Vec<u64>>,
    has_doomed: AtomicBool,
    /// How often floors of tags and of everything had been raised when they were last applied to it.
    swept: AtomicU64,
    sidecar_bytes: AtomicU64,
    /// Up to where blocks have been set aside.
    reserved: AtomicU64,
    verified: Verified,
    touched: Touched,
}

/// What is known of a segment when it is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) published: u64,
    pub(crate) durable: u64,
    pub(crate) min_seq: u64,
    pub(crate) max_seq: u64,
    pub(crate) records: u64,
    pub(crate) scrubbed: u64,
    pub(crate) tags: u64,
    pub(crate) punched: u64,
    pub(crate) sidecar_bytes: u64,
}

impl Extent {
    /// A segment that was just born.
    pub(crate) const EMPTY: Self = Self {
        published: HEADER_LEN,
        durable: HEADER_LEN,
        min_seq: u64::MAX,
        max_seq: 0,
        records: 0,
        scrubbed: 0,
        tags: 0,
        punched: 0,
        sidecar_bytes: 0,
    };
}

impl Segment {
    /// Takes up a segment file. In mapped mode it is mapped for its capacity; where that fails, or no
    /// file is given, it is read by position.
    pub(crate) fn new(
        header: SegmentHeader,
        path: PathBuf,
        host: SegmentHost,
        file: Option<&Arc<dyn DiskFile>>,
        extent: Extent,
        written_here: bool,
    ) -> Self {
        let map_len = if written_here { header.capacity } else { extent.durable };
        let file = file.filter(|_| host.mapped);
        let map = file.and_then(|file| map(file, map_len, extent.durable));
        Self {
            header,
            seed: header.seed(),
            path,
            file: RwLock::new(None),
            gate: Gate::new(map, Arc::clone(&host.lease)),
            published: AtomicU64::new(extent.published),
            durable: AtomicU64::new(extent.durable),
            turn: Turn::default(),
            has_left: AtomicBool::new(false),
            deadline_ms: AtomicU64::new(header.deadline_ms),
            min_seq: AtomicU64::new(extent.min_seq),
            max_seq: AtomicU64::new(extent.max_seq),
            refused_seq: AtomicU64::new(0),
            records: AtomicU64::new(extent.records),
            live: AtomicU64::new(0),
            scrubbed: AtomicU64::new(extent.scrubbed),
            tags: AtomicU64::new(extent.tags),
            punched: AtomicU64::new(extent.punched),
            waiting: Mutex::new(None),
            doomed: RwLock::default(),
            has_doomed: AtomicBool::new(false),
            swept: AtomicU64::new(0),
            sidecar_bytes: AtomicU64::new(extent.sidecar_bytes),
            reserved: AtomicU64::new(0),
            verified: Verified::new(written_here),
            touched: Touched::default(),
            host,
        }
    }

    /// The file's path at birth; the bucket may have been moved to the trash since.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The segment's number, never used twice in a store.
    pub(crate) fn number(&self) -> u64 {
        self.header.number
    }

    /// When everything in here is gone.
    pub(crate) fn deadline(&self) -> Timestamp {
        Timestamp::from_millis(self.deadline_ms.load(Ordering::Acquire))
    }

    /// Lowers the deadline in memory; the header on disk is the caller's.
    pub(crate) fn lower_deadline(&self, deadline: Timestamp) {
        self.deadline_ms.fetch_min(deadline.as_millis(), Ordering::AcqRel);
    }

    /// The end of the completed writes.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// The end of what is durable for certain.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The lowest sequence number in here; `u64::MAX` if there is none.
    pub(crate) fn min_seq(&self) -> u64 {
        self.min_seq.load(Ordering::Acquire)
    }

    /// The highest sequence number in here; 0 if there is none.
    pub(crate) fn max_seq(&self) -> u64 {
        self.max_seq.load(Ordering::Acquire)
    }

    /// The highest number of what may lie in its file, also of what was refused.
    pub(crate) fn tried_seq(&self) -> u64 {
        self.max_seq().max(self.refused_seq.load(Ordering::Acquire))
    }

    /// Records or blocks of rows ever written in here.
    pub(crate) fn records(&self) -> u64 {
        self.records.load(Ordering::Acquire)
    }

    /// Records that the index still names.
    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::Acquire)
    }

    /// Records that have been erased.
    pub(crate) fn scrubbed(&self) -> u64 {
        self.scrubbed.load(Ordering::Acquire)
    }

    /// Notes how many records have been erased.
    pub(crate) fn set_scrubbed(&self, count: u64) {
        self.scrubbed.store(count, Ordering::Release);
    }

    /// How often floors of tags and of everything had been raised when scrubbing last applied them
    /// to it.
    pub(crate) fn swept(&self) -> u64 {
        self.swept.load(Ordering::Acquire)
    }

    /// Notes which of them have been applied.
    pub(crate) fn set_swept(&self, raises: u64) {
        self.swept.fetch_max(raises, Ordering::AcqRel);
    }

    /// How many tags its records carry.
    pub(crate) fn tags(&self) -> u64 {
        self.tags.load(Ordering::Acquire)
    }

    /// Counts a record that the index now names.
    pub(crate) fn add_live(&self, count: u64) {
        self.live.fetch_add(count, Ordering::AcqRel);
    }

    /// Counts a record that the index no longer names.
    pub(crate) fn remove_live(&self) {
        let _ =
            self.live.fetch_update(Ordering::AcqRel, Ordering::Acquire, |live| live.checked_sub(1));
    }

    /// Bytes of blocks that erasing has given back.
    pub(crate) fn punched(&self) -> u64 {
        self.punched.load(Ordering::Acquire)
    }

    /// Bytes of its sidecar; 0 if it has none.
    pub(crate) fn sidecar_bytes(&self) -> u64 {
        self.sidecar_bytes.load(Ordering::Acquire)
    }

    /// Bytes this segment and its sidecar, also one still to be written, take in whole blocks.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        let written = self.sidecar_bytes();
        let sidecar = if written > 0 { written } else { encoded_len(self.records(), self.tags()) };
        self.file_bytes() + sidecar.next_multiple_of(4096)
    }

    /// Bytes that this segment alone takes in whole blocks.
    pub(crate) fn file_bytes(&self) -> u64 {
        let own = self.published().max(self.reserved.load(Ordering::Acquire));
        own.next_multiple_of(4096).saturating_sub(self.punched())
    }

    /// Notes that it is about to leave its owner's table.
    pub(crate) fn leave(&self) {
        self.has_left.store(true, Ordering::Release);
    }

    /// True if it has left, or is about to. What hid a record is forgotten only after that, so whoever
    /// has found nothing that hides one asks this afterwards.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// Notes that it has left if another process has taken its file away.
    pub(crate) fn leave_if_moved(&self) -> Result<()> {
        if !self.is_there()? {
            self.leave();
            self.retire();
        }
        Ok(())
    }

    /// True if its file is where it was born.
    fn is_there(&self) -> Result<bool> {
        let is_there = self.host.descriptors.is_there(&self.path);
        is_there.map_err(|e| Error::io("open", &self.path, e))
    }

    /// Lets go of the file: for a segment that has left. Slices handed out stay valid.
    pub(crate) fn retire(&self) {
        self.host.descriptors.forget(self.number());
        self.file.write().take();
        self.gate.shut();
    }

    /// Gives out no handle any more: for when the store is closed.
    pub(crate) fn shut(&self) {
        self.gate.shut();
    }

    /// How many handles readers hold.
    pub(crate) fn pins(&self) -> usize {
        self.gate.held()
    }

    /// True if the file is mapped, and so must never be cut.
    pub(crate) fn is_mapped(&self) -> bool {
        self.gate.map().is_some()
    }

    /// The open file: the one being written, or one from the descriptor cache.
    fn file(&self) -> Result<Arc<dyn DiskFile>> {
        if let Some(file) = &*self.file.read() {
            return Ok(Arc::clone(file));
        }
        let file = self.host.descriptors.get(self.number(), &self.path);
        if self.has_left() {
            // An open descriptor would keep the space of a file that is gone.
            self.host.descriptors.forget(self.number());
        }
        file.map_err(|e| Error::io("open", &self.path, e))
    }
}

fn map(file: &Arc<dyn DiskFile>, len: u64, durable: u64) -> Option<Arc<Map>> {
    let map = file.map(usize::try_from(len).ok()?).ok()?;
    map.raise_durable_len(usize::try_from(durable).ok()?);
    Some(map)
}
