//! The ledger.
#![cfg(test)]

use super::layout::{NUMBER, check, header, le4, le8, table, word};
use crate::format::ledger::{self, EntryFields, EntryKind, LedgerHeader};

#[test]
fn the_ledger() {
    let file = LedgerHeader {
        store_id: [0x55; 16],
        number: NUMBER,
        generation: word(1),
        file_len: word(2),
        carried_number: word(3),
        carried_hash: std::array::from_fn(|at| 0x80 + at as u8),
    };
    let bytes = file.encode();
    let fields = vec![
        ("store id", vec![0x55; 16]),
        ("number", le8(NUMBER)),
        ("generation", le8(word(1))),
        ("file length", le8(word(2))),
        ("carried number", le8(word(3))),
        ("carried hash", (0x80..0xa0).collect()),
    ];
    check("Ledger header", &bytes, &header(ledger::MAGIC, &bytes, 96, fields), &vec![]);
    assert_eq!(ledger::genesis([0x55; 16]), ledger::chain_hash(&[0x55; 16]));
}

#[test]
fn entries_of_the_ledger() {
    let entry = EntryFields {
        number: word(1),
        kind: EntryKind::Dropped,
        detail: 0x12,
        mark: 0x0102_0304,
        at_ms: word(2),
        owner_id: word(3),
        start_ms: word(4),
        deadline_ms: word(5),
        instance: word(6),
        records: word(7),
        bytes: word(8),
        through: word(9),
    };
    let mut bytes = Vec::new();
    let hash = entry.encode([0x56; 32], &mut bytes);
    assert_eq!(bytes.len(), ledger::ENTRY_LEN);
    let fields = vec![
        ("previous", vec![0x56; 32]),
        ("number", le8(word(1))),
        ("kind", vec![4]),
        ("detail", vec![0x12]),
        ("mark", le4(0x0102_0304)),
        ("at", le8(word(2))),
        ("owner id", le8(word(3))),
        ("bucket start", le8(word(4))),
        ("deadline", le8(word(5))),
        ("instance", le8(word(6))),
        ("records", le8(word(7))),
        ("byte count", le8(word(8))),
        ("through", le8(word(9))),
        ("hash", hash.to_vec()),
    ];
    check("Ledger entry", &bytes, &fields, &vec![]);
    assert_eq!(hash, ledger::chain_hash(&bytes[..128]));
    let kinds = [
        (EntryKind::Checkpoint, "checkpoint"),
        (EntryKind::Owner, "owner"),
        (EntryKind::Born, "born"),
        (EntryKind::Dropped, "dropped"),
        (EntryKind::Released, "released"),
        (EntryKind::Invalidated, "invalidated"),
        (EntryKind::Scrubbed, "scrubbed"),
        (EntryKind::KeysDestroyed, "keys destroyed"),
        (EntryKind::ClockSuspect, "clock suspect"),
        (EntryKind::Carried, "carried"),
    ];
    let kinds = kinds.map(|(kind, name)| vec![(kind as u8).to_string(), name.to_owned()]);
    let listed: Vec<_> = table("Ledger kinds").into_iter().map(|row| row[..2].to_vec()).collect();
    assert_eq!(listed, kinds);
}
