//! Tests of one file of the ledger: what is torn, what is lost, and where a file ends.

use super::scan::{Around, Behind, FileBytes, Head, Scan, opening, scan};
use crate::format::ledger::{
    ENTRY_LEN, EntryFields, EntryKind, LedgerHeader, Turn, genesis, offset_of,
};

const STORE_ID: [u8; 16] = [7; 16];
const FILE_LEN: usize = 4096;

/// A file of entries with these marks, the first of which is a checkpoint, and its last entry.
fn file(marks: &[u32]) -> (Vec<u8>, Head) {
    let carried = genesis(STORE_ID);
    let header = LedgerHeader {
        store_id: STORE_ID,
        number: 1,
        generation: 1,
        file_len: FILE_LEN as u64,
        carried_number: 0,
        carried_hash: carried,
    };
    let mut bytes = header.encode();
    let mut head = Head { number: 0, hash: carried };
    for mark in marks {
        let is_first = head.number == 0;
        let kind = if is_first { EntryKind::Checkpoint } else { EntryKind::Born };
        let number = head.number + 1;
        let fields = EntryFields { number, mark: *mark, ..EntryFields::new(kind, 1, 5) };
        head = Head { number, hash: fields.encode(head.hash, &mut bytes) };
    }
    bytes.resize(FILE_LEN, 0);
    (bytes, head)
}

fn wipe(bytes: &mut [u8], index: usize) {
    let at = offset_of(index) as usize;
    bytes[at..at + ENTRY_LEN].fill(0);
}

fn look(bytes: &[u8], behind: Behind, known: Option<Head>, exact: bool) -> Scan {
    let (store_id, number) = (STORE_ID, 1);
    let file = FileBytes { used: bytes.to_vec(), len: bytes.len() as u64 };
    scan(&file, &Around { store_id, number, before: None, behind, known, exact })
}

#[test]
fn a_whole_file_is_read() {
    let (bytes, head) = file(&[0, 1, 2, 3]);
    let scan = look(&bytes, Behind::Nothing, Some(head), true);
    assert_eq!((scan.problems.len(), scan.entries.len(), scan.end), (0, 4, 4));
    assert_eq!(scan.head, Some(head));
    let opening = opening(STORE_ID, 1, &bytes).unwrap();
    assert_eq!((opening.carried.number, opening.turn), (0, Turn::First));
}

#[test]
fn what_lies_above_all_marks_may_be_torn() {
    // The last three were written together.
    let (whole, _) = file(&[0, 1, 2, 2, 2]);
    for torn in 2..5 {
        let mut bytes = whole.clone();
        wipe(&mut bytes, torn);
        let scan = look(&bytes, Behind::Nothing, None, false);
        assert_eq!((scan.problems.len(), scan.bound, scan.end), (0, 2, torn));
        assert_eq!(scan.used, if torn == 4 { 4 } else { 5 });
    }
}

#[test]
fn what_lies_below_a_mark_is_lost() {
    let (mut bytes, _) = file(&[0, 1, 2, 3]);
    wipe(&mut bytes, 2);
    let scan = look(&bytes, Behind::Nothing, None, false);
    assert_eq!(scan.problems, [(offset_of(2), "an entry that is missing")]);
    assert_eq!((scan.entries.len(), scan.end), (3, 4));
}

#[test]
fn what_state_names_is_not_torn() {
    let (whole, head) = file(&[0, 1, 2]);
    let mut bytes = whole.clone();
    wipe(&mut bytes, 2);
    assert!(look(&bytes, Behind::Nothing, None, false).problems.is_empty());
    let scan = look(&bytes, Behind::Nothing, Some(head), false);
    assert_eq!(scan.problems, [(offset_of(2), "an entry that is missing")]);
    let other = Head { hash: [1; 32], ..head };
    let scan = look(&whole, Behind::Nothing, Some(other), false);
    assert_eq!(scan.problems, [(offset_of(2), "not the entry that STATE names")]);
}

#[test]
fn behind_the_last_entry_of_an_older_file_stands_nothing_unless_a_write_failed() {
    let (bytes, _) = file(&[0, 1, 2]);
    let (_, second) = file(&[0, 1]);
    let full = look(&bytes, Behind::File(second, Turn::Full), None, false);
    assert_eq!(full.problems, [(offset_of(2), "something behind the last entry")]);
    let given_up = look(&bytes, Behind::File(second, Turn::GivenUp), None, false);
    assert_eq!((given_up.problems.len(), given_up.entries.len()), (0, 2));
    let unknown = look(&bytes, Behind::Unknown, None, false);
    assert_eq!((unknown.problems.len(), unknown.entries.len()), (0, 3));
}

#[test]
fn hostile_numbers_do_no_harm() {
    let mut header = LedgerHeader {
        store_id: STORE_ID,
        number: 1,
        generation: u64::MAX,
        file_len: u64::MAX,
        carried_number: u64::MAX,
        carried_hash: [0; 32],
    };
    for carried_number in [0, 1, u64::MAX] {
        header.carried_number = carried_number;
        let mut bytes = header.encode();
        let fields = EntryFields::new(EntryKind::Checkpoint, 9, u64::MAX);
        let fields = EntryFields { number: u64::MAX, mark: u32::MAX, ..fields };
        fields.encode([0; 32], &mut bytes);
        for behind in [
            Behind::Nothing,
            Behind::Unknown,
            Behind::File(Head { number: u64::MAX, hash: [0; 32] }, Turn::Full),
        ] {
            let known = Some(Head { number: u64::MAX, hash: [0; 32] });
            assert!(!look(&bytes, behind, known, true).problems.is_empty());
        }
    }
}
