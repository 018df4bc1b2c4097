//! pseudonym.keys: the random keys of a log bucket. A twin file; both slots are overwritten before
//! it is unlinked.
//!
//! ```text
//! payload: | count 4 | then for each: number 4, key 32 |
//! ```

use bytes::Buf;

use super::{Parsed, take_array};

/// The magic of the file.
pub(crate) const MAGIC: [u8; 8] = *b"ebb.pseu";

/// One numbered key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct NumberedKey {
    pub(crate) number: u32,
    pub(crate) key: [u8; 32],
}

/// The payload.
pub(crate) fn encode(keys: &[NumberedKey]) -> Vec<u8> {
    let mut out = (keys.len() as u32).to_le_bytes().to_vec();
    for key in keys {
        out.extend_from_slice(&key.number.to_le_bytes());
        out.extend_from_slice(&key.key);
    }
    out
}

/// Reads a payload.
pub(crate) fn decode(mut bytes: &[u8]) -> Parsed<Vec<NumberedKey>> {
    let count = bytes.try_get_u32_le()?;
    let mut keys = Vec::new();
    for _ in 0..count {
        let number = bytes.try_get_u32_le()?;
        keys.push(NumberedKey { number, key: take_array(&mut bytes)? });
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_fewer_than_counted_are_not() {
        for count in 0..3 {
            let key = |number: u32| NumberedKey { number, key: [number as u8; 32] };
            let keys: Vec<_> = (7..7 + count).map(key).collect();
            let bytes = encode(&keys);
            assert!(decode(&bytes) == Ok(keys));
            for len in 0..bytes.len() {
                assert!(decode(&bytes[..len]).is_err(), "cut at {len}");
            }
        }
    }
}
