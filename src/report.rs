//! What opening and verifying found: [`RecoveryReport`] and [`VerifyReport`].

use std::path::PathBuf;

pub use crate::engine::Problem;

/// What opening the store found, in three words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Files whose end had been written but was never made durable whole, as after a power cut or
    /// a killed process. Nothing that had been acknowledged as durable is missing.
    pub torn_tails: Vec<PathBuf>,
    /// Files in which something that had been durable cannot be read any more. What it might have
    /// superseded or hidden is not served.
    pub corrupt_records: Vec<PathBuf>,
    /// Files that another version of this crate wrote. They are left alone and not served.
    pub unknown_versions: Vec<PathBuf>,
}

impl RecoveryReport {
    /// True if there was nothing to report.
    pub fn is_clean(&self) -> bool {
        self.torn_tails.is_empty()
            && self.corrupt_records.is_empty()
            && self.unknown_versions.is_empty()
    }
}

/// What walking through everything found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Files looked into.
    pub files: u64,
    /// Records and blocks of rows whose checksums were compared.
    pub records: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Everything that is wrong, up to [`MAX_PROBLEMS`](VerifyReport::MAX_PROBLEMS).
    pub problems: Vec<Problem>,
    /// What else seemed wrong and is not listed, so that a store that is rotten all over costs no more
    /// memory than this takes.
    pub problems_left_out: u64,
}

impl VerifyReport {
    /// So many problems are listed at most.
    pub const MAX_PROBLEMS: usize = 10_000;

    pub(crate) fn note(&mut self, problem: Problem) {
        if self.problems.len() < Self::MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.problems_left_out += 1;
        }
    }
}
