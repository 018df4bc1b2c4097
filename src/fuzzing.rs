//! What the fuzz targets call: the private decoders, over bytes whose checksums are put right first,
//! so that a changed byte gets further than the first comparison. Built under `cfg(fuzzing)` only.
//!
//! The first byte of an input says what is left as it is; the rest is the file or the record. Each
//! function asserts what must hold for whatever its decoder accepts, and that is all it does: a
//! panic is a finding.

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Descriptors, Disk, MemoryDisk};
use crate::format::checksum::{Seed, plain};
use crate::format::ledger::{self, LedgerHeader, LedgerMark, Place};
use crate::format::manifest::{OwnerManifest, StoreManifest};
use crate::format::record::{Draft, HEAD_LEN, RecordHead, RecordKind};
use crate::format::rows::{BlockBuilder, decode_directory};
use crate::format::segment_header::{self, CAP_OFFSET, HEADER_LEN, SegmentHeader};
use crate::format::sidecar::{self, SidecarHeader};
use crate::format::snapshot::{self, Snapshot, SnapshotGroup};
use crate::format::state::{self, State};
use crate::format::tombstone::{self, ENTRY_LEN, REGION_HEADER_LEN, TombstoneHeader, repaired};
use crate::format::{PREAMBLE_LEN, keys, twin, with_preamble};
use crate::hash::{block_hash, value_hash};
use crate::ledger::{FoundLedger, Place as LedgerPlace, read_ledger};
use crate::segment::load::{LoadError, Loaded, Verdict, load};
use crate::segment::scan::scan;
use crate::segment::writer::segment_name;
use crate::segment::{Damage, Segment, SegmentHost};

/// Bit of the first byte: no checksum is put right.
const AS_IT_IS: u8 = 1;
/// Bit of the first byte: the checksums of bodies are left wrong.
const BODIES_AS_THEY_ARE: u8 = 2;
/// Bit of the first byte: segments are mapped.
const MAPPED: u8 = 4;

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(field.len())) {
        place.copy_from_slice(field);
    }
}

fn part(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    bytes.get(from..to).unwrap_or_default()
}

/// Puts magic, version and checksum of a header right whose body ends here.
fn repair_preamble(bytes: &mut [u8], magic: [u8; 8], end: usize) {
    let body = part(bytes, PREAMBLE_LEN, end).to_vec();
    if !body.is_empty() {
        put(bytes, 0, &with_preamble(magic, plain(&body), &body));
    }
}

/// Puts a record's checksums right; gives its header if there is one to give.
fn repair_record(bytes: &mut [u8], at: usize, seed: Seed, bodies: bool) -> Option<RecordHead> {
    let offset = at as u64;
    let repair_head = |bytes: &mut [u8]| {
        let crc = seed.checksum(offset, &[part(bytes, at + 8, at + HEAD_LEN)]);
        put(bytes, at, &crc.to_le_bytes());
        RecordHead::decode(part(bytes, at, bytes.len()), seed, offset).ok()
    };
    bytes.get(at..at + HEAD_LEN)?;
    let head = repair_head(bytes)?;
    let body = at + HEAD_LEN;
    let value = at + head.value_start();
    if bodies && !head.erased && value + head.value_len <= bytes.len() {
        if head.kind == RecordKind::Blob {
            let hash = value_hash(part(bytes, value, value + head.value_len));
            put(bytes, body, &hash.to_le_bytes());
        }
        let crc = seed.checksum(body as u64, &[part(bytes, body, value)]);
        put(bytes, at + 60, &crc.to_le_bytes());
        return repair_head(bytes);
    }
    Some(head)
}

fn repair_segment(bytes: &mut [u8], bodies: bool) {
    repair_preamble(bytes, segment_header::MAGIC, CAP_OFFSET as usize);
    let Ok(header) = SegmentHeader::decode(bytes) else { return };
    let mut at = HEADER_LEN as usize;
    while let Some(head) = repair_record(bytes, at, header.seed(), bodies) {
        at = at.saturating_add(head.record_len() as usize);
    }
}

/// One record at the start of the input: what is read of it is what it was written from.
pub fn record(input: &[u8]) {
    let Some((control, bytes)) = input.split_first() else { return };
    let seed = Seed::of_file(1, 2);
    let mut bytes = bytes.to_vec();
    if control & AS_IT_IS == 0 {
        repair_record(&mut bytes, 0, seed, control & BODIES_AS_THEY_ARE == 0);
    }
    let Ok(head) = RecordHead::decode(&bytes, seed, 0) else { return };
    let body = part(&bytes, HEAD_LEN, bytes.len());
    let Ok(prefix) = head.decode_prefix(body, seed, 0) else { return };
    let value = part(&bytes, head.value_start(), head.value_start() + head.value_len);
    if head.erased || value.len() != head.value_len {
        return;
    }
    let draft = Draft {
        kind: head.kind,
        seq: head.seq,
        hash: head.hash,
        written_at_ms: head.written_at_ms,
        expires_at_ms: prefix.expires_at_ms,
        key: part(body, prefix.key.start, prefix.key.end),
        tags: &prefix.tags,
        metadata: part(body, prefix.metadata.start, prefix.metadata.end),
        value_hash: prefix.value_hash,
        value,
        listed_tags: &[],
    };
    let mut encoded = Vec::new();
    let padding = draft.encode(seed, 0, head.durable_mark, &mut encoded);
    assert_eq!(draft.record_len(), head.record_len());
    assert_eq!(encoded, part(&bytes, 0, head.value_start()));
    assert_eq!(head.record_len() as usize, head.value_start() + head.value_len + padding);
}

/// A whole segment file: walked, sealed, and read record by record.
pub fn segment(input: &[u8]) {
    let Some((control, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if control & AS_IT_IS == 0 {
        repair_segment(&mut bytes, control & BODIES_AS_THEY_ARE == 0);
    }
    if let Ok(header) = SegmentHeader::decode(&bytes) {
        walk(&header, &bytes);
        take_up(&header, &bytes, control & MAPPED != 0);
    }
}

fn walk(header: &SegmentHeader, bytes: &[u8]) {
    let Ok(scanned) = scan(bytes, header.seed(), bytes.len() as u64, true) else { return };
    let mut end = HEADER_LEN;
    for entry in &scanned.listing.entries {
        assert_eq!(entry.offset(), end, "records lie one behind the other");
        end = entry.end();
    }
    assert_eq!(scanned.end, end);
    assert!(end <= HEADER_LEN.max(bytes.len() as u64));
    let header = SidecarHeader {
        number: header.number,
        salt: header.salt,
        segment_len: end,
        count: scanned.listing.entries.len() as u64,
        tag_count: scanned.listing.tags.len() as u64,
        min_seq: 0,
        max_seq: 0,
    };
    let sealed = sidecar::encode(&header, &scanned.listing);
    assert_eq!(sidecar::decode(&sealed), Ok((header, scanned.listing)));
}

/// Takes the bytes up as a file, and reads every record of it as a store does.
fn take_up(header: &SegmentHeader, bytes: &[u8], mapped: bool) {
    let disk = MemoryDisk::new(1);
    let path = Path::new("/").join(segment_name(header.number));
    let Ok(()) = disk.write_file(&path, bytes) else { return };
    let loaded = match load(&disk, &path, true) {
        Ok(loaded) => loaded,
        Err(LoadError::Unborn) => return,
        Err(e) => unreachable!("its header was read: {e:?}"),
    };
    let Loaded { header, file, extent, listing, verdict, .. } = loaded;
    let host = SegmentHost {
        descriptors: Arc::new(Descriptors::new(Arc::new(disk))),
        mapped,
        always_verify: true,
        lease: Arc::default(),
        read_at_ms: Arc::default(),
    };
    let segment = Segment::new(header, path, host, file.as_ref(), extent, false);
    for entry in listing.entries {
        let view = segment.read(entry.offset());
        match &view {
            Ok(view) => {
                if view.head.kind == RecordKind::Blob {
                    assert!(view.prefix.matches(view.value()));
                } else {
                    read_rows(view.metadata(), view.value(), header.seed(), entry.offset());
                }
            }
            Err(Damage::Erased) => {}
            Err(_) => assert!(
                verdict != Verdict::Open(None) || entry.end() <= extent.durable,
                "checked by the walk, and then {view:?}"
            ),
        }
        let _ = segment.read_prefix(entry.offset());
        let _ = segment.read_row(entry.offset() + 64, entry.len() / 8);
    }
}

fn read_rows(directory: &[u8], value: &[u8], seed: Seed, offset: u64) {
    let Ok(entries) = decode_directory(directory) else { return };
    let mut again = BlockBuilder::default();
    for entry in entries {
        let row = entry.slice(value).and_then(|bytes| entry.decode(bytes, seed, offset));
        if let Ok(Some(row)) = row {
            assert!(row.payload.len() <= value.len());
            again.push(entry.time_ms, &row);
        }
    }
    let (directory, value) = again.finish(seed, offset);
    let entries = decode_directory(&directory).unwrap_or_default();
    assert_eq!(entries.len(), again.len());
    for entry in entries {
        assert!(entry.slice(value).and_then(|row| entry.decode(row, seed, offset)).is_ok());
    }
}

/// A block of rows: two bytes of directory length, the directory, and the rows.
pub fn rows(input: &[u8]) {
    let Some((control, bytes)) = input.split_first() else { return };
    let Some((len, bytes)) = bytes.split_first_chunk::<2>() else { return };
    let (directory, value) = bytes.split_at(usize::from(u16::from_le_bytes(*len)).min(bytes.len()));
    let (seed, offset) = (Seed::of_file(1, 2), HEADER_LEN);
    let mut directory = directory.to_vec();
    if control & AS_IT_IS == 0 {
        let count = (directory.len().saturating_sub(8) / 20) as u32;
        put(&mut directory, 4, &count.to_le_bytes());
        directory.truncate(8 + 20 * count as usize);
        for at in (8..directory.len()).step_by(20) {
            let word = |at| {
                let bytes = part(&directory, at, at + 4).try_into().unwrap_or_default();
                u32::from_le_bytes(bytes)
            };
            let start = word(at);
            let end = start as usize + word(at + 4) as usize;
            let row = part(value, start as usize + 4, end);
            let crc = seed.checksum(offset, &[&start.to_le_bytes(), row]);
            put(&mut directory, at + 8, &crc.to_le_bytes());
        }
    }
    read_rows(&directory, value, seed, offset);
}

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

/// A sidecar: what is believed of it can be written again.
pub fn sidecar(input: &[u8]) {
    let Some((control, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if control & AS_IT_IS == 0 {
        repair_sidecar(&mut bytes);
    }
    let Ok((header, listing)) = sidecar::decode(&bytes) else { return };
    let again = sidecar::encode(&header, &listing);
    assert_eq!(again.len() as u64, sidecar::encoded_len(header.count, header.tag_count));
    assert_eq!(sidecar::decode(&again), Ok((header, listing)));
}

fn repair_sidecar(bytes: &mut [u8]) {
    repair_preamble(bytes, sidecar::MAGIC, 72);
    let word = |at| u64::from_le_bytes(part(bytes, at, at + 8).try_into().unwrap_or_default());
    let seed = Seed::of_file(word(24), word(16));
    for at in (72..bytes.len()).step_by(4096) {
        let crc = seed.checksum(at as u64, &[part(bytes, at + 4, (at + 4096).min(bytes.len()))]);
        put(bytes, at, &crc.to_le_bytes());
    }
}

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
    let seed = header.seed();
    let count = first.len().max(second.len()) / ENTRY_LEN;
    let regions = [first.as_slice(), second.as_slice()];
    let scan = tombstone::scan(seed, &regions, count);
    assert!(scan.holes.iter().all(|hole| *hole < scan.end));
    let Some(suffix) = repaired(seed, &regions, &scan) else { panic!("it was read before") };
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

/// Any twin file: its slots, and what the payloads say.
pub fn state(input: &[u8]) {
    let Some((control, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    bytes.resize(twin::FILE_LEN, 0);
    if control & AS_IT_IS == 0 {
        for slot in bytes.chunks_mut(twin::SLOT_LEN) {
            repair_preamble(slot, state::MAGIC, twin::SLOT_LEN);
        }
    }
    let twin = twin::decode(state::MAGIC, &bytes);
    for slot in twin.slots.iter().flatten() {
        assert!(twin.newest().is_some_and(|(_, newest)| newest.counter >= slot.counter));
        let payload = slot.payload.as_slice();
        if let Ok(state) = State::decode(payload) {
            assert_eq!(State::decode(&state.encode()), Ok(state));
        }
        if let Ok(manifest) = OwnerManifest::decode(payload) {
            assert_eq!(OwnerManifest::decode(&manifest.encode()), Ok(manifest));
        }
        if let Ok(manifest) = StoreManifest::decode(payload) {
            assert!(payload.starts_with(&manifest.encode()));
        }
        if let Ok(keys) = keys::decode(payload) {
            assert!(payload.starts_with(&keys::encode(&keys)));
        }
    }
}

/// A snapshot of an index: what is believed of it is all there is in it.
pub fn snapshot(input: &[u8]) {
    let Some((control, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    let file_len = bytes.len() as u64;
    if control & AS_IT_IS == 0 {
        repair_preamble(&mut bytes, snapshot::MAGIC, snapshot::HEADER_LEN);
        if let Ok(head_len) = Snapshot::head_len(&bytes, file_len) {
            let hash = block_hash(part(&bytes, snapshot::HEADER_LEN, head_len));
            put(&mut bytes, 72, &hash.to_le_bytes());
            repair_preamble(&mut bytes, snapshot::MAGIC, snapshot::HEADER_LEN);
        }
    }
    let Ok(snapshot) = Snapshot::decode(&bytes, file_len) else { return };
    let mut offset = snapshot.groups_at() as usize;
    assert_eq!(snapshot.encode(), part(&bytes, 0, offset));
    for group in &snapshot.groups {
        let body = part(&bytes, offset, offset + group.len as usize);
        let group = SnapshotGroup { hash: block_hash(body), ..*group };
        if let Ok(shards) = snapshot::decode_group::<[u64; 8]>(group, body, snapshot::GROUP_SHARDS)
        {
            if body.is_empty() {
                continue;
            }
            // Groups of empty shards alone are left out.
            let again = snapshot::encode_group(&shards).1;
            assert!(again == body || again.is_empty());
        }
        offset += body.len();
    }
}
