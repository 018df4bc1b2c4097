//! Directories that somebody else has prepared: links, devices and worse under the names that a store uses.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use ebbtide::{Durability, Error, KeyspaceOptions, LogOptions, Retention, Row, Scope, Store};

use crate::fixture::{MODES, START, clock, hours, open, quiet, try_open};
use crate::tree::{below, copy};

const DIR: &str = "EBBTIDE_PLANTED_DIR";
/// Whose files they are: nobody's.
const ATTACKER: u32 = 65_534;
/// After so many seconds a process is taken to wait for ever.
const PATIENCE_S: u64 = 60;
/// Longer than what is cut off a file in one piece when it is freed.
const SECRET_BYTES: u64 = 65 << 20;
/// More than there is memory.
const HUGE_BYTES: u64 = 4 << 40;
const SEGMENT_BYTES: u64 = 4096;
const KEYS: u64 = 20;

/// What stands in the place of a file or directory of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    DanglingLink,
    LinkToFile,
    LinkToDirectory,
    HardLink,
    Fifo,
    Device,
    Socket,
    Directory,
    EmptyFile,
    HugeFile,
}

const KINDS: [Kind; 10] = [
    Kind::DanglingLink,
    Kind::LinkToFile,
    Kind::LinkToDirectory,
    Kind::HardLink,
    Kind::Fifo,
    Kind::Device,
    Kind::Socket,
    Kind::Directory,
    Kind::EmptyFile,
    Kind::HugeFile,
];

// ---- the process ----

fn images(store: &Store) -> Result<ebbtide::Keyspace, Error> {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(SEGMENT_BYTES);
    store.keyspace("images", options)
}

fn access(store: &Store) -> Result<ebbtide::Log, Error> {
    store.log("access", LogOptions::new(Retention::hours(16)).segment_bytes(SEGMENT_BYTES))
}

fn value(key: u64) -> String {
    format!("value {key} ").repeat(20)
}

/// The work of the process, if this is it: everything that a store can do, whatever it answers. Prints how
/// many values a process sees that only reads, and how many calls were answered by an error.
pub(crate) fn work() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let mapped = std::env::var("EBBTIDE_PLANTED_MAPPED").unwrap() == "true";
    let clock = clock();
    let (mut seen, mut errors) = (0, 0);
    if let Ok(store) = quiet(Store::builder(&dir), &clock).open_read_only() {
        seen = look(&store);
        // It refuses all that would change something.
        use_store(&store);
    }
    for later in [hours(0), hours(0), hours(17)] {
        clock.advance(later);
        match try_open(quiet(Store::builder(&dir), &clock), mapped) {
            Ok(store) => {
                look(&store);
                errors += use_store(&store);
            }
            Err(_) => errors += 1,
        }
    }
    println!("\n= {seen} {errors}");
}

/// Reads all there is: right bytes, nothing, or an error, and never what was invalidated.
fn look(store: &Store) -> u64 {
    let Ok(images) = store.existing_keyspace("images") else { return 0 };
    assert!(!images.contains("invalidated").is_ok_and(|there| there), "it comes back");
    let mut seen = 0;
    for key in 0..KEYS {
        if let Ok(Some(found)) = images.get(key.to_le_bytes()) {
            assert!(found[..] == *value(key).as_bytes(), "other bytes");
            seen += 1;
        }
    }
    seen
}

/// Calls all that reads or changes files; how many calls failed.
fn use_store(store: &Store) -> u64 {
    let mut failed = 0;
    let mut tell = |is_done: bool| failed += u64::from(!is_done);
    if let Ok(images) = images(store) {
        for key in 0..KEYS {
            tell(images.insert(key.to_le_bytes(), value(key)).is_ok());
        }
        let fill = images.fill("durable").tag("tag").durability(Durability::Sync);
        tell(fill.commit(b"v").is_ok());
        let writer = images.fill("streamed").memory_limit_bytes(16).into_writer();
        tell(writer.is_ok_and(|mut writer| {
            writer.write_all(&[7; 9000]).is_ok() && writer.commit().is_ok()
        }));
        tell(images.invalidate("durable").is_ok());
        tell(images.iter().all(|entry| entry.is_ok()));
        tell(images.erase("streamed").commit().is_ok());
    }
    if let Ok(access) = access(store) {
        let visitor = access.pseudonym("198.51.100.7".parse().unwrap(), store.now());
        let row = visitor.map_or_else(|_| Row::anonymous(), Row::new);
        tell(access.append(row.tag("tag").payload("row")).is_ok());
        tell(access.scan(..).is_ok_and(|mut rows| rows.all(|row| row.is_ok())));
    }
    let new = KeyspaceOptions::new(Retention::hours(16));
    tell(store.keyspace("new", new).is_ok_and(|new| new.insert("k", "v").is_ok()));
    tell(store.invalidate_tag("tag", Scope::Everything).is_ok());
    tell(store.sync().is_ok());
    tell(store.scrub().is_ok());
    tell(store.verify().is_ok_and(|report| report.problems.is_empty()));
    tell(store.verify_ledger().is_ok_and(|report| report.problems.is_empty()));
    tell(store.residue().is_ok());
    tell(store.ledger().is_ok());
    (0..20).for_each(|_| tell(store.maintain().is_ok()));
    tell(store.close().is_ok());
    failed
}

// ---- what is planted ----

/// A store as a process leaves it, with names in it that it would use next.
fn prepare(dir: &Path) -> Vec<PathBuf> {
    let clock = clock();
    for _ in 0..2 {
        let store = open(quiet(Store::builder(dir), &clock), false);
        let (images, access) = (images(&store).unwrap(), access(&store).unwrap());
        images.insert("invalidated", "value").unwrap();
        for key in 0..KEYS {
            images.insert(key.to_le_bytes(), value(key)).unwrap();
        }
        let visitor = access.pseudonym("198.51.100.7".parse().unwrap(), store.now()).unwrap();
        access.append(Row::new(visitor).payload("row")).unwrap();
        images.invalidate("invalidated").unwrap();
        store.close().unwrap();
    }
    let mut names: Vec<PathBuf> = below(dir);
    let bucket = |owner: &str| {
        let is_bucket =
            |name: &&PathBuf| name.parent() == Some(Path::new(owner)) && dir.join(name).is_dir();
        names.iter().find(is_bucket).unwrap().clone()
    };
    let (blobs, rows) = (bucket("keyspaces/images"), bucket("logs/access"));
    // A dropped bucket that waits, as a power cut leaves it.
    let trashed = PathBuf::from("trash").join(format!("{:016x}.20261101T000000000Z.{:016x}", 7, 8));
    fs::create_dir(dir.join(&trashed)).unwrap();
    fs::copy(dir.join(&rows).join("pseudonym.keys"), dir.join(&trashed).join("pseudonym.keys"))
        .unwrap();
    fs::write(dir.join(&trashed).join(format!("{:016x}.seg", 9)), [1; 5000]).unwrap();
    let inner = below(&dir.join(&trashed));
    names
        .extend(inner.iter().filter(|name| name.parent().is_some()).map(|name| trashed.join(name)));
    names.push(trashed);
    let next = format!("{:016x}", 3_u64 << 32 | 1);
    let later = START + hours(17);
    let later = later.to_string()[..13].replace(['-', ':'], "");
    names.extend(
        [
            "STORE.tmp",
            "STATE.tmp",
            "tombstones/spare.tmp",
            "tombstones/0000000002.log",
            "ledger/spare.tmp",
            "ledger/0000000002.log",
            "keyspaces/new",
            "keyspaces/images/KEYSPACE.tmp",
            "logs/access/LOG.tmp",
            "something else",
        ]
        .map(PathBuf::from),
    );
    names.push(PathBuf::from(format!("keyspaces/images/{next}.part")));
    names.push(blobs.join(format!("{next}.seg")));
    names.push(blobs.join(format!("{next}.idx")));
    for owner in ["keyspaces/images", "logs/access"] {
        names.push(PathBuf::from(format!("{owner}/{later}0000000Z")));
    }
    names
}

fn run(program: &str, args: &[&str]) {
    assert!(Command::new(program).args(args).status().unwrap().success(), "{program} {args:?}");
}

/// Everything about what lies outside of the store that must not change: length, time of the last change of
/// the contents, inode, and bytes.
type Outside = BTreeMap<PathBuf, (u64, i64, i64, u64, Vec<u8>)>;

struct Scene {
    dir: tempfile::TempDir,
    _socket: Option<UnixListener>,
}

/// Puts something in the place of what may be there. What listens has to be kept.
fn plant(place: &Path, outside: &Path, kind: Kind) -> Option<UnixListener> {
    match fs::metadata(place) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(place).unwrap(),
        Ok(_) if kind != Kind::HugeFile => fs::remove_file(place).unwrap(),
        _ => {}
    }
    let text = place.to_str().unwrap();
    let mut socket = None;
    match kind {
        Kind::DanglingLink => symlink(outside.join("nothing"), place).unwrap(),
        Kind::LinkToFile => symlink(outside.join("secret"), place).unwrap(),
        Kind::LinkToDirectory => symlink(outside.join("double"), place).unwrap(),
        Kind::HardLink => fs::hard_link(outside.join("secret"), place).unwrap(),
        Kind::Fifo => run("mkfifo", &[text]),
        // It has no end.
        Kind::Device => run("mknod", &[text, "c", "1", "5"]),
        Kind::Socket => socket = Some(UnixListener::bind(place).unwrap()),
        Kind::Directory => {
            fs::create_dir(place).unwrap();
            fs::write(place.join("file"), "x").unwrap();
        }
        Kind::EmptyFile => drop(File::create(place).unwrap()),
        // What was in it stays, and zeros follow.
        Kind::HugeFile => {
            let file = OpenOptions::new().append(true).create(true).open(place).unwrap();
            file.set_len(HUGE_BYTES).unwrap();
        }
    }
    socket
}

impl Scene {
    /// Copies a store, may put something in one place of it, and gives all of it to somebody else.
    fn new(template: &Path, name: &Path, kind: Option<Kind>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (data, outside) = (dir.path().join("data"), dir.path().join("outside"));
        copy(template, &data);
        fs::create_dir(&outside).unwrap();
        let is_root = name.as_os_str().is_empty();
        let place = if is_root { data.clone() } else { data.join(name) };
        let secret = outside.join("secret");
        let mut file = File::create(&secret).unwrap();
        file.write_all(&b"a secret ".repeat(2000)).unwrap();
        file.set_len(SECRET_BYTES).unwrap();
        // Whoever followed a link to it would go on as if nothing were wrong.
        let double = outside.join("double");
        if place.is_dir() {
            copy(&place, &double)
        } else {
            fs::create_dir(&double).unwrap()
        }
        let socket = kind.and_then(|kind| plant(&place, &outside, kind));
        for name in below(dir.path()) {
            let path = dir.path().join(name);
            if !fs::symlink_metadata(&path).unwrap().is_symlink() {
                chown(&path, Some(ATTACKER), Some(ATTACKER)).unwrap();
            }
        }
        Self { dir, _socket: socket }
    }

    fn outside(&self) -> Outside {
        let root = self.dir.path().join("outside");
        let describe = |name: PathBuf| {
            let path = root.join(&name);
            let metadata = fs::metadata(&path).unwrap();
            let bytes = if path.is_file() && metadata.len() < SECRET_BYTES {
                fs::read(&path).unwrap()
            } else if path.is_file() {
                let mut bytes = vec![0; 20_000];
                std::os::unix::fs::FileExt::read_exact_at(
                    &File::open(&path).unwrap(),
                    &mut bytes,
                    0,
                )
                .unwrap();
                bytes
            } else {
                Vec::new()
            };
            let times = (metadata.mtime(), metadata.mtime_nsec());
            (name, (metadata.len(), times.0, times.1, metadata.ino(), bytes))
        };
        below(&root).into_iter().map(describe).collect()
    }

    /// An error if something was changed, followed, or waited for.
    fn check(
        &self,
        name: &Path,
        kind: Kind,
        used: Result<(u64, u64), String>,
        before: &Outside,
    ) -> Result<(), String> {
        let (seen, _) = used?;
        if kind == Kind::LinkToDirectory
            && seen > 0
            && Path::new("keyspaces/images").starts_with(name)
        {
            return Err("it was followed".to_owned());
        }
        if self.outside() == *before {
            Ok(())
        } else {
            Err("what lies outside has changed".to_owned())
        }
    }

    /// Has a process use the store; what it printed.
    fn use_it(&self, mapped: bool) -> Result<(u64, u64), String> {
        let mut command = Command::new("timeout");
        let output = command
            .arg(PATIENCE_S.to_string())
            .arg(std::env::current_exe().unwrap())
            .args(["is_planted_on", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, self.dir.path().join("data"))
            .env("EBBTIDE_PLANTED_MAPPED", mapped.to_string())
            // Cargo names directories in which each library would be looked for first.
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap();
        if output.status.code() == Some(124) {
            return Err("it waits for ever".to_owned());
        }
        if !output.status.success() {
            return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
        }
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("= ")).unwrap();
        let (seen, errors) = line.split_once(' ').unwrap();
        Ok((seen.parse().unwrap(), errors.parse().unwrap()))
    }
}

#[test]
#[ignore = "a rig: see tests/rigs/README.md"]
fn planted_files() {
    let template = tempfile::tempdir().unwrap();
    let template = template.path().join("data");
    let names = prepare(&template);
    // What a process answers that meets nothing.
    let undisturbed = (KEYS, 0);
    for mapped in MODES {
        let used = Scene::new(&template, Path::new(""), None).use_it(mapped);
        assert_eq!(used, Ok(undisturbed), "nothing was planted");
    }
    let (mut runs, mut unharmed, mut failures, mut unmet) = (0, 0, 0, Vec::new());
    for (at, name) in names.iter().enumerate() {
        // The path of the store itself may be a link to a directory.
        let is_fine = |kind: &Kind| name.as_os_str().is_empty() && *kind == Kind::LinkToDirectory;
        let mut met = 0;
        for (nth, kind) in KINDS.into_iter().filter(|kind| !is_fine(kind)).enumerate() {
            let scene = Scene::new(&template, name, Some(kind));
            let before = scene.outside();
            let used = scene.use_it(MODES[(at + nth) % 2]);
            unharmed += u64::from(used.as_ref().is_ok_and(|(_, errors)| *errors == 0));
            met += u64::from(used.as_ref().is_ok_and(|used| *used != undisturbed));
            runs += 1;
            if let Err(what) = scene.check(name, kind, used, &before) {
                println!("{kind:?} at {}: {what}", name.display());
                failures += 1;
            }
        }
        unmet.extend((met == 0).then(|| name.display().to_string()));
    }
    // What opening clears away is of no consequence, and neither is what no store uses.
    println!("of nothing in these places was anything felt: {}", unmet.join(", "));
    assert!(unmet.len() * 4 < names.len(), "most names are none that a store uses");
    assert!(unharmed < runs, "nothing was felt of anything");
    println!("{runs} runs with {} names, {unharmed} without an error", names.len());
    assert_eq!(failures, 0);
}
