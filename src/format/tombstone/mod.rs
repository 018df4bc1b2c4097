//! The tombstone log: a pre-zeroed file of two regions that hold the same 64-byte entries.
//!
//! ```text
//! region, at 0 and at half the file:
//! 0       8         12      16         32       40           48     56           64
//! | magic | version | crc32 | store id | number | generation | salt | check value | 64: file length | zeros ... 512
//! then entries of 64 bytes; zeros where none is written yet
//! head: 0       4      5       6       8       16         24   32     36     37      38      40      48
//!       | crc32 | kind | scope | count | floor | owner id | at | mark | mode | reach | zeros | until | keyed hash |
//! more: | crc32 | kind | zero  | index | floor | three keyed hashes |
//! void: | crc32 | kind | zeros | (takes the place of an entry that was never acknowledged)
//! ```
//! A unit is a head and the entries that carry the rest of its hashes. `mark` counts the entries
//! that were durable when the unit was written: an unreadable entry below a later mark had been
//! acknowledged, one above had not.

mod scan;

use bytes::Buf;

use super::checksum::{self, Seed};
use super::{Parsed, Unreadable, split_preamble, take_array, with_preamble};
use crate::hash::KeyedHash;
pub(crate) use scan::{Regions, Scan, is_blank, repaired, scan};

/// Bytes before the first entry of a region.
pub(crate) const REGION_HEADER_LEN: u64 = 512;
/// Bytes of an entry.
pub(crate) const ENTRY_LEN: usize = 64;
/// The longest file.
pub(crate) const MAX_FILE_LEN: u64 = 64 << 20;

/// Bytes of a region's header that are not zeros.
const HEADER_FIELDS_LEN: usize = 72;

/// The magic of the file.
pub(crate) const MAGIC: [u8; 8] = *b"ebb.tomb";
const HEAD: u8 = 1;
const MORE: u8 = 2;
const VOID: u8 = 3;
const HASHES_PER_MORE: usize = 3;

/// What a tombstone hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TombstoneScope {
    /// The records of these keys.
    Keys = 1,
    /// The records that carry one of these tags.
    Tags = 2,
    /// All records of the owner.
    All = 3,
}

/// What a tombstone does to what is in scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TombstoneMode {
    /// It is invisible.
    Hard = 1,
    /// It is stale: served to those only who ask for what is stale.
    Soft = 2,
    /// It is invisible, and keyspaces take nothing new of it for some time.
    Deny = 3,
}

/// Where a tombstone applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// In the keyspace or log of this id.
    Owner(u64),
    /// In all keyspaces.
    Keyspaces,
    /// In all keyspaces and all logs.
    Everything,
}

impl Reach {
    /// The number that stands for it, and the owner id beside it.
    fn fields(self) -> (u8, u64) {
        match self {
            Self::Owner(id) => (1, id),
            Self::Keyspaces => (2, 0),
            Self::Everything => (3, 0),
        }
    }

    /// True if the keyspace of this id is covered.
    pub(crate) fn covers_keyspace(self, id: u64) -> bool {
        match self {
            Self::Owner(owner_id) => owner_id == id,
            Self::Keyspaces | Self::Everything => true,
        }
    }

    /// True if the log of this id is covered.
    pub(crate) fn covers_log(self, id: u64) -> bool {
        match self {
            Self::Owner(owner_id) => owner_id == id,
            Self::Keyspaces => false,
            Self::Everything => true,
        }
    }
}

/// One invalidation: everything in scope with a sequence number up to the floor is invisible, or
/// stale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tombstone {
    pub(crate) scope: TombstoneScope,
    pub(crate) mode: TombstoneMode,
    pub(crate) reach: Reach,
    pub(crate) floor: u64,
    pub(crate) at_ms: u64,
    /// Up to when what is in scope is refused; 0 unless the mode is to deny.
    pub(crate) until_ms: u64,
    pub(crate) hashes: Vec<KeyedHash>,
}

/// What a log file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TombstoneHeader {
    pub(crate) store_id: [u8; 16],
    pub(crate) number: u64,
    pub(crate) generation: u64,
    pub(crate) salt: u64,
    /// What the store's hash secret gives for a fixed text.
    pub(crate) check_value: u64,
    pub(crate) file_len: u64,
}

impl TombstoneHeader {
    /// The bytes that open both regions.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = self.store_id.to_vec();
        for field in [self.number, self.generation, self.salt, self.check_value, self.file_len] {
            body.extend_from_slice(&field.to_le_bytes());
        }
        with_preamble(MAGIC, checksum::plain(&body), &body)
    }

    /// Reads a region's header.
    pub(crate) fn decode(bytes: &[u8]) -> Parsed<Self> {
        let bytes = bytes.get(..HEADER_FIELDS_LEN).ok_or(Unreadable::Damaged("too short"))?;
        let (stored, mut body) = split_preamble(MAGIC, bytes)?;
        if checksum::plain(body) != stored {
            return Err(Unreadable::Damaged("checksum of a tombstone log header"));
        }
        Ok(Self {
            store_id: take_array(&mut body)?,
            number: body.try_get_u64_le()?,
            generation: body.try_get_u64_le()?,
            salt: body.try_get_u64_le()?,
            check_value: body.try_get_u64_le()?,
            file_len: body.try_get_u64_le()?,
        })
    }

    /// What the checksums of this file's entries are bound to.
    pub(crate) fn seed(&self) -> Seed {
        Seed::of_file(self.salt, self.number)
    }
}

/// Where the first byte of a region stands that means nothing and is not zero: between header and
/// entries, or behind the last entry.
pub(crate) fn find_unused(region: &[u8]) -> Option<usize> {
    let entries = REGION_HEADER_LEN as usize;
    let end = entries + region.len().saturating_sub(entries) / ENTRY_LEN * ENTRY_LEN;
    let unused = (HEADER_FIELDS_LEN..entries).chain(end..region.len());
    unused.into_iter().find(|at| region.get(*at).is_some_and(|byte| *byte != 0))
}

/// Puts zeros over headers, as they are put into a file before it gets its name. A process may have ended in
/// the middle of one.
pub(crate) fn clear_begun(bytes: &mut [u8]) {
    let half = bytes.len() / 2;
    for start in [0, half] {
        let header = bytes.get_mut(start..).and_then(|rest| rest.get_mut(..HEADER_FIELDS_LEN));
        if let Some(header) = header.filter(|header| header.starts_with(&MAGIC)) {
            header.fill(0);
        }
    }
}

/// How many entries a unit with so many hashes takes.
pub(crate) fn entries_of(hashes: usize) -> usize {
    1 + hashes.saturating_sub(1).div_ceil(HASHES_PER_MORE)
}

/// How many hashes the longest unit has that a file of this length holds.
pub(crate) fn hashes_in_file(len: u64) -> usize {
    let behind_the_head = entries_in_file(len).saturating_sub(1);
    (1 + behind_the_head * HASHES_PER_MORE).min(usize::from(u16::MAX))
}

/// How many entries a file of this length holds.
pub(crate) fn entries_in_file(len: u64) -> usize {
    ((len / 2).saturating_sub(REGION_HEADER_LEN) / ENTRY_LEN as u64) as usize
}

impl Tombstone {
    /// Appends the entries of this unit, the first of which has this index.
    pub(crate) fn encode(&self, seed: &Seed, index: usize, mark: usize, out: &mut Vec<u8>) {
        let mut hashes = self.hashes.iter().copied();
        let mut fields = vec![HEAD, self.scope as u8];
        fields.extend_from_slice(&(self.hashes.len() as u16).to_le_bytes());
        fields.extend_from_slice(&self.floor.to_le_bytes());
        let (reach, owner_id) = self.reach.fields();
        fields.extend_from_slice(&owner_id.to_le_bytes());
        fields.extend_from_slice(&self.at_ms.to_le_bytes());
        fields.extend_from_slice(&(mark as u32).to_le_bytes());
        fields.extend_from_slice(&[self.mode as u8, reach, 0, 0]);
        fields.extend_from_slice(&self.until_ms.to_le_bytes());
        fields.extend_from_slice(&hashes.next().map_or(0, |hash| hash.0).to_le_bytes());
        push_entry(seed, index, &mut fields, out);
        for more in 1..entries_of(self.hashes.len()) {
            let mut fields = vec![MORE, 0];
            fields.extend_from_slice(&(more as u16).to_le_bytes());
            fields.extend_from_slice(&self.floor.to_le_bytes());
            for hash in hashes.by_ref().take(HASHES_PER_MORE) {
                fields.extend_from_slice(&hash.0.to_le_bytes());
            }
            push_entry(seed, index + more, &mut fields, out);
        }
    }
}

/// The entry that stands in for one that was never acknowledged.
pub(crate) fn encode_void(seed: &Seed, index: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENTRY_LEN);
    push_entry(seed, index, &mut vec![VOID], &mut out);
    out
}

fn push_entry(seed: &Seed, index: usize, fields: &mut Vec<u8>, out: &mut Vec<u8>) {
    fields.resize(ENTRY_LEN - 4, 0);
    out.extend_from_slice(&seed.checksum(index as u64, &[fields]).to_le_bytes());
    out.extend_from_slice(fields);
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Tombstone {
        /// One of so many keys, for tests.
        pub(crate) fn sample(floor: u64, hashes: usize) -> Self {
            Self {
                scope: TombstoneScope::Keys,
                mode: TombstoneMode::Hard,
                reach: Reach::Owner(4),
                floor,
                at_ms: 5,
                until_ms: 0,
                hashes: (0..hashes).map(|i| KeyedHash(i as u128 + 1)).collect(),
            }
        }
    }

    #[test]
    fn the_longest_unit_fills_a_file() {
        for len in [4096, 8192, 1 << 20] {
            assert_eq!(entries_of(hashes_in_file(len)), entries_in_file(len));
            assert!(entries_of(hashes_in_file(len) + 1) > entries_in_file(len));
        }
        assert_eq!(hashes_in_file(4096), 70);
        assert_eq!(hashes_in_file(64 << 20), usize::from(u16::MAX));
    }

    #[test]
    fn a_reach_covers_what_it_names() {
        let covered = |reach: Reach| (reach.covers_keyspace(7), reach.covers_log(7));
        assert_eq!(covered(Reach::Owner(7)), (true, true));
        assert_eq!(covered(Reach::Owner(8)), (false, false));
        assert_eq!(covered(Reach::Keyspaces), (true, false));
        assert_eq!(covered(Reach::Everything), (true, true));
    }

    #[test]
    fn a_unit_takes_a_head_and_an_entry_for_three_more_hashes() {
        let lens = [(0, 1), (1, 1), (2, 2), (4, 2), (5, 3), (7, 3), (8, 4)];
        for (hashes, entries) in lens {
            assert_eq!(entries_of(hashes), entries, "{hashes} hashes");
            let mut bytes = Vec::new();
            Tombstone::sample(1, hashes).encode(&Seed::of_file(1, 2), 0, 0, &mut bytes);
            assert_eq!(bytes.len(), entries * ENTRY_LEN);
        }
    }

    #[test]
    fn bytes_without_a_meaning_are_found() {
        let entries = REGION_HEADER_LEN as usize;
        let end = entries + 3 * ENTRY_LEN;
        let mut region = vec![0; end + ENTRY_LEN - 1];
        region[..HEADER_FIELDS_LEN].fill(1);
        region[entries..end].fill(1);
        assert_eq!(find_unused(&region), None);
        for at in (HEADER_FIELDS_LEN..entries).chain(end..region.len()) {
            let mut changed = region.clone();
            changed[at] = 1;
            assert_eq!(find_unused(&changed), Some(at));
            assert_eq!(find_unused(&changed[..at]), None);
        }
    }

    #[test]
    fn headers_of_a_file_that_was_begun_are_cleared_and_nothing_else() {
        let header = header().encode();
        let mut begun = vec![0; 4096];
        for start in [0, 2048] {
            begun[start..start + header.len()].copy_from_slice(&header);
        }
        let cleared = |changed: &[usize]| {
            let mut bytes = begun.clone();
            changed.iter().for_each(|at| bytes[*at] ^= 1);
            clear_begun(&mut bytes);
            bytes
                .chunks(2048)
                .map(|region| region.iter().all(|byte| *byte == 0))
                .collect::<Vec<_>>()
        };
        assert_eq!(cleared(&[]), [true, true]);
        assert_eq!(cleared(&[20, 2100]), [true, true], "one that was begun need not be whole");
        assert_eq!(cleared(&[3]), [false, true]);
        assert_eq!(cleared(&[2051]), [true, false]);
        assert_eq!(cleared(&[600, 4095]), [false, false], "what is not a header stays");
    }

    fn header() -> TombstoneHeader {
        TombstoneHeader {
            store_id: [1; 16],
            number: 2,
            generation: 3,
            salt: 4,
            check_value: 5,
            file_len: 4096,
        }
    }

    #[test]
    fn a_header_is_read_back_and_no_changed_byte_passes() {
        let header = header();
        let bytes = header.encode();
        assert_eq!(TombstoneHeader::decode(&bytes), Ok(header));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(TombstoneHeader::decode(&changed).is_err(), "byte {at}");
            assert!(TombstoneHeader::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
