//! Logs of tombstones.

use super::{AS_IT_IS, BODIES_AS_THEY_ARE, part, put, repair_preamble};
use crate::format::tombstone::{self, ENTRY_LEN, REGION_HEADER_LEN, TombstoneHeader, repaired};

/// A tombstone log: what is read of it stays the same through a repair.
pub fn tombstone_log(input: &[u8]) {
    let Some((control, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    let half = bytes.len() / 2;
    let (first, second) = bytes.split_at_mut(half);
    if control & AS_IT_IS == 0 {
        repair_region(first);
        if control & BODIES_AS_THEY_ARE == 0 {
            repair_region(second);
        }
    }
    let Ok(header) = TombstoneHeader::decode(first) else { return };
    assert_eq!(header.encode(), part(first, 0, 72));
    let entries = |region: &[u8]| {
        let whole = region.len() - region.len() % ENTRY_LEN;
        part(region, REGION_HEADER_LEN as usize, whole).to_vec()
    };
    let (first, second) = (entries(first), entries(second));
    let seed = &header.seed();
    let count = first.len().max(second.len()) / ENTRY_LEN;
    let regions = [first.as_slice(), second.as_slice()];
    let scan = tombstone::scan(seed, &regions, count);
    assert!(scan.holes.iter().all(|hole| *hole < scan.end));
    let Some(suffix) = repaired(seed, &regions, &scan) else { unreachable!("it was read before") };
    let mut whole = first.clone();
    whole.resize(first.len().max(second.len()), 0);
    let mut other = second.clone();
    other.resize(whole.len(), 0);
    put(&mut whole, scan.mark * ENTRY_LEN, &suffix);
    put(&mut other, scan.mark * ENTRY_LEN, &suffix);
    let again = tombstone::scan(seed, &[whole.as_slice(), other.as_slice()], count);
    assert_eq!(again.tombstones, scan.tombstones);
    assert!(again.holes.iter().all(|hole| *hole < scan.mark));
}

fn repair_region(region: &mut [u8]) {
    repair_preamble(region, tombstone::MAGIC, 72);
    let Ok(header) = TombstoneHeader::decode(region) else { return };
    let start = REGION_HEADER_LEN as usize;
    for at in (start..region.len()).step_by(ENTRY_LEN) {
        let fields = part(region, at + 4, at + ENTRY_LEN);
        if fields.iter().any(|byte| *byte != 0) {
            let crc = header.seed().checksum(((at - start) / ENTRY_LEN) as u64, &[fields]);
            put(region, at, &crc.to_le_bytes());
        }
    }
}
