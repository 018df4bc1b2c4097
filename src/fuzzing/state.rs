//! Twin files.

use super::{AS_IT_IS, repair_preamble};
use crate::format::manifest::{OwnerManifest, StoreManifest};
use crate::format::state::{self, State};
use crate::format::{keys, twin};

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
