//! What one child has found out.

use crate::peer::{Result, Unsupported};

/// In what a figure is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    OpsPerSecond,
    MegabytesPerSecond,
    Milliseconds,
    Microseconds,
    Nanoseconds,
    Megabytes,
    Bytes,
    /// So many times something else; less is better.
    Times,
    /// So much of something; more is better.
    Share,
}

impl Unit {
    /// As it stands in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpsPerSecond => "ops/s",
            Self::MegabytesPerSecond => "MB/s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "µs",
            Self::Nanoseconds => "ns",
            Self::Megabytes => "MB",
            Self::Bytes => "B",
            Self::Times => "times",
            Self::Share => "share",
        }
    }
}

/// True if more of a unit is better.
pub fn more_is_better(unit: &str) -> bool {
    unit.ends_with("/s") || unit == Unit::Share.name()
}

/// Figures in the order they were taken.
#[derive(Default)]
pub struct Figures {
    pub taken: Vec<(String, Unit, f64)>,
}

impl Figures {
    pub fn push(&mut self, work: &str, unit: Unit, value: f64) {
        self.taken.push((work.to_owned(), unit, value));
    }

    /// Takes a figure, or leaves it out if the peer cannot do what it takes.
    pub fn take(
        &mut self,
        work: &str,
        unit: Unit,
        measure: impl FnOnce() -> Result<f64>,
    ) -> Result<()> {
        match measure() {
            Ok(value) => self.push(work, unit, value),
            Err(failure) if failure.is::<Unsupported>() => {}
            Err(failure) => return Err(format!("{work}: {failure}").into()),
        }
        Ok(())
    }
}
