//! INDEX: an owner's index as of a clean close. Believed only together with the STATE of that close.
//!
//! ```text
//! 0       8         12      16            32         40    48              56       64         72
//! | magic | version | crc32 | snapshot id | owner id | seq | first ordinal | places | shards | hash |
//! then for each place: | number 8 | length 8 | salt 8 | min seq 8 | max seq 8 | records 8 | live 8 |
//!                      | tags 8 | scrubbed 8 | punched 8 | sidecar bytes 8 |
//! then for each group of shards: | hash of its bytes 8 | their length 8 |
//! then the groups: for each shard a count of lines 4, for each of its lines 64
//! ```
//!
//! Groups can be read apart from each other, by several threads.

use bytes::Buf;

use super::{Parsed, Unreadable, checksum, split_preamble, take_array, with_preamble};
use crate::hash::block_hash;

/// The magic of the file.
pub(crate) const MAGIC: [u8; 8] = *b"ebb.indx";
/// Bytes before the places.
pub(crate) const HEADER_LEN: usize = 80;
const PLACE_LEN: u64 = 88;
const GROUP_ENTRY_LEN: u64 = 16;
const LINE_LEN: usize = 64;
const LINE_WORDS: usize = LINE_LEN / 8;
/// Shards of a group.
pub(crate) const GROUP_SHARDS: usize = 64;

/// What one ordinal of the index stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SnapshotPlace {
    /// The segment's number.
    pub(crate) number: u64,
    /// Its end; 0 if it is gone.
    pub(crate) len: u64,
    pub(crate) salt: u64,
    pub(crate) min_seq: u64,
    pub(crate) max_seq: u64,
    pub(crate) records: u64,
    pub(crate) live: u64,
    pub(crate) tags: u64,
    pub(crate) scrubbed: u64,
    pub(crate) punched: u64,
    pub(crate) sidecar_bytes: u64,
}

impl SnapshotPlace {
    /// That of a segment which has left: nothing but its number.
    pub(crate) fn gone(number: u64) -> Self {
        Self { number, ..Self::default() }
    }
}

/// Where a group of shards lies in the file, and what it has to hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotGroup {
    pub(crate) hash: u64,
    pub(crate) len: u64,
}

/// Everything of a snapshot but the index itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) snapshot_id: [u8; 16],
    pub(crate) owner_id: u64,
    /// The last sequence number it knows of.
    pub(crate) as_of: u64,
    /// What the index calls the first of the places; the others follow.
    pub(crate) first_ordinal: u64,
    pub(crate) shard_count: u64,
    pub(crate) places: Vec<SnapshotPlace>,
    pub(crate) groups: Vec<SnapshotGroup>,
}

impl Snapshot {
    /// The bytes before the groups.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::new();
        for place in &self.places {
            for field in [
                place.number,
                place.len,
                place.salt,
                place.min_seq,
                place.max_seq,
                place.records,
                place.live,
                place.tags,
                place.scrubbed,
                place.punched,
                place.sidecar_bytes,
            ] {
                content.extend_from_slice(&field.to_le_bytes());
            }
        }
        for group in &self.groups {
            content.extend_from_slice(&group.hash.to_le_bytes());
            content.extend_from_slice(&group.len.to_le_bytes());
        }
        let mut body = self.snapshot_id.to_vec();
        for field in [
            self.owner_id,
            self.as_of,
            self.first_ordinal,
            self.places.len() as u64,
            self.shard_count,
            block_hash(&content),
        ] {
            body.extend_from_slice(&field.to_le_bytes());
        }
        let mut bytes = with_preamble(MAGIC, checksum::plain(&body), &body);
        bytes.append(&mut content);
        bytes
    }

    /// How many bytes there are before the groups, by the header of a file of this length.
    pub(crate) fn head_len(header: &[u8], file_len: u64) -> Parsed<usize> {
        let header = header.get(..HEADER_LEN).ok_or(Unreadable::Damaged("too short"))?;
        let (stored, mut body) = split_preamble(MAGIC, header)?;
        if checksum::plain(body) != stored {
            return Err(Unreadable::Damaged("checksum of a snapshot header"));
        }
        body.advance(40);
        let places = body.try_get_u64_le()?.saturating_mul(PLACE_LEN);
        let groups = group_count(body.try_get_u64_le()?).saturating_mul(GROUP_ENTRY_LEN);
        let len = places.saturating_add(groups).saturating_add(HEADER_LEN as u64);
        let len = usize::try_from(len).ok().filter(|_| len <= file_len);
        len.ok_or(Unreadable::Damaged("length of a snapshot"))
    }

    /// Reads the bytes before the groups, of a file of this length.
    pub(crate) fn decode(bytes: &[u8], file_len: u64) -> Parsed<Self> {
        let head_len = Self::head_len(bytes, file_len)?;
        let head = bytes.get(..head_len).ok_or(Unreadable::Damaged("too short"))?;
        let (mut body, mut content) =
            head.split_at_checked(HEADER_LEN).ok_or(Unreadable::Damaged("too short"))?;
        body.advance(16);
        let snapshot_id = take_array(&mut body)?;
        let owner_id = body.try_get_u64_le()?;
        let as_of = body.try_get_u64_le()?;
        let first_ordinal = body.try_get_u64_le()?;
        let place_count = body.try_get_u64_le()?;
        let shard_count = body.try_get_u64_le()?;
        if block_hash(content) != body.try_get_u64_le()? {
            return Err(Unreadable::Damaged("segments of a snapshot"));
        }
        let mut places = Vec::new();
        for _ in 0..place_count {
            places.push(SnapshotPlace {
                number: content.try_get_u64_le()?,
                len: content.try_get_u64_le()?,
                salt: content.try_get_u64_le()?,
                min_seq: content.try_get_u64_le()?,
                max_seq: content.try_get_u64_le()?,
                records: content.try_get_u64_le()?,
                live: content.try_get_u64_le()?,
                tags: content.try_get_u64_le()?,
                scrubbed: content.try_get_u64_le()?,
                punched: content.try_get_u64_le()?,
                sidecar_bytes: content.try_get_u64_le()?,
            });
        }
        let mut groups = Vec::new();
        let mut end = head_len as u64;
        while content.has_remaining() {
            let (hash, len) = (content.try_get_u64_le()?, content.try_get_u64_le()?);
            end = end.saturating_add(len);
            groups.push(SnapshotGroup { hash, len });
        }
        if end != file_len {
            return Err(Unreadable::Damaged("length of a snapshot"));
        }
        Ok(Self { snapshot_id, owner_id, as_of, first_ordinal, shard_count, places, groups })
    }

    /// Where the first group starts.
    pub(crate) fn groups_at(&self) -> u64 {
        let groups = self.groups.len() as u64 * GROUP_ENTRY_LEN;
        HEADER_LEN as u64 + self.places.len() as u64 * PLACE_LEN + groups
    }
}

/// How many groups so many shards make.
pub(crate) fn group_count(shards: u64) -> u64 {
    shards.div_ceil(GROUP_SHARDS as u64)
}

/// The bytes of a group of shards, and their entry; nothing if all of them are empty.
pub(crate) fn encode_group<L>(shards: &[Vec<L>]) -> (SnapshotGroup, Vec<u8>)
where
    L: Copy + Into<[u64; LINE_WORDS]>,
{
    let mut bytes = Vec::new();
    if shards.iter().any(|lines| !lines.is_empty()) {
        for lines in shards {
            bytes.extend_from_slice(&(lines.len() as u32).to_le_bytes());
        }
        for line in shards.iter().flatten() {
            let words: [u64; LINE_WORDS] = (*line).into();
            words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        }
    }
    (SnapshotGroup { hash: block_hash(&bytes), len: bytes.len() as u64 }, bytes)
}

/// Reads a group of so many shards, each line into its final form.
pub(crate) fn decode_group<L: From<[u64; LINE_WORDS]>>(
    group: SnapshotGroup,
    bytes: &[u8],
    shards: usize,
) -> Parsed<Vec<Vec<L>>> {
    if bytes.len() as u64 != group.len || block_hash(bytes) != group.hash {
        return Err(Unreadable::Damaged("lines of a snapshot"));
    }
    if bytes.is_empty() {
        return Ok((0..shards).map(|_| Vec::new()).collect());
    }
    let (mut counts, mut lines) =
        bytes.split_at_checked(4 * shards).ok_or(Unreadable::Damaged("too short"))?;
    let mut read = Vec::with_capacity(shards);
    for _ in 0..shards {
        let len = counts.try_get_u32_le()? as usize * LINE_LEN;
        let (own, rest) = lines.split_at_checked(len).ok_or(Unreadable::Damaged("too short"))?;
        lines = rest;
        read.push(own.as_chunks().0.iter().map(|line| L::from(line_of(line))).collect());
    }
    if lines.is_empty() { Ok(read) } else { Err(Unreadable::Damaged("lines of a snapshot")) }
}

fn line_of(bytes: &[u8; LINE_LEN]) -> [u64; LINE_WORDS] {
    let mut words = [0; LINE_WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small file: three places, two groups of which one is empty.
    fn file() -> (Snapshot, Vec<Vec<[u64; LINE_WORDS]>>, Vec<u8>) {
        let place = |number| SnapshotPlace {
            number,
            len: 2,
            salt: 3,
            min_seq: 4,
            max_seq: 5,
            records: 6,
            live: 7,
            tags: 8,
            scrubbed: 9,
            punched: 10,
            sidecar_bytes: 11,
        };
        let shards = vec![vec![[1, 2, 3, 4, 5, 6, 7, 8]; 2], Vec::new(), vec![[9; 8]]];
        let (full, body) = encode_group(&shards);
        let (empty, none) = encode_group::<[u64; LINE_WORDS]>(&vec![Vec::new(); 3]);
        assert!(none.is_empty());
        let snapshot = Snapshot {
            snapshot_id: [1; 16],
            owner_id: 2,
            as_of: 3,
            first_ordinal: 4,
            shard_count: 2 * GROUP_SHARDS as u64,
            places: vec![place(1), place(2), place(3)],
            groups: vec![full, empty],
        };
        let bytes = [snapshot.encode(), body].concat();
        (snapshot, shards, bytes)
    }

    fn read(bytes: &[u8]) -> Parsed<(Snapshot, Vec<Vec<[u64; LINE_WORDS]>>)> {
        let snapshot = Snapshot::decode(bytes, bytes.len() as u64)?;
        let start = snapshot.groups_at() as usize;
        let group = *snapshot.groups.first().ok_or(Unreadable::Damaged("groups"))?;
        let shards = decode_group(group, &bytes[start..], 3)?;
        Ok((snapshot, shards))
    }

    #[test]
    fn a_snapshot_is_read_back_and_no_changed_byte_passes() {
        let (snapshot, shards, bytes) = file();
        assert_eq!(read(&bytes).unwrap(), (snapshot, shards));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 2;
            assert!(read(&changed).is_err(), "byte {at}");
            assert!(read(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn of_a_segment_that_has_left_the_number_is_kept() {
        let gone = SnapshotPlace::gone(7);
        assert_eq!((gone.number, gone.len, gone.salt), (7, 0, 0));
    }

    #[test]
    fn a_head_that_would_reach_behind_the_end_is_not_read() {
        let (snapshot, _, bytes) = file();
        let head = snapshot.groups_at();
        assert_eq!(Snapshot::head_len(&bytes, bytes.len() as u64), Ok(head as usize));
        assert_eq!(Snapshot::head_len(&bytes, head), Ok(head as usize));
        assert!(Snapshot::head_len(&bytes, head - 1).is_err());
    }

    #[test]
    fn groups_of_another_shape_are_not_read() {
        let (_, shards, bytes) = file();
        let (group, body) = encode_group(&shards);
        assert!(bytes.ends_with(&body));
        let read = |bytes: &[u8], shards: usize| {
            let group = SnapshotGroup { hash: block_hash(bytes), len: bytes.len() as u64 };
            decode_group::<[u64; LINE_WORDS]>(group, bytes, shards)
        };
        assert_eq!(read(&body, 3), Ok(shards));
        assert!(read(&body, 2).is_err() && read(&body, 4).is_err());
        assert!(read(&body[..body.len() - LINE_LEN], 3).is_err());
        assert!(read(&[&body[..], &[0; LINE_LEN]].concat(), 3).is_err());
        assert_eq!(read(&[], 2), Ok(vec![Vec::new(); 2]));
        let mut wrong = group;
        wrong.len += 1;
        assert!(decode_group::<[u64; LINE_WORDS]>(wrong, &body, 3).is_err());
    }
}
