//! Reading the tombstones of a log file from its two regions, either of which may have been damaged.

use bytes::Buf;

use super::{
    ENTRY_LEN, HASHES_PER_MORE, HEAD, MORE, Reach, Tombstone, TombstoneMode, TombstoneScope, VOID,
    encode_void, entries_of, push_entry,
};
use crate::format::checksum::Seed;
use crate::format::{Parsed, Unreadable, is_zeros, take};
use crate::hash::KeyedHash;
use crate::planted::{Bug, is_planted};

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

/// The entries of the two regions of a file.
pub(crate) trait Regions {
    /// An entry of the first or the second region; nothing if it cannot be read.
    fn entry(&self, region: usize, index: usize) -> Option<[u8; ENTRY_LEN]>;
}

impl Regions for [&[u8]; 2] {
    fn entry(&self, region: usize, index: usize) -> Option<[u8; ENTRY_LEN]> {
        self.get(region)?.get(index * ENTRY_LEN..(index + 1) * ENTRY_LEN)?.try_into().ok()
    }
}

/// The entries from the durable mark to the end, as both regions should hold them: whatever was
/// never acknowledged and could not be read becomes void. Nothing if one that was read cannot be read
/// any more, since it may have been acknowledged.
pub(crate) fn repaired(seed: &Seed, regions: &dyn Regions, scan: &Scan) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for index in scan.mark..scan.end {
        // In the order of their places.
        let is_hole = scan.holes.binary_search(&index).is_ok();
        if is_hole || is_planted(Bug::RecoveryNotIdempotent) {
            out.extend_from_slice(&encode_void(seed, index));
        } else {
            push_entry(seed, index, &mut valid_entry(seed, regions, index)?, &mut out);
        }
    }
    Some(out)
}

/// The fields of an entry, from the region that holds it whole.
fn valid_entry(seed: &Seed, regions: &dyn Regions, index: usize) -> Option<Vec<u8>> {
    (0..2).find_map(|region| {
        let bytes = regions.entry(region, index)?;
        let (stored, fields) = bytes.split_at_checked(4)?;
        let checksum = seed.checksum(index as u64, &[fields]).to_le_bytes();
        (checksum == stored).then(|| fields.to_vec())
    })
}

/// Reads the entries of both regions, so many in each; either may be unreadable.
pub(crate) fn scan(seed: &Seed, regions: &dyn Regions, count: usize) -> Scan {
    let valid = |index: usize| valid_entry(seed, regions, index);
    let last = (0..count).rev().find(|index| !(0..2).all(|at| is_blank(regions, at, *index)));
    let mut scan = Scan { end: last.map_or(0, |last| last + 1), ..Scan::default() };
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
                if !is_planted(Bug::TombstoneTakenAsEmpty) {
                    scan.holes.push(index);
                }
                1
            }
        };
    }
    scan
}

/// True if nothing that can be read stands in the place of an entry.
pub(crate) fn is_blank(regions: &dyn Regions, region: usize, index: usize) -> bool {
    let entry = regions.entry(region, index);
    entry.is_none_or(|bytes| is_zeros(&bytes))
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
    use super::super::{Reach, entries_of};
    use super::*;

    fn tombstone(floor: u64, hashes: usize) -> Tombstone {
        Tombstone::sample(floor, hashes)
    }

    /// An entry in which one byte is another, under a checksum that is right, is a hole.
    fn expect_a_hole(at: usize, value: u8) {
        let mut bytes = region(&[(tombstone(9, 1), 0)]);
        bytes[at] = value;
        let crc = Seed::of_file(1, 1).checksum(0, &[&bytes[4..ENTRY_LEN]]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        let scan = read(&bytes, &bytes);
        assert_eq!((scan.tombstones.len(), scan.holes), (0, vec![0]), "{value} at {at}");
    }

    fn region(units: &[(Tombstone, usize)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (unit, mark) in units {
            let index = bytes.len() / ENTRY_LEN;
            unit.encode(&Seed::of_file(1, 1), index, *mark, &mut bytes);
        }
        bytes.resize(64 * ENTRY_LEN, 0);
        bytes
    }

    fn read(first: &[u8], second: &[u8]) -> Scan {
        scan(&Seed::of_file(1, 1), &[first, second], first.len().max(second.len()) / ENTRY_LEN)
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
            expect_a_hole(at, value);
        }
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

    #[test]
    fn what_was_never_acknowledged_and_is_torn_becomes_void() {
        let seed = &Seed::of_file(1, 1);
        let units = [(tombstone(1, 1), 0), (tombstone(2, 1), 1), (tombstone(3, 1), 1)];
        let whole = region(&units);
        let mut torn = whole.clone();
        torn[ENTRY_LEN + 9] ^= 1;
        let found = read(&torn, &torn);
        assert_eq!((found.mark, found.end, &found.holes[..]), (1, 3, &[1][..]));
        let repaired = repaired(seed, &[&torn[..], &torn], &found).unwrap();
        let void = encode_void(seed, 1);
        assert_eq!(repaired, [&void[..], &whole[2 * ENTRY_LEN..3 * ENTRY_LEN]].concat());
        torn[ENTRY_LEN..3 * ENTRY_LEN].copy_from_slice(&repaired);
        let again = read(&torn, &torn);
        assert_eq!(again.tombstones, [tombstone(1, 1), tombstone(3, 1)]);
        assert!(again.holes.is_empty() && again.end == 3);
    }

    #[test]
    fn what_one_region_lacks_is_repaired_from_the_other() {
        let whole = region(&[(tombstone(1, 1), 0), (tombstone(2, 6), 0)]);
        let found = read(&whole, &[]);
        let seed = &Seed::of_file(1, 1);
        let bytes = repaired(seed, &[&whole[..], &[]], &found).unwrap();
        assert_eq!(bytes, whole[..found.end * ENTRY_LEN]);
        assert_eq!(repaired(seed, &[&whole[..ENTRY_LEN], &[]], &found), None, "it was there");
    }

    #[test]
    fn the_rest_of_a_unit_must_be_its_own() {
        let seed = &Seed::of_file(1, 1);
        // The kind, the index and the floor of the second entry.
        for (at, value) in [(4, HEAD), (6, 2), (8, 7)] {
            let mut bytes = region(&[(tombstone(1, 6), 0)]);
            bytes[ENTRY_LEN + at] = value;
            let crc = seed.checksum(1, &[&bytes[ENTRY_LEN + 4..2 * ENTRY_LEN]]);
            bytes[ENTRY_LEN..][..4].copy_from_slice(&crc.to_le_bytes());
            let scan = read(&bytes, &bytes);
            assert!(scan.tombstones.is_empty(), "{value} at {at}");
            assert_eq!(scan.holes[0], 0);
        }
    }

    #[test]
    fn scopes_are_read_back_and_unknown_ones_are_not() {
        for scope in [TombstoneScope::Keys, TombstoneScope::Tags, TombstoneScope::All] {
            let unit = Tombstone { scope, ..tombstone(9, 1) };
            let bytes = region(&[(unit.clone(), 0)]);
            assert_eq!(read(&bytes, &bytes).tombstones, [unit]);
        }
        for (at, value) in [(4, 0), (4, MORE), (4, 4), (5, 0), (5, 4)] {
            expect_a_hole(at, value);
        }
    }
}
