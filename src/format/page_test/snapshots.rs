//! What is kept of an index between two openings.
#![cfg(test)]

use super::layout::{check, header, le4, le8, word};
use crate::format::snapshot::{self, Snapshot, SnapshotPlace};
use crate::hash::block_hash;

#[test]
fn snapshots_of_an_index() {
    let place = SnapshotPlace {
        number: word(1),
        len: word(2),
        salt: word(3),
        min_seq: word(4),
        max_seq: word(5),
        records: word(6),
        live: word(7),
        tags: word(8),
        scrubbed: word(9),
        punched: word(10),
        sidecar_bytes: word(11),
    };
    let lines = vec![vec![[word(12); 8]], Vec::new()];
    let (group, body) = snapshot::encode_group(&lines);
    let snapshot = Snapshot {
        snapshot_id: [0x54; 16],
        owner_id: word(13),
        as_of: word(14),
        first_ordinal: word(15),
        shard_count: 64,
        places: vec![place; 2],
        groups: vec![group],
    };
    let bytes = snapshot.encode();
    let (head, rest) = bytes.split_at(80);
    let fields = vec![
        ("snapshot id", vec![0x54; 16]),
        ("owner id", le8(word(13))),
        ("as of", le8(word(14))),
        ("first ordinal", le8(word(15))),
        ("place count", le8(2)),
        ("shard count", le8(64)),
        ("hash", le8(block_hash(rest))),
    ];
    check("INDEX header", head, &header(snapshot::MAGIC, head, 80, fields), &vec![]);
    let fields = vec![
        ("number", le8(word(1))),
        ("length", le8(word(2))),
        ("salt", le8(word(3))),
        ("lowest sequence", le8(word(4))),
        ("highest sequence", le8(word(5))),
        ("records", le8(word(6))),
        ("live", le8(word(7))),
        ("tags", le8(word(8))),
        ("scrubbed", le8(word(9))),
        ("given back", le8(word(10))),
        ("sidecar bytes", le8(word(11))),
    ];
    check("INDEX place", &rest[..88], &fields, &vec![]);
    let fields = vec![("hash", le8(block_hash(&body))), ("length", le8(body.len() as u64))];
    check("INDEX group entry", &rest[2 * 88..], &fields, &vec![]);
    let fields = vec![
        ("line counts", [le4(1), le4(0)].concat()),
        ("lines", word(12).to_le_bytes().repeat(8)),
    ];
    check("INDEX group", &body, &fields, &vec![]);
}
