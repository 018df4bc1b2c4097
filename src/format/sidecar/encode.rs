//! Making a sidecar.

use super::{
    BLOCK_LEN, ENTRIES_PER_BLOCK, HEADER_LEN, Listing, MAGIC, SidecarEntry, SidecarHeader,
    SidecarTag, TAGS_PER_BLOCK,
};
use crate::format::checksum::{self, Seed};
use crate::format::with_preamble;

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
        self.push_block(entries, SidecarEntry::encode_to);
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
