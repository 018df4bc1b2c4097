//! Tests of the encoding of records.

use super::*;

fn sample(seed: &Seed, offset: u64) -> Vec<u8> {
    let tags = [KeyedHash(7), KeyedHash(8)];
    let draft = Draft {
        kind: RecordKind::Blob,
        seq: 99,
        hash: KeyedHash(5),
        written_at_ms: 1234,
        expires_at_ms: Some(5678),
        key: b"cat.jpg?w=320",
        tags: &tags,
        metadata: b"image/jpeg",
        value_hash: value_hash(b"bytes"),
        value: b"bytes",
        listed_tags: &[],
    };
    let mut bytes = Vec::new();
    let padding = draft.encode(seed, offset, 1024, &mut bytes);
    bytes.extend_from_slice(b"bytes");
    bytes.resize(bytes.len() + padding, 0);
    assert_eq!(bytes.len() as u64, draft.record_len());
    bytes
}

#[test]
fn a_record_is_read_back() {
    let seed = &Seed::of_file(1, 2);
    let bytes = sample(seed, 4096);
    let head = RecordHead::decode(&bytes, seed, 4096).unwrap();
    assert_eq!((head.seq, head.durable_mark, head.written_at_ms), (99, 1024, 1234));
    assert_eq!(head.record_len(), bytes.len() as u64);
    let prefix = head.decode_prefix(&bytes[HEAD_LEN..], seed, 4096).unwrap();
    let body = &bytes[HEAD_LEN..];
    assert_eq!(&body[prefix.key.clone()], b"cat.jpg?w=320");
    assert_eq!(&body[prefix.metadata.clone()], b"image/jpeg");
    assert_eq!(prefix.tags, [KeyedHash(7), KeyedHash(8)]);
    assert_eq!(prefix.expires_at_ms, Some(5678));
    assert!(prefix.matches(&bytes[head.value_start()..][..head.value_len]));
}

#[test]
fn a_record_at_another_place_does_not_pass() {
    let bytes = sample(&Seed::of_file(1, 2), 4096);
    assert!(RecordHead::decode(&bytes, &Seed::of_file(1, 2), 4104).is_err());
    assert!(RecordHead::decode(&bytes, &Seed::of_file(1, 3), 4096).is_err());
    assert!(RecordHead::decode(&bytes, &Seed::of_file(2, 2), 4096).is_err());
}

#[test]
fn any_changed_bit_of_header_or_prefix_is_noticed() {
    let seed = &Seed::of_file(1, 2);
    let bytes = sample(seed, 4096);
    let end = RecordHead::decode(&bytes, seed, 4096).unwrap().value_start();
    for bit in 0..end * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let read = RecordHead::decode(&changed, seed, 4096)
            .and_then(|head| head.decode_prefix(&changed[HEAD_LEN..], seed, 4096));
        assert!(read.is_err(), "bit {bit}");
    }
}

/// A header with these fields and the checksum they need: kind, tags, flags, then the lengths of
/// key, metadata and value.
fn head_with(kind: u8, tags: u8, flags: u16, lens: [u32; 3]) -> Parsed<RecordHead> {
    let mut fields = vec![kind, tags];
    fields.put_u16_le(flags);
    lens.iter().for_each(|len| fields.put_u32_le(*len));
    fields.resize(HEAD_LEN - 8, 0);
    let seed = &Seed::of_file(1, 2);
    let mut bytes = seed.checksum(4096, &[&fields]).to_le_bytes().to_vec();
    bytes.put_u32_le(STATE_LIVE);
    bytes.extend_from_slice(&fields);
    RecordHead::decode(&bytes, seed, 4096)
}

#[test]
fn lengths_up_to_the_limits_pass_and_longer_ones_do_not() {
    const BLOB: u8 = RecordKind::Blob as u8;
    const ROWS: u8 = RecordKind::Rows as u8;
    let (key, metadata) = (MAX_KEY_LEN as u32, MAX_METADATA_LEN as u32);
    let (value, tags) = (MAX_VALUE_LEN as u32, MAX_TAGS as u8);
    let directory = crate::format::rows::MAX_DIRECTORY_LEN as u32;
    let longest = head_with(BLOB, tags, FLAG_EXPIRES, [key, metadata, value]).unwrap();
    assert_eq!((longest.tag_count, longest.key_len), (MAX_TAGS, MAX_KEY_LEN));
    assert!(longest.expires);
    assert!(!head_with(BLOB, 0, 0, [1, 0, 0]).unwrap().expires);
    assert!(head_with(ROWS, 0, 0, [0, directory, value]).is_ok());
    assert_eq!(head_with(ROWS, 0, 0, [0, 8, 0]).unwrap().record_len(), MIN_RECORD_LEN);
    for (kind, tags, flags, lens) in [
        (0, 0, 0, [1, 0, 0]),
        (3, 0, 0, [1, 0, 0]),
        (BLOB, tags + 1, 0, [1, 0, 0]),
        (BLOB, 0, FLAG_EXPIRES + 1, [1, 0, 0]),
        (BLOB, 0, 0, [0, 0, 0]),
        (BLOB, 0, 0, [key + 1, 0, 0]),
        (BLOB, 0, 0, [1, metadata + 1, 0]),
        (BLOB, 0, 0, [1, 0, value + 1]),
        (ROWS, 0, 0, [1, 0, 0]),
        (ROWS, 0, 0, [0, 0, 0]),
        (ROWS, 1, 0, [0, 8, 0]),
        (ROWS, 0, 0, [0, directory + 1, 0]),
        (ROWS, 0, 0, [0, 8, value + 1]),
    ] {
        let read = head_with(kind, tags, flags, lens);
        assert!(read.is_err(), "{kind} {tags} {flags} {lens:?}");
    }
}

#[test]
fn a_record_that_is_given_up_says_so_and_keeps_its_header() {
    let seed = &Seed::of_file(1, 2);
    let mut bytes = sample(seed, 4096);
    assert!(!RecordHead::decode(&bytes, seed, 4096).unwrap().erased);
    bytes[STATE_OFFSET as usize..][..4].copy_from_slice(b"GONE");
    let head = RecordHead::decode(&bytes, seed, 4096).unwrap();
    assert!(head.erased && head.seq == 99);
    bytes[STATE_OFFSET as usize..][..4].copy_from_slice(b"????");
    assert!(RecordHead::decode(&bytes, seed, 4096).is_err());
}

#[test]
fn another_value_does_not_match_and_a_short_prefix_is_not_split() {
    let seed = &Seed::of_file(1, 2);
    let bytes = sample(seed, 4096);
    let head = RecordHead::decode(&bytes, seed, 4096).unwrap();
    let prefix = head.decode_prefix(&bytes[HEAD_LEN..], seed, 4096).unwrap();
    assert!(!prefix.matches(b"byteS"));
    let short = &bytes[HEAD_LEN..head.value_start() - 1];
    assert!(head.decode_prefix(short, seed, 4096).is_err());
    assert!(head.parse_prefix(short).is_err());
}

#[test]
fn a_block_of_rows_takes_what_is_said() {
    for (directory, rows) in [(8, 0), (28, 32), (28, 33), (48, 100)] {
        let draft = Draft {
            kind: RecordKind::Rows,
            seq: 1,
            hash: KeyedHash(0),
            written_at_ms: 0,
            expires_at_ms: None,
            key: b"",
            tags: &[],
            metadata: &vec![0; directory],
            value_hash: 0,
            value: &vec![0; rows],
            listed_tags: &[],
        };
        let before = 3;
        let mut out = vec![0; before];
        let padding = draft.encode(&Seed::of_file(1, 2), 0, 0, &mut out);
        let len = (out.len() - before + rows + padding) as u64;
        assert_eq!(rows_record_len(directory, rows), len);
        assert_eq!(draft.record_len(), len);
        assert!(len.is_multiple_of(ALIGN) && padding < ALIGN as usize);
    }
}
