//! Collecting rows into blocks, as `BufWriter` collects bytes.

use std::collections::BTreeMap;

use super::write::PendingBlock;
use super::{Log, Row};
use crate::error::{Error, Result};
use crate::format::rows::{BlockBuilder, MAX_ROWS, ROW_HEAD_LEN};
use crate::time::Timestamp;

/// A block is written once it holds this many bytes of rows.
const BLOCK_BYTES: usize = 64 * 1024;
const _: () = assert!(BLOCK_BYTES / ROW_HEAD_LEN < MAX_ROWS, "a block may hold too many rows");

/// Collects rows and writes them a block at a time. Rows not yet flushed are lost with the process;
/// [`Appender::flush`] hands them to the log, and dropping the appender tries to. While rows wait,
/// tombstones that they may have to meet are kept.
#[derive(Debug)]
pub struct Appender {
    log: Log,
    blocks: BTreeMap<Timestamp, PendingBlock>,
}

impl Appender {
    pub(super) fn new(log: Log) -> Self {
        Self { log, blocks: BTreeMap::new() }
    }

    /// Takes a row, and writes a block if one is full.
    ///
    /// # Errors
    ///
    /// As [`Log::append`]. A row that is refused is not taken; if writing a block fails, its rows
    /// are kept and the next call tries again.
    pub fn append(&mut self, row: Row) -> Result<()> {
        let core = &self.log.core;
        let place = core.place(&row)?;
        let bucket = place.bucket;
        // An invalidation that came since the block was begun covers all of it: what is appended
        // after it belongs in another one.
        let is_over = |block: &PendingBlock| {
            is_full(&block.builder)
                || core.floors.highest_tag() >= block.seq()
                || !block.takes(&place)
        };
        if self.blocks.get(&bucket).is_some_and(is_over) {
            self.flush_bucket(bucket)?;
        }
        let block = self.blocks.entry(bucket).or_insert_with(|| self.log.core.begin_block());
        self.log.core.push(block, &place, &row);
        Ok(())
    }

    /// Writes all rows taken so far. They survive the death of the process then, and a power cut
    /// after the next sync.
    ///
    /// # Errors
    ///
    /// As [`Log::append`]; what could not be written is kept, unless its bucket is gone.
    pub fn flush(&mut self) -> Result<()> {
        while let Some(bucket) = self.blocks.keys().next().copied() {
            self.flush_bucket(bucket)?;
        }
        Ok(())
    }

    /// Rows taken and not yet written.
    pub fn buffered(&self) -> usize {
        self.blocks.values().map(|block| block.builder.len()).sum()
    }

    fn flush_bucket(&mut self, bucket: Timestamp) -> Result<()> {
        let Some(block) = self.blocks.get(&bucket) else { return Ok(()) };
        let written = self.log.core.write_block(bucket, block).map(|_| ());
        if matches!(written, Ok(()) | Err(Error::Expired { .. })) {
            self.blocks.remove(&bucket);
        }
        written
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        // In a child that was forked the rows are those of its parent, which writes them itself.
        if self.log.core.owner.engine.process.is_current() {
            // The caller who wants to know calls `flush`.
            let _ = self.flush();
        }
    }
}

fn is_full(block: &BlockBuilder) -> bool {
    block.byte_len() >= BLOCK_BYTES
}
