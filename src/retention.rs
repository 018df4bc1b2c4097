//! The rules of retention, as pure arithmetic: windows, bucket widths, deadlines.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::time::Timestamp;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// A window has at least this many buckets, so that forgetting a bucket early by its width costs
/// at most a sixteenth of the window.
pub(crate) const MIN_BUCKETS: u64 = 16;
/// The most buckets a window may have.
pub(crate) const MAX_BUCKETS: u64 = 4096;
/// The longest window: a hundred years.
pub(crate) const MAX_WINDOW_MS: u64 = 36_525 * DAY_MS;

/// How long data is kept, at most. Without one, no keyspace or log can be made.
///
/// Time is cut into buckets of [`Retention::bucket_width`], aligned to the Unix epoch. A bucket, and with
/// it everything in it, is gone at its start plus the window: a record lives between the window
/// less the width and the window, and never longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    window_ms: u64,
    width_ms: Option<u64>,
}

impl Retention {
    /// A window of so many days.
    pub const fn days(days: u32) -> Self {
        Self { window_ms: days as u64 * DAY_MS, width_ms: None }
    }

    /// A window of so many hours.
    pub const fn hours(hours: u32) -> Self {
        Self { window_ms: hours as u64 * 60 * MINUTE_MS, width_ms: None }
    }

    /// A window of any length from 16 minutes to 100 years.
    pub fn window(window: Duration) -> Self {
        Self { window_ms: saturating_millis(window), width_ms: None }
    }

    /// Sets the bucket width: whole minutes, at most a 16th and at least a 4,096th of the window.
    /// Without it, the smaller of a day and a 16th of the window is taken, in whole minutes, or a
    /// 4,096th where that is more.
    pub fn bucket_width(mut self, width: Duration) -> Self {
        self.width_ms = Some(saturating_millis(width));
        self
    }

    /// Checks the rules and gives the fixed pair of window and width.
    pub(crate) fn resolve(self) -> Result<Window> {
        let window_ms = self.window_ms;
        Error::check_limit(
            "retention window in milliseconds",
            MIN_BUCKETS * MINUTE_MS,
            MAX_WINDOW_MS,
            window_ms,
        )?;
        let widest = window_ms / MIN_BUCKETS / MINUTE_MS * MINUTE_MS;
        let narrowest = window_ms.div_ceil(MAX_BUCKETS).max(MINUTE_MS);
        let default = widest.min(DAY_MS).max(narrowest.next_multiple_of(MINUTE_MS));
        let width_ms = self.width_ms.unwrap_or(default);
        Error::check_limit("bucket width in milliseconds", narrowest, widest, width_ms)?;
        if !width_ms.is_multiple_of(MINUTE_MS) {
            return Err(Error::Limit {
                what: "bucket width beyond whole minutes, in milliseconds",
                min: 0,
                max: 0,
                given: width_ms % MINUTE_MS,
            });
        }
        Ok(Window { window_ms, width_ms })
    }
}

/// Buckets that stand beside an aligned one start within this span of it.
const BESIDE: Duration = Duration::from_secs(1);

/// A checked [`Retention`]: what a keyspace or log was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// How long a bucket is kept from its start.
    pub(crate) window_ms: u64,
    /// How much time a bucket spans.
    pub(crate) width_ms: u64,
}

impl Window {
    /// Takes a pair read from disk, unless it breaks the rules.
    pub(crate) fn from_parts(window_ms: u64, width_ms: u64) -> Option<Self> {
        let retention = Retention { window_ms, width_ms: Some(width_ms) };
        retention.resolve().ok()
    }

    /// The start of the bucket that holds this moment.
    pub(crate) fn bucket_start(self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis() / self.width_ms * self.width_ms)
    }

    /// True of the start of a bucket: an aligned one, or one that stands beside it.
    pub(crate) fn is_start(self, moment: Timestamp) -> bool {
        moment.since(self.bucket_start(moment)) < BESIDE
    }

    /// The end of a bucket: the start of the next.
    pub(crate) fn bucket_end(self, start: Timestamp) -> Timestamp {
        self.bucket_start(start) + Duration::from_millis(self.width_ms)
    }

    /// When everything in a bucket is gone.
    pub(crate) fn deadline(self, start: Timestamp) -> Timestamp {
        self.bucket_start(start) + Duration::from_millis(self.window_ms)
    }

    /// The start of the oldest bucket still kept at `now`.
    pub(crate) fn oldest_start(self, now: Timestamp) -> Timestamp {
        let oldest = now.as_millis().checked_sub(self.window_ms).map_or(0, |gone| gone + 1);
        Timestamp::from_millis(oldest.div_ceil(self.width_ms).saturating_mul(self.width_ms))
            .min(self.bucket_start(now))
    }
}

fn saturating_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_width_is_a_day_or_a_sixteenth() {
        assert_eq!(Retention::days(30).resolve().unwrap().width_ms, DAY_MS);
        assert_eq!(Retention::hours(16).resolve().unwrap().width_ms, 60 * MINUTE_MS);
        assert_eq!(Retention::hours(1).resolve().unwrap().width_ms, 3 * MINUTE_MS);
    }

    #[test]
    fn windows_and_widths_beyond_the_limits_are_refused() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        assert!(Retention::window(minutes(16)).resolve().is_ok());
        assert!(Retention::window(minutes(16) - Duration::from_millis(1)).resolve().is_err());
        assert!(Retention::days(0).resolve().is_err());
        assert!(Retention::window(Duration::MAX).resolve().is_err());
        assert!(Retention::hours(16).bucket_width(minutes(60)).resolve().is_ok());
        assert!(Retention::hours(16).bucket_width(minutes(61)).resolve().is_err());
        assert!(Retention::hours(16).bucket_width(Duration::from_secs(90)).resolve().is_err());
        assert!(Retention::days(30).bucket_width(minutes(10)).resolve().is_err());
        assert!(Retention::days(30).bucket_width(minutes(11)).resolve().is_ok());
    }

    #[test]
    fn a_bucket_ends_where_the_next_one_starts() {
        let window = Retention::hours(16).resolve().unwrap();
        let start = window.bucket_start(Timestamp::from_millis(1_795_267_800_000));
        assert_eq!(window.bucket_end(start).since(start), Duration::from_secs(3600));
        assert_eq!(window.bucket_start(window.bucket_end(start)), window.bucket_end(start));
    }

    #[test]
    fn oldest_start_is_the_first_bucket_before_its_deadline() {
        let window = Retention::hours(16).resolve().unwrap();
        for now in [0, 1, 57_599_999, 57_600_000, 57_600_001, 1_795_267_800_250] {
            let now = Timestamp::from_millis(now);
            let oldest = window.oldest_start(now);
            assert!(window.deadline(oldest) > now, "{now}");
            if let Some(before) = oldest.as_millis().checked_sub(window.width_ms) {
                assert!(window.deadline(Timestamp::from_millis(before)) <= now, "{now}");
            }
        }
    }
}
