//! Two sides measured in one run, and the table of what came out.

use std::path::Path;
use std::time::{Duration, Instant};

/// How long something took.
pub(crate) fn time<T>(run: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let _ = std::hint::black_box(run());
    start.elapsed()
}

/// The value in the middle.
pub(crate) fn median<T: Copy + PartialOrd>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
    sorted[sorted.len() / 2]
}

/// Runs two things in turn and gives the median time of each. Which one goes first changes, so that
/// neither always pays for what the other left.
pub(crate) fn in_turn(
    times: usize,
    mut left: impl FnMut() -> Duration,
    mut right: impl FnMut() -> Duration,
) -> (Duration, Duration) {
    let (mut lefts, mut rights) = (Vec::new(), Vec::new());
    for turn in 0..times {
        if turn % 2 == 0 {
            lefts.push(left());
            rights.push(right());
        } else {
            rights.push(right());
            lefts.push(left());
        }
    }
    (median(&lefts), median(&rights))
}

/// The times of both sides, ours first, a pair from each round.
#[derive(Default)]
pub(crate) struct Rounds {
    pairs: Vec<(Duration, Duration)>,
}

impl Rounds {
    pub(crate) fn push(&mut self, pair: (Duration, Duration)) {
        self.pairs.push(pair);
    }

    fn ratios(&self) -> Vec<f64> {
        self.pairs.iter().map(|(a, b)| a.as_secs_f64() / b.as_secs_f64()).collect()
    }
}

/// Lines of the table.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<String>,
}

impl Report {
    /// Adds two sides. `each` is into how many operations a time is divided.
    pub(crate) fn add(
        &mut self,
        what: &str,
        against: &str,
        rounds: &Rounds,
        each: u32,
        goal: Option<f64>,
    ) {
        let ours: Vec<Duration> = rounds.pairs.iter().map(|(ours, _)| *ours / each).collect();
        let other: Vec<Duration> = rounds.pairs.iter().map(|(_, other)| *other / each).collect();
        let ratios = rounds.ratios();
        let ratio = median(&ratios);
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let verdict = match goal {
            Some(goal) if ratio <= goal => format!("≤ {goal}: met"),
            Some(goal) => format!("≤ {goal}: missed"),
            None => String::new(),
        };
        let (ours, other) = (short(median(&ours)), short(median(&other)));
        let count = ratios.len();
        self.lines.push(format!(
            "| {what} | {ours} | {against} | {other} | {ratio:.2} ({least:.2}–{most:.2}, {count} rounds) | {verdict} |"
        ));
        eprintln!("{what}: {ratio:.2}");
    }

    /// Adds a figure that is compared with nothing.
    pub(crate) fn note(&mut self, what: &str, figure: &str) {
        self.lines.push(format!("| {what} | {figure} | | | | |"));
        eprintln!("{what}: {figure}");
    }

    /// Prints all of it.
    pub(crate) fn print(&self, dir: &Path) {
        println!("{}\n", machine(dir));
        println!("| what | ebbtide | against | takes | ratio: median (min–max) | goal |");
        println!("|---|---|---|---|---|---|");
        for line in &self.lines {
            println!("{line}");
        }
    }
}

fn short(time: Duration) -> String {
    let ns = time.as_nanos() as f64;
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

/// What the figures were taken on.
pub(crate) fn machine(dir: &Path) -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map_or("unknown CPU", |pair| pair.1);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let system = std::env::consts::OS;
    let files = file_system(&read("/proc/self/mounts"), dir);
    format!("{model}, {cores} cores, {system} {}, {files}", kernel.trim())
}

/// The file system of a directory: that of the longest mount point it lies under.
fn file_system(mounts: &str, dir: &Path) -> String {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| fields.get(1).is_some_and(|point| dir.starts_with(point)));
    let nearest = above.max_by_key(|fields| fields[1].len());
    nearest.map_or("unknown file system".to_owned(), |fields| fields[2].to_owned())
}

/// Megabytes that wait in the page cache to be written, where that is known.
pub(crate) fn dirty_megabytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("Dirty:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024)
}
