//! A log: rows in time order with one retention window, addressed by where they are.
//!
//! `write` appends blocks of rows, `scan` merges them into time order, `invalidate` hides rows by
//! their tags, `upkeep` syncs, seals and drops. A log needs no index: a [`RowId`] is a place, and a place is never used twice.

mod appender;
mod invalidate;
mod row;
mod scan;
mod scrub;
pub(crate) mod upkeep;
mod write;

use crate::sync::atomic::AtomicU64;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeBounds;
use std::sync::Arc;

pub use appender::Appender;
pub use row::{LogRow, Row, RowId};
pub use scan::Scan;

use crate::bucket::Bucket;
use crate::error::{Error, Result};
use crate::floors::Floors;
use crate::format::rows::{RowEntry, decode_directory};
use crate::invalidation::Invalidation;
use crate::owner::{Owned, Owner};
use crate::pseudonym::Pseudonym;
use crate::receipt::Receipt;
use crate::segment::writer::SegmentWriter;
use crate::segment::{Damage, Segment};
use crate::sync::Mutex;
use crate::time::Timestamp;
use crate::visibility::{Candidate, Hidden};
use scrub::STATE_LEN;

/// A log of an open store. Clones are cheap and share it; all methods take `&self`.
#[derive(Debug, Clone)]
pub struct Log {
    pub(crate) core: Arc<LogCore>,
}

/// What all handles of a log share.
#[derive(Debug)]
pub(crate) struct LogCore {
    pub(crate) owner: Owner,
    /// Those of tags; rows have no keys.
    pub(crate) floors: Floors,
    /// Which of the writing process's tombstones a read-only store has taken over.
    watched: AtomicU64,
    /// The segments being appended to, by their bucket.
    writers: Mutex<BTreeMap<Timestamp, SegmentWriter>>,
}

impl Owned for LogCore {
    fn owner(&self) -> &Owner {
        &self.owner
    }
}

impl LogCore {
    /// A log over an owner whose segments and floors recovery has filled in.
    pub(crate) fn new(owner: Owner, floors: Floors) -> Self {
        Self { owner, floors, watched: AtomicU64::new(0), writers: Mutex::default() }
    }
}

impl Log {
    /// The log's name.
    pub fn name(&self) -> &str {
        &self.core.owner.name
    }

    /// Makes the pseudonym of an address for rows about what happened at `at`. The address is not
    /// kept anywhere. A time in the future is taken for now.
    ///
    /// # Errors
    ///
    /// [`Expired`](Error::Expired) if nothing of that time is kept any more, and the system's own
    /// while the bucket's key is made.
    pub fn pseudonym(&self, ip: IpAddr, at: Timestamp) -> Result<Pseudonym> {
        self.core.pseudonym(ip, at)
    }

    /// Appends one row with one write. For many rows use an [`Appender`].
    ///
    /// # Errors
    ///
    /// [`Expired`](Error::Expired) if the row's time, or the bucket of its pseudonym, is no longer
    /// kept; [`ForeignPseudonym`](Error::ForeignPseudonym), [`Limit`](Error::Limit),
    /// [`NoSpace`](Error::NoSpace), [`Poisoned`](Error::Poisoned), and the system's own.
    pub fn append(&self, row: Row) -> Result<RowId> {
        self.core.append(&row)
    }

    /// An appender that collects rows and writes them in blocks.
    pub fn appender(&self) -> Appender {
        Appender::new(self.clone())
    }

    /// Hides all rows that carry a tag, durably: when this returns, no read gives them any more, and
    /// neither does any after a crash or power cut. Rows that an [`Appender`] holds by then are
    /// hidden too; rows appended from then on are not.
    ///
    /// # Errors
    ///
    /// [`Limit`](Error::Limit) for an impossible tag, [`NoSpace`](Error::NoSpace) on a disk so full
    /// that not even this note fits, since a log gives up no rows for it, and the system's own. The
    /// rows are then hidden in this process, but may be back after a restart.
    pub fn invalidate_tag(&self, tag: impl AsRef<[u8]>) -> Result<Receipt> {
        self.core.invalidate(&Invalidation::of_tags(&self.core.owner.engine, &[tag])?)
    }

    /// Erases all rows that carry a tag: hides them as [`Log::invalidate_tag`] does. A log denies
    /// nothing: what comes in later is taken.
    ///
    /// # Errors
    ///
    /// As [`Log::invalidate_tag`].
    pub fn erase_tag(&self, tag: impl AsRef<[u8]>) -> Result<Receipt> {
        let receipt = self.invalidate_tag(tag)?;
        receipt.hurry();
        Ok(receipt)
    }

    /// The row at a place, unless it is gone, invalidated or past its time. A place never comes to mean another
    /// row.
    ///
    /// # Errors
    ///
    /// [`Closed`](Error::Closed), and the system's own.
    pub fn get(&self, id: RowId) -> Result<Option<LogRow>> {
        self.core.get(id)
    }

    /// All rows whose time lies in the range, in time order. Rows of one time come in the order of
    /// their places.
    ///
    /// # Errors
    ///
    /// [`Closed`](Error::Closed), and the system's own while the blocks are listed.
    pub fn scan(&self, range: impl RangeBounds<Timestamp>) -> Result<Scan> {
        Scan::new(Arc::clone(&self.core), range)
    }
}

/// A block of rows as read: its directory, and where it is.
#[derive(Debug)]
struct Block {
    segment: Arc<Segment>,
    offset: u64,
    value_start: u64,
    seq: u64,
    entries: Vec<RowEntry>,
}

impl LogCore {
    fn get(&self, id: RowId) -> Result<Option<LogRow>> {
        self.owner.engine.check_open()?;
        let Some(block) = self.block(id.segment(), id.offset())? else { return Ok(None) };
        let Some(entry) = block.entries.get(id.row() as usize) else { return Ok(None) };
        let row = self.row(&block, entry, id)?;
        match row {
            Some(row) => Ok(self.judge(&row, block.seq, &block.segment)?.is_ok().then_some(row)),
            None => Ok(None),
        }
    }

    /// Reads a block's directory; `None` if it is gone or damaged.
    fn block(&self, number: u64, offset: u64) -> Result<Option<Block>> {
        let Some(segment) = self.owner.segment(number) else { return Ok(None) };
        let view = match segment.read_prefix(offset) {
            Ok(view) => view,
            Err(damage) => {
                return self.miss(segment.record_damage(damage, offset), &segment, offset);
            }
        };
        match decode_directory(view.metadata()) {
            Ok(entries) => Ok(Some(Block {
                offset,
                value_start: offset + view.head.value_start() as u64,
                seq: view.head.seq,
                entries,
                segment,
            })),
            Err(unreadable) => self.miss(unreadable.into(), &segment, offset),
        }
    }

    /// Reads one row of a block.
    fn row(&self, block: &Block, entry: &RowEntry, id: RowId) -> Result<Option<LogRow>> {
        let start = block.value_start + u64::from(entry.offset);
        let segment = &block.segment;
        let miss = |damage| {
            let is_erased = || {
                let state = segment.read_row(start, STATE_LEN)?;
                Ok(matches!(entry.decode(&state, &segment.seed, block.offset), Ok(None)))
            };
            self.miss(segment.damage_or_less(damage, is_erased), segment, start)
        };
        let bytes = match segment.read_row(start, u64::from(entry.len)) {
            Ok(bytes) => bytes,
            Err(damage) => return miss(damage),
        };
        let body = match entry.decode(&bytes, &segment.seed, block.offset) {
            Ok(Some(body)) => body,
            Ok(None) => return Ok(None),
            Err(unreadable) => return miss(unreadable.into()),
        };
        let period = Timestamp::from_millis(segment.header.bucket_start_ms);
        let subject = body.subject.map(|(key_number, pseudonym)| {
            Pseudonym::from_parts(self.owner.id, period, key_number, pseudonym)
        });
        let payload = bytes.slice(bytes.len() - body.payload.len()..);
        let time = Timestamp::from_millis(entry.time_ms);
        Ok(Some(LogRow::new(id, time, subject, body.tags, payload, segment.deadline())))
    }

    /// The one rule, asked about a row of a block with this number. An error if it cannot be known what
    /// the writing process has invalidated.
    fn judge(&self, row: &LogRow, seq: u64, segment: &Segment) -> Result<Result<(), Hidden>> {
        if !row.tags().is_empty() && self.take_over_invalidations()? {
            segment.leave_if_moved()?;
        }
        let candidate = Candidate {
            seq,
            hash: None,
            key_floor_is_known: true,
            tags: row.tags(),
            deadline: row.gone_at(),
            expires_at: None,
        };
        let now = self.owner.engine.hiding_now(seq);
        Ok(candidate.check(&self.floors, now, || segment.has_left()))
    }

    fn miss<T>(&self, damage: Damage, segment: &Segment, offset: u64) -> Result<Option<T>> {
        match damage {
            Damage::Failed(error) => Err(error),
            Damage::Corrupt(what) => {
                // A place that never was a record's start is a wrong address, not damage.
                if self.owner.segment(segment.number()).is_some() && offset < segment.published() {
                    self.owner.engine.note_corrupt(segment.path(), offset, what);
                }
                Ok(None)
            }
            Damage::Erased => Ok(None),
            // Also what the store holds no more because it has been closed meanwhile.
            Damage::Gone => self.owner.engine.check_open().map(|()| None),
        }
    }

    fn pseudonym(&self, ip: IpAddr, at: Timestamp) -> Result<Pseudonym> {
        let owner = &self.owner;
        let of = |bucket: &Bucket| bucket.keys()?.pseudonym(owner.id, ip, bucket.start);
        let made = owner.made_bucket(self.start_for(at)?);
        if let Some(pseudonym) = made.and_then(|bucket| of(&bucket)) {
            return Ok(pseudonym);
        }
        // Under the lock, for which whoever closes, drops buckets or sets the clock right waits.
        let _writers = self.writers.lock();
        let bucket = owner.bucket(self.start_for(at)?)?;
        of(&bucket).ok_or_else(|| self.expired(at))
    }

    /// The start of the bucket for what happened at a moment.
    fn start_for(&self, at: Timestamp) -> Result<Timestamp> {
        let engine = &self.owner.engine;
        engine.check_writable()?;
        let now = engine.trusted_now();
        let start = self.owner.bucket_start(at.min(now));
        let is_over = self.owner.window.deadline(start) <= now;
        if is_over { Err(self.expired(at)) } else { Ok(start) }
    }

    fn expired(&self, at: Timestamp) -> Error {
        let now = self.owner.engine.trusted_now();
        Error::Expired { at, oldest: self.owner.window.oldest_start(now) }
    }
}
