//! Wall clocks that are wrong, with the system's clocks and real time.
//!
//! A program that comes before the process falsifies its wall clock. It cannot do so with the boot-time
//! clock and the id of the boot, which the process reads without the C library; these come from a namespace
//! for time and from a file that is put over the id, which root may do.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ebbtide::{KeyspaceOptions, LogOptions, Retention, Row, Scope, Store};

use crate::fixture::{MODES, try_open};

const DIR: &str = "EBBTIDE_CLOCKS_DIR";
const WINDOW_MS: u64 = 16 * 3_600_000;
/// Later than all that was written is kept.
const PAST_THE_WINDOW_S: u64 = 17 * 3600;
/// The grace that is shorter than what the steps of a run take.
const SHORT_GRACE_MS: u64 = 500;
const LONG_GRACE_MS: u64 = 3_600_000;
/// What the engine's time may be off by: rounding, and a minute for each boot.
const SLACK_MS: u64 = 5 * 60_000;
/// Wrong clocks, and whether they are ahead.
const WRONG: [(&str, bool); 4] = [
    ("+40d", true),
    ("-40d", false),
    ("@2099-01-01 00:00:00", true),
    ("@1970-01-02 00:00:00", false),
];
const RIGHT: &str = "+0";
/// What the dates among them stand for.
const DATES_MS: [(&str, u64); 2] =
    [("@2099-01-01 00:00:00", 4_070_908_800_000), ("@1970-01-02 00:00:00", 86_400_000)];
const DAY_MS: u64 = 86_400_000;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

// ---- the process ----

/// The work of the process, if this is it: what it was told, and what it sees.
pub(crate) fn work() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let word = |name: &str| std::env::var(name).unwrap();
    let grace_ms = word("EBBTIDE_CLOCKS_GRACE_MS").parse().unwrap();
    let builder = Store::builder(dir).background(false);
    let builder = builder.tombstone_log_bytes(4096).ledger_file_bytes(4096);
    let builder = builder.clock_grace(Duration::from_millis(grace_ms));
    let store = try_open(builder, word("EBBTIDE_CLOCKS_MAPPED") == "true").unwrap();
    for act in word("EBBTIDE_CLOCKS_ACTS").split(' ') {
        let (verb, what) = act.split_once(':').unwrap_or((act, ""));
        match verb {
            "put" => put(&store, what, u64::MAX),
            "brief" => put(&store, what, 1000),
            "forget" => {
                store.invalidate_tag(what, Scope::Everything).unwrap();
            }
            "wait" => keep_up(&store, what.parse().unwrap()),
            "look" => look(&store),
            "reset" => store.reset_clock().unwrap(),
            "close" => store.close().unwrap(),
            "die" => std::process::exit(0),
            other => panic!("{other}"),
        }
    }
}

/// A value and a row that say their name. A value of which the time is short expires by itself.
fn put(store: &Store, name: &str, for_ms: u64) {
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::hours(16))).unwrap();
    let mut fill = images.fill(name).tag(name);
    if for_ms < WINDOW_MS {
        fill = fill.expires_at(store.now() + Duration::from_millis(for_ms));
    } else {
        let access = store.log("access", LogOptions::new(Retention::hours(16))).unwrap();
        access.append(Row::anonymous().tag(name).payload(format!("row of {name}"))).unwrap();
    }
    let _ = fill.commit(format!("value of {name}")).unwrap();
    store.sync().unwrap();
}

/// Does the upkeep for so long of real time.
fn keep_up(store: &Store, for_ms: u64) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(for_ms) {
        store.maintain().unwrap();
    }
}

/// Says what can be seen, what the time is, and how long what is seen is kept at most.
fn look(store: &Store) {
    let now = store.now();
    let images = store.existing_keyspace("images").unwrap();
    let access = store.existing_log("access").unwrap();
    let (mut seen, mut longest_ms) = (Vec::new(), 0);
    for entry in images.iter() {
        let key = entry.unwrap().key().to_vec();
        let (value, stat) = (images.get(&key).unwrap(), images.stat(&key).unwrap());
        // It may go between the calls.
        let (Some(value), Some(stat)) = (value, stat) else { continue };
        let name = String::from_utf8(key).unwrap();
        assert_eq!(value[..], *format!("value of {name}").as_bytes());
        longest_ms = longest_ms.max(stat.gone_at().since(now).as_millis() as u64);
        seen.push(format!("value of {name}"));
    }
    for row in access.scan(..).unwrap() {
        let row = row.unwrap();
        longest_ms = longest_ms.max(row.gone_at().since(now).as_millis() as u64);
        seen.push(String::from_utf8(row.payload().to_vec()).unwrap());
    }
    let boot = fs::read_to_string(BOOT_ID).unwrap();
    let (now_ms, wall_ms, boot) = (now.as_millis(), wall_ms(), boot.trim());
    println!("\n= {now_ms} {wall_ms} {boot} {longest_ms} {}", seen.join(","));
}

// ---- the clocks around it ----

/// When a process runs: by the wall, by the clock of the boot, and in which boot.
#[derive(Debug, Clone, Copy)]
struct When<'a> {
    wall: &'a str,
    later_s: u64,
    boot: u8,
}

/// What a process saw at one look.
#[derive(Debug)]
struct Seen {
    now_ms: u64,
    /// What the clocks of the process said.
    wall_ms: u64,
    boot: String,
    longest_ms: u64,
    names: BTreeSet<String>,
}

/// A store in a machine whose clocks can be told wrong things.
struct Rig<'a> {
    dir: &'a Path,
    mapped: bool,
    grace_ms: u64,
    /// True if the clock of the boot and its id can be chosen.
    can_boot: bool,
    last_boot: Cell<u8>,
}

impl Rig<'_> {
    /// Runs a process and gives what it saw.
    fn run(&self, when: When<'_>, acts: &str) -> Vec<Seen> {
        let mut words: Vec<String> = Vec::new();
        self.last_boot.set(when.boot);
        if self.can_boot {
            let id = self.dir.join("boot_id");
            fs::write(&id, boot_id(when.boot) + "\n").unwrap();
            let over = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id; exec \"$@\"";
            words.extend(["unshare", "--mount", "--time", "--boottime"].map(str::to_owned));
            words.extend([when.later_s.to_string(), "sh".to_owned(), "-ec".to_owned()]);
            words.extend([over.to_owned(), id.to_str().unwrap().to_owned()]);
        }
        words.extend(["faketime", "-f", when.wall].map(str::to_owned));
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg(std::env::current_exe().unwrap())
            .args(["keeps_time", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, self.dir.join("data"))
            .env("EBBTIDE_CLOCKS_ACTS", acts)
            .env("EBBTIDE_CLOCKS_GRACE_MS", self.grace_ms.to_string())
            .env("EBBTIDE_CLOCKS_MAPPED", self.mapped.to_string())
            .env("TZ", "UTC")
            // Cargo names directories in which each library would be looked for first.
            .env_remove("LD_LIBRARY_PATH");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{when:?} {acts}: {said}");
        let text = String::from_utf8(output.stdout).unwrap();
        let seen = text.lines().filter_map(|line| line.strip_prefix("= ")).map(Seen::parse);
        seen.inspect(|seen| self.is_deceived(when, seen)).collect()
    }

    /// The process had the clocks it was to have.
    fn is_deceived(&self, when: When<'_>, seen: &Seen) {
        let expected = when.wall_ms();
        assert!(seen.wall_ms.abs_diff(expected) <= SLACK_MS, "{when:?}: {}", seen.wall_ms);
        let boot = self.can_boot.then(|| boot_id(when.boot));
        assert!(boot.is_none_or(|boot| boot == seen.boot), "{when:?}: {}", seen.boot);
    }

    /// Runs a process that looks once, and compares what it sees with these names of values and rows.
    fn expect(&self, when: When<'_>, acts: &str, names: &[&str]) -> Seen {
        let seen = self.run(when, acts).pop().unwrap();
        let both =
            names.iter().flat_map(|name| [format!("value of {name}"), format!("row of {name}")]);
        assert_eq!(seen.names, both.collect(), "{when:?} {acts}, mapped {}", self.mapped);
        assert!(seen.longest_ms <= WINDOW_MS, "{when:?} {acts}: kept for {} ms", seen.longest_ms);
        seen
    }

    /// True if the value and the row of this name, or either of them, lie in some file.
    fn is_on_disk(&self, name: &str) -> bool {
        let needles = [format!("value of {name}"), format!("row of {name}")];
        any_file(&self.dir.join("data"), &|bytes| {
            let has = |needle: &String| bytes.windows(needle.len()).any(|w| w == needle.as_bytes());
            needles.iter().any(has)
        })
    }
}

impl Seen {
    fn parse(line: &str) -> Self {
        let mut words = line.splitn(5, ' ');
        let mut word = || words.next().unwrap();
        let (now_ms, wall_ms) = (word().parse().unwrap(), word().parse().unwrap());
        let (boot, longest_ms) = (word().to_owned(), word().parse().unwrap());
        let names = word().split(',').filter(|name| !name.is_empty()).map(str::to_owned);
        Self { now_ms, wall_ms, boot, longest_ms, names: names.collect() }
    }

    /// The engine's time is the right one.
    fn is_right(&self, later_s: u64) {
        let right = wall_ms() + later_s * 1000;
        assert!(self.now_ms.abs_diff(right) <= SLACK_MS, "{} and not {right}", self.now_ms);
    }
}

impl When<'_> {
    /// What a wall clock says then.
    fn wall_ms(&self) -> u64 {
        if let Some((_, ms)) = DATES_MS.iter().find(|(date, _)| *date == self.wall) {
            return *ms;
        }
        let (sign, amount) = self.wall.split_at(1);
        let (amount, unit_ms) = amount.strip_suffix('d').map_or((amount, 1000), |n| (n, DAY_MS));
        let by_ms = amount.parse::<u64>().unwrap() * unit_ms;
        if sign == "+" { wall_ms() + by_ms } else { wall_ms() - by_ms }
    }
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// The id of a boot; zeros would stand for one that cannot be known.
fn boot_id(boot: u8) -> String {
    format!("{:032x}", boot + 1)
}

fn any_file(dir: &Path, is_it: &dyn Fn(&[u8]) -> bool) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() { any_file(&path, is_it) } else { is_it(&fs::read(path).unwrap()) }
    })
}

// ---- what must hold ----

#[test]
#[ignore = "a rig: see tests/rigs/README.md"]
fn wrong_clocks() {
    let can_boot = std::env::var_os("EBBTIDE_BOOTS").is_some();
    if !can_boot {
        println!(
            "!! SKIPPED: no other boots and no hours that pass: this needs root and unshare --time"
        );
    }
    let mut runs = 0;
    for (wall, is_ahead) in WRONG {
        for mapped in MODES {
            for reboots in [false, true].into_iter().filter(|reboots| can_boot || !reboots) {
                on_a_rig(mapped, LONG_GRACE_MS, can_boot, |rig| {
                    a_step_that_is_taken_back(rig, wall, is_ahead, reboots);
                });
                on_a_rig(mapped, LONG_GRACE_MS, can_boot, |rig| {
                    a_store_that_is_made_at_a_wrong_time(rig, wall, is_ahead, reboots);
                });
                runs += 2;
            }
            for resets in [false, true].into_iter().filter(|_| is_ahead) {
                on_a_rig(mapped, SHORT_GRACE_MS, can_boot, |rig| {
                    a_step_that_is_stood_by(rig, wall, resets);
                });
                runs += 1;
            }
        }
        println!("{wall}: as promised, {runs} runs so far");
    }
}

fn on_a_rig(mapped: bool, grace_ms: u64, can_boot: bool, check: impl Fn(&Rig<'_>)) {
    let dir = tempfile::tempdir().unwrap();
    let last_boot = Cell::new(0);
    check(&Rig { dir: dir.path(), mapped, grace_ms, can_boot, last_boot });
}

/// The wall clock is wrong now and then, for less than the grace.
fn a_step_that_is_taken_back(rig: &Rig<'_>, wall: &str, is_ahead: bool, reboots: bool) {
    let right = |boot| When { wall: RIGHT, later_s: 0, boot };
    let boot = |count: u8| if reboots { count } else { 0 };
    let acts = "put:kept put:invalidated forget:invalidated brief:brief wait:1200 look close";
    rig.expect(right(0), acts, &["kept"]).is_right(0);
    let wrong = When { wall, ..right(boot(1)) };
    let hidden = |names: &'static [&'static str]| if is_ahead { &[] } else { names };
    rig.expect(wrong, "wait:200 look close", hidden(&["kept"]));
    let seen = rig.run(wrong, "put:false look die").pop().unwrap();
    assert!(seen.names.contains("value of false"), "what is stored can be read");
    assert!(seen.longest_ms <= WINDOW_MS);
    assert!(rig.is_on_disk("kept"), "destroyed by a step that nothing confirmed");

    rig.expect(right(boot(2)), "wait:200 look close", &["false", "kept"]).is_right(0);
    let wrong = When { wall, ..right(boot(3)) };
    rig.expect(wrong, "wait:200 look die", hidden(&["false", "kept"]));
    rig.expect(right(boot(4)), "look close", &["false", "kept"]).is_right(0);
    nothing_outlives_the_window(rig, wall);
}

/// The wall clock has been wrong for longer than the grace, and so is believed.
fn a_step_that_is_stood_by(rig: &Rig<'_>, wall: &str, resets: bool) {
    let right = When { wall: RIGHT, later_s: 0, boot: 0 };
    rig.expect(right, "put:kept put:invalidated forget:invalidated look close", &["kept"]);
    rig.expect(When { wall, ..right }, "wait:1500 put:false look close", &["false"]);
    assert!(!rig.is_on_disk("kept"), "what is over is destroyed");
    rig.expect(right, "wait:200 look close", &["false"]);
    let acts = if resets { "reset put:present look close" } else { "put:present look close" };
    let seen = rig.expect(right, acts, &["false", "present"]);
    if resets {
        seen.is_right(0);
    }
    rig.expect(right, "wait:200 look close", &["false", "present"]);
    nothing_outlives_the_window(rig, wall);
}

/// The wall clock is wrong when the store is made.
fn a_store_that_is_made_at_a_wrong_time(rig: &Rig<'_>, wall: &str, is_ahead: bool, reboots: bool) {
    let right = When { wall: RIGHT, later_s: 0, boot: u8::from(reboots) };
    let wrong = When { wall, later_s: 0, boot: 0 };
    rig.expect(wrong, "put:early put:invalidated forget:invalidated look close", &["early"]);
    // A right clock that seems far ahead is suspect itself: it hides, and destroys nothing.
    let names: &[&str] = if is_ahead { &["early", "present"] } else { &["present"] };
    rig.expect(right, "wait:200 put:present look close", names);
    assert!(rig.is_on_disk("early"), "destroyed by a step that nothing confirmed");
    nothing_outlives_the_window(rig, wall);
}

/// Hours pass, and all is gone, whatever the clock says then.
fn nothing_outlives_the_window(rig: &Rig<'_>, wall: &str) {
    if !rig.can_boot {
        return;
    }
    // In the boot of the last process, so that the hours count.
    let boot = rig.last_boot.get();
    let hours = format!("+{PAST_THE_WINDOW_S}");
    let later = When { wall: &hours, later_s: PAST_THE_WINDOW_S, boot };
    rig.expect(later, "look wait:200 close", &[]);
    for name in ["kept", "false", "early", "present", "invalidated"] {
        assert!(!rig.is_on_disk(name), "{name} is on the disk");
    }
    let afterwards =
        [(wall, boot), (RIGHT, boot), (wall, boot + 1), (RIGHT, boot + 2), ("-40d", boot + 3)];
    for (wall, boot) in afterwards {
        rig.expect(When { wall, later_s: 0, boot }, "look wait:100 close", &[]);
    }
}
