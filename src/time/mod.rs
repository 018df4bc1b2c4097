//! Time: what a moment is, where the engine reads the clocks, and which readings it trusts.

mod engine_time;
mod glance;
mod system;
mod timestamp;

pub(crate) use engine_time::{
    Correction, EngineTime, MAX_STEPS, Reading, SAVE_INTERVAL_MS, SavedTime, Step,
};
pub(crate) use glance::Glance;
pub use system::{BootId, Clock, ManualClock, SystemClock};
pub use timestamp::Timestamp;
