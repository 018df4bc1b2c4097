//! Segments, their records, and blocks of rows.
#![cfg(test)]

use super::layout::{NUMBER, SALT, bound, check, hash, hash_bytes, header, le4, le8, seed, word};
use crate::format::record::{self, Draft, RecordHead, RecordKind};
use crate::format::rows::{BlockBuilder, RowBody};
use crate::format::segment_header::{self, CAP_OFFSET, SegmentHeader};
use crate::format::sidecar::pack_times;
use crate::hash::value_hash;

#[test]
fn segment_headers() {
    let segment = SegmentHeader {
        store_id: [0x51; 16],
        owner_id: word(1),
        number: NUMBER,
        generation: word(2),
        kind: RecordKind::Rows,
        salt: SALT,
        bucket_start_ms: word(3),
        bucket_end_ms: word(4),
        deadline_ms: word(5),
        capacity: word(6),
    };
    let bytes = segment.encode();
    let fields = vec![
        ("store id", vec![0x51; 16]),
        ("owner id", le8(word(1))),
        ("number", le8(NUMBER)),
        ("generation", le8(word(2))),
        ("kind", le8(2)),
        ("salt", le8(SALT)),
        ("bucket start", le8(word(3))),
        ("bucket end", le8(word(4))),
        ("deadline", le8(word(5))),
        ("capacity", le8(word(6))),
    ];
    let fields = header(segment_header::MAGIC, &bytes, CAP_OFFSET as usize, fields);
    check("Segment header", &bytes, &fields, &vec![]);
    let deadline = le8(word(7));
    let fields = vec![("checksum", bound(CAP_OFFSET, &deadline)), ("deadline", deadline)];
    check("Deadline slot", &segment.encode_cap(word(7)), &fields, &vec![]);
}

#[test]
fn records() {
    let (key, metadata, value) = (b"cat.jpg?w=320", b"image/jpeg", b"value");
    let draft = Draft {
        kind: RecordKind::Blob,
        seq: word(1),
        hash: hash(0x40),
        written_at_ms: word(2),
        expires_at_ms: Some(word(3)),
        key,
        tags: &[hash(0x60), hash(0x70)],
        metadata,
        value_hash: value_hash(value),
        value,
        listed_tags: &[],
    };
    let (offset, mark) = (4096, 0x0102_0304_u32);
    let mut bytes = Vec::new();
    draft.encode(&seed(), offset, u64::from(mark) * record::ALIGN, &mut bytes);
    let (head, prefix) = bytes.split_at(record::HEAD_LEN);
    let head_fields = vec![
        ("checksum", bound(offset, &head[8..])),
        ("state", b"LIVE".to_vec()),
        ("kind", vec![1]),
        ("tag count", vec![2]),
        ("flags", vec![1, 0]),
        ("key length", le4(key.len() as u32)),
        ("metadata length", le4(metadata.len() as u32)),
        ("value length", le4(value.len() as u32)),
        ("sequence", le8(word(1))),
        ("hash", hash_bytes(hash(0x40))),
        ("written at", le8(word(2))),
        ("durable mark", le4(mark)),
        ("prefix checksum", bound(offset + 64, prefix)),
    ];
    check("Record header", head, &head_fields, &vec![]);
    let fields = vec![
        ("value hash", value_hash(value).to_le_bytes().to_vec()),
        ("expires at", le8(word(3))),
        ("key", key.to_vec()),
        ("tags", [hash_bytes(hash(0x60)), hash_bytes(hash(0x70))].concat()),
        ("metadata", metadata.to_vec()),
    ];
    check("Record prefix", prefix, &fields, &head_fields);

    let block = Draft { kind: RecordKind::Rows, value_hash: 0, key: b"", tags: &[], ..draft };
    let mut rows = Vec::new();
    block.encode(&seed(), offset, 0, &mut rows);
    assert_eq!(rows[record::HEAD_LEN..][..16], [0; 16], "a block of rows has no value hash");
    bytes[4..8].copy_from_slice(b"GONE");
    assert!(RecordHead::decode(&bytes, &seed(), offset).unwrap().erased);
    let times = hash_bytes(pack_times(word(1), word(2)));
    assert_eq!(times, [le8(word(2)), le8(word(1))].concat(), "the latest time comes first");
    let upper = u64::from_le_bytes(hash_bytes(hash(0x40))[8..].try_into().unwrap());
    assert_eq!(hash(0x40).fingerprint(), upper >> 12, "12 bits of shard and 40 of tag");
}

#[test]
fn blocks_of_rows() {
    let mut block = BlockBuilder::default();
    block.push(word(1), &RowBody { subject: None, tags: vec![], payload: b"first" });
    let payload = b"payload";
    let tags = vec![hash(0x60), hash(0x70)];
    let subject = Some((0x0102_0304, [0x52; 16]));
    block.push(word(2), &RowBody { subject, tags, payload });
    let offset = 4096;
    let (directory, value) = block.finish(&seed(), offset);
    let fields =
        vec![("codec", vec![1]), ("row count", le4(2)), ("entries", directory[8..].to_vec())];
    check("Directory of a block of rows", &directory, &fields, &vec![]);
    let start = (28_usize + 5).next_multiple_of(4);
    let row = &value[start..];
    let start = le4(start as u32);
    let fields = vec![
        ("row offset", start.clone()),
        ("row length", le4(row.len() as u32)),
        ("checksum", bound(offset, &[&start, &row[4..]].concat())),
        ("time", le8(word(2))),
    ];
    check("Directory entry", &directory[8 + 20..], &fields, &vec![]);
    let fields = vec![
        ("state", b"LIVE".to_vec()),
        ("key number", le4(0x0102_0304)),
        ("tag count", vec![2]),
        ("flags", vec![1]),
        ("pseudonym", vec![0x52; 16]),
        ("tags", [hash_bytes(hash(0x60)), hash_bytes(hash(0x70))].concat()),
        ("payload", payload.to_vec()),
    ];
    check("Row", row, &fields, &vec![]);
}
