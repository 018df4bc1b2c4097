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
/// tombstones that they may have to meet are kept: those of a block that has waited for as long as a
/// bucket spans are written as the next row comes.
#[derive(Debug)]
pub struct Appender {
    log: Log,
    blocks: BTreeMap<Timestamp, PendingBlock>,
    /// The memory of the last block that was written, for the next one.
    written: BlockBuilder,
    /// When the first of the blocks will have waited for long enough, by the boot-time clock, or before.
    due_ms: u64,
}

impl Appender {
    pub(super) fn new(log: Log) -> Self {
        Self { log, blocks: BTreeMap::new(), written: BlockBuilder::default(), due_ms: u64::MAX }
    }

    /// Takes a row, and writes blocks that are full or have waited for long. What is no longer kept of
    /// these is given up.
    ///
    /// # Errors
    ///
    /// As [`Log::append`]. A row that is refused is not taken; if writing a block fails, its rows
    /// are kept and the next call tries again.
    pub fn append(&mut self, row: Row) -> Result<()> {
        let place = self.log.core.place(&row)?;
        self.write_due()?;
        let core = &self.log.core;
        let bucket = place.bucket;
        // An invalidation that came since the block was begun covers all of it: what is appended
        // after it belongs in another one.
        let is_over = |block: &PendingBlock| {
            is_full(&block.builder)
                || core.floors.highest_tag() >= block.seq()
                || !block.takes(&place)
        };
        if self.blocks.get(&bucket).is_some_and(is_over) {
            self.write_or_give_up(bucket)?;
        }
        let core = &self.log.core;
        let begin = || core.begin_block(std::mem::take(&mut self.written));
        let block = self.blocks.entry(bucket).or_insert_with(begin);
        self.due_ms = self.due_ms.min(core.due_ms(block));
        core.push(block, &place, &row);
        Ok(())
    }

    /// Writes all rows taken so far. They survive the death of the process then, and a power cut
    /// after the next sync.
    ///
    /// # Errors
    ///
    /// As [`Log::append`]; what could not be written is kept, unless its bucket is gone.
    pub fn flush(&mut self) -> Result<()> {
        let mut given_up = Ok(());
        while let Some(bucket) = self.blocks.keys().next().copied() {
            match self.flush_bucket(bucket) {
                // Others are not held up by it.
                Err(expired @ Error::Expired { .. }) => given_up = given_up.and(Err(expired)),
                written => written?,
            }
        }
        given_up
    }

    /// Rows taken and not yet written.
    pub fn buffered(&self) -> usize {
        self.blocks.values().map(|block| block.builder.len()).sum()
    }

    /// Writes the blocks that have waited for long: an appender that is never flushed would hold one for
    /// each bucket, and with them the tombstones since.
    fn write_due(&mut self) -> Result<()> {
        let core = &self.log.core;
        let now_ms = core.owner.engine.clock.boot_ms();
        if now_ms < self.due_ms {
            return Ok(());
        }
        let is_due = |(_, block): &(&Timestamp, &PendingBlock)| core.due_ms(block) <= now_ms;
        let due: Vec<Timestamp> = self.blocks.iter().filter(is_due).map(|(at, _)| *at).collect();
        for bucket in due {
            self.write_or_give_up(bucket)?;
        }
        let waiting = self.blocks.values().map(|block| self.log.core.due_ms(block));
        self.due_ms = waiting.min().unwrap_or(u64::MAX);
        Ok(())
    }

    /// Writes a block, unless its rows are no longer kept.
    fn write_or_give_up(&mut self, bucket: Timestamp) -> Result<()> {
        match self.flush_bucket(bucket) {
            Err(Error::Expired { .. }) => Ok(()),
            written => written,
        }
    }

    fn flush_bucket(&mut self, bucket: Timestamp) -> Result<()> {
        let Some(block) = self.blocks.get(&bucket) else { return Ok(()) };
        let written = self.log.core.write_block(bucket, block).map(|_| ());
        if matches!(written, Ok(()) | Err(Error::Expired { .. }))
            && let Some(block) = self.blocks.remove(&bucket)
        {
            self.written = block.builder.cleared();
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
