//! Records.

use super::{AS_IT_IS, BODIES_AS_THEY_ARE, part, put};
use crate::format::checksum::Seed;
use crate::format::record::{Draft, HEAD_LEN, RecordHead, RecordKind};
use crate::hash::value_hash;

/// One record at the start of the input: what is read of it is what it was written from.
pub fn record(input: &[u8]) {
    let Some((control, bytes)) = input.split_first() else { return };
    let seed = &Seed::of_file(1, 2);
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

/// Puts a record's checksums right; gives its header if there is one to give.
pub(super) fn repair_record(
    bytes: &mut [u8],
    at: usize,
    seed: &Seed,
    bodies: bool,
) -> Option<RecordHead> {
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
