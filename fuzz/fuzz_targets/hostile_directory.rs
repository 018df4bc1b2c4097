//! A closed store whose files are changed at will: it opens or says why not, and no read gives bytes
//! that were never written under that key.
#![no_main]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use ebbtide::disk::{Disk, MemoryDisk};
use ebbtide::{
    Error, KeyspaceOptions, LogOptions, Lookup, ManualClock, Retention, Row, Scope, Store,
    StoreBuilder, Timestamp,
};
use libfuzzer_sys::fuzz_target;

const START: Timestamp = Timestamp::from_millis(1_795_267_800_000);
/// For how long a key is denied.
const DENIED: Duration = Duration::from_secs(4 * 3600);

/// A closed store, and all that was ever written to it.
struct Closed {
    disk: MemoryDisk,
    files: Vec<PathBuf>,
    values: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    rows: Vec<Vec<u8>>,
}

fn builder(disk: &MemoryDisk) -> StoreBuilder {
    let clock = ManualClock::new(START + Duration::from_secs(7200));
    builder_at(disk, clock)
}

fn builder_at(disk: &MemoryDisk, clock: ManualClock) -> StoreBuilder {
    Store::builder("/data")
        .disk(disk.clone())
        .clock(clock)
        .background(false)
        .tombstone_log_bytes(4096)
        .ledger_file_bytes(4096)
}

fn closed() -> &'static Closed {
    static CLOSED: OnceLock<Closed> = OnceLock::new();
    CLOSED.get_or_init(|| {
        let disk = MemoryDisk::new(1);
        let clock = ManualClock::new(START);
        let store = builder_at(&disk, clock.clone()).open().expect("open");
        let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096);
        let images = store.keyspace("images", options).expect("keyspace");
        let options = LogOptions::new(Retention::hours(16)).segment_bytes(4096);
        let access = store.log("access", options).expect("log");
        let mut values: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        let mut rows = Vec::new();
        for at in 0..24_usize {
            let key = format!("key {}", at % 8).into_bytes();
            let value: Vec<u8> =
                format!("{at} for {};", at % 8).bytes().cycle().take(at * 30).collect();
            let fill = images.fill(&key).tag(format!("tag {}", at % 3)).metadata("m");
            let _ = fill.commit(&value).expect("commit");
            values.entry(key).or_default().push(value);
            let payload = format!("row {at}").into_bytes();
            let visitor = access.pseudonym([198, 18, 0, at as u8].into(), store.now()).expect("ip");
            let tag = if at % 6 == 5 { "gone" } else { "t" };
            access.append(Row::new(visitor).tag(tag).payload(&payload)).expect("append");
            rows.push(payload);
            clock.advance(Duration::from_secs(300));
        }
        images.invalidate("key 1").expect("invalidate");
        images.invalidate_tag("tag 2").expect("invalidate");
        images.invalidate_soft("key 4").expect("invalidate");
        images.erase("key 7").deny_until(store.now() + DENIED).commit().expect("erase");
        store.invalidate_tag("gone", Scope::Everything).expect("invalidate");
        store.scrub().expect("scrub");
        let long = images.fill("key 0").tag("tag 0").metadata("m").memory_limit_bytes(64);
        let mut long = long.into_writer().expect("writer");
        let value = vec![b'l'; 2000];
        long.write_all(&value).expect("write");
        let _ = long.commit().expect("commit");
        values.entry(b"key 0".to_vec()).or_default().push(value);
        store.maintain().expect("maintain");
        store.close().expect("close");
        Closed { files: disk.all_files(), disk, values, rows }
    })
}

/// Changes one file as the input says; false at the input's end.
fn change(disk: &MemoryDisk, files: &[PathBuf], input: &mut &[u8]) -> bool {
    let Some((head, rest)) = input.split_first_chunk::<5>() else { return false };
    let [file, how, low, high, len] = *head;
    let path = &files[usize::from(file) % files.len()];
    let Ok(mut bytes) = disk.read_file(path) else {
        *input = rest;
        return true;
    };
    let at = usize::from(u16::from_le_bytes([low, high])).min(bytes.len());
    let len = usize::from(len);
    let taken;
    (taken, *input) = rest.split_at(len.min(rest.len()));
    match how % 8 {
        0 | 1 => bytes.iter_mut().skip(at).zip(taken).for_each(|(to, from)| *to = *from),
        2 => bytes.iter_mut().skip(at).zip(taken).for_each(|(to, from)| *to ^= *from),
        3 => bytes.truncate(at),
        4 => bytes.extend_from_slice(taken),
        5 => bytes.iter_mut().skip(at).take(len * 16).for_each(|byte| *byte = 0),
        6 => {
            let other = &files[len % files.len()];
            bytes = disk.read_file(other).unwrap_or_default();
        }
        _ => {
            let _ = disk.remove_file(path);
            return true;
        }
    }
    disk.write_file(path, &bytes).expect("write_file");
    true
}

fn read_everything(store: &Store, closed: &Closed) {
    if let Ok(images) = store.existing_keyspace("images") {
        for (key, values) in &closed.values {
            if let Ok(Some(value)) = images.get(key) {
                assert!(values.contains(&value.to_vec()), "a wrong byte under {key:?}");
            }
            if let Ok(Lookup::Fresh(value) | Lookup::Stale(value)) = images.lookup(key) {
                assert!(values.contains(&value.to_vec()), "a wrong byte under {key:?}");
            }
            let _ = images.explain(key).map(|explanation| explanation.to_string());
        }
        for tag in ["tag 0", "tag 1", "tag 2"] {
            for entry in images.list_tag(tag).into_iter().flatten() {
                assert!(closed.values.contains_key(entry.key()), "an entry that never was");
            }
        }
        for entry in images.iter().flatten() {
            assert!(closed.values.contains_key(entry.key()), "an entry that never was");
        }
    }
    if let Ok(access) = store.existing_log("access") {
        for row in access.scan(..).into_iter().flatten().flatten() {
            assert!(closed.rows.contains(&row.payload().to_vec()), "a row that never was");
            let _ = access.get(row.id());
        }
    }
    let _ = store.verify();
    let _ = store.stats();
    let _ = store.residue();
    let _ = store.verify_ledger();
    let _ = store.ledger_head();
    for entry in store.ledger().into_iter().flatten() {
        let _ = entry.to_string();
    }
    let _ = store.prove_retention(..);
}

/// True if a key was erased and denied.
fn write_something(store: &Store) -> bool {
    let Ok(images) = store.existing_keyspace("images") else { return false };
    if images.insert("new", "value").is_ok() {
        let value = images.get("new").expect("get").expect("what was just stored is there");
        assert_eq!(value.as_ref(), b"value");
        if images.invalidate("new").is_ok() {
            assert!(images.get("new").expect("get").is_none());
        }
    }
    let mut long = images.fill("new").memory_limit_bytes(8).into_writer().expect("writer");
    let written = long.write_all(&[b'n'; 100]).is_ok();
    if written && long.commit().is_ok() && images.erase("new").commit().is_ok() {
        assert!(images.get("new").expect("get").is_none());
    }
    let _ = images.invalidate_soft("key 0");
    let _ = images.invalidate_tag_soft("tag 0");
    let _ = store.invalidate_tag("t", Scope::Everything);
    let _ = store.scrub();
    let erased = images.erase("key 3").deny_until(store.now() + DENIED).commit();
    let _ = store.maintain();
    if erased.is_ok() {
        check_erased(store);
    }
    erased.is_ok()
}

/// What was erased is not there, and is refused.
fn check_erased(store: &Store) {
    let Ok(images) = store.existing_keyspace("images") else { return };
    assert!(images.get("key 3").expect("get").is_none(), "what was erased is back");
    match images.insert("key 3", "value") {
        Ok(()) => panic!("what is denied was taken"),
        Err(Error::Denied { until }) => assert!(until > store.now()),
        Err(_) => {}
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((mode, mut input)) = input.split_first() else { return };
    let closed = closed();
    let disk = closed.disk.fork();
    while change(&disk, &closed.files, &mut input) {}
    if let Ok(store) = builder(&disk).open_read_only() {
        read_everything(&store, closed);
    }
    let opened = if mode & 1 == 0 {
        builder(&disk).open()
    } else {
        // SAFETY: the disk in memory belongs to this run alone.
        unsafe { builder(&disk).open_mapped() }
    };
    let Ok(store) = opened else { return };
    read_everything(&store, closed);
    let erased = write_something(&store);
    read_everything_but_new(&store, closed);
    if store.close().is_ok() {
        let again = builder(&disk).open().expect("what was closed well opens again");
        read_everything_but_new(&again, closed);
        if erased {
            check_erased(&again);
        }
    }
});

/// As [`read_everything`], after a key of our own was added and invalidated.
fn read_everything_but_new(store: &Store, closed: &Closed) {
    read_everything(store, closed);
    if let Ok(images) = store.existing_keyspace("images") {
        assert!(images.get("new").expect("get").is_none(), "what was invalidated is back");
    }
}
