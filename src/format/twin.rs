//! A small file kept twice: two slots, each whole, of which the newer readable one counts.
//!
//! ```text
//! slot, 4096 bytes, at 0 and at 4096:
//! 0        8         12       16        24        28
//! | magic  | version | crc32  | counter | length  | payload ... zeros |
//! ```

use bytes::Buf;

use super::{PREAMBLE_LEN, Parsed, Unreadable, checksum, split_preamble, take, with_preamble};

/// Bytes of a slot.
pub(crate) const SLOT_LEN: usize = 4096;
/// Bytes of the file.
pub(crate) const FILE_LEN: usize = 2 * SLOT_LEN;
/// The most a payload may take.
pub(crate) const MAX_PAYLOAD_LEN: usize = SLOT_LEN - PREAMBLE_LEN - 12;

/// One readable slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) counter: u64,
    pub(crate) payload: Vec<u8>,
}

/// Both slots as found.
#[derive(Debug, Clone)]
pub(crate) struct Twin {
    pub(crate) slots: [Parsed<Slot>; 2],
}

impl Twin {
    /// The readable slot with the highest counter, and its place.
    pub(crate) fn newest(&self) -> Option<(usize, &Slot)> {
        let readable =
            self.slots.iter().enumerate().filter_map(|(at, s)| Some((at, s.as_ref().ok()?)));
        readable.max_by_key(|(_, slot)| slot.counter)
    }

    /// True if neither slot is damaged.
    pub(crate) fn is_whole(&self) -> bool {
        self.slots.iter().all(Result::is_ok)
    }

    /// The version, if one of the slots was written by another one.
    pub(crate) fn foreign_version(&self) -> Option<u32> {
        self.slots.iter().find_map(|slot| match slot {
            Err(Unreadable::Version(version)) => Some(*version),
            _ => None,
        })
    }
}

/// The bytes of a slot; `None` if the payload is too long for one.
pub(crate) fn encode_slot(magic: [u8; 8], counter: u64, payload: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(SLOT_LEN);
    body.extend_from_slice(&counter.to_le_bytes());
    body.extend_from_slice(&u32::try_from(payload.len()).ok()?.to_le_bytes());
    body.extend_from_slice(payload);
    if payload.len() > MAX_PAYLOAD_LEN {
        return None;
    }
    body.resize(SLOT_LEN - PREAMBLE_LEN, 0);
    Some(with_preamble(magic, checksum::plain(&body), &body))
}

/// Reads a slot.
pub(crate) fn decode_slot(magic: [u8; 8], bytes: &[u8]) -> Parsed<Slot> {
    let slot = bytes.get(..SLOT_LEN).ok_or(Unreadable::Damaged("too short"))?;
    let (stored, mut body) = split_preamble(magic, slot)?;
    if checksum::plain(body) != stored {
        return Err(Unreadable::Damaged("checksum of a slot"));
    }
    let counter = body.try_get_u64_le()?;
    let len = body.try_get_u32_le()? as usize;
    Ok(Slot { counter, payload: take(&mut body, len)?.to_vec() })
}

/// Reads both slots of a file's bytes.
pub(crate) fn decode(magic: [u8; 8], bytes: &[u8]) -> Twin {
    let (first, second) = bytes.split_at_checked(SLOT_LEN).unwrap_or((bytes, &[]));
    Twin { slots: [decode_slot(magic, first), decode_slot(magic, second)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_byte_of_a_slot_is_noticed() {
        let slot = encode_slot(*b"ebbtest\0", 3, b"payload").unwrap();
        assert_eq!(decode_slot(*b"ebbtest\0", &slot).unwrap().payload, b"payload");
        for at in 0..slot.len() {
            let mut changed = slot.clone();
            changed[at] ^= 1;
            assert!(decode_slot(*b"ebbtest\0", &changed).is_err(), "byte {at}");
        }
        for len in 0..slot.len() {
            assert!(decode_slot(*b"ebbtest\0", &slot[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn a_payload_that_does_not_fit_is_refused() {
        assert!(encode_slot(*b"ebbtest\0", 1, &vec![1; MAX_PAYLOAD_LEN]).is_some());
        assert!(encode_slot(*b"ebbtest\0", 1, &vec![1; MAX_PAYLOAD_LEN + 1]).is_none());
    }

    #[test]
    fn the_newest_slot_that_can_be_read_counts() {
        let slot = |counter: u64| encode_slot(*b"ebbtest\0", counter, &[counter as u8]).unwrap();
        let newest = |first: &[u8], second: &[u8]| {
            let twin = decode(*b"ebbtest\0", &[first, second].concat());
            (twin.newest().map(|(at, slot)| (at, slot.counter)), twin.is_whole())
        };
        let damaged = vec![1; SLOT_LEN];
        assert_eq!(newest(&slot(3), &slot(4)), (Some((1, 4)), true));
        assert_eq!(newest(&slot(5), &slot(4)), (Some((0, 5)), true));
        assert_eq!(newest(&slot(3), &damaged), (Some((0, 3)), false));
        assert_eq!(newest(&damaged, &slot(4)), (Some((1, 4)), false));
        assert_eq!(newest(&damaged, &damaged), (None, false));
        assert_eq!(newest(&slot(3), &[]), (Some((0, 3)), false));
    }

    #[test]
    fn a_slot_of_another_version_shows() {
        let ours = encode_slot(*b"ebbtest\0", 1, b"").unwrap();
        let mut other = ours.clone();
        other[8..12].copy_from_slice(&crate::format::version_word(9).to_le_bytes());
        let version = |first: &[u8], second: &[u8]| {
            decode(*b"ebbtest\0", &[first, second].concat()).foreign_version()
        };
        assert_eq!(version(&ours, &other), Some(9));
        assert_eq!(version(&other, &ours), Some(9));
        assert_eq!(version(&ours, &vec![0; SLOT_LEN]), None);
    }
}
