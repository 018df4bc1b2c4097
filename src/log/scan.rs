//! Reading a log in time order: blocks are opened as their earliest time comes up, and their rows
//! merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::{LogCore, LogRow, RowId};
use crate::error::Result;
use crate::format::sidecar::unpack_times;
use crate::segment::Segment;
use crate::time::Timestamp;

/// Iterates over rows in time order. See [`Log::scan`](super::Log::scan).
#[derive(Debug)]
pub struct Scan {
    core: Arc<LogCore>,
    first_ms: u64,
    last_ms: u64,
    /// Blocks not yet opened, the earliest last: earliest time, segment, offset.
    blocks: Vec<(u64, u64, u64)>,
    /// Rows of opened blocks, the earliest first.
    rows: BinaryHeap<Reverse<Pending>>,
}

#[derive(Debug)]
struct Pending {
    row: LogRow,
    seq: u64,
    segment: Arc<Segment>,
}

impl Pending {
    fn order(&self) -> (Timestamp, RowId) {
        (self.row.time(), self.row.id())
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl Scan {
    pub(super) fn new(core: Arc<LogCore>, range: impl RangeBounds<Timestamp>) -> Result<Self> {
        core.owner.engine.check_open()?;
        let first_ms = match range.start_bound() {
            Bound::Included(start) => start.as_millis(),
            Bound::Excluded(start) => start.as_millis().saturating_add(1),
            Bound::Unbounded => 0,
        };
        let last_ms = match range.end_bound() {
            Bound::Included(end) => Some(end.as_millis()),
            Bound::Excluded(end) => end.as_millis().checked_sub(1),
            Bound::Unbounded => Some(u64::MAX),
        };
        let mut blocks = Vec::new();
        if let Some(last_ms) = last_ms {
            for (number, entry) in core.all_blocks()? {
                let (earliest, latest) = unpack_times(entry.hash);
                if earliest <= last_ms && latest >= first_ms {
                    blocks.push((earliest, number, entry.offset()));
                }
            }
        }
        blocks.sort_unstable_by_key(|block| Reverse(*block));
        Ok(Self { core, first_ms, last_ms: last_ms.unwrap_or(0), blocks, rows: BinaryHeap::new() })
    }

    /// Opens every block that may hold a row earlier than the earliest one at hand.
    fn open_blocks(&mut self) -> Result<()> {
        while let Some((earliest, number, offset)) = self.blocks.last().copied() {
            let at_hand = self.rows.peek().map(|Reverse(pending)| pending.row.time().as_millis());
            if at_hand.is_some_and(|at_hand| at_hand < earliest) {
                break;
            }
            self.blocks.pop();
            self.open_block(number, offset)?;
        }
        Ok(())
    }

    fn open_block(&mut self, number: u64, offset: u64) -> Result<()> {
        let Some(block) = self.core.block(number, offset)? else { return Ok(()) };
        for (at, entry) in block.entries.iter().enumerate() {
            if entry.time_ms < self.first_ms || entry.time_ms > self.last_ms {
                continue;
            }
            let id = RowId::new(number, offset, at as u32);
            if let Some(row) = self.core.row(&block, entry, id)? {
                let segment = Arc::clone(&block.segment);
                self.rows.push(Reverse(Pending { row, seq: block.seq, segment }));
            }
        }
        Ok(())
    }
}

impl Iterator for Scan {
    type Item = Result<LogRow>;

    fn next(&mut self) -> Option<Result<LogRow>> {
        loop {
            if let Err(error) = self.open_blocks() {
                return Some(Err(error));
            }
            let Reverse(Pending { row, seq, segment }) = self.rows.pop()?;
            // Judged at the moment of yielding: much may have happened since it was read.
            match self.core.judge(&row, seq, &segment) {
                Ok(Ok(())) => return Some(Ok(row)),
                Ok(Err(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
