//! The clocks: the trait, the system's, and one set by hand for tests.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Timestamp;
use crate::sync::Mutex;

/// Names one boot of the machine; two readings of [`Clock::boot_ms`] compare only under the same.
pub type BootId = [u8; 16];

/// Where the engine reads the time. It reads two clocks, since the one on the wall can be set.
pub trait Clock: Debug + Send + Sync {
    /// What the wall clock says; may jump.
    fn wall(&self) -> Timestamp;
    /// Milliseconds of a clock that never jumps while the machine is up and counts its sleep.
    fn boot_ms(&self) -> u64;
    /// Which boot [`Clock::boot_ms`] belongs to; all zeros if that cannot be known.
    fn boot_id(&self) -> BootId;
}

/// The operating system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[cfg(target_os = "linux")]
const STEADY: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const STEADY: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::default() + since_epoch
    }

    fn boot_ms(&self) -> u64 {
        let time = rustix::time::clock_gettime(STEADY);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
    }

    fn boot_id(&self) -> BootId {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let mut id = BootId::default();
        if digits.len() == 32 {
            for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
                let pair = std::str::from_utf8(pair).unwrap_or_default();
                *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
            }
        }
        id
    }
}

/// A clock set by hand, for tests of code that embeds a store. Clones share the time.
///
/// ```
/// use std::time::Duration;
/// use ebbtide::{Clock, ManualClock, Timestamp};
///
/// let clock = ManualClock::new(Timestamp::from_millis(1_000));
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.wall().as_millis(), 3_000);
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock {
    reading: Arc<Mutex<Reading>>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    wall: Timestamp,
    boot_ms: u64,
    boot: u64,
}

impl ManualClock {
    /// A clock whose wall shows `wall` and stands still.
    pub fn new(wall: Timestamp) -> Self {
        Self { reading: Arc::new(Mutex::new(Reading { wall, boot_ms: 1_000_000, boot: 1 })) }
    }

    /// A clock that shows the same, of the same boot, and goes its own way from here on: for a copy of a
    /// store, as [`MemoryDisk::fork`](crate::disk::MemoryDisk::fork) makes one.
    pub fn fork(&self) -> Self {
        let reading = *self.reading.lock();
        Self { reading: Arc::new(Mutex::new(reading)) }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut reading = self.reading.lock();
        reading.wall = reading.wall + by;
        reading.boot_ms = reading.boot_ms.saturating_add(millis(by));
    }

    /// Sets the wall clock, as an administrator or a time server does; no time passes.
    pub fn set_wall(&self, wall: Timestamp) {
        self.reading.lock().wall = wall;
    }

    /// The machine is off for so long and starts again; its wall clock went on.
    pub fn reboot(&self, off_for: Duration) {
        let mut reading = self.reading.lock();
        reading.wall = reading.wall + off_for;
        reading.boot += 1;
        reading.boot_ms = 10_000;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        self.reading.lock().wall
    }

    fn boot_ms(&self) -> u64 {
        self.reading.lock().boot_ms
    }

    fn boot_id(&self) -> BootId {
        let mut id = BootId::default();
        let boot = self.reading.lock().boot;
        for (byte, value) in id.iter_mut().zip(boot.to_le_bytes()) {
            *byte = value;
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_the_systems() {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let before = now();
        let wall = SystemClock.wall().as_millis();
        assert!((before..=now()).contains(&wall), "{wall} after {before}");
    }

    #[test]
    #[cfg(all(target_os = "linux", not(miri)))]
    fn the_boot_clock_is_the_systems() {
        // Hundredths of a second, cut off.
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            let (seconds, rest) = text.split_once('.').unwrap();
            seconds.parse::<u64>().unwrap() * 1000 + rest[..2].parse::<u64>().unwrap() * 10
        };
        let before = uptime();
        let boot_ms = SystemClock.boot_ms();
        assert!((before..uptime() + 10).contains(&boot_ms), "{boot_ms} after {before}");
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let id: String = SystemClock.boot_id().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(id, text.trim().replace('-', ""));
    }

    #[test]
    fn a_clock_set_by_hand_moves_as_it_is_told() {
        let clock = ManualClock::new(Timestamp::from_millis(9_000));
        let (boot_ms, boot_id) = (clock.boot_ms(), clock.boot_id());
        assert_ne!(boot_id, BootId::default(), "zeros would mean that it is not known");
        clock.clone().advance(Duration::from_secs(3));
        assert_eq!((clock.wall().as_millis(), clock.boot_ms()), (12_000, boot_ms + 3_000));
        clock.set_wall(Timestamp::from_millis(5));
        assert_eq!((clock.wall().as_millis(), clock.boot_ms()), (5, boot_ms + 3_000));
        let mut boots = vec![boot_id];
        for _ in 0..3 {
            clock.reboot(Duration::from_secs(1));
            assert!(clock.boot_ms() < boot_ms, "it starts anew");
            assert!(!boots.contains(&clock.boot_id()));
            boots.push(clock.boot_id());
        }
        assert_eq!(clock.wall().as_millis(), 3_005);
        let fork = clock.fork();
        fork.advance(Duration::from_secs(1));
        assert_eq!((fork.wall().as_millis(), clock.wall().as_millis()), (4_005, 3_005));
        assert_eq!(fork.boot_id(), clock.boot_id());
        clock.advance(Duration::MAX);
        assert_eq!((clock.wall(), clock.boot_ms()), (Timestamp::MAX, u64::MAX));
    }
}
