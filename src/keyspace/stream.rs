//! A fill whose value is written in pieces: kept in memory while it is short, and then in a file of
//! its own that becomes a segment at the commit.

use std::io;
use std::sync::Arc;

use super::KeyspaceCore;
use super::fill::{Fill, Outcome};
use super::write::check_value_len;
use crate::error::{Error, Result};
use crate::format::segment_header::HEADER_LEN;
use crate::hash::ValueHasher;
use crate::segment::part::{Part, allocated_bytes};
use crate::time::Timestamp;

/// A value being written: made by [`Fill::into_writer`], ended by [`FillWriter::commit`], or abandoned
/// by [`FillWriter::abort`] or by dropping it.
///
/// Nothing of it can be read before the commit, and nothing of it stays without one: what lies on the
/// disk is removed; if the system refuses that, by the next upkeep, and after a crash by the next open.
/// A value up to [`Fill::memory_limit_bytes`] is stored like any other. A longer one takes room within
/// the keyspace's capacity while it grows, and becomes a segment of its own, so the limit should be
/// chosen such that most values stay below.
///
/// ```
/// use std::io::Write;
///
/// use ebbtide::{KeyspaceOptions, Outcome, Retention, Store};
///
/// # let dir = tempfile::tempdir()?;
/// # let store = Store::open(dir.path().join("data"))?;
/// let images = store.keyspace("images", KeyspaceOptions::new(Retention::days(30)))?;
/// let mut writer = images.fill("cat.jpg?w=64").tag("cat.jpg").into_writer()?;
/// writer.write_all(b"rendered ")?;
/// writer.write_all(b"bytes")?;
/// assert_eq!(writer.commit()?, Outcome::Stored);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a fill stores nothing until it is committed"]
pub struct FillWriter {
    fill: Fill,
    /// What has not been written to the part, if there is one.
    buffer: Vec<u8>,
    hasher: ValueHasher,
    len: u64,
    longest: u64,
    spill: Option<Spill>,
    failed: Option<String>,
}

/// What of a value has outgrown the memory, and the room it takes. Dropping it gives the file up, and
/// only then the room.
#[derive(Debug)]
pub(super) struct Spill {
    part: Part,
    room: Room,
}

/// Bytes that count against the capacity, and the number of the value that takes them.
#[derive(Debug)]
struct Room {
    core: Arc<KeyspaceCore>,
    bytes: u64,
    seq: u64,
}

impl FillWriter {
    pub(super) fn new(fill: Fill) -> Self {
        Self {
            longest: fill.core().owner.max_value_bytes(),
            fill,
            buffer: Vec::new(),
            hasher: ValueHasher::default(),
            len: 0,
            spill: None,
            failed: None,
        }
    }

    /// The length of the value so far, in bytes.
    pub fn value_len(&self) -> u64 {
        self.len
    }

    /// Stores what has been written, under the rules of [`Fill::commit`]. A value that had outgrown
    /// the memory limit survives a power cut from then on.
    ///
    /// # Errors
    ///
    /// As [`Fill::commit`], and [`FillFailed`](Error::FillFailed) if a write before has failed. After
    /// an error the old value can still be read. One that had outgrown the memory limit is then gone
    /// from the disk too; only if a directory could not be made durable, which stops writing, a
    /// restart may bring either of the two.
    pub fn commit(mut self) -> Result<Outcome> {
        if let Some(reason) = self.failed {
            return Err(Error::FillFailed { reason });
        }
        let value_hash = self.hasher.value_hash();
        let Some(spill) = &mut self.spill else {
            return self.fill.store(&self.buffer, value_hash, None);
        };
        spill.write(&self.buffer)?;
        // Before anybody is kept waiting: this may take long.
        spill.finish()?;
        self.fill.store(&[], value_hash, Some(spill))
    }

    /// Ends the fill without storing anything, as dropping it does.
    pub fn abort(self) {
        drop(self);
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let len = self.len + bytes.len() as u64;
        check_value_len(self.longest, len)?;
        let limit = self.fill.buffer_bytes();
        if bytes.len() > limit.saturating_sub(self.buffer.len()) {
            let buffer = std::mem::take(&mut self.buffer);
            self.put_down(&buffer)?;
            self.buffer = buffer;
            self.buffer.clear();
        }
        if bytes.len() <= limit {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.put_down(bytes)?;
        }
        self.hasher.update(bytes);
        self.len = len;
        Ok(())
    }

    fn put_down(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.spill {
            Some(spill) => spill.write(bytes),
            none => none.insert(Spill::new(&self.fill)?).write(bytes),
        }
    }
}

/// After an error the value is not whole, and cannot be committed. The error's source is an
/// [`Error`], such as [`Limit`](Error::Limit) for a value that is longer than the keyspace takes.
impl io::Write for FillWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(reason) = &self.failed {
            return Err(to_io(Error::FillFailed { reason: reason.clone() }));
        }
        if let Err(error) = self.take(bytes) {
            self.failed = Some(error.to_string());
            self.spill = None;
            self.buffer = Vec::new();
            return Err(to_io(error));
        }
        Ok(bytes.len())
    }

    /// Does nothing: what is written counts once it is committed.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn to_io(error: Error) -> io::Error {
    let kind = match &error {
        Error::Io { source, .. } => source.kind(),
        Error::NoSpace { .. } | Error::CapacityExceeded { .. } => io::ErrorKind::StorageFull,
        Error::Limit { .. } => io::ErrorKind::FileTooLarge,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl Spill {
    fn new(fill: &Fill) -> Result<Self> {
        let core = fill.core();
        let tags = fill.tag_hashes();
        let head = fill.item(&tags, &[], 0)?.draft(0, Timestamp::default()).value_start();
        let value_at = HEADER_LEN + head as u64;
        let mut room = Room::new(core, fill.sequence());
        room.grow(allocated_bytes(value_at, 0))?;
        let part = core.owner.create_part(room.seq, value_at)?;
        Ok(Self { part, room })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let len = self.part.value_len() + bytes.len() as u64;
        self.room.grow(allocated_bytes(self.part.value_at(), len))?;
        self.room.core.owner.on_parts(|| self.part.write(bytes))
    }

    /// Makes the value durable, once it is whole.
    fn finish(&mut self) -> Result<()> {
        self.room.core.owner.on_parts(|| self.part.finish())
    }

    pub(super) fn part(&mut self) -> &mut Part {
        &mut self.part
    }

    /// Gives the room up: what lies in it is counted otherwise.
    pub(super) fn release_room(&mut self) {
        self.room.release();
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        if let Some(path) = self.part.leftover() {
            let Room { core, bytes, seq } = &self.room;
            core.owner.give_up_file(*seq, path.to_owned(), *bytes);
        }
    }
}

impl Room {
    fn new(core: &Arc<KeyspaceCore>, seq: u64) -> Self {
        core.owner.begin_part(seq);
        Self { core: Arc::clone(core), bytes: 0, seq }
    }

    /// Makes room for so many bytes altogether.
    fn grow(&mut self, bytes: u64) -> Result<()> {
        let more = bytes.saturating_sub(self.bytes);
        self.core.make_room_for_part(self.bytes, more)?;
        self.bytes += more;
        Ok(())
    }

    fn release(&mut self) {
        self.core.release_part_room(std::mem::take(&mut self.bytes));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.release();
        self.core.owner.end_part(self.seq);
    }
}
