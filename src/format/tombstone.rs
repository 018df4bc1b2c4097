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

use bytes::Buf;

use super::checksum::{self, Seed};
use super::{Parsed, Unreadable, split_preamble, take, take_array, with_preamble};
use crate::hash::KeyedHash;

/// Bytes before the first entry of a region.
pub(crate) const REGION_HEADER_LEN: u64 = 512;
/// Bytes of an entry.
pub(crate) const ENTRY_LEN: usize = 64;

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
        let bytes = bytes.get(..72).ok_or(Unreadable::Damaged("too short"))?;
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
    pub(crate) fn encode(&self, seed: Seed, index: usize, mark: usize, out: &mut Vec<u8>) {
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
pub(crate) fn encode_void(seed: Seed, index: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENTRY_LEN);
    push_entry(seed, index, &mut vec![VOID], &mut out);
    out
}

fn push_entry(seed: Seed, index: usize, fields: &mut Vec<u8>, out: &mut Vec<u8>) {
    fields.resize(ENTRY_LEN - 4, 0);
    out.extend_from_slice(&seed.checksum(index as u64, &[fields]).to_le_bytes());
    out.extend_from_slice(fields);
}

/// What the two regions of a file hold together.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) tombstones: Vec<Tombstone>,
    /// Entries up to the last one that is not all zeros.
    pub(crate) end: usize,
    /// Entries below `end` that neither region holds.
    pub(crate) holes: Vec<usize>,
    /// Entries that were durable for certain.
    pub(crate) mark: usize,
}

impl Scan {
    /// True if an acknowledged entry is gone.
    pub(crate) fn lost_acknowledged(&self) -> bool {
        self.holes.iter().any(|hole| *hole < self.mark)
    }
}

/// The entries from the durable mark to the end, as both regions should hold them: whatever was
/// never acknowledged and cannot be read becomes void.
pub(crate) fn repaired(seed: Seed, first: &[u8], second: &[u8], scan: &Scan) -> Vec<u8> {
    let mut out = Vec::new();
    for index in scan.mark..scan.end {
        match valid_entry(seed, first, second, index).filter(|_| !scan.holes.contains(&index)) {
            Some(mut fields) => push_entry(seed, index, &mut fields, &mut out),
            None => out.extend_from_slice(&encode_void(seed, index)),
        }
    }
    out
}

fn entry_at(region: &[u8], index: usize) -> Option<[u8; ENTRY_LEN]> {
    region.get(index * ENTRY_LEN..(index + 1) * ENTRY_LEN)?.try_into().ok()
}

/// The fields of an entry, from the region that holds it whole.
fn valid_entry(seed: Seed, first: &[u8], second: &[u8], index: usize) -> Option<Vec<u8>> {
    [first, second].into_iter().find_map(|region| {
        let bytes = entry_at(region, index)?;
        let (stored, fields) = bytes.split_at_checked(4)?;
        let checksum = seed.checksum(index as u64, &[fields]).to_le_bytes();
        (checksum == stored).then(|| fields.to_vec())
    })
}

/// Reads the entries of both regions; either may be unreadable and then empty.
pub(crate) fn scan(seed: Seed, first: &[u8], second: &[u8]) -> Scan {
    let count = first.len().max(second.len()) / ENTRY_LEN;
    let is_blank = |region: &[u8], index| {
        entry_at(region, index).is_none_or(|bytes| bytes.iter().all(|byte| *byte == 0))
    };
    let valid = |index: usize| valid_entry(seed, first, second, index);
    let end = (0..count)
        .rev()
        .find(|index| !is_blank(first, *index) || !is_blank(second, *index))
        .map_or(0, |last| last + 1);
    let mut scan = Scan { end, ..Scan::default() };
    let mut index = 0;
    while index < scan.end {
        index += match valid(index).as_deref().map(|fields| read_unit(fields, index, &valid)) {
            Some(Ok(Entry::Unit(tombstone, mark))) => {
                let entries = entries_of(tombstone.hashes.len());
                scan.mark = scan.mark.max(mark);
                scan.tombstones.push(tombstone);
                entries
            }
            Some(Ok(Entry::Void)) => 1,
            Some(Err(_)) | None => {
                scan.holes.push(index);
                1
            }
        };
    }
    scan
}

enum Entry {
    Unit(Tombstone, usize),
    Void,
}

fn read_unit(
    mut fields: &[u8],
    index: usize,
    valid: &dyn Fn(usize) -> Option<Vec<u8>>,
) -> Parsed<Entry> {
    match fields.try_get_u8()? {
        HEAD => {}
        VOID => return Ok(Entry::Void),
        _ => return Err(Unreadable::Damaged("kind of a tombstone")),
    }
    let scope = match fields.try_get_u8()? {
        1 => TombstoneScope::Keys,
        2 => TombstoneScope::Tags,
        3 => TombstoneScope::All,
        _ => return Err(Unreadable::Damaged("scope of a tombstone")),
    };
    let count = usize::from(fields.try_get_u16_le()?);
    let floor = fields.try_get_u64_le()?;
    let owner_id = fields.try_get_u64_le()?;
    let at_ms = fields.try_get_u64_le()?;
    let mark = fields.try_get_u32_le()? as usize;
    let mode = match fields.try_get_u8()? {
        1 => TombstoneMode::Hard,
        2 => TombstoneMode::Soft,
        3 => TombstoneMode::Deny,
        _ => return Err(Unreadable::Damaged("mode of a tombstone")),
    };
    let reach = match fields.try_get_u8()? {
        1 => Reach::Owner(owner_id),
        2 => Reach::Keyspaces,
        3 => Reach::Everything,
        _ => return Err(Unreadable::Damaged("reach of a tombstone")),
    };
    take(&mut fields, 2)?;
    let until_ms = fields.try_get_u64_le()?;
    let mut hashes = vec![KeyedHash(fields.try_get_u128_le()?)];
    hashes.truncate(count);
    for more in 1..entries_of(count) {
        let bytes = valid(index + more).ok_or(Unreadable::Damaged("rest of a tombstone"))?;
        let mut fields = bytes.as_slice();
        let kind = fields.try_get_u8()?;
        fields.try_get_u8()?;
        if kind != MORE
            || usize::from(fields.try_get_u16_le()?) != more
            || fields.try_get_u64_le()? != floor
        {
            return Err(Unreadable::Damaged("rest of a tombstone"));
        }
        for _ in 0..HASHES_PER_MORE.min(count - hashes.len()) {
            hashes.push(KeyedHash(fields.try_get_u128_le()?));
        }
    }
    let tombstone = Tombstone { scope, mode, reach, floor, at_ms, until_ms, hashes };
    Ok(Entry::Unit(tombstone, mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstone(floor: u64, hashes: usize) -> Tombstone {
        let hashes = (0..hashes).map(|i| KeyedHash(i as u128 + 1)).collect();
        Tombstone {
            scope: TombstoneScope::Keys,
            mode: TombstoneMode::Hard,
            reach: Reach::Owner(4),
            floor,
            at_ms: 5,
            until_ms: 0,
            hashes,
        }
    }

    fn region(units: &[(Tombstone, usize)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (unit, mark) in units {
            let index = bytes.len() / ENTRY_LEN;
            unit.encode(Seed::of_file(1, 1), index, *mark, &mut bytes);
        }
        bytes.resize(64 * ENTRY_LEN, 0);
        bytes
    }

    fn read(first: &[u8], second: &[u8]) -> Scan {
        scan(Seed::of_file(1, 1), first, second)
    }

    #[test]
    fn units_of_any_size_are_read_back() {
        for hashes in [0, 1, 2, 4, 5, 100] {
            let unit = tombstone(9, hashes);
            let bytes = region(&[(unit.clone(), 0), (tombstone(10, 1), 0)]);
            let scan = read(&bytes, &bytes);
            assert_eq!(scan.tombstones, [unit, tombstone(10, 1)]);
            assert_eq!(scan.end, entries_of(hashes) + 1);
        }
    }

    #[test]
    fn modes_and_reaches_are_read_back_and_unknown_ones_are_not() {
        for mode in [TombstoneMode::Hard, TombstoneMode::Soft, TombstoneMode::Deny] {
            for reach in [Reach::Owner(8), Reach::Keyspaces, Reach::Everything] {
                let unit = Tombstone { mode, reach, until_ms: 77, ..tombstone(9, 2) };
                let bytes = region(&[(unit.clone(), 0)]);
                assert_eq!(read(&bytes, &bytes).tombstones, [unit]);
            }
        }
        for (at, value) in [(36, 0), (36, 4), (37, 0), (37, 4)] {
            let mut bytes = region(&[(tombstone(9, 1), 0)]);
            bytes[at] = value;
            let crc = Seed::of_file(1, 1).checksum(0, &[&bytes[4..ENTRY_LEN]]);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            let scan = read(&bytes, &bytes);
            assert_eq!((scan.tombstones.len(), scan.holes), (0, vec![0]), "{value} at {at}");
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
    fn either_region_alone_is_enough_for_any_changed_byte() {
        let units = [(tombstone(1, 1), 0), (tombstone(2, 5), 1), (tombstone(3, 0), 4)];
        let whole = region(&units);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 4;
            for (first, second) in [(&whole, &changed), (&changed, &whole)] {
                let scan = read(first, second);
                assert_eq!(scan.tombstones.len(), 3, "byte {at}");
                assert!(!scan.lost_acknowledged());
            }
        }
        assert_eq!(read(&whole, &[]).tombstones.len(), 3);
        assert_eq!(read(&[], &whole).tombstones.len(), 3);
    }

    #[test]
    fn a_hole_below_a_later_mark_is_a_loss_and_one_above_is_not() {
        let wipe = |mut bytes: Vec<u8>, index: usize| {
            bytes[index * ENTRY_LEN..(index + 1) * ENTRY_LEN].fill(0);
            bytes
        };
        let acknowledged = wipe(region(&[(tombstone(1, 1), 0), (tombstone(2, 1), 1)]), 0);
        assert!(read(&acknowledged, &acknowledged).lost_acknowledged());
        let together = wipe(region(&[(tombstone(1, 1), 0), (tombstone(2, 1), 0)]), 0);
        let scan = read(&together, &together);
        assert!(!scan.lost_acknowledged());
        assert_eq!((scan.tombstones.len(), scan.holes, scan.end), (1, vec![0], 2));
    }

    #[test]
    fn a_unit_is_taken_whole_or_not_at_all() {
        let mut bytes = region(&[(tombstone(1, 6), 0)]);
        bytes[2 * ENTRY_LEN + 20] ^= 1;
        let scan = read(&bytes, &bytes);
        assert!(scan.tombstones.is_empty());
        assert!(!scan.holes.is_empty());
    }
}
