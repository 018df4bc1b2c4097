//! Taking times, and what the system says of this process and of directories.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::peer::Result;

pub const MB: f64 = 1e6;

/// How often the clock is read while a rate is measured.
const OPS_PER_LOOK: u64 = 16;

/// How long something took.
pub fn time<T>(run: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let start = Instant::now();
    std::hint::black_box(run()?);
    Ok(start.elapsed())
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Operations a second, numbered from 0: as many as fit the time, `most` at most.
pub fn rate(span: Duration, most: u64, op: impl FnMut(u64) -> Result<()>) -> Result<f64> {
    let (count, taken) = repeat(span, most, op)?;
    Ok(count as f64 / taken.as_secs_f64())
}

/// As [`rate`]: how many operations, in what time.
pub fn repeat(
    span: Duration,
    most: u64,
    mut op: impl FnMut(u64) -> Result<()>,
) -> Result<(u64, Duration)> {
    let start = Instant::now();
    let mut count = 0;
    while count < most && start.elapsed() < span {
        let end = most.min(count + OPS_PER_LOOK);
        for number in count..end {
            op(number)?;
        }
        count = end;
    }
    Ok((count, start.elapsed()))
}

/// What threads that begin together give, each called with its number.
pub fn side_by_side<T: Send>(
    threads: u64,
    run: impl Fn(u64) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let start = Barrier::new(threads as usize);
    std::thread::scope(|scope| {
        let begin = |thread| {
            let (start, run) = (&start, &run);
            scope.spawn(move || {
                start.wait();
                run(thread)
            })
        };
        let running: Vec<_> = (0..threads).map(begin).collect();
        let joined = running.into_iter().map(|thread| match thread.join() {
            Ok(given) => given,
            Err(_) => Err("a thread has died".into()),
        });
        joined.collect()
    })
}

/// The rate of all threads together.
pub fn rate_of_threads(
    threads: u64,
    span: Duration,
    op: impl Fn(u64, u64) -> Result<()> + Sync,
) -> Result<f64> {
    let rates = side_by_side(threads, |thread| rate(span, u64::MAX, |number| op(thread, number)))?;
    Ok(rates.iter().sum())
}

/// The time within which 99 of 100 operations were done, in microseconds.
pub fn p99_us(
    mut goes_on: impl FnMut(Instant) -> bool,
    mut op: impl FnMut(u64) -> Result<()>,
) -> Result<f64> {
    let mut times = Vec::with_capacity(1 << 20);
    let mut before = Instant::now();
    while goes_on(before) {
        op(times.len() as u64)?;
        let now = Instant::now();
        times.push((now - before).as_nanos() as u64);
        before = now;
    }
    times.sort_unstable();
    let at = (times.len() * 99 / 100).min(times.len().saturating_sub(1));
    Ok(*times.get(at).ok_or("nothing was measured")? as f64 / 1e3)
}

/// Bytes that this process has caused to be written to the disk.
pub fn written_bytes() -> Result<u64> {
    number_in("/proc/self/io", "write_bytes:")
}

/// Memory that is this process's alone.
pub fn private_bytes() -> Result<u64> {
    let rollup = "/proc/self/smaps_rollup";
    let kilobytes = number_in(rollup, "Private_Clean:")? + number_in(rollup, "Private_Dirty:")?;
    Ok(kilobytes * 1024)
}

fn number_in(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()).ok_or("no such line")?;
    Ok(number.parse()?)
}

/// Calls something with each file under a directory.
fn for_each_file(dir: &Path, visit: &mut impl FnMut(&Path) -> Result<()>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // What a store removes meanwhile is not there.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => for_each_file(&entry.path(), visit)?,
            Ok(kind) if kind.is_file() => visit(&entry.path())?,
            _ => {}
        }
    }
    Ok(())
}

/// Bytes of blocks that the files of a directory take.
pub fn allocated_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for_each_file(dir, &mut |path| {
        bytes += std::fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512);
        Ok(())
    })?;
    Ok(bytes)
}

/// Writes the files of a directory to the disk and drops them from the page cache, as far as nobody
/// has them mapped.
pub fn drop_page_cache(dir: &Path) -> Result<()> {
    rustix::fs::syncfs(File::open(dir)?)?;
    for_each_file(dir, &mut |path| {
        let file = File::open(path)?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(())
    })
}
