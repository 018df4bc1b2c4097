//! Snapshots of an index.

use super::{AS_IT_IS, part, put, repair_preamble};
use crate::format::snapshot::{self, Snapshot, SnapshotGroup};
use crate::hash::block_hash;

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
