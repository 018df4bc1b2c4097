//! What the fuzz targets call: the private decoders, over bytes whose checksums are put right first,
//! so that a changed byte gets further than the first comparison. Built under `cfg(fuzzing)` only.
//!
//! The first byte of an input says what is left as it is; the rest is the file or the record. Each
//! function asserts what must hold for whatever its decoder accepts, and that is all it does: a
//! panic is a finding.

mod ledger;
mod record;
mod rows;
mod segment;
mod sidecar;
mod snapshot;
mod state;
mod tombstone_log;

use crate::format::checksum::plain;
use crate::format::{PREAMBLE_LEN, with_preamble};

pub use ledger::ledger;
pub use record::record;
pub use rows::rows;
pub use segment::segment;
pub use sidecar::sidecar;
pub use snapshot::snapshot;
pub use state::state;
pub use tombstone_log::tombstone_log;

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
