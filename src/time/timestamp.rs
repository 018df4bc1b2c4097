//! [`Timestamp`]: a moment in milliseconds since the Unix epoch, and how it is written down.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Milliseconds since the Unix epoch, UTC. Arithmetic saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

/// A calendar reading of a [`Timestamp`].
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    milli: u64,
}

impl Timestamp {
    /// The latest moment that can be expressed.
    pub const MAX: Self = Self(u64::MAX);

    /// A moment so many milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// True if so much time has passed since a moment that the engine had noted. If that lies ahead, the
    /// clock has been set right since, and nobody knows how much has.
    pub(crate) fn is_due(self, noted: Self, after: Duration) -> bool {
        self < noted || self.since(noted) >= after
    }

    /// The form used in directory names: `20261121T000000000Z`.
    pub(crate) fn compact(self) -> String {
        let c = self.civil();
        format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}{:03}Z",
            c.year, c.month, c.day, c.hour, c.minute, c.second, c.milli
        )
    }

    /// Reads the form written by [`Timestamp::compact`]; nothing else is accepted.
    pub(crate) fn from_compact(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() < 19 || !text.is_ascii() {
            return None;
        }
        let (year, rest) = text.split_at(text.len() - 15);
        let number = |range: std::ops::Range<usize>| -> Option<u64> {
            let digits = rest.get(range)?;
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let year: u64 = year.parse().ok()?;
        let days = days_from_civil(year, number(0..2)?, number(2..4)?)?;
        let seconds = number(5..7)? * 3600 + number(7..9)? * 60 + number(9..11)?;
        let millis = days.checked_mul(86_400_000)?.checked_add(seconds * 1000 + number(11..14)?)?;
        let moment = Self(millis);
        (moment.compact() == text).then_some(moment)
    }

    fn civil(self) -> Civil {
        let days = self.0 / 86_400_000;
        let in_day = self.0 % 86_400_000;
        // Days to a date in the proleptic Gregorian calendar, after Howard Hinnant's
        // "chrono-Compatible Low-Level Date Algorithms" (civil_from_days).
        let z = days + 719_468;
        let era = z / 146_097;
        let day_of_era = z % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        Civil {
            year,
            month,
            day,
            hour: in_day / 3_600_000,
            minute: in_day / 60_000 % 60,
            second: in_day / 1000 % 60,
            milli: in_day % 1000,
        }
    }
}

/// Days since the epoch of a date from 1970 on (`days_from_civil` of the same paper).
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era.checked_mul(146_097)?.checked_add(day_of_era)?.checked_sub(719_468)
}

impl fmt::Display for Timestamp {
    /// RFC 3339, e.g. `2026-11-21T09:30:00.250Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.civil();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            c.year, c.month, c.day, c.hour, c.minute, c.second, c.milli
        )
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_written_as_calendars_do() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_267_800_250, "2026-11-21T13:30:00.250Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ];
        for (millis, text) in cases {
            assert_eq!(Timestamp::from_millis(millis).to_string(), text);
        }
    }

    #[test]
    fn every_day_of_a_few_centuries_follows_the_one_before() {
        let is_leap = |year: u64| {
            year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
        };
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for at in 0..160_000 {
            let moment = Timestamp::from_millis(at * 86_400_000);
            let text = format!("{year}{month:02}{day:02}T000000000Z");
            assert_eq!(moment.compact(), text);
            assert_eq!(Timestamp::from_compact(&text), Some(moment));
            let days = match month {
                2 => 28 + u64::from(is_leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > days {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert!(year > 2400);
    }

    #[test]
    fn arithmetic_saturates() {
        let second = Duration::from_secs(1);
        let moment = Timestamp::from_millis(5_000);
        assert_eq!((moment + second).as_millis(), 6_000);
        assert_eq!((moment - second).as_millis(), 4_000);
        assert_eq!((moment + second).since(moment), second);
        assert_eq!(moment.since(moment + second), Duration::ZERO);
        assert_eq!(Timestamp::MAX + second, Timestamp::MAX);
        assert_eq!(moment + Duration::MAX, Timestamp::MAX);
        assert_eq!(moment - Duration::MAX, Timestamp::default());
    }

    #[test]
    fn compact_form_is_read_back_and_nothing_else_is() {
        for millis in [0, 1, 86_399_999, 951_868_799_999, 1_795_267_800_250, u64::MAX / 2, u64::MAX]
        {
            let moment = Timestamp::from_millis(millis);
            assert_eq!(Timestamp::from_compact(&moment.compact()), Some(moment), "{millis}");
        }
        for text in [
            "",
            "20261121",
            "20261321T000000000Z",
            "20260230T000000000Z",
            "20261121T240000000Z",
            "+0261121T000000000Z",
            "20261121T000000000z",
            "020261121T000000000Z",
            "2026112\u{e9}T00000000Z",
            "202\u{e9}1121T00000000Z",
            "20260300T000000000Z",
            "00000101T000000000Z",
            "19691231T000000000Z",
            "99999999999999999999999T000000000Z",
            "184467440737095516150101T000000000Z",
        ] {
            assert_eq!(Timestamp::from_compact(text), None, "{text}");
        }
    }
}
