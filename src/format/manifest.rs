//! The manifests: STORE for the store, KEYSPACE and LOG for each owner of buckets. Twin files.
//!
//! ```text
//! STORE payload:    | store id 16 | created 8 | key secret 192 | tag secret 192 |
//! KEYSPACE and LOG: | owner id 8 | window ms 8 | width ms 8 | created 8 | segment bytes 8 |
//!                   | capacity bytes 8 | max value bytes 8 | erase within ms 8 | floor 8 |
//!                   | name length 8 | name |
//! ```

use bytes::Buf;

use super::{Parsed, Unreadable, take, take_array};
use crate::hash::SECRET_LEN;
use crate::options::{MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};
use crate::retention::Window;

/// The magic of STORE.
pub(crate) const STORE_MAGIC: [u8; 8] = *b"ebb.stor";
/// The magic of KEYSPACE.
pub(crate) const KEYSPACE_MAGIC: [u8; 8] = *b"ebb.keys";
/// The magic of LOG.
pub(crate) const LOG_MAGIC: [u8; 8] = *b"ebb.logs";

/// What STORE holds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoreManifest {
    pub(crate) store_id: [u8; 16],
    pub(crate) created_ms: u64,
    pub(crate) key_secret: [u8; SECRET_LEN],
    pub(crate) tag_secret: [u8; SECRET_LEN],
}

impl StoreManifest {
    /// The payload.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.store_id.to_vec();
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        out.extend_from_slice(&self.key_secret);
        out.extend_from_slice(&self.tag_secret);
        out
    }

    /// Reads a payload.
    pub(crate) fn decode(mut bytes: &[u8]) -> Parsed<Self> {
        Ok(Self {
            store_id: take_array(&mut bytes)?,
            created_ms: bytes.try_get_u64_le()?,
            key_secret: take_array(&mut bytes)?,
            tag_secret: take_array(&mut bytes)?,
        })
    }
}

/// What KEYSPACE and LOG hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnerManifest {
    /// Random, so that an owner of the same name made later is another one.
    pub(crate) owner_id: u64,
    pub(crate) window: Window,
    pub(crate) created_ms: u64,
    pub(crate) segment_bytes: u64,
    /// `u64::MAX` if there is no limit.
    pub(crate) capacity_bytes: u64,
    pub(crate) max_value_bytes: u64,
    /// The longest that dead records stay on the disk unless readers hold them.
    pub(crate) erase_within_ms: u64,
    /// Everything up to this sequence number is invisible, whatever the tombstone log says.
    pub(crate) floor: u64,
    pub(crate) name: String,
}

impl OwnerManifest {
    /// The payload.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for field in [
            self.owner_id,
            self.window.window_ms,
            self.window.width_ms,
            self.created_ms,
            self.segment_bytes,
            self.capacity_bytes,
            self.max_value_bytes,
            self.erase_within_ms,
            self.floor,
            self.name.len() as u64,
        ] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(self.name.as_bytes());
        out
    }

    /// Reads a payload.
    pub(crate) fn decode(mut bytes: &[u8]) -> Parsed<Self> {
        let owner_id = bytes.try_get_u64_le()?;
        let window_ms = bytes.try_get_u64_le()?;
        let width_ms = bytes.try_get_u64_le()?;
        let created_ms = bytes.try_get_u64_le()?;
        let segment_bytes = bytes.try_get_u64_le()?;
        let capacity_bytes = bytes.try_get_u64_le()?;
        let max_value_bytes = bytes.try_get_u64_le()?;
        let erase_within_ms = bytes.try_get_u64_le()?;
        let floor = bytes.try_get_u64_le()?;
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&segment_bytes) {
            return Err(Unreadable::Damaged("segment length of a manifest"));
        }
        let name_len = usize::try_from(bytes.try_get_u64_le()?).unwrap_or(usize::MAX);
        let name = take(&mut bytes, name_len)?.to_vec();
        Ok(Self {
            owner_id,
            window: Window::from_parts(window_ms, width_ms)
                .ok_or(Unreadable::Damaged("window of a manifest"))?,
            created_ms,
            segment_bytes,
            capacity_bytes,
            max_value_bytes,
            erase_within_ms,
            floor,
            name: String::from_utf8(name).map_err(|_| Unreadable::Damaged("name of a manifest"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> OwnerManifest {
        OwnerManifest {
            owner_id: 1,
            window: Window { window_ms: 16 * 60_000, width_ms: 60_000 },
            created_ms: 2,
            segment_bytes: MIN_SEGMENT_BYTES,
            capacity_bytes: 3,
            max_value_bytes: 4,
            erase_within_ms: 5,
            floor: 6,
            name: "images".to_owned(),
        }
    }

    #[test]
    fn manifests_are_read_back_and_shorter_ones_are_not() {
        let store = StoreManifest {
            store_id: [1; 16],
            created_ms: 2,
            key_secret: [3; SECRET_LEN],
            tag_secret: [4; SECRET_LEN],
        };
        let bytes = store.encode();
        assert!(StoreManifest::decode(&bytes) == Ok(store));
        for len in 0..bytes.len() {
            assert!(StoreManifest::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
        let bytes = sample().encode();
        assert_eq!(OwnerManifest::decode(&bytes), Ok(sample()));
        for len in 0..bytes.len() {
            assert!(OwnerManifest::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn a_manifest_that_breaks_the_rules_is_not_believed() {
        let read = |manifest: OwnerManifest| OwnerManifest::decode(&manifest.encode());
        for (segment_bytes, fits) in [
            (MIN_SEGMENT_BYTES - 1, false),
            (MIN_SEGMENT_BYTES, true),
            (MAX_SEGMENT_BYTES, true),
            (MAX_SEGMENT_BYTES + 1, false),
        ] {
            assert_eq!(read(OwnerManifest { segment_bytes, ..sample() }).is_ok(), fits);
        }
        let window = Window { window_ms: 16 * 60_000, width_ms: 59_999 };
        assert!(read(OwnerManifest { window, ..sample() }).is_err());
        let mut bytes = sample().encode();
        *bytes.last_mut().unwrap() = 0xff;
        assert!(OwnerManifest::decode(&bytes).is_err(), "a name that is no text");
    }
}
