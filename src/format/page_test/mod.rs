//! Compares `docs/format.md` with the encoders, row by row: neither changes without the other.
//!
//! Each table of fields is laid over bytes that an encoder wrote from distinctive values. Its rows
//! must follow each other without a gap, end where the bytes end, and hold the values they name.
#![cfg(test)]

mod directory;
mod layout;

use layout::{
    NUMBER, PAGE, SALT, bound, check, hash, hash_bytes, header, le4, le8, preamble, seed, table,
    word,
};

use super::checksum::plain;
use super::ledger::{self, EntryFields, EntryKind, LedgerHeader, LedgerMark};
use super::manifest::{self, OwnerManifest, StoreManifest};
use super::record::{self, Draft, RecordHead, RecordKind};
use super::rows::{self, BlockBuilder, RowBody};
use super::segment_header::{self, CAP_OFFSET, SegmentHeader};
use super::sidecar::{self, Body, Listing, SidecarEntry, SidecarHeader, SidecarTag, pack_times};
use super::snapshot::{self, Snapshot, SnapshotPlace};
use super::state::{self, State};
use super::tombstone::{self, Reach, Tombstone, TombstoneHeader, TombstoneMode, TombstoneScope};
use super::{PREAMBLE_LEN, VERSION, keys, twin, version_word, with_preamble};
use crate::disk::MemoryDisk;
use crate::hash::{Hasher, SECRET_LEN, block_hash, value_hash};
use crate::retention::{MAX_BUCKETS, MAX_WINDOW_MS, MIN_BUCKETS, Window};
use crate::time::{MAX_STEPS, SavedTime, Step};
use crate::{KeyspaceOptions, Retention, Store, options, sequence};

#[test]
fn the_rules_for_all_files() {
    let bytes = with_preamble(*b"ebb.test", 0x1122_3344, &[]);
    check("Preamble", &bytes, &preamble(*b"ebb.test", le4(0x1122_3344)), &vec![]);
    assert!(PAGE.contains(&format!("`{:#010x}`", version_word(VERSION))));
    assert!(PAGE.contains(&format!("`{:#010x}`", plain(b"123456789"))));
    assert_eq!(le4(seed().checksum(77, &[b"ab", b"c"])), bound(77, b"abc"));
    let hasher = Hasher::new([3; SECRET_LEN], [4; SECRET_LEN]);
    let both = hasher.key(b"ebbtide check").0 ^ hasher.tag(b"ebbtide check").0;
    assert_eq!(hasher.check_value(), both as u64);
    assert!(PAGE.contains("`ebbtide check`"));
}

#[test]
fn the_magics() {
    let magics = [
        ("STORE", manifest::STORE_MAGIC),
        ("STATE", state::MAGIC),
        ("KEYSPACE", manifest::KEYSPACE_MAGIC),
        ("LOG", manifest::LOG_MAGIC),
        ("pseudonym.keys", keys::MAGIC),
        ("segment", segment_header::MAGIC),
        ("sidecar", sidecar::MAGIC),
        ("tombstone log", tombstone::MAGIC),
        ("ledger", ledger::MAGIC),
        ("INDEX", snapshot::MAGIC),
    ];
    let magics =
        magics.map(|(file, magic)| vec![file.to_owned(), magic.escape_ascii().to_string()]);
    assert_eq!(table("Magics"), magics);
}

#[test]
fn the_constants_and_limits() {
    let len = sidecar::encoded_len;
    let per_block = (1..).find(|count| len(count + 1, 0) > len(1, 0));
    let tags_per_block = (1..).find(|count| len(0, count + 1) > len(0, 1));
    let constants = [
        ("version", u64::from(VERSION)),
        ("preamble length", PREAMBLE_LEN as u64),
        ("secret length", SECRET_LEN as u64),
        ("twin slot length", twin::SLOT_LEN as u64),
        ("twin file length", twin::FILE_LEN as u64),
        ("longest twin payload", twin::MAX_PAYLOAD_LEN as u64),
        ("clock steps in STATE", MAX_STEPS as u64),
        ("segment header length", segment_header::HEADER_LEN),
        ("deadline slot offset", CAP_OFFSET),
        ("record header length", record::HEAD_LEN as u64),
        ("record alignment", record::ALIGN),
        ("longest key", record::MAX_KEY_LEN as u64),
        ("longest metadata of a keyed value", record::MAX_METADATA_LEN as u64),
        ("longest value", record::MAX_VALUE_LEN),
        ("most tags of a record", record::MAX_TAGS as u64),
        ("longest tag", options::MAX_TAG_LEN as u64),
        ("most rows of a block", rows::MAX_ROWS as u64),
        ("longest payload of a row", rows::MAX_PAYLOAD_LEN as u64),
        ("entries of a sidecar block", per_block.unwrap()),
        ("entries of a sidecar tag block", tags_per_block.unwrap()),
        ("tombstone region header length", tombstone::REGION_HEADER_LEN),
        ("tombstone entry length", tombstone::ENTRY_LEN as u64),
        ("ledger header length", ledger::HEADER_LEN),
        ("ledger entry length", ledger::ENTRY_LEN as u64),
        ("counter bits of a sequence number", u64::from(sequence::first_of(1).trailing_zeros())),
        ("counter bits of a segment number", u64::from((first_number() - 1).trailing_zeros())),
        ("shortest window in milliseconds", MIN_BUCKETS * 60_000),
        ("shortest time to erase in milliseconds", options::MIN_ERASE_WITHIN_MS),
        ("longest time to erase in milliseconds", options::MAX_ERASE_WITHIN_MS),
        ("longest window in milliseconds", MAX_WINDOW_MS),
        ("fewest buckets of a window", MIN_BUCKETS),
        ("most buckets of a window", MAX_BUCKETS),
        ("smallest segment", options::MIN_SEGMENT_BYTES),
        ("largest segment asked for", options::MAX_SEGMENT_BYTES),
        ("no capacity", options::NO_CAPACITY),
    ];
    let constants = constants.map(|(name, value)| vec![name.to_owned(), value.to_string()]);
    assert_eq!(table("Constants and limits"), constants);
}

#[test]
fn twin_files() {
    let payload = b"a payload".to_vec();
    let bytes = twin::encode_slot(*b"ebb.test", word(1), &payload).unwrap();
    let fields = vec![
        ("counter", le8(word(1))),
        ("payload length", le4(payload.len() as u32)),
        ("payload", payload),
    ];
    let fields = header(*b"ebb.test", &bytes, twin::SLOT_LEN, fields);
    check("Twin slot", &bytes, &fields, &vec![]);

    let key_secret: [u8; SECRET_LEN] = std::array::from_fn(|at| at as u8);
    let tag_secret: [u8; SECRET_LEN] = std::array::from_fn(|at| 255 - at as u8);
    let store_id = hash(0x30).0.to_le_bytes();
    let store = StoreManifest { store_id, created_ms: word(1), key_secret, tag_secret };
    let fields = vec![
        ("store id", store_id.to_vec()),
        ("created", le8(word(1))),
        ("key secret", key_secret.to_vec()),
        ("tag secret", tag_secret.to_vec()),
    ];
    check("STORE payload", &store.encode(), &fields, &vec![]);

    let key = keys::NumberedKey { number: 0x0102_0304, key: std::array::from_fn(|at| at as u8) };
    let bytes = keys::encode(&[key.clone(), key.clone()]);
    let (count, list) = bytes.split_at(4);
    let fields = vec![("key count", le4(2)), ("keys", list.to_vec())];
    assert_eq!(count, le4(2));
    check("pseudonym.keys payload", &bytes, &fields, &vec![]);
    let fields = vec![("key number", le4(key.number)), ("key", key.key.to_vec())];
    check("Numbered key", &list[..list.len() / 2], &fields, &vec![]);
}

#[test]
fn manifests_of_owners() {
    let manifest = OwnerManifest {
        owner_id: word(1),
        window: Window { window_ms: word(2), width_ms: word(3) },
        created_ms: word(4),
        segment_bytes: word(5),
        capacity_bytes: word(6),
        max_value_bytes: word(7),
        erase_within_ms: word(9),
        floor: word(8),
        name: "images".to_owned(),
    };
    let fields = vec![
        ("owner id", le8(word(1))),
        ("window", le8(word(2))),
        ("width", le8(word(3))),
        ("created", le8(word(4))),
        ("segment bytes", le8(word(5))),
        ("capacity bytes", le8(word(6))),
        ("longest value", le8(word(7))),
        ("erase within", le8(word(9))),
        ("floor", le8(word(8))),
        ("name length", le8(6)),
        ("name", b"images".to_vec()),
    ];
    check("KEYSPACE and LOG payload", &manifest.encode(), &fields, &vec![]);
}

#[test]
fn the_state() {
    let step = Step { lead_ms: word(1), agreed_ms: word(2), last_seq: word(3) };
    let state = State {
        generation: word(4),
        clean: true,
        snapshot_id: [0x50; 16],
        oldest_log: word(5),
        newest_log: word(6),
        ledger: LedgerMark {
            oldest: word(12),
            newest: word(13),
            number: word(14),
            hash: std::array::from_fn(|at| 0x80 + at as u8),
        },
        time: SavedTime {
            engine_ms: word(7),
            wall_ms: word(8),
            boot_ms: word(9),
            boot_id: [0x60; 16],
            lag_ms: word(10),
            earned_ms: word(11),
            steps: vec![step; 2],
        },
    };
    let bytes = state.encode();
    let steps = bytes[bytes.len() - 48..].to_vec();
    let fields = vec![("lead", le8(word(1))), ("agreed", le8(word(2)))];
    let last = vec![("last sequence", le8(word(3)))];
    check("Clock step", &steps[24..], &[fields, last].concat(), &vec![]);
    let fields = vec![
        ("generation", le8(word(4))),
        ("clean", le8(1)),
        ("snapshot id", vec![0x50; 16]),
        ("oldest log", le8(word(5))),
        ("newest log", le8(word(6))),
        ("oldest ledger file", le8(word(12))),
        ("newest ledger file", le8(word(13))),
        ("ledger entries", le8(word(14))),
        ("ledger head", (0x80..0xa0).collect()),
        ("engine time", le8(word(7))),
        ("wall time", le8(word(8))),
        ("boot time", le8(word(9))),
        ("boot id", vec![0x60; 16]),
        ("lag", le8(word(10))),
        ("earned", le8(word(11))),
        ("step count", le8(2)),
        ("steps", steps),
    ];
    check("STATE payload", &bytes, &fields, &vec![]);
}

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
    draft.encode(seed(), offset, u64::from(mark) * record::ALIGN, &mut bytes);
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
    block.encode(seed(), offset, 0, &mut rows);
    assert_eq!(rows[record::HEAD_LEN..][..16], [0; 16], "a block of rows has no value hash");
    bytes[4..8].copy_from_slice(b"GONE");
    assert!(RecordHead::decode(&bytes, seed(), offset).unwrap().erased);
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
    let (directory, value) = block.finish(seed(), offset);
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

#[test]
fn sidecars() {
    let entry = |first| {
        let (offset, len) = (0x0102_0304 * 8, 0x0506_0708 * 8);
        let mut entry = SidecarEntry::whole(hash(first), word(first + 16), offset, len);
        entry.set_body(Body::Scrubbed);
        entry
    };
    let tag = |first| SidecarTag { fingerprint: first, entry: first + 1 };
    let sidecar_header = SidecarHeader {
        number: NUMBER,
        salt: SALT,
        segment_len: word(1),
        count: 2,
        tag_count: 2,
        min_seq: word(2),
        max_seq: word(3),
    };
    let entries = vec![entry(0x40), entry(0x60)];
    let listing = Listing { entries, tags: vec![tag(0x0a0b_0c0d), tag(0x0102_0304)] };
    let bytes = sidecar::encode(&sidecar_header, &listing);
    let (head, blocks) = bytes.split_at(72);
    let (block, tags) = blocks.split_at(4096);
    let fields = vec![
        ("number", le8(NUMBER)),
        ("salt", le8(SALT)),
        ("segment length", le8(word(1))),
        ("count", le8(2)),
        ("tag count", le8(2)),
        ("lowest sequence", le8(word(2))),
        ("highest sequence", le8(word(3))),
    ];
    check("Sidecar header", head, &header(sidecar::MAGIC, head, 72, fields), &vec![]);
    let fields = vec![
        ("checksum", bound(72, &block[4..])),
        ("entry count", le4(2)),
        ("entries", block[16..80].to_vec()),
    ];
    check("Sidecar block", block, &fields, &vec![]);
    let fields = vec![
        ("hash", hash_bytes(hash(0x60))),
        ("sequence", le8(word(0x70))),
        ("position", le4(0x0102_0304)),
        ("units", le4(0xc506_0708)),
    ];
    check("Sidecar entry", &block[48..80], &fields, &vec![]);
    let fields = vec![
        ("checksum", bound(72 + 4096, &tags[4..])),
        ("tag entry count", le4(2)),
        ("tag entries", tags[16..32].to_vec()),
    ];
    check("Sidecar tag block", tags, &fields, &vec![]);
    let fields = vec![("fingerprint", le4(0x0102_0304)), ("entry", le4(0x0102_0305))];
    check("Sidecar tag entry", &tags[24..32], &fields, &vec![]);
}

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
    unit.encode(seed(), index, mark, &mut bytes);
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
    let void = tombstone::encode_void(seed(), index);
    let fields = vec![("checksum", bound(index as u64, &void[4..])), ("kind", vec![3])];
    check("Tombstone void", &void, &fields, &vec![]);
}

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

#[test]
fn kinds_and_scopes_have_the_numbers_the_page_gives() {
    let meaning = |heading, field: &str| {
        let row = table(heading).into_iter().find(|row| row.get(2).is_some_and(|f| f == field));
        row.and_then(|row| row.get(3).cloned()).unwrap_or_default()
    };
    let (blob, rows) = (RecordKind::Blob as u8, RecordKind::Rows as u8);
    let kinds = meaning("Record header", "kind");
    assert_eq!(kinds, format!("{blob}: keyed value, {rows}: block of rows"));
    let kinds = meaning("Segment header", "kind");
    assert_eq!(kinds, format!("{blob}: keyed values, {rows}: blocks of rows"));
    let scopes = [TombstoneScope::Keys, TombstoneScope::Tags, TombstoneScope::All];
    let [keys, tags, all] = scopes.map(|scope| scope as u8);
    let scopes = meaning("Tombstone head", "scope");
    assert_eq!(scopes, format!("{keys}: keys, {tags}: tags, {all}: everything of the owner"));
    let modes = [TombstoneMode::Hard, TombstoneMode::Soft, TombstoneMode::Deny];
    let [hard, soft, deny] = modes.map(|mode| mode as u8);
    let modes = meaning("Tombstone head", "mode");
    assert_eq!(modes, format!("{hard}: invisible, {soft}: stale, {deny}: invisible and denied"));
    let reaches = [Reach::Owner(9), Reach::Keyspaces, Reach::Everything];
    let [one, keyspaces, everything] = reaches.map(|reach| {
        let tombstone = Tombstone {
            scope: TombstoneScope::Tags,
            mode: TombstoneMode::Hard,
            reach,
            floor: 1,
            at_ms: 1,
            until_ms: 0,
            hashes: Vec::new(),
        };
        let mut bytes = Vec::new();
        tombstone.encode(seed(), 0, 0, &mut bytes);
        assert_eq!(bytes[16] == 9, reach == Reach::Owner(9), "an owner id where there is one");
        bytes[37]
    });
    let reaches = meaning("Tombstone head", "reach");
    let page = format!(
        "{one}: the owner, {keyspaces}: all keyspaces, {everything}: all keyspaces and logs"
    );
    assert_eq!(reaches, page);
}

/// The number in the name of the first segment of a store.
fn first_number() -> u64 {
    let disk = MemoryDisk::new(1);
    let store = Store::builder("/data").disk(disk.clone()).background(false).open().unwrap();
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::hours(16))).unwrap();
    images.insert("cat.jpg", b"bytes").unwrap();
    let files = disk.all_files();
    let segment = files.iter().find(|path| path.extension().is_some_and(|ext| ext == "seg"));
    u64::from_str_radix(segment.unwrap().file_stem().unwrap().to_str().unwrap(), 16).unwrap()
}
