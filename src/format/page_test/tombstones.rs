//! Logs of tombstones.
#![cfg(test)]

use super::layout::{NUMBER, SALT, bound, check, hash, hash_bytes, header, le4, le8, seed, word};
use crate::format::tombstone::{
    self, Reach, Tombstone, TombstoneHeader, TombstoneMode, TombstoneScope,
};

#[test]
fn tombstone_logs() {
    let log = TombstoneHeader {
        store_id: [0x53; 16],
        number: NUMBER,
        generation: word(1),
        salt: SALT,
        check_value: word(2),
        file_len: word(3),
    };
    let bytes = log.encode();
    let fields = vec![
        ("store id", vec![0x53; 16]),
        ("number", le8(NUMBER)),
        ("generation", le8(word(1))),
        ("salt", le8(SALT)),
        ("check value", le8(word(2))),
        ("file length", le8(word(3))),
    ];
    let fields = header(tombstone::MAGIC, &bytes, bytes.len(), fields);
    check("Tombstone region header", &bytes, &fields, &vec![]);

    let hashes = vec![hash(0x40), hash(0x50), hash(0x60), hash(0x70)];
    let (floor, owner_id, at_ms, until_ms) = (word(1), word(2), word(3), word(4));
    let unit = Tombstone {
        scope: TombstoneScope::Tags,
        mode: TombstoneMode::Deny,
        reach: Reach::Owner(owner_id),
        floor,
        at_ms,
        until_ms,
        hashes,
    };
    let (index, mark) = (7, 0x0102_0304);
    let mut bytes = Vec::new();
    unit.encode(&seed(), index, mark, &mut bytes);
    let (head, more) = bytes.split_at(tombstone::ENTRY_LEN);
    let fields = vec![
        ("checksum", bound(index as u64, &head[4..])),
        ("kind", vec![1]),
        ("scope", vec![2]),
        ("hash count", vec![4, 0]),
        ("floor", le8(floor)),
        ("owner id", le8(owner_id)),
        ("at", le8(at_ms)),
        ("mark", le4(mark as u32)),
        ("mode", vec![3]),
        ("reach", vec![1]),
        ("until", le8(until_ms)),
        ("hash", hash_bytes(hash(0x40))),
    ];
    check("Tombstone head", head, &fields, &vec![]);
    let fields = vec![
        ("checksum", bound(index as u64 + 1, &more[4..])),
        ("kind", vec![2]),
        ("place", vec![1, 0]),
        ("floor", le8(floor)),
        ("hashes", [0x50, 0x60, 0x70].map(|first| hash_bytes(hash(first))).concat()),
    ];
    check("Tombstone more", more, &fields, &vec![]);
    let void = tombstone::encode_void(&seed(), index);
    let fields = vec![("checksum", bound(index as u64, &void[4..])), ("kind", vec![3])];
    check("Tombstone void", &void, &fields, &vec![]);
}
