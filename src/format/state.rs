//! STATE: the part of the engine's memory that must be exact after any stop. A twin file whose
//! slots are overwritten in turn.
//!
//! ```text
//! payload:
//! 0            8       16            32           40           48
//! | generation | clean | snapshot id | oldest log | newest log |
//! 48                   56                   64               72                  104
//! | oldest ledger file | newest ledger file | ledger entries | ledger head: 32 |
//! 104         112       120       128       144      152         160     168
//! | engine ms | wall ms | boot ms | boot id | lag ms | earned ms | steps | lead, agreed, last seq: 24 each ...
//!
//! behind the steps, only while a correction of the time is under way:
//! | corrected to ms | next number |
//! ```

use bytes::Buf;

use super::ledger::LedgerMark;
use super::{Parsed, Unreadable, take_array};
use crate::time::{Correction, MAX_STEPS, SavedTime, Step};

/// The magic of the file.
pub(crate) const MAGIC: [u8; 8] = *b"ebb.stat";

/// The highest generation: 24 bits of a sequence number are left for it.
pub(crate) const MAX_GENERATION: u64 = (1 << 24) - 2;
/// The highest number of a tombstone log or ledger file: its name has ten digits.
pub(crate) const MAX_LOG_NUMBER: u64 = 9_999_999_999;

/// What STATE holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// Counts the times the store was opened for writing; sequence numbers carry it.
    pub(crate) generation: u64,
    /// True after a clean close, until the next change.
    pub(crate) clean: bool,
    /// Which snapshot of the indexes belongs to a clean close.
    pub(crate) snapshot_id: [u8; 16],
    /// The tombstone logs that must be there: from this number
    pub(crate) oldest_log: u64,
    /// to this one.
    pub(crate) newest_log: u64,
    /// The newest entry of the ledger that is durable for certain.
    pub(crate) ledger: LedgerMark,
    pub(crate) time: SavedTime,
}

impl State {
    /// The payload.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&u64::from(self.clean).to_le_bytes());
        out.extend_from_slice(&self.snapshot_id);
        for field in [
            self.oldest_log,
            self.newest_log,
            self.ledger.oldest,
            self.ledger.newest,
            self.ledger.number,
        ] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.ledger.hash);
        for field in [self.time.engine_ms, self.time.wall_ms, self.time.boot_ms] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.time.boot_id);
        for field in [self.time.lag_ms, self.time.earned_ms, self.time.steps.len() as u64] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        for step in &self.time.steps {
            for field in [step.lead_ms, step.agreed_ms, step.last_seq] {
                out.extend_from_slice(&field.to_le_bytes());
            }
        }
        if let Some(correction) = &self.time.correction {
            out.extend_from_slice(&correction.to_ms.to_le_bytes());
            out.extend_from_slice(&correction.next_number.to_le_bytes());
        }
        out
    }

    /// Reads a payload.
    pub(crate) fn decode(mut bytes: &[u8]) -> Parsed<Self> {
        let generation = bytes.try_get_u64_le()?;
        let clean = bytes.try_get_u64_le()? == 1;
        let snapshot_id = take_array(&mut bytes)?;
        let oldest_log = bytes.try_get_u64_le()?;
        let newest_log = bytes.try_get_u64_le()?;
        let ledger = LedgerMark {
            oldest: bytes.try_get_u64_le()?,
            newest: bytes.try_get_u64_le()?,
            number: bytes.try_get_u64_le()?,
            hash: take_array(&mut bytes)?,
        };
        let mut time = SavedTime {
            engine_ms: bytes.try_get_u64_le()?,
            wall_ms: bytes.try_get_u64_le()?,
            boot_ms: bytes.try_get_u64_le()?,
            boot_id: take_array(&mut bytes)?,
            lag_ms: bytes.try_get_u64_le()?,
            earned_ms: bytes.try_get_u64_le()?,
            steps: Vec::new(),
            correction: None,
        };
        let steps = bytes.try_get_u64_le()?;
        if steps > MAX_STEPS as u64
            || generation > MAX_GENERATION
            || oldest_log.max(newest_log) > MAX_LOG_NUMBER
            || ledger.oldest.max(ledger.newest) > MAX_LOG_NUMBER
        {
            return Err(Unreadable::Damaged("fields of a state"));
        }
        for _ in 0..steps {
            time.steps.push(Step {
                lead_ms: bytes.try_get_u64_le()?,
                agreed_ms: bytes.try_get_u64_le()?,
                last_seq: bytes.try_get_u64_le()?,
            });
        }
        if bytes.has_remaining() {
            time.correction = Some(Correction {
                to_ms: bytes.try_get_u64_le()?,
                next_number: bytes.try_get_u64_le()?,
            });
        }
        Ok(Self { generation, clean, snapshot_id, oldest_log, newest_log, ledger, time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> State {
        let step = Step { lead_ms: 1, agreed_ms: 2, last_seq: 3 };
        State {
            generation: MAX_GENERATION,
            clean: true,
            snapshot_id: [9; 16],
            oldest_log: MAX_LOG_NUMBER,
            newest_log: MAX_LOG_NUMBER,
            ledger: LedgerMark {
                oldest: MAX_LOG_NUMBER,
                newest: MAX_LOG_NUMBER,
                number: 3,
                hash: [4; 32],
            },
            time: SavedTime {
                engine_ms: 1,
                wall_ms: 2,
                boot_ms: 3,
                boot_id: [4; 16],
                lag_ms: 5,
                earned_ms: 6,
                steps: vec![step; MAX_STEPS],
                correction: Some(Correction { to_ms: 7, next_number: 8 }),
            },
        }
    }

    #[test]
    fn a_full_state_is_read_back_and_fits_its_slot() {
        let payload = full().encode();
        assert!(payload.len() <= super::super::twin::MAX_PAYLOAD_LEN);
        assert_eq!(State::decode(&payload).unwrap(), full());
        let mut state = State { clean: false, ..full() };
        assert_eq!(State::decode(&state.encode()).unwrap(), state);
        state.time.correction = None;
        let shorter = state.encode();
        assert_eq!(State::decode(&shorter).unwrap(), state);
        for len in (0..payload.len()).filter(|len| *len != shorter.len()) {
            assert!(State::decode(&payload[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn numbers_that_nothing_could_have_given_do_not_pass() {
        let changes: [fn(&mut State); 6] = [
            |state| state.generation += 1,
            |state| state.oldest_log += 1,
            |state| state.newest_log += 1,
            |state| state.ledger.oldest += 1,
            |state| state.ledger.newest += 1,
            |state| state.time.steps.push(Step { lead_ms: 1, agreed_ms: 2, last_seq: 3 }),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut state = full();
            change(&mut state);
            assert!(State::decode(&state.encode()).is_err(), "{at}");
        }
    }
}
