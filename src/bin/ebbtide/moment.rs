//! Times and spans of time as they are typed: RFC 3339, or so long before or after now.

use std::str::FromStr;
use std::time::Duration;

use ebbtide::Timestamp;

const DAY_MS: u64 = 86_400_000;
const MINUTE_MS: u64 = 60_000;

/// A moment as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A date and time.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
    /// So long from now.
    Ahead(Duration),
}

impl Moment {
    /// The moment it is if it is now.
    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => now - span,
            Self::Ahead(span) => now + span,
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "now" {
            return Ok(Self::Ago(Duration::ZERO));
        }
        if let Some(span) = text.strip_prefix('-') {
            return parse_span(span).map(Self::Ago);
        }
        if let Some(span) = text.strip_prefix('+') {
            return parse_span(span).map(Self::Ahead);
        }
        let wrong = "use 2026-11-21T09:30:00Z, 2026-11-21, -2d, -3h30m, +1w or now";
        parse_rfc3339(text).map(Self::At).ok_or_else(|| wrong.to_owned())
    }
}

/// Reads a span such as `90s`, `1h30m` or `2w`.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || "use a span such as 90s, 15m, 1h30m, 2d or 1w".to_owned();
    let mut total_ms: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => MINUTE_MS,
            "h" => 60 * MINUTE_MS,
            "d" => DAY_MS,
            "w" => 7 * DAY_MS,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part_ms = number.checked_mul(unit_ms).ok_or_else(wrong)?;
        total_ms = total_ms.checked_add(part_ms).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Reads a date and time with its offset from UTC, or a date, whose midnight in UTC is meant.
fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    if !text.is_ascii() || text.len() < 10 {
        return None;
    }
    let (date, rest) = text.split_at(10);
    let date_ms = parse_date(date)?.checked_mul(DAY_MS)?;
    if rest.is_empty() {
        return Some(Timestamp::from_millis(date_ms));
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone_at);
    let local_ms = date_ms.checked_add(parse_time(time)?)?;
    let (offset_ms, is_ahead) = parse_zone(zone)?;
    let millis = if is_ahead {
        local_ms.checked_sub(offset_ms)?
    } else {
        local_ms.checked_add(offset_ms)?
    };
    Some(Timestamp::from_millis(millis))
}

/// Reads `YYYY-MM-DD` as days since the epoch.
fn parse_date(text: &str) -> Option<u64> {
    let year = number(text, 0, 4)?;
    let (month, day) = (number(text, 5, 2)?, number(text, 8, 2)?);
    let separated = text.get(4..5)? == "-" && text.get(7..8)? == "-";
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !separated || year < 1970 || day < 1 || day > last {
        return None;
    }
    // Years begin in March here, which puts the leap day at their end.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    days.checked_sub(719_468)
}

/// Reads `HH:MM`, `HH:MM:SS` or `HH:MM:SS.fff` as milliseconds; finer digits are cut off.
fn parse_time(text: &str) -> Option<u64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let (hour, minute) = (number(clock, 0, 2)?, number(clock, 3, 2)?);
    let second = match clock.len() {
        5 if clock == text => 0,
        8 if clock.get(5..6)? == ":" => number(clock, 6, 2)?,
        _ => return None,
    };
    let digits_only = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if clock.get(2..3)? != ":" || hour > 23 || minute > 59 || second > 59 || !digits_only {
        return None;
    }
    let millis = number(&format!("{fraction:0<3}"), 0, 3)?;
    Some((hour * 60 + minute) * MINUTE_MS + second * 1000 + millis)
}

/// Reads `Z` or `+HH:MM`: how far, and whether it is ahead of UTC.
fn parse_zone(text: &str) -> Option<(u64, bool)> {
    if text.eq_ignore_ascii_case("z") {
        return Some((0, true));
    }
    let (hour, minute) = (number(text, 1, 2)?, number(text, 4, 2)?);
    let whole = text.len() == 6 && text.get(3..4)? == ":" && hour <= 23 && minute <= 59;
    whole.then(|| ((hour * 60 + minute) * MINUTE_MS, text.starts_with('+')))
}

/// Reads so many digits.
fn number(text: &str, start: usize, len: usize) -> Option<u64> {
    let digits = text.get(start..start + len)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_read_back_as_they_are_written() {
        for millis in [0, 951_782_400_000, 1_795_267_800_250, 4_102_444_799_999] {
            let at = Timestamp::from_millis(millis);
            assert_eq!(at.to_string().parse::<Moment>().unwrap(), Moment::At(at));
        }
        let same =
            ["2026-11-21T13:30Z", "2026-11-21 14:30:00.0009+01:00", "2026-11-21T08:00:00-05:30"];
        for text in same {
            let at = Timestamp::from_millis(1_795_267_800_000);
            assert_eq!(text.parse::<Moment>().unwrap(), Moment::At(at), "{text}");
        }
        let midnight = Timestamp::from_millis(951_782_400_000);
        assert_eq!("2000-02-29".parse::<Moment>().unwrap(), Moment::At(midnight));
    }

    #[test]
    fn spans_are_read_and_all_else_is_refused() {
        assert_eq!(parse_span("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!("-2d".parse::<Moment>().unwrap(), Moment::Ago(Duration::from_secs(172_800)));
        let wrong = [
            "",
            "-",
            "+",
            "5",
            "-5",
            "-5y",
            "2026-02-29",
            "2026-13-01",
            "2026-11-21T09:30",
            "2026-11-21T24:00Z",
            "2026-11-21T09:30:00.Z",
            "1969-12-31",
            "2026-11-21T09:30+1:00",
            "-99999999999999999999d",
            "2026-11",
            "2026-11-2\u{e9}",
            "2026/11-21",
            "2026-11/21",
            "2026-11-00",
            "2026-04-31",
            "1900-02-29",
            "2100-02-29",
            "2026-11-21T09.30Z",
            "2026-11-21T09:60Z",
            "2026-11-21T09:30:60Z",
            "2026-11-21T09:30.5Z",
            "2026-11-21T09:30;10Z",
            "2026-11-21T09:30:10.1xZ",
            "2026-11-21T09:30+01.00",
            "2026-11-21T09:30+24:00",
            "2026-11-21T09:30+01:60",
            "2026-11-21T09:30+01:000",
            "1970-01-01T00:00+01:00",
        ];
        for text in wrong {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}
