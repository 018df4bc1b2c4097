//! The process that writes: it notes what it begins, and what it was told.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ebbtide::{
    Durability, Error, Keyspace, KeyspaceOptions, Log, LogOptions, ManualClock, Outcome, Receipt,
    Retention, Row, Store, Value,
};

use crate::fixture::{Random, clock, open, quiet, try_open, value_of};
use crate::model::Model;

pub(crate) const KEYS: u64 = 40;
pub(crate) const LONGEST: u64 = 9000;
pub(crate) const LONGEST_ROW: u64 = 300;
pub(crate) const SEGMENT_BYTES: u64 = 65_536;
/// How many values the process holds at a time.
const HELD: usize = 3;
/// A key of the first record there is, which goes only with everything that leaves to make room.
pub(crate) const CANARY: &str = "canary";
/// So many calls of each kind this thread makes before its work, if it is to be ahead.
const AHEAD: usize = 32;
/// Bytes that the allocator maps by themselves.
const MAPPED_ALONE: usize = 256 << 10;
const DIR: &str = "EBBTIDE_OUTSIDE_DIR";
/// Set if the thread that works is to be ahead of the first one.
pub(crate) const IS_AHEAD: &str = "EBBTIDE_OUTSIDE_AHEAD";

pub(crate) fn images(store: &Store) -> Result<Keyspace, Error> {
    images_in(store, SEGMENT_BYTES)
}

fn images_in(store: &Store, segment_bytes: u64) -> Result<Keyspace, Error> {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(segment_bytes);
    store.keyspace("images", options)
}

pub(crate) fn access(store: &Store) -> Result<Log, Error> {
    access_in(store, SEGMENT_BYTES)
}

fn access_in(store: &Store, segment_bytes: u64) -> Result<Log, Error> {
    let options = LogOptions::new(Retention::hours(16)).segment_bytes(segment_bytes);
    store.log("access", options)
}

/// Opens a store that must open.
pub(crate) fn opened(dir: &Path, mapped: bool) -> Store {
    opened_at(dir, mapped, &clock())
}

/// Opens it at another time.
pub(crate) fn opened_at(dir: &Path, mapped: bool, clock: &ManualClock) -> Store {
    open(quiet(Store::builder(dir), clock), mapped)
}

/// How to start the process.
pub(crate) struct Child<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) notes: &'a Path,
    pub(crate) mapped: bool,
    pub(crate) operations: u64,
    pub(crate) segment_bytes: u64,
}

impl Child<'_> {
    /// The command, to be run by itself or by another program that comes before it.
    pub(crate) fn command(
        &self,
        before: &[String],
        model: &Model,
        choices: &mut Random,
    ) -> Command {
        let program = std::env::current_exe().unwrap().into_os_string();
        let mut words = before.iter().map(Into::into).chain([program]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .args(["writes", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, self.dir)
            .env("EBBTIDE_OUTSIDE_NOTES", self.notes)
            .env("EBBTIDE_OUTSIDE_SEED", choices.next().to_string())
            .env("EBBTIDE_OUTSIDE_VERSION", (model.version + 1).to_string())
            .env("EBBTIDE_OUTSIDE_OPERATIONS", self.operations.to_string())
            .env("EBBTIDE_OUTSIDE_MAPPED", u8::from(self.mapped).to_string())
            .env("EBBTIDE_OUTSIDE_SEGMENT_BYTES", self.segment_bytes.to_string())
            .env("EBBTIDE_OUTSIDE_CANARY", u8::from(model.canary.is_none()).to_string())
            // Cargo names directories in which each library would be looked for first.
            .env_remove("LD_LIBRARY_PATH")
            .stdout(Stdio::null());
        command
    }
}

/// The work of the process, if this is it.
pub(crate) fn write() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    if std::env::var_os(IS_AHEAD).is_some() {
        go_ahead();
    }
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let notes = std::env::var_os("EBBTIDE_OUTSIDE_NOTES").unwrap();
    let mut notes = OpenOptions::new().append(true).create(true).open(notes).unwrap();
    let mapped = number("EBBTIDE_OUTSIDE_MAPPED") == 1;
    let Ok(store) = try_open(quiet(Store::builder(&dir), &clock()), mapped) else { return };
    let segment_bytes = number("EBBTIDE_OUTSIDE_SEGMENT_BYTES");
    let images = images_in(&store, segment_bytes);
    let (Ok(images), Ok(access)) = (images, access_in(&store, segment_bytes)) else { return };
    let mut held = Held::default();
    let mut choices = Random::new(number("EBBTIDE_OUTSIDE_SEED"));
    // An invalidation that cannot be written down may take segments away, or everything, and says so.
    let (mut evicted, widened) = (0, Cell::new(false));
    let durable = "durable".to_owned();
    let hidden = |receipt: Receipt| {
        widened.set(widened.get() || receipt.widened());
        durable.clone()
    };
    let mut step = |intent: String, work: &mut dyn FnMut() -> Result<String, Error>| {
        notes.write_all(format!("> {intent}\n").as_bytes()).unwrap();
        let answer = work().unwrap_or_else(|error| match error {
            Error::NoSpace { .. } => "failed, full".to_owned(),
            _ => "failed".to_owned(),
        });
        let now_evicted = store.stats().segments_evicted;
        let is_less = now_evicted > evicted || widened.take();
        let more = if is_less { "> evicted\n< done\n" } else { "" };
        evicted = now_evicted;
        notes.write_all(format!("< {answer}\n{more}").as_bytes()).unwrap();
    };
    if number("EBBTIDE_OUTSIDE_CANARY") == 1 {
        step("canary".to_owned(), &mut || {
            let fill = images.fill(CANARY).durability(Durability::Sync);
            fill.commit("here").map(|_| durable.clone())
        });
    }
    let first = number("EBBTIDE_OUTSIDE_VERSION");
    for version in first..first.saturating_add(number("EBBTIDE_OUTSIDE_OPERATIONS")) {
        let key = choices.below(KEYS);
        let name = key.to_le_bytes();
        let value = || value_of(key, version, LONGEST);
        match choices.below(100) {
            0..40 => step(format!("insert {key} {version}"), &mut || {
                images.insert(name, value()).map(|()| "written".to_owned())
            }),
            40..60 => step(format!("fill {key} {version}"), &mut || {
                let fill = images.fill(name).durability(Durability::Sync).tag(tag(key));
                assert_eq!(fill.commit(value())?, Outcome::Stored);
                Ok(durable.clone())
            }),
            60..75 => {
                step(format!("invalidate {key}"), &mut || images.invalidate(name).map(hidden))
            }
            75..80 => step(format!("invalidate_tag {key}"), &mut || {
                images.invalidate_tag(tag(key)).map(hidden)
            }),
            80..90 => step(format!("row {version}"), &mut || {
                let row = Row::anonymous().payload(value_of(0, version, LONGEST_ROW));
                access.append(row).map(|id| id.to_string())
            }),
            90..97 => step("sync".to_owned(), &mut || store.sync().map(|()| durable.clone())),
            _ => step("maintain".to_owned(), &mut || store.maintain().map(|_| "done".to_owned())),
        }
        held.look_up(&images, choices.below(KEYS));
    }
    let _ = store.close();
}

/// Makes more calls of each kind than the first thread has made. strace counts each thread by itself, and a
/// number that both reach would be that of a call before `main` as well.
fn go_ahead() {
    let maps: Vec<Vec<u8>> = (0..AHEAD).map(|_| black_box(vec![0; MAPPED_ALONE])).collect();
    for _ in 0..AHEAD {
        let file = File::open("/dev/null").unwrap();
        black_box(file.metadata().unwrap());
        assert_eq!(file.read_at(&mut [0], 0).unwrap(), 0);
    }
    drop(maps);
}

/// One tag for four keys.
fn tag(key: u64) -> String {
    format!("tag-{}", key / 4)
}

/// Values that were read and are held for a while: their bytes are right, and do not change.
#[derive(Default)]
struct Held {
    values: VecDeque<(Value, Vec<u8>)>,
}

impl Held {
    /// Reads a key, and lets go of the value that was held longest. An error is an answer.
    fn look_up(&mut self, images: &Keyspace, key: u64) {
        if let Ok(Some(value)) = images.get(key.to_le_bytes()) {
            let (number, _) = value.split_first_chunk::<8>().unwrap();
            let expected = value_of(key, u64::from_le_bytes(*number), LONGEST);
            assert!(value[..] == expected, "the bytes of another value");
            self.values.push_back((value, expected));
        }
        if self.values.len() > HELD
            && let Some((value, expected)) = self.values.pop_front()
        {
            assert!(value[..] == expected, "a value changed while it was held");
        }
    }
}
