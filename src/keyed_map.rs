//! Maps from keyed hashes, which need no other hash.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::hash::KeyedHash;

/// A map from keyed hashes.
pub(crate) type KeyedMap<V> = HashMap<KeyedHash, V, BuildHasherDefault<PassThrough>>;

/// Takes a keyed hash as it is.
#[derive(Default)]
pub(crate) struct PassThrough(u64);

impl Hasher for PassThrough {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
