//! Keyed hashes of keys and tags, and the plain hash of a value.

use crate::sync::MODEL_CHECKED;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128, xxh3_128_with_secret};

/// Bits of a hash that the index goes by. Where a model checker chooses the schedules, fewer, so that the
/// index has fewer locks.
pub(crate) const FINGERPRINT_BITS: u32 = if MODEL_CHECKED { 44 } else { 52 };
/// Bytes of each of the two secrets.
pub(crate) const SECRET_LEN: usize = 192;

/// The keyed 128-bit hash that stands for a key or tag everywhere but in the record itself.
///
/// Two keys of one hash hide each other; a key read is always compared, so neither is ever served
/// as the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyedHash(pub(crate) u128);

impl KeyedHash {
    /// The upper bits, which the index goes by.
    pub(crate) fn fingerprint(self) -> u64 {
        (self.0 >> (128 - FINGERPRINT_BITS)) as u64
    }
}

/// Hashes under a store's own secret, so that nobody outside can aim at a collision.
#[derive(Clone)]
pub(crate) struct Hasher {
    key_secret: [u8; SECRET_LEN],
    tag_secret: [u8; SECRET_LEN],
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher(secret)")
    }
}

impl Hasher {
    /// A hasher under these secrets.
    pub(crate) fn new(key_secret: [u8; SECRET_LEN], tag_secret: [u8; SECRET_LEN]) -> Self {
        Self { key_secret, tag_secret }
    }

    /// The hash of a key.
    pub(crate) fn key(&self, key: &[u8]) -> KeyedHash {
        KeyedHash(kept(xxh3_128_with_secret(key, &self.key_secret)))
    }

    /// The hash of a tag; a tag and a key of the same text have different hashes.
    pub(crate) fn tag(&self, tag: &[u8]) -> KeyedHash {
        KeyedHash(xxh3_128_with_secret(tag, &self.tag_secret))
    }

    /// A value only these secrets give, by which a file shows that it was written under them.
    pub(crate) fn check_value(&self) -> u64 {
        let both = self.key(b"ebbtide check").0 ^ self.tag(b"ebbtide check").0;
        both as u64
    }
}

/// What is kept of a key's hash: all of it, unless a test wants keys to collide.
#[cfg(not(test))]
const fn kept(hash: u128) -> u128 {
    hash
}

#[cfg(test)]
thread_local! {
    static KEPT: std::cell::Cell<u128> = const { std::cell::Cell::new(u128::MAX) };
}

#[cfg(test)]
fn kept(hash: u128) -> u128 {
    hash & KEPT.get()
}

/// Lets the hashes of keys that this thread forms keep these bits only while something runs.
#[cfg(test)]
pub(crate) fn keeping<T>(bits: u128, run: impl FnOnce() -> T) -> T {
    let before = KEPT.replace(bits);
    let result = run();
    KEPT.set(before);
    result
}

/// XXH3-128 of a value, as [`Stat::value_hash`](crate::Stat::value_hash) gives it: the same bytes have
/// the same hash in any store, which makes it fit for a strong `ETag`.
pub fn value_hash(value: &[u8]) -> u128 {
    xxh3_128(value)
}

/// Forms the [`value_hash`] of a value that comes in pieces.
#[derive(Clone, Default)]
pub(crate) struct ValueHasher(Xxh3);

impl std::fmt::Debug for ValueHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ValueHasher")
    }
}

impl ValueHasher {
    /// Takes the next piece.
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The hash of all pieces so far.
    pub(crate) fn value_hash(&self) -> u128 {
        self.0.digest128()
    }
}

/// XXH3-64, for checking large caches such as the index snapshot.
pub(crate) fn block_hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}
