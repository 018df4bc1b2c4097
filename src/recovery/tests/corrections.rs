//! What was born in a future that was wrong, met by a process that follows one which had not brought all of its
//! deadlines forward.

use super::*;

/// Sets the clock right after a life so many days ahead, each time with another call that fails, and shows the
/// stores whose time is right and which have not come to the end of that.
fn each_unfinished_correction<T>(
    days: u32,
    live: impl Fn(&Store) -> T,
    mut show: impl FnMut(Bench, Store, T, &str),
) {
    let mut shown = 0;
    for call in 1.. {
        let bench = Bench::new();
        bench.pass_days(days);
        let disk = FaultyDisk::new(Arc::new(bench.disk.clone()));
        let store = bench.on(Store::builder("/data").disk(disk.clone())).open().unwrap();
        let lived = live(&store);
        bench.clock.set_wall(NOW);
        let fails = disk.calls() + call;
        disk.inject(fails, Fault::Error(ErrorKind::TimedOut));
        let result = store.reset_clock();
        let is_met = disk.calls() >= fails;
        disk.clear();
        if result.is_err() && store.now() == NOW && store.stats().poisoned.is_none() {
            show(bench, store, lived, &format!("call {call}"));
            shown += 1;
        }
        if !is_met {
            break;
        }
    }
    assert!(shown > 0);
}

fn insert_early(store: &Store) {
    images(store).insert("early", value_of("early")).unwrap();
    store.sync().unwrap();
}

/// The process ended before all that was born in a wrong future says when it leaves. What is born after the
/// clock was set right leaves by its own time.
#[test]
fn a_correction_counts_for_what_was_born_before_it() {
    each_unfinished_correction(100, insert_early, |bench, store, (), call| {
        bench.pass_days(1);
        images(&store).insert("late", value_of("late")).unwrap();
        store.sync().unwrap();
        let bench = bench.killed(store);
        let looking = bench.builder().open_read_only().unwrap();
        let stats = looking.stats();
        let [late, early] = &stats.keyspaces[0].buckets[..] else { panic!("{stats:?}") };
        let window = Duration::from_secs(24 * 3600 * u64::from(DAYS));
        assert_eq!(late.deadline, late.start + window, "{call}");
        assert!(early.deadline <= NOW + window, "{call}");
    });
}

/// Also if its time has come meanwhile: its segment says when it was born.
#[test]
fn a_correction_counts_once_the_wrong_future_has_come() {
    each_unfinished_correction(1, insert_early, |bench, store, (), call| {
        bench.pass_days(2);
        let bench = bench.killed(store);
        let looking = bench.builder().open_read_only().unwrap();
        let stats = looking.stats();
        let [early] = &stats.keyspaces[0].buckets[..] else { panic!("{stats:?}") };
        let window = Duration::from_secs(24 * 3600 * u64::from(DAYS));
        assert!(early.start > NOW && early.deadline <= NOW + window, "{call}: {early:?}");
    });
}

/// Its segment says so. If that cannot be read now, the store is not opened.
#[test]
fn a_bucket_that_leaves_sooner_leaves_at_open_whatever_fails() {
    let bench = Bench::new();
    bench.pass_days(100);
    let store = bench.open();
    insert_early(&store);
    bench.clock.set_wall(NOW);
    store.reset_clock().unwrap();
    store.close().unwrap();
    drop(store);
    bench.pass_days(DAYS + 1);
    let mut left = 0;
    each_faulty_opening(&bench, StoreBuilder::open, |opened, _, call| {
        let Ok(store) = opened else { return };
        // A drop that failed is tried again.
        let stays = store.stats().keyspaces[0].buckets.iter().any(|b| b.deadline.as_millis() > 0);
        assert!(!stays, "call {call}");
        left += 1;
    });
    assert!(left > 0);
}

/// Of buckets that hold nothing but keys, one whose time has come may have been made since; one whose time is still
/// to come is of the wrong future.
#[test]
fn keys_alone_leave_with_a_correction_unless_their_time_has_come() {
    let live = |store: &Store| {
        let log = visits(store);
        let _ = log.pseudonym(VISITOR, store.now()).unwrap();
        log
    };
    let mut left = 0;
    for (days, is_power_cut) in [(100, false), (100, true), (1, false), (1, true)] {
        each_unfinished_correction(days, live, |bench, store, log, call| {
            // The first moment of a day, with one day ahead that which was wrong.
            let day_ms = 24 * 3_600_000;
            bench.clock.advance(Duration::from_millis(day_ms - NOW.as_millis() % day_ms));
            let given = log.pseudonym(VISITOR, store.now()).unwrap();
            drop(log);
            images(&store).insert("late", value_of("late")).unwrap();
            store.sync().unwrap();
            let bench = bench.killed(store);
            if is_power_cut {
                // The time is what is written down, or what a segment was born at.
                bench.clock.set_wall(NOW);
                bench.clock.reboot(Duration::ZERO);
            }
            left += bench.files("keys").len() - 1;
            let store = bench.open();
            store.maintain().unwrap();
            let again = visits(&store).pseudonym(VISITOR, store.now()).unwrap();
            assert_eq!(again, given, "{call}, {days} days, power cut: {is_power_cut}");
            // Those of the wrong future whose time has come may stay, no longer than what is made now.
            let most = if days == 1 { 2 } else { 1 };
            assert!(bench.files("keys").len() <= most, "{call}, {days} days, {is_power_cut}");
        });
    }
    assert!(left > 0);
}
