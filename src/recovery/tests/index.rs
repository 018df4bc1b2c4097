//! The index, from what a close left or made anew.

use super::*;

/// The record written last is the one that counts, invalidated or not; what lies before is not served.
#[test]
fn an_index_made_anew_names_what_was_written_last() {
    let bench = Bench::new();
    let store = bench.open();
    let keyspace = images(&store);
    for day in 0..3 {
        for key in 0..20 {
            keyspace.insert(format!("{key}"), format!("{key} of {day}")).unwrap();
            keyspace.insert(format!("{day}/{key}"), format!("{key}")).unwrap();
        }
        keyspace.invalidate(format!("{day}")).unwrap();
        keyspace.invalidate(format!("{day}/{day}")).unwrap();
        bench.pass_days(1);
    }
    keyspace.invalidate("9").unwrap();
    keyspace.insert("9", "9 at last").unwrap();
    drop(keyspace);
    let keys = key_count(&store);
    assert_eq!(keys, 20 - 1 + 3 * 19);
    let bench = bench.killed(store);
    let store = bench.open();
    assert_eq!(key_count(&store), keys);
    assert_eq!(images(&store).iter().count() as u64, keys);
    for key in 0..20 {
        let expected = match key {
            2 => None,
            9 => Some("9 at last".to_owned()),
            _ => Some(format!("{key} of 2")),
        };
        assert_eq!(get(&store, &format!("{key}")), expected);
        for day in 0..3 {
            let expected = (key != day).then(|| format!("{key}"));
            assert_eq!(get(&store, &format!("{day}/{key}")), expected);
        }
    }
    // Their segments leave with as many as they have.
    bench.pass_days(DAYS - 2);
    store.maintain().unwrap();
    assert_eq!(key_count(&store), images(&store).iter().count() as u64);
}

/// Spoils every sidecar, and the first record of every segment.
fn spoil(bench: &Bench) {
    for path in bench.files("idx") {
        bench.change(&path, |bytes| bytes.fill(0xee));
    }
    for path in bench.files("seg") {
        bench.change(&path, |bytes| bytes[1024..1056].fill(0xee));
    }
}

/// The names of so many keys.
fn keys(count: u64) -> impl Iterator<Item = String> {
    (0..count).map(|key| key.to_string())
}

#[test]
fn the_index_of_a_clean_close_is_taken_up_and_reads_nothing_else() {
    let bench = Bench::closed_with(keys(200));
    spoil(&bench);
    let store = bench.open();
    assert!(store.recovery_report().is_clean());
    assert!(!bench.has(INDEX), "it would be stale after the first change");
    assert_eq!(key_count(&store), 200);
    assert_eq!(get(&store, "0"), None, "its record is spoilt");
    for key in keys(200).skip(1) {
        assert_eq!(get(&store, &key), Some(value_of(&key)));
    }
}

#[test]
fn an_index_that_was_changed_anywhere_is_told_and_not_taken_up() {
    let bench = Bench::closed_with(keys(200));
    let len = bench.disk.read_file(Path::new(INDEX)).unwrap().len();
    let looking = bench.builder().open_read_only().unwrap();
    assert_eq!(looking.verify().unwrap().problems, []);
    let header = 80;
    for at in (0..header).step_by(7).chain((header..len).step_by(997)).chain([len - 1]) {
        let bench = Bench { disk: bench.disk.fork(), clock: bench.clock.clone() };
        bench.change(Path::new(INDEX), |bytes| bytes[at] ^= 1);
        let looking = bench.builder().open_read_only().unwrap();
        let problems = looking.verify().unwrap().problems;
        assert!(problems.iter().any(|problem| problem.path == Path::new(INDEX)), "byte {at}");
        let store = bench.open();
        assert_eq!(key_count(&store), 200, "byte {at}");
        assert!(keys(200).all(|key| get(&store, &key).is_some()), "byte {at}");
    }
    bench.disk.remove_file(Path::new(INDEX)).unwrap();
    assert_eq!(looking.verify().unwrap().problems, []);
}

#[test]
fn an_index_of_an_earlier_close_is_not_taken_up() {
    let bench = Bench::closed_with(keys(20));
    let earlier = bench.disk.read_file(Path::new(INDEX)).unwrap();
    bench.open().close().unwrap();
    bench.disk.write_file(Path::new(INDEX), &earlier).unwrap();
    spoil(&bench);
    assert!(!bench.open().recovery_report().is_clean(), "nothing but the segments was read");
}

/// One that an opening would not read is nobody's damage; one that it would read is.
#[test]
fn an_index_that_is_long_for_its_segments_is_not_read() {
    let bench = Bench::closed_with(keys(20));
    let segments = bench.disk.read_file(&bench.files("seg")[0]).unwrap().len();
    for (len, is_told) in
        [((16 << 20) + segments / 4, true), ((16 << 20) + segments / 4 + 1, false)]
    {
        bench.disk.write_file(Path::new(INDEX), &vec![0xee; len]).unwrap();
        let problems = bench.builder().open_read_only().unwrap().verify().unwrap().problems;
        let told: Vec<_> = problems.into_iter().map(|problem| problem.path).collect();
        assert_eq!(told == [PathBuf::from(INDEX)], is_told, "{len} bytes: {told:?}");
        assert_eq!(told.is_empty(), !is_told, "{len} bytes: {told:?}");
    }
    bench.disk.remove_file(Path::new(INDEX)).unwrap();
    bench.disk.create_dir(Path::new(INDEX)).unwrap();
    let problems = bench.builder().open_read_only().unwrap().verify().unwrap().problems;
    assert!(problems.iter().any(|problem| problem.path == Path::new(INDEX)), "{problems:?}");
}

/// What was invalidated after the index was written down is taken out of it again, and only that.
#[test]
fn tombstones_of_after_an_index_count_in_it() {
    let bench = Bench::closed_with(keys(20));
    let later = Bench { disk: bench.disk.fork(), clock: bench.clock.clone() };
    let store = later.open();
    for key in ["3", "5", "unheard of"] {
        images(&store).invalidate(key).unwrap();
    }
    let log = &later.tombstone_logs()[0];
    bench.disk.write_file(log, &later.disk.read_file(log).unwrap()).unwrap();
    spoil(&bench);
    let store = bench.open();
    assert_eq!(key_count(&store), 18, "by its index, since nothing else can be read");
    for key in keys(20).skip(1) {
        let expected = (key != "3" && key != "5").then(|| value_of(&key));
        assert_eq!(get(&store, &key), expected);
    }
}

/// One of which that could not be found out at open is looked for by the next scrub.
#[test]
fn a_tombstone_that_could_not_be_compared_with_an_index_is_not_forgotten() {
    let bench = Bench::closed_with(keys(20));
    let later = Bench { disk: bench.disk.fork(), clock: bench.clock.clone() };
    images(&later.open()).invalidate("3").unwrap();
    let log = &later.tombstone_logs()[0];
    bench.disk.write_file(log, &later.disk.read_file(log).unwrap()).unwrap();
    let mut put_off = 0;
    each_faulty_opening(&bench, StoreBuilder::open, |opened, _, call| {
        let Ok(store) = opened else { return };
        assert_eq!(get(&store, "3"), None, "call {call}");
        put_off += u32::from(key_count(&store) > 19);
        store.scrub().unwrap();
        assert_eq!(key_count(&store), 19, "call {call}");
    });
    assert!(put_off > 0);
}

/// A number under way keeps back what the index is known to hold: a key that was invalidated and stored
/// again since is asked for its number.
#[test]
fn what_was_stored_again_stays_in_an_index_that_says_little_of_it() {
    let bench = Bench::closed_with(keys(20));
    let store = bench.open();
    let keyspace = images(&store);
    let fill = keyspace.fill("under way");
    for key in ["3", "5"] {
        keyspace.invalidate(key).unwrap();
    }
    keyspace.insert("5", "again").unwrap();
    store.close().unwrap();
    drop((fill, keyspace, store));
    assert!(bench.has(INDEX));
    for path in bench.files("idx") {
        bench.change(&path, |bytes| bytes.fill(0xee));
    }
    let store = bench.open();
    assert_eq!((get(&store, "3"), get(&store, "5").as_deref()), (None, Some("again")));
    assert_eq!(key_count(&store), 19);
}

/// What was erased wins over what is older all the same: here what is older lies beside what a reader
/// holds, and so could not be erased.
#[test]
fn an_index_made_anew_names_nothing_older_than_what_was_erased() {
    let bench = Bench::new();
    let store = bench.builder().open_with(true).unwrap();
    for key in ["cat", "dog"] {
        images(&store).insert(key, "old").unwrap();
    }
    store.sync().unwrap();
    bench.pass_days(1);
    let _ = images(&store).fill("cat").tag("tag").commit("new").unwrap();
    images(&store).invalidate_tag("tag").unwrap();
    let held = images(&store).get("dog").unwrap();
    store.scrub().unwrap();
    assert_eq!(store.stats().scrubbed_records, 1);
    let bench = bench.killed(store);
    drop(held);
    let store = bench.open();
    assert_eq!((get(&store, "cat"), get(&store, "dog").as_deref()), (None, Some("old")));
}
