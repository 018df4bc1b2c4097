//! The command, run as a script would run it, on stores made with the library.
#![allow(clippy::unwrap_used)] // In a helper of a test, too, a panic is how a test fails.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use ebbtide::{KeyspaceOptions, LogOptions, ManualClock, Retention, Row, Store, Timestamp};
use serde_json::Value;
use tempfile::TempDir;

/// A key that is not UTF-8.
const ODD_KEY: &[u8] = b"thumb\xff\n";
const ROWS: usize = 50;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn photo(name: &str) -> Vec<u8> {
    fs::read(data("photos").join(name)).unwrap()
}

fn log_lines() -> Vec<String> {
    let text = fs::read_to_string(data("access.log")).unwrap();
    text.lines().take(ROWS).map(str::to_owned).collect()
}

/// Photos in a keyspace, and lines of an access log in a log, a second apart, the last one now.
fn fill(store: &Store) {
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::days(30))).unwrap();
    let flower = images.fill("flower.jpg").tag("plants").metadata("image/jpeg");
    let _ = flower.commit(photo("flower.jpg")).unwrap();
    let china = images.fill("china.jpg").tag("places").metadata(b"\xff\xfe");
    let _ = china.commit(photo("china.jpg")).unwrap();
    images.insert(ODD_KEY, b"odd").unwrap();
    let access = store.log("access", LogOptions::new(Retention::days(30))).unwrap();
    let mut appender = access.appender();
    for (at, line) in log_lines().iter().enumerate() {
        let time = store.now() - Duration::from_secs((ROWS - 1 - at) as u64);
        let (client, rest) = line.split_once(' ').unwrap();
        let visitor = access.pseudonym(client.parse().unwrap(), time).unwrap();
        appender.append(Row::new(visitor).at(time).payload(rest)).unwrap();
    }
    appender.flush().unwrap();
}

/// A closed store in a directory of its own.
fn closed_store() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::builder(&path).background(false).open().unwrap();
    fill(&store);
    store.close().unwrap();
    (dir, path)
}

struct Ran {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn text(&self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""));
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// The documents on standard output, one per line.
    #[track_caller]
    fn documents(&self) -> Vec<Value> {
        let text = std::str::from_utf8(&self.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    fn document(&self) -> Value {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""));
        let mut documents = self.documents();
        assert_eq!(documents.len(), 1);
        documents.remove(0)
    }

    /// Fails unless it ended with this code and one line of text that says all of this.
    #[track_caller]
    fn assert_failed(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert!(self.stderr.starts_with("ebbtide: "), "{}", self.stderr);
        for part in says {
            assert!(self.stderr.contains(part), "{part:?} is not in {}", self.stderr);
        }
    }
}

/// A subcommand on a store.
fn command(subcommand: &str, store: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    command.arg(subcommand).arg(store).args(args).stdin(Stdio::null());
    command
}

fn run(subcommand: &str, store: &Path, args: &[&str]) -> Ran {
    Ran::new(command(subcommand, store, args).output().unwrap())
}

/// The files under a directory whose names end so.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The segment that holds the photos.
fn image_segment(store: &Path) -> PathBuf {
    let segments = files(store, ".seg");
    let flower = photo("flower.jpg");
    let holds = |path: &PathBuf| fs::read(path).unwrap().windows(64).any(|w| w == &flower[..64]);
    segments.into_iter().find(holds).unwrap()
}

/// Flips a byte of the first photo.
fn damage(segment: &Path) {
    let flower = photo("flower.jpg");
    let mut bytes = fs::read(segment).unwrap();
    let at = bytes.windows(64).position(|window| window == &flower[..64]).unwrap();
    bytes[at + 1000] ^= 1;
    fs::write(segment, bytes).unwrap();
}

#[test]
fn help_states_the_exit_codes_and_the_json_documents() {
    let help =
        Ran::new(Command::new(env!("CARGO_BIN_EXE_ebbtide")).arg("--help").output().unwrap());
    let text = help.text();
    assert!(text.contains("Exit codes:") && text.contains("another process has the store open"));
    let names = "info buckets ls get put stat explain invalidate erase tail scan residue verify ledger \
         dump drop-expired";
    for name in names.split(' ') {
        assert!(text.contains(&format!("\n  {name} ")), "{name}");
        let help = Command::new(env!("CARGO_BIN_EXE_ebbtide")).args([name, "--help"]).output();
        assert!(Ran::new(help.unwrap()).text().contains("JSON"), "{name}");
    }
}

#[test]
fn info_says_what_there_is() {
    let (_dir, store) = closed_store();
    let text = run("info", &store, &[]).text();
    assert!(text.contains("keyspaces   1\n") && text.contains("as expected"), "{text}");
    let document = run("info", &store, &["--json"]).document();
    assert_eq!((&document["keyspaces"], &document["logs"]), (&1.into(), &1.into()));
    assert!(document["used_bytes"].as_u64().unwrap() > 300_000);
    assert_eq!(document["corrupt"], Value::Array(vec![]));
}

#[test]
fn buckets_are_listed_with_their_deadlines() {
    let (_dir, store) = closed_store();
    let text = run("buckets", &store, &[]).text();
    assert!(text.starts_with("KIND"), "{text}");
    assert!(text.contains("29d ") && text.contains("access"), "{text}");
    let documents = run("buckets", &store, &["images", "--json"]).documents();
    assert_eq!(documents.len(), 1);
    assert_eq!((&documents[0]["records"], &documents[0]["live"]), (&3.into(), &3.into()));
    run("buckets", &store, &["nobody"]).assert_failed(1, &["nobody"]);
}

#[test]
fn residue_explains_every_file() {
    let (_dir, store) = closed_store();
    fs::write(store.join("stranger"), "?").unwrap();
    let text = run("residue", &store, &[]).text();
    assert!(text.starts_with("KIND"), "{text}");
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap();
    assert!(line("stranger").ends_with("  not ours"), "{text}");
    assert!(line(".seg").contains("  keyspace images  ") && line(".seg").contains("20"), "{text}");
    assert!(line("STORE").contains("  -  "), "{text}");
    let documents = run("residue", &store, &["--json"]).documents();
    let told: Vec<&str> = documents.iter().map(|item| item["path"].as_str().unwrap()).collect();
    for path in files(&store, "") {
        assert_eq!(told.iter().filter(|told| path == Path::new(told)).count(), 1, "{path:?}");
    }
    let of = |kind: &str| documents.iter().find(|item| item["kind"] == kind).unwrap();
    let keys = of("pseudonym keys");
    assert_eq!((&keys["owner"], &keys["name"]), (&"log".into(), &"access".into()));
    assert!(keys["until"].is_string() && keys["bucket"].is_string(), "{keys}");
    assert!(of("segment")["bytes"].as_u64().unwrap() > 300_000);
    assert_eq!(of("unknown")["until"], Value::Null);
    run("residue", &store.join("none"), &[]).assert_failed(3, &["none"]);
}

#[test]
fn ls_lists_owners_and_keys() {
    let (_dir, store) = closed_store();
    let text = run("ls", &store, &[]).text();
    assert_eq!(text.lines().count(), 3, "{text}");
    let owners = run("ls", &store, &["--json"]).documents();
    assert_eq!((&owners[0]["name"], &owners[0]["keys"]), (&"images".into(), &3.into()));
    assert_eq!((&owners[1]["kind"], &owners[1]["keys"]), (&"log".into(), &Value::Null));

    let text = run("ls", &store, &["images"]).text();
    assert!(text.contains("139.6 KiB") && text.contains("  thumb\\xff\\n\n"), "{text}");
    let keys = run("ls", &store, &["images", "--json"]).documents();
    let names: Vec<&str> = keys.iter().map(|key| key["key"].as_str().unwrap()).collect();
    assert_eq!(names, ["china.jpg", "flower.jpg", "thumb\\xff\\n"]);
    assert_eq!(keys[2]["key_hex"], "7468756d62ff0a");
    assert!(keys[0].get("key_hex").is_none());

    let limited = run("ls", &store, &["images", "--json", "--limit", "1"]).documents();
    assert_eq!((limited.len(), &limited[0]["key"]), (1, &"china.jpg".into()));
    let prefixed = run("ls", &store, &["images", "--json", "--prefix", "fl"]).documents();
    assert_eq!((prefixed.len(), &prefixed[0]["key"]), (1, &"flower.jpg".into()));
    run("ls", &store, &["access"]).assert_failed(1, &["is a log"]);
    run("ls", &store, &["nobody"]).assert_failed(1, &["nobody"]);
}

#[test]
fn get_gives_the_bytes_back() {
    let (dir, store) = closed_store();
    let ran = run("get", &store, &["images", "flower.jpg"]);
    assert_eq!((ran.code, ran.stdout == photo("flower.jpg")), (0, true));
    let saved = dir.path().join("saved.jpg");
    let saved_text = saved.to_str().unwrap();
    let text = run("get", &store, &["images", "china.jpg", "-o", saved_text]).text();
    assert!(text.contains("192.0 KiB"), "{text}");
    assert_eq!(fs::read(&saved).unwrap(), photo("china.jpg"));
    assert_eq!(run("get", &store, &["images", "china.jpg", "-q", "-o", saved_text]).text(), "");

    let ran = run("get", &store, &["images", "china.jpg", "--json", "-o", saved_text]).document();
    assert_eq!((&ran["output"], &ran["value_len"]), (&saved_text.into(), &196_653.into()));
    assert_eq!((&ran["metadata"], &ran["metadata_hex"]), (&"\\xff\\xfe".into(), &"fffe".into()));
    let ran = run("get", &store, &["images", "7468756d62ff0a", "--hex-key"]);
    assert_eq!((ran.code, ran.stdout.as_slice()), (0, &b"odd"[..]));
    run("get", &store, &["images", "7", "--hex-key"]).assert_failed(2, &["hexadecimal"]);
    run("get", &store, &["images", "flower.jpg", "-o", "/no/such/dir"]).assert_failed(5, &["/no"]);
}

#[test]
fn stat_tells_what_is_known_of_a_key() {
    let (_dir, store) = closed_store();
    let text = run("stat", &store, &["images", "flower.jpg"]).text();
    assert!(text.contains("metadata    image/jpeg\n"), "{text}");
    assert!(text.contains("139.6 KiB (142987 bytes)"), "{text}");
    let document = run("stat", &store, &["images", "flower.jpg", "--json"]).document();
    assert_eq!((&document["value_len"], &document["tags"]), (&142_987.into(), &1.into()));
    assert_eq!(document["value_hash"].as_str().unwrap().len(), 32);
}

#[test]
fn what_is_not_there_is_exit_code_1() {
    let (_dir, store) = closed_store();
    for name in ["get", "stat"] {
        run(name, &store, &["images", "rose.jpg"]).assert_failed(1, &["rose.jpg"]);
        run(name, &store, &["nobody", "rose.jpg"]).assert_failed(1, &["nobody"]);
    }
    run("tail", &store, &["nobody"]).assert_failed(1, &["nobody"]);
    run("scan", &store, &["images"]).assert_failed(1, &["is a keyspace"]);
    run("invalidate", &store, &["nobody", "--all"]).assert_failed(1, &["nobody"]);
    run("put", &store, &["nobody", "a"]).assert_failed(1, &["--window-days"]);
    let ran = run("get", &store, &["images", "rose.jpg", "--json"]);
    let error: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((&error["error"], &error["exit_code"]), (&"not_found".into(), &1.into()));
    assert_eq!((ran.code, ran.stdout.len()), (1, 0));
}

#[test]
fn put_stores_from_a_file_and_from_standard_input() {
    let (_dir, store) = closed_store();
    let path = data("photos/china.jpg");
    let args = ["images", "new.jpg", path.to_str().unwrap(), "--tag", "a", "--tag", "b"];
    assert!(run("put", &store, &args).text().starts_with("stored new.jpg, 192.0 KiB, gone at "));
    assert_eq!(run("get", &store, &["images", "new.jpg"]).stdout, photo("china.jpg"));

    let args = ["images", "typed", "--json", "--metadata", "m", "--expires-in", "1h30m"];
    let mut command = command("put", &store, &args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from a pipe").unwrap();
    let document = Ran::new(child.wait_with_output().unwrap()).document();
    assert_eq!((&document["value_len"], &document["metadata"]), (&11.into(), &"m".into()));
    let left_ms = document["left_ms"].as_u64().unwrap();
    assert!((5_300_000..=5_400_000).contains(&left_ms), "{left_ms}");
    assert_eq!(run("get", &store, &["images", "typed"]).stdout, b"from a pipe");

    let until = "2999-01-01T00:00:00Z";
    let bounded = run("put", &store, &["images", "late", "--json", "--expires-at", until]);
    let left_ms = bounded.document()["left_ms"].as_u64().unwrap();
    assert!(left_ms <= 30 * 86_400_000, "{left_ms}: the window ends first");
    run("put", &store, &["images", "a", "--expires-at", "-1h"]).assert_failed(2, &["has passed"]);
    run("put", &store, &["images", "a", "/no/such/file"]).assert_failed(5, &["/no/such/file"]);
}

#[test]
fn put_creates_a_keyspace_only_if_told_its_window() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("new");
    run("put", &store, &["notes", "a"]).assert_failed(3, &["there is no store"]);
    assert!(!store.exists());
    run("put", &store, &["notes", "a", "--window-days", "7", "--quiet"]).text();
    let owners = run("ls", &store, &["--json"]).documents();
    assert_eq!(owners[0]["window_ms"], 7 * 86_400_000);
    run("put", &store, &["No Name", "a", "--window-days", "7"]).assert_failed(2, &["No Name"]);
}

#[test]
fn invalidate_hides_a_key_a_tag_and_everything() {
    let (_dir, store) = closed_store();
    let text = run("invalidate", &store, &["images", "--tag", "plants"]).text();
    assert!(text.starts_with("hid all that carries the tag plants in images ("), "{text}");
    run("stat", &store, &["images", "flower.jpg"]).assert_failed(1, &[]);
    let receipt = run("invalidate", &store, &["images", "china.jpg", "--json"]).document();
    assert_eq!(receipt["target"], "key");
    assert!(["hidden", "scrubbed"].contains(&receipt["level"].as_str().unwrap()), "{receipt}");
    assert!(receipt["sequence"].as_u64().unwrap() > 0);
    run("stat", &store, &["images", "china.jpg"]).assert_failed(1, &[]);
    assert_eq!(run("ls", &store, &["images", "--json"]).documents().len(), 1);
    let receipt = run("invalidate", &store, &["images", "--all", "--json"]).document();
    assert_eq!(receipt["target"], "all");
    assert!(run("ls", &store, &["images", "--json"]).documents().is_empty());
}

#[test]
fn a_tag_is_hidden_in_all_of_a_store() {
    let (_dir, path) = closed_store();
    let store = Store::open(&path).unwrap();
    let access = store.existing_log("access").unwrap();
    access.append(Row::anonymous().tag("plants").payload("about flowers")).unwrap();
    store.close().unwrap();
    let rows = |path: &Path| run("scan", path, &["access", "--json"]).documents().len();
    let text = run("invalidate", &path, &["--tag", "plants"]).text();
    assert!(text.starts_with("hid all that carries the tag plants in all keyspaces ("), "{text}");
    run("stat", &path, &["images", "flower.jpg"]).assert_failed(1, &[]);
    assert_eq!(rows(&path), ROWS + 1);
    let receipt = run("invalidate", &path, &["--tag", "plants", "--rows", "--json"]).document();
    assert_eq!((&receipt["keyspace"], &receipt["target"]), (&Value::Null, &"tag".into()));
    assert_eq!(rows(&path), ROWS);
    run("invalidate", &path, &["--all"]).assert_failed(2, &["KEYSPACE"]);
    run("invalidate", &path, &["images", "a", "--rows"]).assert_failed(2, &["--rows"]);
}

#[test]
fn what_is_erased_is_refused_for_a_while() {
    let (_dir, store) = closed_store();
    let text = run("erase", &store, &["images", "china.jpg", "--deny-until", "+2d"]).text();
    assert!(text.starts_with("erased china.jpg in images ("), "{text}");
    assert!(text.contains("; denied until "), "{text}");
    run("put", &store, &["images", "china.jpg"]).assert_failed(5, &["denied until"]);
    let ran = run("put", &store, &["images", "china.jpg", "--json"]);
    let error: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(error["error"], "denied");
    let tag = ["--tag", "plants", "--json", "--deny-until", "2999-01-01T00:00:00Z"];
    let receipt = run("erase", &store, &tag).document();
    assert_eq!(receipt["denied_until"], "2999-01-01T00:00:00.000Z");
    run("put", &store, &["images", "new", "--tag", "plants"]).assert_failed(5, &["2999"]);
    let receipt = run("erase", &store, &["images", "new", "--json"]).document();
    assert_eq!((&receipt["denied_until"], &receipt["target"]), (&Value::Null, &"key".into()));
    run("put", &store, &["images", "new"]).text();
    run("erase", &store, &["images", "a", "--deny-until", "-1h"]).assert_failed(2, &["has passed"]);
    run("erase", &store, &["images"]).assert_failed(2, &["--tag"]);
}

#[test]
fn explain_says_why_a_key_cannot_be_read() {
    let (_dir, store) = closed_store();
    let text = run("explain", &store, &["images", "flower.jpg"]).text();
    assert!(text.starts_with("flower.jpg: it can be read; its record has number "), "{text}");
    run("invalidate", &store, &["images", "--tag", "plants"]).text();
    let text = run("explain", &store, &["images", "flower.jpg"]).text();
    // What is dead at an open is looked for at once.
    assert!(text.starts_with("flower.jpg: its bytes have been erased; its record has "), "{text}");
    let document = run("explain", &store, &["images", "flower.jpg", "--json"]).document();
    assert_eq!(document["reason"], "erased");
    assert!(document["sequence"].as_u64().unwrap() > 0);
    assert!(document["floor_at"].is_null() && document["denied_until"].is_null());
    let hex = ["images", "00ff", "--hex-key", "--json"];
    let document = run("explain", &store, &hex).document();
    assert_eq!((&document["reason"], &document["key_hex"]), (&"absent".into(), &"00ff".into()));
    run("explain", &store, &["nobody", "a"]).assert_failed(1, &["nobody"]);
}

#[test]
fn tail_shows_the_last_rows() {
    let (_dir, store) = closed_store();
    let text = run("tail", &store, &["access"]).text();
    assert_eq!(text.lines().count(), 10);
    let rows = run("tail", &store, &["access", "-n", "3", "--json"]).documents();
    let payloads: Vec<&str> = rows.iter().map(|row| row["payload"].as_str().unwrap()).collect();
    let lines = log_lines();
    let expected: Vec<&str> =
        lines[ROWS - 3..].iter().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(payloads, expected);
    assert_eq!(rows[0]["subject"].as_str().unwrap().len(), 32);
    let all = run("tail", &store, &["access", "-n", "1000000", "--json"]).documents();
    assert_eq!(all.len(), ROWS);
}

#[test]
fn scan_keeps_to_the_range() {
    let (_dir, store) = closed_store();
    let all = run("scan", &store, &["access", "--json"]).documents();
    assert_eq!(all.len(), ROWS);
    let time = |at: usize| all[at]["time"].as_str().unwrap();
    let range = ["access", "--from", time(10), "--to", time(20), "--json"];
    assert_eq!(run("scan", &store, &range).documents(), all[10..20]);
    let limited = ["access", "--from", "-2d", "--to", "now", "--limit", "5", "--json"];
    assert_eq!(run("scan", &store, &limited).documents(), all[..5]);
    assert_eq!(run("scan", &store, &["access", "--from", "-1d"]).text().lines().count(), ROWS);
    assert_eq!(run("scan", &store, &["access", "--to", "-1d"]).text(), "");
    let backwards = ["access", "--from", "now", "--to", "-1h"];
    run("scan", &store, &backwards).assert_failed(2, &["before it begins"]);
}

#[test]
fn verify_passes_a_sound_store() {
    let (_dir, store) = closed_store();
    let text = run("verify", &store, &[]).text();
    assert!(text.starts_with("no problems in "), "{text}");
    let document = run("verify", &store, &["--json"]).document();
    assert_eq!(document["problems"], Value::Array(vec![]));
    assert!(document["records"].as_u64().unwrap() >= 4);
}

#[test]
fn verify_names_the_file_and_place_of_damage() {
    let (_dir, store) = closed_store();
    let segment = image_segment(&store);
    damage(&segment);
    let ran = run("verify", &store, &[]);
    let text = String::from_utf8(ran.stdout.clone()).unwrap();
    assert_eq!(ran.code, 1, "{text}");
    assert!(text.contains(&format!("{}: offset ", segment.display())), "{text}");
    let ran = run("verify", &store, &["--json"]);
    let document = &ran.documents()[0];
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    assert_eq!(document["problems"][0]["path"], segment.to_str().unwrap());
    let offset = document["problems"][0]["offset"].as_u64().unwrap();

    let dump = run("dump", &segment, &["--json"]);
    assert_eq!(dump.code, 1);
    let records = dump.documents();
    let bad = records.iter().find(|record| record["problem"].is_string()).unwrap();
    assert_eq!((&bad["offset"], &bad["key"]), (&offset.into(), &"flower.jpg".into()));
    run("get", &store, &["images", "flower.jpg"]).assert_failed(1, &["damaged", ".seg"]);
    assert_eq!(run("get", &store, &["images", "china.jpg"]).code, 0);
}

#[test]
fn verify_names_a_segment_whose_header_is_gone() {
    let (_dir, store) = closed_store();
    let segment = image_segment(&store);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[..4096].fill(0xaa);
    fs::write(&segment, bytes).unwrap();
    let ran = run("verify", &store, &[]);
    let text = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(ran.code, 1, "{text}");
    assert!(text.contains(segment.to_str().unwrap()), "{text}");
    run("dump", &segment, &[]).assert_failed(3, &[".seg"]);
}

#[test]
fn a_keyspace_that_cannot_be_read_is_not_passed_over_in_silence() {
    let (_dir, store) = closed_store();
    fs::write(store.join("keyspaces/images/KEYSPACE"), b"").unwrap();
    let ran = run("ls", &store, &[]);
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("1 file damaged") && ran.stderr.contains("verify"));
    assert_eq!(run("ls", &store, &["--quiet"]).stderr, "");
    let ran = run("verify", &store, &["--json"]);
    let path = ran.documents()[0]["problems"][0]["path"].as_str().unwrap().to_owned();
    assert_eq!(ran.code, 1);
    assert!(path.ends_with("KEYSPACE"), "{path}");
    assert!(run("info", &store, &[]).text().contains("damaged"));
}

#[test]
fn dump_goes_through_a_segment() {
    let (_dir, store) = closed_store();
    let segment = image_segment(&store);
    let text = run("dump", &segment, &[]).text();
    assert!(text.contains("  flower.jpg\n") && text.contains("  thumb\\xff\\n\n"), "{text}");
    let documents = run("dump", &segment, &["--json"]).documents();
    assert_eq!((&documents[0]["type"], documents.len()), (&"segment".into(), 4));
    assert_eq!(documents[3]["key_hex"], "7468756d62ff0a");
    for segment in files(&store, ".seg") {
        assert!(run("dump", &segment, &[]).text().contains("OFFSET"));
    }
    run("dump", &store.join("none.seg"), &[]).assert_failed(3, &["none.seg"]);
}

#[test]
fn drop_expired_waits_for_the_clock_to_be_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let now = Timestamp::default() + std::time::UNIX_EPOCH.elapsed().unwrap();
    let clock = ManualClock::new(now - Duration::from_secs(40 * 86_400));
    let store = Store::builder(&path).clock(clock).background(false).open().unwrap();
    fill(&store);
    store.close().unwrap();

    assert!(run("ls", &path, &["images", "--json"]).documents().is_empty());
    let text = run("drop-expired", &path, &[]).text();
    assert!(text.starts_with("dropped 0 buckets"), "{text}");
    assert!(text.contains("--confirm-clock"), "{text}");
    assert_eq!(run("buckets", &path, &["--json"]).documents().len(), 2);
    let document = run("drop-expired", &path, &["--confirm-clock", "--json"]).document();
    assert_eq!(
        (&document["buckets_dropped"], &document["clock_suspect_ms"]),
        (&2.into(), &0.into())
    );
    assert!(document["bytes_freed"].as_u64().unwrap() > 300_000);
    assert!(run("buckets", &path, &["--json"]).documents().is_empty());
    assert!(files(&path, ".seg").is_empty());
}

#[test]
fn wrong_arguments_are_exit_code_2() {
    let (_dir, store) = closed_store();
    run("get", &store, &["images"]).assert_failed(2, &["<KEY>"]);
    run("invalidate", &store, &["images"]).assert_failed(2, &["--tag"]);
    run("invalidate", &store, &["images", "a", "--all"]).assert_failed(2, &["--all"]);
    run("scan", &store, &["access", "--from", "yesterday"]).assert_failed(2, &["-3h30m"]);
    run("put", &store, &["images", "a", "--window-days", "0"]).assert_failed(2, &["0"]);
    run("get", &store, &["images", ""]).assert_failed(2, &["key length"]);
    run("shred", &store, &[]).assert_failed(2, &["shred"]);
    let ran = run("get", &store, &["images", "--json"]);
    let error: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((ran.code, &error["error"]), (2, &"usage".into()));
    let bare = Command::new(env!("CARGO_BIN_EXE_ebbtide")).output().unwrap();
    assert_eq!(bare.status.code(), Some(2));
}

#[test]
fn a_missing_store_is_exit_code_3_and_stays_missing() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("none");
    for (name, args) in [
        ("info", &[][..]),
        ("buckets", &[]),
        ("ls", &[]),
        ("verify", &[]),
        ("drop-expired", &[]),
        ("get", &["k", "a"]),
        ("put", &["k", "a"]),
        ("stat", &["k", "a"]),
        ("explain", &["k", "a"]),
        ("invalidate", &["k", "a"]),
        ("erase", &["k", "a"]),
        ("tail", &["l"]),
        ("scan", &["l"]),
    ] {
        run(name, &store, args).assert_failed(3, &["there is no store", "none"]);
    }
    assert!(!store.exists());
    let not_a_directory = dir.path().join("file");
    fs::write(&not_a_directory, b"").unwrap();
    run("info", &not_a_directory, &[]).assert_failed(3, &["file"]);
    run("drop-expired", &not_a_directory, &[]).assert_failed(3, &["file"]);
}

/// A subcommand of `ledger` on a store.
fn ledger(subcommand: &str, store: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    command.args(["ledger", subcommand]).arg(store).args(args).stdin(Stdio::null());
    Ran::new(command.output().unwrap())
}

#[test]
fn the_ledger_is_shown_checked_and_judged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let clock = ManualClock::new(Timestamp::from_millis(1_795_267_800_000));
    let open = || Store::builder(&path).background(false).clock(clock.clone()).open().unwrap();
    let store = open();
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::hours(16))).unwrap();
    images.insert("someone.jpg", b"bytes").unwrap();
    clock.advance(Duration::from_secs(3600 * 16 - 1800));
    store.maintain().unwrap();
    store.close().unwrap();

    assert!(ledger("verify", &path, &[]).text().contains("the chain is whole: 4 entries"));
    let checked = ledger("verify", &path, &["--json"]).document();
    assert_eq!((&checked["entries"], &checked["head"]["number"]), (&4.into(), &4.into()));
    let shown = ledger("show", &path, &["--json"]).documents();
    let kinds: Vec<_> = shown.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["checkpoint", "keyspace", "bucket-born", "bucket-dropped"]);
    assert_eq!(shown[3]["hash"], checked["head"]["hash"]);
    assert_eq!((&shown[3]["owner"], &shown[3]["records"]), (&"images".into(), &1.into()));
    let text = ledger("show", &path, &[]).text();
    assert!(text.contains("images") && text.contains("bucket dropped"), "{text}");
    assert!(!text.contains("someone"), "{text}");
    let proof = ledger("prove", &path, &["--json"]).document();
    assert_eq!((&proof["verdict"], &proof["owners"][0]["dropped"]), (&"kept".into(), &1.into()));
    assert!(ledger("prove", &path, &[]).text().contains("kept"));
    assert_eq!(ledger("prove", &path, &["--from", "2030-01-01", "--to", "2031-01-01"]).code, 0);

    let store = open();
    store.existing_keyspace("images").unwrap().insert("someone.jpg", b"bytes").unwrap();
    clock.advance(Duration::from_secs(3600 * 20));
    store.maintain().unwrap();
    store.close().unwrap();
    let late = ledger("prove", &path, &["--json"]);
    assert_eq!((late.code, &late.documents()[0]["verdict"]), (1, &"late".into()));

    let file = path.join("ledger/0000000001.log");
    let mut bytes = fs::read(&file).unwrap();
    bytes[512 + 160 + 50] ^= 1;
    fs::write(&file, bytes).unwrap();
    let broken = ledger("verify", &path, &["--json"]);
    assert_eq!((broken.code, &broken.documents()[0]["problems"][0]["offset"]), (1, &672.into()));
    assert_eq!(ledger("verify", &path, &[]).code, 1);
    assert_eq!(ledger("prove", &path, &[]).code, 1);
    ledger("show", &dir.path().join("none"), &[]).assert_failed(3, &["there is no store"]);
}

#[test]
fn a_held_store_can_be_read_and_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open(&path).unwrap();
    fill(&store);
    let pid = std::process::id().to_string();
    let photo = data("photos/flower.jpg");
    let put = ["images", "a", photo.to_str().unwrap()];
    run("put", &path, &put).assert_failed(4, &[&pid]);
    run("invalidate", &path, &["images", "--all"]).assert_failed(4, &[&pid]);
    run("drop-expired", &path, &[]).assert_failed(4, &[&pid]);
    let ran = run("drop-expired", &path, &["--json"]);
    let error: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((ran.code, &error["error"]), (4, &"locked".into()));
    assert_eq!(error["pid"], std::process::id());

    assert_eq!(run("ls", &path, &["images", "--json"]).documents().len(), 3);
    assert_eq!(run("get", &path, &["images", "flower.jpg"]).stdout, self::photo("flower.jpg"));
    assert_eq!(run("scan", &path, &["access", "--json"]).documents().len(), ROWS);
    assert!(run("verify", &path, &[]).text().contains("no problems"));
    for segment in files(&path, ".seg") {
        assert!(run("dump", &segment, &[]).text().contains("OFFSET"));
    }
    store.close().unwrap();
    run("drop-expired", &path, &[]).text();
}

#[test]
fn follow_shows_rows_as_they_come_and_each_once() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open(&path).unwrap();
    fill(&store);
    let access = store.existing_log("access").unwrap();
    let mut follow = command("tail", &path, &["access", "-n", "1", "--follow", "--json"]);
    let mut child = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut payload = || {
        let line = lines.next().unwrap().unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["payload"].as_str().unwrap().to_owned()
    };
    let last = log_lines()[ROWS - 1].split_once(' ').unwrap().1.to_owned();
    assert_eq!(payload(), last);
    for text in ["one", "two", "three"] {
        access.append(Row::anonymous().payload(text)).unwrap();
        assert_eq!(payload(), text);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_reader_that_leaves_early_ends_it_quietly() {
    let (_dir, store) = closed_store();
    let mut get = command("get", &store, &["images", "flower.jpg"]);
    let mut child = get.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = Ran::new(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}
