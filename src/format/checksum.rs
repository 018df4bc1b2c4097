//! CRC-32 seeded with a place, so that bytes moved from elsewhere do not pass.

use crc32fast::Hasher;

use crate::planted::{Bug, is_planted};

/// Up to here an offset and what it is the offset of are checked in one go.
const JOINED_LEN: usize = 128;

/// What a checksum is bound to: a file's random salt and its number. A hasher that has read them, so
/// that the processor is asked once what it can do, and not at every checksum.
#[derive(Debug, Clone)]
pub(crate) struct Seed(Hasher);

impl Seed {
    /// The seed of a file.
    pub(crate) fn of_file(salt: u64, number: u64) -> Self {
        let mut hasher = Hasher::new();
        if is_planted(Bug::ChecksumUnsalted) {
            return Self(hasher);
        }
        hasher.update(&salt.to_le_bytes());
        hasher.update(&number.to_le_bytes());
        Self(hasher)
    }

    /// The checksum of bytes at an offset of that file.
    pub(crate) fn checksum(&self, offset: u64, parts: &[&[u8]]) -> u32 {
        let mut hasher = self.0.clone();
        // Headers and keys are short: one call for what is copied together is quicker than two.
        let mut joined = [0; JOINED_LEN];
        let (place, rest) = joined.split_at_mut(8);
        place.copy_from_slice(&offset.to_le_bytes());
        let mut parts = parts.iter();
        let mut joined_len = 8;
        if let Some(first) = parts.as_slice().first()
            && let Some(room) = rest.get_mut(..first.len())
        {
            room.copy_from_slice(first);
            joined_len += first.len();
            parts.next();
        }
        hasher.update(joined.get(..joined_len).unwrap_or_default());
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize()
    }
}

/// The checksum of a file header, which names its own place.
pub(crate) fn plain(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}
