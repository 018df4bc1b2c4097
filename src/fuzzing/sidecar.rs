//! Sidecars.

use super::{AS_IT_IS, part, put, repair_preamble};
use crate::format::checksum::Seed;
use crate::format::sidecar;

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
    let seed = &Seed::of_file(word(24), word(16));
    for at in (72..bytes.len()).step_by(4096) {
        let crc = seed.checksum(at as u64, &[part(bytes, at + 4, (at + 4096).min(bytes.len()))]);
        put(bytes, at, &crc.to_le_bytes());
    }
}
