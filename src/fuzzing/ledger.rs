//! Ledger files.

use std::path::Path;

use super::{AS_IT_IS, BODIES_AS_THEY_ARE, part, put, repair_preamble};
use crate::disk::{Disk, MemoryDisk};
use crate::format::ledger::{self, LedgerHeader, LedgerMark, Place};
use crate::ledger::{FoundLedger, Place as LedgerPlace, read_ledger};

/// Where a ledger file is put to be read.
const LEDGER_FILE: &str = "/ledger/0000000001.log";
const STORE_ID: [u8; 16] = [7; 16];

/// A ledger file: what is read of it is what it was written from, and no byte of a whole chain can be
/// changed without being noticed.
pub fn ledger(input: &[u8]) {
    let Some((control, bytes)) = input.split_first() else { return };
    let Some((change, bytes)) = bytes.split_first_chunk::<3>() else { return };
    let mut bytes = bytes.to_vec();
    if control & AS_IT_IS == 0 {
        repair_ledger(&mut bytes, control & BODIES_AS_THEY_ARE == 0);
    }
    if let Ok(header) = LedgerHeader::decode(&bytes) {
        assert_eq!(header.encode(), part(&bytes, 0, ledger::HEADER_LEN as usize));
    }
    let mut last = None;
    for index in 0..ledger::entries_in_file(bytes.len() as u64) {
        let at = ledger::offset_of(index) as usize;
        let slot = part(&bytes, at, at + ledger::ENTRY_LEN);
        if let Place::Entry(entry) = ledger::decode_place(slot) {
            let mut again = Vec::new();
            assert_eq!(entry.fields.encode(entry.previous, &mut again), entry.hash);
            assert_eq!(again, slot);
            last = Some((entry.fields.number, entry.hash));
        }
    }
    let known = last.map(|(number, hash)| LedgerMark { oldest: 1, newest: 1, number, hash });
    if let Some(known) = known.filter(|known| find_in_ledger(&bytes, *known).problems.is_empty()) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        let mut changed = bytes;
        if let Some(byte) = changed.get_mut(at) {
            *byte ^= change[2].max(1);
        }
        let found = find_in_ledger(&changed, known);
        assert!(!found.problems.is_empty(), "byte {at} was changed unnoticed");
    }
}

/// Reads a ledger of one file, of which STATE names the last entry after a clean close.
fn find_in_ledger(bytes: &[u8], known: LedgerMark) -> FoundLedger {
    let disk = MemoryDisk::new(1);
    let dir = Path::new("/ledger");
    let put = disk.create_dir(dir).and_then(|()| disk.write_file(Path::new(LEDGER_FILE), bytes));
    assert!(put.is_ok(), "a disk in memory takes it: {put:?}");
    let place =
        LedgerPlace { disk: &disk, dir, store_id: STORE_ID, known: Some(known), exact: true };
    let mut seen = 0;
    let found = read_ledger(place, &mut |_, _| seen += 1);
    let found = found.unwrap_or_else(|e| unreachable!("nothing refuses to be read: {e}"));
    assert_eq!(found.entries, seen);
    found
}

/// Puts the header right, and the hashes of the entries; `chain` links them as well.
fn repair_ledger(bytes: &mut [u8], chain: bool) {
    put(bytes, 16, &STORE_ID);
    put(bytes, 32, &1_u64.to_le_bytes());
    put(bytes, 48, &(bytes.len() as u64).to_le_bytes());
    put(bytes, 56, &0_u64.to_le_bytes());
    put(bytes, 64, &ledger::genesis(STORE_ID));
    repair_preamble(bytes, ledger::MAGIC, 96);
    let mut previous = ledger::genesis(STORE_ID);
    for index in 0..ledger::entries_in_file(bytes.len() as u64) {
        let at = ledger::offset_of(index) as usize;
        if part(bytes, at, at + ledger::ENTRY_LEN).iter().all(|byte| *byte == 0) {
            continue;
        }
        if chain {
            put(bytes, at, &previous);
            put(bytes, at + 32, &(index as u64 + 1).to_le_bytes());
        }
        previous = ledger::chain_hash(part(bytes, at, at + 128));
        put(bytes, at + 128, &previous);
    }
}
