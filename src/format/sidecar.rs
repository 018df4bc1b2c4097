//! The sidecar of a sealed segment: where its records are, and which tags they carry. A cache; the
//! segment can tell it again.
//!
//! ```text
//! 0       8         12      16       24     32            40      48          56        64        72
//! | magic | version | crc32 | number | salt | segment len | count | tag count | min seq | max seq |
//! then blocks of 4096 bytes, those with records first:
//! records: | crc32 | count | zeros 8 | entries of 32 bytes ... zeros |
//!   entry: | keyed hash 16 | sequence number 8 | offset / 8: 4 | flags and length / 8: 4 |
//! tags:    | crc32 | count | zeros 8 | entries of 8 bytes ... zeros |
//!   entry: | tag's fingerprint 4 | which record 4 |
//! ```

use std::collections::HashSet;

use bytes::Buf;

use super::checksum::{self, Seed};
use super::record::{ALIGN, MAX_TAGS, MIN_RECORD_LEN, RecordHead};
use super::segment_header::MAX_LEN;
use super::{PREAMBLE_LEN, Parsed, Unreadable, split_preamble, with_preamble};
use crate::hash::KeyedHash;

/// The magic of the file.
pub(crate) const MAGIC: [u8; 8] = *b"ebb.side";
pub(crate) const HEADER_LEN: usize = 72;
/// Bytes of a block.
pub(crate) const BLOCK_LEN: usize = 4096;
const BLOCK_HEAD_LEN: usize = 16;
const ENTRY_LEN: usize = 32;
/// Entries in a full block.
pub(crate) const ENTRIES_PER_BLOCK: usize = (BLOCK_LEN - BLOCK_HEAD_LEN) / ENTRY_LEN;
const TAG_LEN: usize = 8;
/// Tags in a full block.
pub(crate) const TAGS_PER_BLOCK: usize = (BLOCK_LEN - BLOCK_HEAD_LEN) / TAG_LEN;
/// Entries that memory is taken for in one go.
const RESERVED_ENTRIES: usize = 64 * 1024;
/// The record's state word says that its body is given up.
const FLAG_GONE: u32 = 1 << 31;
/// The body has been overwritten, durably.
const FLAG_SCRUBBED: u32 = 1 << 30;
const UNITS_MASK: u32 = FLAG_SCRUBBED - 1;
/// What is wrong with a sidecar of which only the records have been overwritten yet, and not the tags.
pub(crate) const HALF_OVERWRITTEN: &str = "tags of what has been overwritten";

/// Where one record is. There is one in memory for each record while a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SidecarEntry {
    /// The key's hash; for rows their earliest and latest time.
    pub(crate) hash: KeyedHash,
    pub(crate) seq: u64,
    /// Where the record starts, divided by 8.
    pub(crate) position: u32,
    /// The record's length divided by 8, and flags, as they are stored.
    units: u32,
}

const _: () = assert!(size_of::<SidecarEntry>() == ENTRY_LEN);

/// What has become of a record's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// It is there.
    Whole,
    /// It has been given up, and may or may not be there.
    Gone,
    /// It has been overwritten, durably.
    Scrubbed,
}

impl SidecarEntry {
    /// The entry of a record at an offset.
    pub(crate) fn of(head: &RecordHead, offset: u64) -> Self {
        let mut entry = Self::whole(head.hash, head.seq, offset, head.record_len());
        entry.set_body(if head.erased { Body::Gone } else { Body::Whole });
        entry
    }

    /// The entry of a record that is there, of this length at an offset.
    pub(crate) fn whole(hash: KeyedHash, seq: u64, offset: u64, len: u64) -> Self {
        let (position, units) = ((offset / ALIGN) as u32, (len / ALIGN) as u32);
        Self { hash, seq, position, units: units & UNITS_MASK }
    }

    /// What has become of the record's body.
    pub(crate) fn body(&self) -> Body {
        match (self.units & FLAG_GONE != 0, self.units & FLAG_SCRUBBED != 0) {
            (false, _) => Body::Whole,
            (true, false) => Body::Gone,
            (true, true) => Body::Scrubbed,
        }
    }

    /// Notes what has become of it.
    pub(crate) fn set_body(&mut self, body: Body) {
        let flags = match body {
            Body::Whole => 0,
            Body::Gone => FLAG_GONE,
            Body::Scrubbed => FLAG_GONE | FLAG_SCRUBBED,
        };
        self.units = self.units & UNITS_MASK | flags;
    }

    /// The record's length.
    pub(crate) fn len(&self) -> u64 {
        u64::from(self.units & UNITS_MASK) * ALIGN
    }

    /// Where the record starts.
    pub(crate) fn offset(&self) -> u64 {
        u64::from(self.position) * ALIGN
    }

    /// Where the record ends.
    pub(crate) fn end(&self) -> u64 {
        self.offset() + self.len()
    }
}

/// That a record, or a row of a block of rows, carries a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SidecarTag {
    /// Part of the tag's keyed hash; the record says the rest.
    pub(crate) fingerprint: u32,
    /// Which of the entries.
    pub(crate) entry: u32,
}

/// Stands for the tags of rows that have been given up and may not have been overwritten: nothing
/// tells any more which they were.
pub(crate) const UNFINISHED_ROWS: u32 = 0;

/// What of a tag's hash is kept beside the records.
pub(crate) fn tag_fingerprint(tag: KeyedHash) -> u32 {
    (tag.0 >> 96) as u32
}

/// Shows of each different tag that a record carries what a sidecar says of it, in their order.
pub(crate) fn for_each_fingerprint(tags: &[KeyedHash], mut show: impl FnMut(u32)) {
    if tags.len() > MAX_TAGS {
        distinct_of_many(tags).into_iter().for_each(show);
        return;
    }
    let fingerprints = tags.iter().map(|tag| tag_fingerprint(*tag));
    for (at, tag) in fingerprints.clone().enumerate() {
        if !fingerprints.clone().take(at).any(|before| before == tag) {
            show(tag);
        }
    }
}

/// The rows of a block may carry thousands. Apart, since records are stored without it.
#[inline(never)]
fn distinct_of_many(tags: &[KeyedHash]) -> Vec<u32> {
    let mut seen = HashSet::new();
    tags.iter().map(|tag| tag_fingerprint(*tag)).filter(|tag| seen.insert(*tag)).collect()
}

/// What a sidecar lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// In the order of their offsets.
    pub(crate) entries: Vec<SidecarEntry>,
    /// In the order of their records.
    pub(crate) tags: Vec<SidecarTag>,
}

impl Listing {
    /// Adds a record and its tags.
    pub(crate) fn push(&mut self, entry: SidecarEntry, tags: &[KeyedHash]) {
        let at = self.entries.len() as u32;
        let push = |fingerprint| self.tags.push(SidecarTag { fingerprint, entry: at });
        for_each_fingerprint(tags, push);
        self.entries.push(entry);
    }

    /// Notes what has been overwritten: nothing is said of tags that are no longer carried.
    /// `remains` are in the order of their positions.
    pub(crate) fn note_scrubbed(&mut self, remains: &[Remains]) {
        let find = |position: u32| {
            let at = remains.binary_search_by_key(&position, |remains| remains.position).ok()?;
            remains.get(at)
        };
        for tag in &mut self.tags {
            let Some(entry) = self.entries.get(tag.entry as usize) else { continue };
            if find(entry.position).is_some_and(|left| !left.tags.contains(&tag.fingerprint)) {
                *tag = SidecarTag { fingerprint: 0, entry: u32::MAX };
            }
        }
        for entry in &mut self.entries {
            if find(entry.position).is_some_and(|left| left.whole_record) {
                entry.set_body(Body::Scrubbed);
            }
        }
    }

    /// Records that have been overwritten.
    pub(crate) fn scrubbed(&self) -> u64 {
        self.entries.iter().filter(|entry| entry.body() == Body::Scrubbed).count() as u64
    }
}

/// What scrubbing left of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remains {
    /// Where the record starts, divided by 8.
    pub(crate) position: u32,
    /// True if all of its body is gone; false if rows of a block are.
    pub(crate) whole_record: bool,
    /// Fingerprints of the tags that rows still carry.
    pub(crate) tags: Vec<u32>,
}

/// What is said of the segment as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SidecarHeader {
    pub(crate) number: u64,
    pub(crate) salt: u64,
    /// The segment's length: all below was durable when the sidecar was written.
    pub(crate) segment_len: u64,
    pub(crate) count: u64,
    pub(crate) tag_count: u64,
    pub(crate) min_seq: u64,
    pub(crate) max_seq: u64,
}

/// The bytes of a sidecar.
pub(crate) fn encode(header: &SidecarHeader, listing: &Listing) -> Vec<u8> {
    let mut encoder = Encoder::new(header);
    for chunk in listing.entries.chunks(ENTRIES_PER_BLOCK) {
        encoder.push_entries(chunk);
    }
    for chunk in listing.tags.chunks(TAGS_PER_BLOCK) {
        encoder.push_tags(chunk);
    }
    encoder.bytes
}

/// Makes a sidecar block by block, so that not all of it need be in memory.
#[derive(Debug)]
pub(crate) struct Encoder {
    seed: Seed,
    /// What has been made and not been taken.
    bytes: Vec<u8>,
    /// How much has been taken.
    taken: u64,
}

impl Encoder {
    /// A sidecar with this header.
    pub(crate) fn new(header: &SidecarHeader) -> Self {
        let mut body = Vec::with_capacity(HEADER_LEN);
        for field in [
            header.number,
            header.salt,
            header.segment_len,
            header.count,
            header.tag_count,
            header.min_seq,
            header.max_seq,
        ] {
            body.extend_from_slice(&field.to_le_bytes());
        }
        let bytes = with_preamble(MAGIC, checksum::plain(&body), &body);
        Self { seed: Seed::of_file(header.salt, header.number), bytes, taken: 0 }
    }

    /// Adds the next entries: as many as a block holds, or the last ones.
    pub(crate) fn push_entries(&mut self, entries: &[SidecarEntry]) {
        self.push_block(entries, |entry, block| {
            block.extend_from_slice(&entry.hash.0.to_le_bytes());
            block.extend_from_slice(&entry.seq.to_le_bytes());
            block.extend_from_slice(&entry.position.to_le_bytes());
            block.extend_from_slice(&entry.units.to_le_bytes());
        });
    }

    /// Adds the next tags, behind all entries: as many as a block holds, or the last ones.
    pub(crate) fn push_tags(&mut self, tags: &[SidecarTag]) {
        self.push_block(tags, |tag, block| {
            block.extend_from_slice(&tag.fingerprint.to_le_bytes());
            block.extend_from_slice(&tag.entry.to_le_bytes());
        });
    }

    fn push_block<T>(&mut self, chunk: &[T], push: impl Fn(&T, &mut Vec<u8>)) {
        let mut block = Vec::with_capacity(BLOCK_LEN);
        block.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
        block.extend_from_slice(&[0; 8]);
        for item in chunk {
            push(item, &mut block);
        }
        block.resize(BLOCK_LEN - 4, 0);
        let crc = self.seed.checksum(self.len(), &[&block]);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        self.bytes.extend_from_slice(&block);
    }

    /// The length so far.
    pub(crate) fn len(&self) -> u64 {
        self.taken + self.bytes.len() as u64
    }

    /// What has been made, if that is at least so much, and where it belongs.
    pub(crate) fn take(&mut self, at_least: usize) -> Option<(u64, Vec<u8>)> {
        if self.bytes.len() < at_least.max(1) {
            return None;
        }
        let offset = self.taken;
        self.taken = self.len();
        Some((offset, std::mem::take(&mut self.bytes)))
    }
}

/// The length a sidecar of so many records with so many tags has.
pub(crate) fn encoded_len(count: u64, tag_count: u64) -> u64 {
    let blocks = count
        .div_ceil(ENTRIES_PER_BLOCK as u64)
        .saturating_add(tag_count.div_ceil(TAGS_PER_BLOCK as u64));
    (HEADER_LEN as u64).saturating_add(blocks.saturating_mul(BLOCK_LEN as u64))
}

/// Reads a whole sidecar.
#[cfg(any(test, fuzzing))]
pub(crate) fn decode(bytes: &[u8]) -> Parsed<(SidecarHeader, Listing)> {
    let header = decode_header(bytes)?;
    let mut decoder = Decoder::new(&header, bytes.len() as u64, true)?;
    for block in bytes.get(HEADER_LEN..).unwrap_or_default().chunks(BLOCK_LEN) {
        decoder.push(block)?;
    }
    Ok((header, decoder.finish()?))
}

/// Reads a sidecar block by block. Entries lie in the segment, in order and without overlap, or it is
/// not believed.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    header: &'a SidecarHeader,
    seed: Seed,
    keep_tags: bool,
    offset: u64,
    tags_at: u64,
    /// The end of the last record.
    end: u64,
    tag_count: u64,
    listing: Listing,
}

impl<'a> Decoder<'a> {
    /// A sidecar of this header and length. Without `keep_tags` these are checked and not listed.
    pub(crate) fn new(header: &'a SidecarHeader, len: u64, keep_tags: bool) -> Parsed<Self> {
        let begins_at = super::segment_header::HEADER_LEN;
        let is_possible = (begins_at..=MAX_LEN).contains(&header.segment_len);
        if len != encoded_len(header.count, header.tag_count) || !is_possible {
            return Err(Unreadable::Damaged("length of a sidecar"));
        }
        Ok(Self {
            header,
            seed: Seed::of_file(header.salt, header.number),
            keep_tags,
            offset: HEADER_LEN as u64,
            tags_at: encoded_len(header.count, 0),
            end: begins_at,
            tag_count: 0,
            listing: Listing::default(),
        })
    }

    /// Takes the next block.
    pub(crate) fn push(&mut self, block: &[u8]) -> Parsed<()> {
        let (count, items) = open_block(block, self.seed, self.offset)?;
        if self.offset < self.tags_at {
            self.push_entries(items, count)?;
        } else {
            self.push_tags(items, count)?;
        }
        self.offset += BLOCK_LEN as u64;
        Ok(())
    }

    fn push_entries(&mut self, mut block: &[u8], count: u32) -> Parsed<()> {
        let entries = &mut self.listing.entries;
        if entries.capacity() - entries.len() < count as usize {
            // Never twice as much as there is: what the header says may not be true.
            let left = self.header.count.saturating_sub(entries.len() as u64);
            entries.reserve_exact((left as usize).min(RESERVED_ENTRIES));
        }
        for _ in 0..count {
            let entry = SidecarEntry {
                hash: KeyedHash(block.try_get_u128_le()?),
                seq: block.try_get_u64_le()?,
                position: block.try_get_u32_le()?,
                units: block.try_get_u32_le()?,
            };
            if entry.units & (FLAG_GONE | FLAG_SCRUBBED) == FLAG_SCRUBBED {
                return Err(Unreadable::Damaged("flags of a sidecar entry"));
            }
            if entry.offset() < self.end || entry.len() < MIN_RECORD_LEN {
                return Err(Unreadable::Damaged("order of a sidecar"));
            }
            self.end = entry.end();
            if self.end > self.header.segment_len {
                return Err(Unreadable::Damaged("entries of a sidecar"));
            }
            entries.push(entry);
        }
        Ok(())
    }

    fn push_tags(&mut self, mut block: &[u8], count: u32) -> Parsed<()> {
        for _ in 0..count {
            let fingerprint = block.try_get_u32_le()?;
            let tag = SidecarTag { fingerprint, entry: block.try_get_u32_le()? };
            let entry = self.listing.entries.get(tag.entry as usize);
            // As a power cut may leave it while it is overwritten, since each block has a checksum of
            // its own.
            if entry.is_some_and(|entry| entry.body() == Body::Scrubbed) {
                return Err(Unreadable::Damaged(HALF_OVERWRITTEN));
            }
            self.tag_count += 1;
            if self.keep_tags {
                self.listing.tags.push(tag);
            }
        }
        Ok(())
    }

    /// What it lists, once all blocks have been taken.
    pub(crate) fn finish(self) -> Parsed<Listing> {
        let counted = self.listing.entries.len() as u64 == self.header.count
            && self.tag_count == self.header.tag_count;
        if counted { Ok(self.listing) } else { Err(Unreadable::Damaged("entries of a sidecar")) }
    }
}

/// Reads what a sidecar says of its segment.
pub(crate) fn decode_header(bytes: &[u8]) -> Parsed<SidecarHeader> {
    let head = bytes.get(..HEADER_LEN).ok_or(Unreadable::Damaged("too short"))?;
    let (stored, mut body) = split_preamble(MAGIC, head)?;
    if checksum::plain(body) != stored {
        return Err(Unreadable::Damaged("checksum of a sidecar header"));
    }
    debug_assert_eq!(head.len() - PREAMBLE_LEN, body.len());
    Ok(SidecarHeader {
        number: body.try_get_u64_le()?,
        salt: body.try_get_u64_le()?,
        segment_len: body.try_get_u64_le()?,
        count: body.try_get_u64_le()?,
        tag_count: body.try_get_u64_le()?,
        min_seq: body.try_get_u64_le()?,
        max_seq: body.try_get_u64_le()?,
    })
}

/// Checks a block; gives how many items it holds, and their bytes.
fn open_block(mut block: &[u8], seed: Seed, offset: u64) -> Parsed<(u32, &[u8])> {
    let stored = block.try_get_u32_le()?;
    if seed.checksum(offset, &[block]) != stored {
        return Err(Unreadable::Damaged("checksum of a sidecar block"));
    }
    let count = block.try_get_u32_le()?;
    block.try_get_u64_le()?;
    Ok((count, block))
}

/// The earliest and latest time of a block of rows, as kept in place of a key's hash.
pub(crate) fn pack_times(earliest_ms: u64, latest_ms: u64) -> KeyedHash {
    KeyedHash(u128::from(earliest_ms) << 64 | u128::from(latest_ms))
}

/// The reverse of [`pack_times`].
pub(crate) fn unpack_times(hash: KeyedHash) -> (u64, u64) {
    ((hash.0 >> 64) as u64, hash.0 as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: u64) -> (SidecarHeader, Listing) {
        let mut listing = Listing::default();
        for i in 0..count {
            let hash = KeyedHash(u128::from(i) * 77);
            let mut entry = SidecarEntry::whole(hash, i, 1024 + i * 160, 160);
            entry.set_body([Body::Whole, Body::Gone, Body::Scrubbed][i as usize % 3]);
            let count = if entry.body() == Body::Scrubbed { 0 } else { i % 6 };
            let tags: Vec<_> = (0..count).map(|tag| KeyedHash(u128::from(tag) << 96)).collect();
            listing.push(entry, &tags);
        }
        let header = SidecarHeader {
            number: 3,
            salt: 4,
            segment_len: 1024 + count * 160,
            count,
            tag_count: listing.tags.len() as u64,
            min_seq: 0,
            max_seq: count,
        };
        (header, listing)
    }

    #[test]
    fn a_sidecar_is_read_back() {
        for count in [0, 1, 127, 128, 300] {
            let (header, listing) = sample(count);
            let bytes = encode(&header, &listing);
            assert_eq!(bytes.len() as u64, encoded_len(count, header.tag_count));
            assert_eq!(decode(&bytes).unwrap(), (header, listing));
        }
    }

    #[test]
    fn any_changed_or_missing_byte_is_noticed() {
        let (header, listing) = sample(130);
        let bytes = encode(&header, &listing);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x80;
            assert!(decode(&changed).is_err(), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn of_what_was_scrubbed_no_tag_is_left_and_the_length_stays() {
        let (header, mut listing) = sample(130);
        let before = encode(&header, &listing);
        let positions = listing.entries.iter().map(|entry| entry.position).step_by(2);
        let remains: Vec<Remains> = positions
            .map(|position| Remains { position, whole_record: true, tags: Vec::new() })
            .collect();
        listing.note_scrubbed(&remains);
        let named = |tag: &&SidecarTag| tag.entry != u32::MAX;
        assert!(listing.tags.iter().filter(named).all(|tag| tag.entry % 2 == 1));
        assert!(listing.tags.iter().any(|tag| tag.entry != u32::MAX));
        let after = encode(&header, &listing);
        assert_eq!(after.len(), before.len());
        assert_eq!(decode(&after).unwrap().1, listing);
    }

    #[test]
    fn entries_lie_in_their_segment_in_order_and_apart() {
        let entry = |position: u32, units: u32| SidecarEntry {
            hash: KeyedHash(1),
            seq: 1,
            position,
            units,
        };
        let fits = |entries: &[SidecarEntry], segment_len: u64| {
            let mut listing = Listing::default();
            entries.iter().for_each(|entry| listing.push(*entry, &[]));
            let count = entries.len() as u64;
            let header = SidecarHeader { segment_len, count, ..sample(0).0 };
            decode(&encode(&header, &listing)).is_ok()
        };
        // Records begin behind the header of 1,024 bytes.
        assert!(fits(&[entry(128, 20), entry(148, 20)], 1024 + 320));
        assert!(fits(&[entry(128, 20), entry(150, 20)], 5000));
        assert!(!fits(&[entry(127, 20)], 5000));
        assert!(!fits(&[entry(128, 20), entry(147, 20)], 5000));
        assert!(!fits(&[entry(148, 20), entry(128, 20)], 5000));
        assert!(!fits(&[entry(128, 0)], 5000));
        assert!(!fits(&[entry(128, 20), entry(148, 20)], 1024 + 319));
        assert!(fits(&[], 1024));
        assert!(!fits(&[], 1023));
    }

    #[test]
    fn counts_that_blocks_do_not_keep_to_do_not_pass() {
        let (header, listing) = sample(3);
        let bytes = encode(&header, &listing);
        let reads = |header: SidecarHeader| {
            let changed = encode(&header, &listing);
            assert_eq!(changed.len(), bytes.len());
            decode(&changed).is_ok()
        };
        assert!(reads(header));
        // The same blocks, called fuller than they are.
        let claim = |count: u64, tag_count: u64| {
            let head = encode(&SidecarHeader { count, tag_count, ..header }, &Listing::default());
            [&head[..HEADER_LEN], &bytes[HEADER_LEN..]].concat()
        };
        assert!(decode(&claim(header.count, header.tag_count)).is_ok());
        assert!(decode(&claim(header.count + 1, header.tag_count)).is_err());
        assert!(decode(&claim(header.count, header.tag_count + 1)).is_err());
    }

    #[test]
    fn what_is_scrubbed_is_given_up_too_and_carries_no_tag() {
        let seed = Seed::of_file(4, 3);
        let (header, listing) = sample(2);
        let mut bytes = encode(&header, &listing);
        let reseal = |bytes: &mut Vec<u8>| {
            let crc = seed.checksum(HEADER_LEN as u64, &[&bytes[HEADER_LEN + 4..][..4092]]);
            bytes[HEADER_LEN..][..4].copy_from_slice(&crc.to_le_bytes());
            decode(bytes).map(|(_, listing)| listing.entries[1].body())
        };
        let units_at = HEADER_LEN + BLOCK_HEAD_LEN + ENTRY_LEN + 28;
        assert_eq!(reseal(&mut bytes), Ok(Body::Gone));
        // The second entry has a tag.
        bytes[units_at..][..4].copy_from_slice(&(20 | FLAG_GONE | FLAG_SCRUBBED).to_le_bytes());
        assert_eq!(reseal(&mut bytes), Err(Unreadable::Damaged(HALF_OVERWRITTEN)));
        bytes[units_at..][..4].copy_from_slice(&(20 | FLAG_SCRUBBED).to_le_bytes());
        assert_eq!(reseal(&mut bytes), Err(Unreadable::Damaged("flags of a sidecar entry")));
        bytes[units_at..][..4].copy_from_slice(&20_u32.to_le_bytes());
        assert_eq!(reseal(&mut bytes), Ok(Body::Whole));
    }

    #[test]
    fn a_tag_is_listed_once_a_record_and_leaves_with_the_rows_that_carry_it() {
        let tag = |number: u32| KeyedHash(u128::from(number) << 96 | 5);
        let mut listing = Listing::default();
        let whole = |seq: u64| SidecarEntry::whole(KeyedHash(seq.into()), seq, 1024 + seq * 80, 80);
        listing.push(whole(0), &[tag(1), tag(2), tag(1)]);
        listing.push(whole(1), &[tag(1)]);
        let listed = |listing: &Listing| {
            listing.tags.iter().map(|tag| (tag.fingerprint, tag.entry)).collect::<Vec<_>>()
        };
        assert_eq!(listed(&listing), [(1, 0), (2, 0), (1, 1)]);
        assert_eq!((listing.entries[1].offset(), listing.entries[1].end()), (1104, 1184));
        let remains = [Remains { position: 128, whole_record: false, tags: vec![2] }];
        listing.note_scrubbed(&remains);
        assert_eq!(listed(&listing), [(0, u32::MAX), (2, 0), (1, 1)]);
        assert_eq!(listing.scrubbed(), 0);
        let remains = [Remains { position: 138, whole_record: true, tags: vec![] }];
        listing.note_scrubbed(&remains);
        assert_eq!(listed(&listing), [(0, u32::MAX), (2, 0), (0, u32::MAX)]);
        assert_eq!(listing.scrubbed(), 1);
        assert_eq!(listing.entries[0].body(), Body::Whole);
    }

    #[test]
    fn times_are_packed_side_by_side() {
        assert_eq!(pack_times(1, 2), KeyedHash(1 << 64 | 2));
        for times in [(0, 0), (3, 9), (u64::MAX, 0), (0, u64::MAX)] {
            assert_eq!(unpack_times(pack_times(times.0, times.1)), times);
        }
    }
}
