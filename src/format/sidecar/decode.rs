//! Reading a sidecar.

use bytes::Buf;

#[cfg(any(test, fuzzing))]
use super::decode_header;
use super::{
    BLOCK_LEN, Body, HEADER_LEN, Listing, SidecarEntry, SidecarHeader, SidecarTag, encoded_len,
};
use crate::format::checksum::Seed;
use crate::format::record::MIN_RECORD_LEN;
use crate::format::segment_header::{self, MAX_LEN};
use crate::format::{Parsed, Unreadable};

/// Entries that memory is taken for in one go.
const RESERVED_ENTRIES: usize = 64 * 1024;
/// What is wrong with a sidecar of which only the records have been overwritten yet, and not the tags.
pub(crate) const HALF_OVERWRITTEN: &str = "tags of what has been overwritten";

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
        let begins_at = segment_header::HEADER_LEN;
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
        let (count, items) = open_block(&self.seed, block, self.offset)?;
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
            let entry = SidecarEntry::decode(&mut block)?;
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

/// Checks a block; gives how many items it holds, and their bytes.
fn open_block<'a>(seed: &Seed, mut block: &'a [u8], offset: u64) -> Parsed<(u32, &'a [u8])> {
    let stored = block.try_get_u32_le()?;
    if seed.checksum(offset, &[block]) != stored {
        return Err(Unreadable::Damaged("checksum of a sidecar block"));
    }
    let count = block.try_get_u32_le()?;
    block.try_get_u64_le()?;
    Ok((count, block))
}
