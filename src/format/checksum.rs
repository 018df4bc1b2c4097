//! CRC-32 seeded with a place, so that bytes moved from elsewhere do not pass.

use crc32fast::Hasher;

/// What a checksum is bound to: a file's random salt and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    /// The seed of a file.
    pub(crate) fn of_file(salt: u64, number: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&salt.to_le_bytes());
        hasher.update(&number.to_le_bytes());
        Self(hasher.finalize())
    }

    /// The checksum of bytes at an offset of that file.
    pub(crate) fn checksum(self, offset: u64, parts: &[&[u8]]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.0);
        hasher.update(&offset.to_le_bytes());
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
