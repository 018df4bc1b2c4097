//! Sizes and spans of time as people read them.

use std::time::Duration;

use ebbtide::Timestamp;

/// A number of bytes, e.g. `139.6 KiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut unit_bytes: u64 = 1024;
    while bytes / unit_bytes >= 1024 {
        unit += 1;
        unit_bytes *= 1024;
    }
    let tenths = bytes % unit_bytes * 10 / unit_bytes;
    format!("{}.{tenths} {}", bytes / unit_bytes, UNITS[unit])
}

/// A span of time by its two largest units, e.g. `29d 3h`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
    };
    if days > 0 {
        two(days, "d", hours, "h")
    } else if hours > 0 {
        two(hours, "h", minutes, "m")
    } else if minutes > 0 {
        two(minutes, "m", seconds % 60, "s")
    } else {
        format!("{seconds}s")
    }
}

/// As [`span`], of milliseconds.
pub(crate) fn span_ms(millis: u64) -> String {
    span(Duration::from_millis(millis))
}

/// The time left until a moment, or that it has passed.
pub(crate) fn left(until: Timestamp, now: Timestamp) -> String {
    if until <= now { "over".to_owned() } else { span(until.since(now)) }
}

/// A span as JSON has it.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_have_the_unit_that_fits() {
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (142_987, "139.6 KiB")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(64 << 20), "64.0 MiB");
        assert_eq!(size(u64::MAX), "15.9 EiB");
        let spans = [(59, "59s"), (60, "1m"), (5400, "1h 30m"), (86_400, "1d"), (97_200, "1d 3h")];
        for (seconds, text) in spans {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
