//! The ledger: a pre-zeroed file of entries of which each carries the hash of the one before.
//!
//! ```text
//! 0       8         12      16         32       40           48            56               64
//! | magic | version | crc32 | store id | number | generation | file length | carried number | carried hash |
//! 96: zeros ... 512, then entries of 160 bytes; zeros where none is written yet
//! entry: 0          32       40     41       42      44     48   56         64      72
//!        | previous | number | kind | detail | zeros | mark | at | owner id | start | deadline |
//!        80         88        96      104       112     128
//!        | instance | records | bytes | through | zeros | hash of bytes 0 to 128 |
//! ```
//! The hash is BLAKE3, so an entry can be checked alone, and each one vouches for all before it.
//! `mark` counts the entries of the file that were durable when this one was written: an unreadable
//! entry below a later mark had been acknowledged, one above had not.

#[cfg(test)]
mod tests;

use bytes::Buf;

use super::{Parsed, Unreadable, checksum, is_zeros, split_preamble, take_array, with_preamble};

/// The magic of the file.
pub(crate) const MAGIC: [u8; 8] = *b"ebb.ledg";
/// Bytes before the first entry.
pub(crate) const HEADER_LEN: u64 = 512;
/// Bytes of an entry.
pub(crate) const ENTRY_LEN: usize = 160;
/// The longest file.
pub(crate) const MAX_FILE_LEN: u64 = 64 << 20;
/// Stands for a number of records or bytes that nobody counted.
pub(crate) const NOT_COUNTED: u64 = u64::MAX;

/// Bytes of the header that are not zeros.
const HEADER_FIELDS_LEN: usize = 96;
/// Where the hash of an entry stands, behind all that it covers.
const HASH_OFFSET: usize = 128;

/// What an entry is known by to the one behind it.
pub(crate) type ChainHash = [u8; 32];

/// BLAKE3 of these bytes.
pub(crate) fn chain_hash(bytes: &[u8]) -> ChainHash {
    *blake3::hash(bytes).as_bytes()
}

/// What the first entry of a store's ledger has in place of a hash before it.
pub(crate) fn genesis(store_id: [u8; 16]) -> ChainHash {
    chain_hash(&store_id)
}

/// What STATE knows of the ledger: which files must be there, and the newest durable entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LedgerMark {
    /// Files from this number
    pub(crate) oldest: u64,
    /// to this one must be there.
    pub(crate) newest: u64,
    /// The number of the newest entry.
    pub(crate) number: u64,
    /// Its hash.
    pub(crate) hash: ChainHash,
}

impl Default for LedgerMark {
    /// No file at all.
    fn default() -> Self {
        Self { oldest: 1, newest: 0, number: 0, hash: [0; 32] }
    }
}

/// What a ledger file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LedgerHeader {
    pub(crate) store_id: [u8; 16],
    pub(crate) number: u64,
    pub(crate) generation: u64,
    pub(crate) file_len: u64,
    /// The number of the last entry before this file,
    pub(crate) carried_number: u64,
    /// and its hash.
    pub(crate) carried_hash: ChainHash,
}

impl LedgerHeader {
    /// The bytes that open the file, up to the first entry.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = self.store_id.to_vec();
        for field in [self.number, self.generation, self.file_len, self.carried_number] {
            body.extend_from_slice(&field.to_le_bytes());
        }
        body.extend_from_slice(&self.carried_hash);
        let mut bytes = with_preamble(MAGIC, checksum::plain(&body), &body);
        bytes.resize(HEADER_LEN as usize, 0);
        bytes
    }

    /// Reads a file's header; all of it counts, up to the first entry.
    pub(crate) fn decode(bytes: &[u8]) -> Parsed<Self> {
        let bytes = bytes.get(..HEADER_LEN as usize).ok_or(Unreadable::Damaged("too short"))?;
        let (fields, zeros) =
            bytes.split_at_checked(HEADER_FIELDS_LEN).ok_or(Unreadable::Damaged("too short"))?;
        let (stored, mut body) = split_preamble(MAGIC, fields)?;
        if checksum::plain(body) != stored || !is_zeros(zeros) {
            return Err(Unreadable::Damaged("header of a ledger file"));
        }
        Ok(Self {
            store_id: take_array(&mut body)?,
            number: body.try_get_u64_le()?,
            generation: body.try_get_u64_le()?,
            file_len: body.try_get_u64_le()?,
            carried_number: body.try_get_u64_le()?,
            carried_hash: take_array(&mut body)?,
        })
    }
}

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// Opens a file; the detail is a [`Turn`].
    Checkpoint = 1,
    /// A keyspace or log was made.
    Owner = 2,
    /// A bucket is about to be made.
    Born = 3,
    /// A bucket left the store.
    Dropped = 4,
    /// Readers let go of the last they held of a dropped bucket.
    Released = 5,
    /// So many invalidations of one scope; the detail is the scope.
    Invalidated = 6,
    /// Records were made unreadable in place.
    Scrubbed = 7,
    /// The keys of a log's dropped bucket were overwritten.
    KeysDestroyed = 8,
    /// The wall clock went ahead by more than is believed.
    ClockSuspect = 9,
    /// A bucket born in a file that is about to be deleted is still there.
    Carried = 10,
}

impl EntryKind {
    const ALL: [Self; 10] = [
        Self::Checkpoint,
        Self::Owner,
        Self::Born,
        Self::Dropped,
        Self::Released,
        Self::Invalidated,
        Self::Scrubbed,
        Self::KeysDestroyed,
        Self::ClockSuspect,
        Self::Carried,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        with_byte(Self::ALL, |kind| kind as u8, byte)
    }
}

/// The value that one of these bytes stands for.
fn with_byte<T: Copy, const N: usize>(all: [T; N], byte_of: fn(T) -> u8, byte: u8) -> Option<T> {
    all.into_iter().find(|value| byte_of(*value) == byte)
}

/// Why a file was begun: the detail of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is the first of its store.
    First = 1,
    /// The one before is full.
    Full = 2,
    /// A write to the one before failed; what stands in it above the number carried on was never
    /// acknowledged.
    GivenUp = 3,
    /// The one before is missing, cut or changed.
    Resumed = 4,
}

impl Turn {
    /// Reads a detail; one that no version wrote is taken for the most careful.
    pub(crate) fn from_detail(detail: u8) -> Self {
        let known = [Self::First, Self::Full, Self::GivenUp];
        with_byte(known, |turn| turn as u8, detail).unwrap_or(Self::Resumed)
    }
}

/// How it came to an entry: the upper half of the detail of an entry about a bucket. The lower half
/// is the kind of its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Written down when it happened.
    Witnessed = 0,
    /// Found done when the store was opened.
    FoundAtOpen = 1,
    /// Found neither in the store nor in the trash when it was opened.
    Missing = 2,
    /// Removed since everything in it had been evicted, or since it could not be made.
    Emptied = 3,
}

impl How {
    /// Reads the upper half of a detail.
    pub(crate) fn of_detail(detail: u8) -> Self {
        let known = [Self::Witnessed, Self::FoundAtOpen, Self::Missing];
        with_byte(known, |how| how as u8, detail >> 4).unwrap_or(Self::Emptied)
    }

    /// The detail of a bucket whose owner is of this kind; 0 if that is not known.
    pub(crate) fn detail(self, owner_kind: u8) -> u8 {
        (self as u8) << 4 | owner_kind & 0x0f
    }
}

/// What an entry says. Fields that its kind has no use for are zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryFields {
    pub(crate) number: u64,
    pub(crate) kind: EntryKind,
    pub(crate) detail: u8,
    pub(crate) mark: u32,
    pub(crate) at_ms: u64,
    pub(crate) owner_id: u64,
    pub(crate) start_ms: u64,
    pub(crate) deadline_ms: u64,
    pub(crate) instance: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) through: u64,
}

impl EntryFields {
    /// An entry of a kind, with all else zero.
    pub(crate) fn new(kind: EntryKind, detail: u8, at_ms: u64) -> Self {
        Self {
            number: 0,
            kind,
            detail,
            mark: 0,
            at_ms,
            owner_id: 0,
            start_ms: 0,
            deadline_ms: 0,
            instance: 0,
            records: 0,
            bytes: 0,
            through: 0,
        }
    }

    /// Appends the entry, chained to the one before; gives its own hash.
    pub(crate) fn encode(&self, previous: ChainHash, out: &mut Vec<u8>) -> ChainHash {
        let mut bytes = previous.to_vec();
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&[self.kind as u8, self.detail, 0, 0]);
        bytes.extend_from_slice(&self.mark.to_le_bytes());
        for field in [
            self.at_ms,
            self.owner_id,
            self.start_ms,
            self.deadline_ms,
            self.instance,
            self.records,
            self.bytes,
            self.through,
        ] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.resize(HASH_OFFSET, 0);
        let hash = chain_hash(&bytes);
        out.extend_from_slice(&bytes);
        out.extend_from_slice(&hash);
        hash
    }
}

/// An entry as found, whole in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainedEntry {
    pub(crate) previous: ChainHash,
    pub(crate) fields: EntryFields,
    pub(crate) hash: ChainHash,
}

/// What stands in the place of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing has been written here.
    Blank,
    /// Something that is no entry.
    Unreadable,
    /// An entry.
    Entry(ChainedEntry),
}

/// Puts zeros over a header and a first entry that can be read, as they are put into a file before it
/// gets its name.
pub(crate) fn clear_begun(bytes: &mut [u8]) {
    let has_header = LedgerHeader::decode(bytes).is_ok();
    if let Some(header) = bytes.get_mut(..HEADER_FIELDS_LEN).filter(|_| has_header) {
        header.fill(0);
    }
    let start = HEADER_LEN as usize;
    if let Some(entry) = bytes.get_mut(start..start + ENTRY_LEN)
        && matches!(decode_place(entry), Place::Entry(_))
    {
        entry.fill(0);
    }
}

/// How many entries a file of this length holds.
pub(crate) fn entries_in_file(len: u64) -> usize {
    (len.saturating_sub(HEADER_LEN) / ENTRY_LEN as u64) as usize
}

/// Where an entry of this index begins in its file.
pub(crate) fn offset_of(index: usize) -> u64 {
    HEADER_LEN + (index * ENTRY_LEN) as u64
}

/// Reads the place of an entry.
pub(crate) fn decode_place(bytes: &[u8]) -> Place {
    if is_zeros(bytes) {
        return Place::Blank;
    }
    decode_entry(bytes).map_or(Place::Unreadable, Place::Entry)
}

fn decode_entry(bytes: &[u8]) -> Parsed<ChainedEntry> {
    let damaged = Unreadable::Damaged("an entry of the ledger");
    let (covered, hash) = bytes.split_at_checked(HASH_OFFSET).ok_or(damaged)?;
    if chain_hash(covered) != hash {
        return Err(damaged);
    }
    let (mut body, mut hash) = (covered, hash);
    let previous = take_array(&mut body)?;
    let number = body.try_get_u64_le()?;
    let kind = EntryKind::from_byte(body.try_get_u8()?).ok_or(damaged)?;
    let detail = body.try_get_u8()?;
    let zeros: [u8; 2] = take_array(&mut body)?;
    let fields = EntryFields {
        number,
        kind,
        detail,
        mark: body.try_get_u32_le()?,
        at_ms: body.try_get_u64_le()?,
        owner_id: body.try_get_u64_le()?,
        start_ms: body.try_get_u64_le()?,
        deadline_ms: body.try_get_u64_le()?,
        instance: body.try_get_u64_le()?,
        records: body.try_get_u64_le()?,
        bytes: body.try_get_u64_le()?,
        through: body.try_get_u64_le()?,
    };
    // What this version has no meaning for was not written by it.
    if !(is_zeros(&zeros) && is_zeros(body)) {
        return Err(damaged);
    }
    Ok(ChainedEntry { previous, fields, hash: take_array(&mut hash)? })
}
