//! Tests of the encoding of ledger files.

use super::*;

fn entry() -> Vec<u8> {
    let mut out = Vec::new();
    let fields = EntryFields { number: 7, mark: 3, ..EntryFields::new(EntryKind::Born, 1, 9) };
    let hash = fields.encode([5; 32], &mut out);
    let found = ChainedEntry { previous: [5; 32], fields, hash };
    assert_eq!(decode_place(&out), Place::Entry(found));
    out
}

fn header() -> LedgerHeader {
    LedgerHeader {
        store_id: [1; 16],
        number: 2,
        generation: 3,
        file_len: 4096,
        carried_number: 4,
        carried_hash: [5; 32],
    }
}

#[test]
fn any_changed_byte_of_an_entry_is_noticed() {
    let bytes = entry();
    assert_eq!(bytes.len(), ENTRY_LEN);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert_eq!(decode_place(&changed), Place::Unreadable, "byte {at}");
    }
    for len in 1..bytes.len() {
        assert_eq!(decode_place(&bytes[..len]), Place::Unreadable, "cut at {len}");
    }
    for at in (42..44).chain(112..HASH_OFFSET) {
        let mut sealed = bytes.clone();
        sealed[at] = 1;
        let hash = chain_hash(&sealed[..HASH_OFFSET]);
        sealed[HASH_OFFSET..].copy_from_slice(&hash);
        assert_eq!(decode_place(&sealed), Place::Unreadable, "byte {at} has no meaning");
    }
    assert_eq!(decode_place(&[0; ENTRY_LEN]), Place::Blank);
}

#[test]
fn any_changed_byte_of_a_header_is_noticed() {
    let header = header();
    let bytes = header.encode();
    assert_eq!(LedgerHeader::decode(&bytes), Ok(header));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(LedgerHeader::decode(&changed).is_err(), "byte {at}");
        assert!(LedgerHeader::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn what_was_begun_in_a_spare_is_cleared_and_nothing_else() {
    let start = HEADER_LEN as usize;
    let head = header().encode();
    let mut begun = vec![0; 4096];
    begun[..head.len()].copy_from_slice(&head);
    begun[start..start + ENTRY_LEN].copy_from_slice(&entry());
    for (garbage, cleared) in [(None, true), (Some(3), false), (Some(start + 3), false)] {
        let mut bytes = begun.clone();
        if let Some(at) = garbage {
            bytes[at] ^= 1;
        }
        clear_begun(&mut bytes);
        assert_eq!(is_zeros(&bytes), cleared, "{garbage:?}");
    }
    // What cannot be read stays, and what can be goes.
    let mut bytes = begun.clone();
    bytes[3] ^= 1;
    bytes[start + ENTRY_LEN] = 1;
    clear_begun(&mut bytes);
    assert!(!is_zeros(&bytes[..head.len()]));
    assert!(is_zeros(&bytes[start..start + ENTRY_LEN]));
    assert_eq!(bytes[start + ENTRY_LEN], 1);
    for len in 0..start + ENTRY_LEN {
        clear_begun(&mut begun.clone()[..len]);
    }
}

#[test]
fn a_kind_of_zero_means_nothing() {
    assert_eq!(EntryKind::from_byte(0), None);
    assert_eq!(EntryKind::from_byte(10), Some(EntryKind::Carried));
    assert_eq!(EntryKind::from_byte(11), None);
    for how in [How::Witnessed, How::FoundAtOpen, How::Missing, How::Emptied] {
        assert_eq!(How::of_detail(how.detail(2)), how);
    }
}

#[test]
fn details_are_read_back_and_unknown_ones_are_taken_with_care() {
    for turn in [Turn::First, Turn::Full, Turn::GivenUp, Turn::Resumed] {
        assert_eq!(Turn::from_detail(turn as u8), turn);
    }
    assert_eq!(Turn::from_detail(0), Turn::Resumed);
    assert_eq!(Turn::from_detail(9), Turn::Resumed);
    assert_eq!(How::Missing.detail(0x12), 0x22);
    assert_eq!(How::of_detail(0x90), How::Emptied);
}

#[test]
fn a_file_holds_as_many_entries_as_fit_behind_its_header() {
    assert_eq!(entries_in_file(0), 0);
    assert_eq!(entries_in_file(HEADER_LEN + ENTRY_LEN as u64 - 1), 0);
    assert_eq!(entries_in_file(HEADER_LEN + 3 * ENTRY_LEN as u64), 3);
    assert_eq!((offset_of(0), offset_of(3)), (HEADER_LEN, 512 + 480));
    assert_eq!(LedgerMark::default().oldest, LedgerMark::default().newest + 1, "no file");
    assert_ne!(genesis([1; 16]), genesis([2; 16]));
}
