//! What every sketch of an index can do.

/// Bits of a location: the ordinal of a segment and the position in it.
pub(crate) const ORDINAL_BITS: u32 = 14;
pub(crate) const POSITION_BITS: u32 = 27;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    /// Counted from 1; nought names no segment.
    pub(crate) ordinal: u32,
    pub(crate) position: u32,
}

/// An index from the hash of a key to a location.
pub(crate) trait Layout {
    /// Two hashes that agree in so many bits are one key to the index.
    fn identity_bits(&self) -> u32;

    /// Where the record of a hash is.
    fn get(&self, hash: u64) -> Option<Location>;

    /// Names a record. Gives what was named before.
    fn put(&self, hash: u64, location: Location) -> Option<Location>;

    /// What lies in segments before this one is gone, and its place is free.
    fn set_first_live(&self, ordinal: u32);

    /// Bytes of memory that tables and shards take.
    fn memory_bytes(&self) -> u64;
}
