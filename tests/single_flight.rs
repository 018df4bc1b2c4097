//! Single flight: of several callers that find nothing, one does the work, and nobody gets bytes that
//! an invalidation forbids.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use ebbtide::disk::MemoryDisk;
use ebbtide::{
    Error, Fetched, Keyspace, KeyspaceOptions, ManualClock, NewValue, Origin, Retention, Store,
    TryGetError,
};

use fixture::{MODES, clock, minutes, on_memory, open};

const CALLERS: usize = 8;

type Got<E> = Result<Fetched, TryGetError<E>>;

fn each_mode(test: impl Fn(&MemoryDisk, &ManualClock, bool, &Store, &Keyspace)) {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let images = store.keyspace("images", KeyspaceOptions::new(Retention::days(30))).unwrap();
        test(&disk, &clock, mapped, &store, &images);
    }
}

#[test]
fn whatever_turns_into_a_value_keeps_its_bytes() {
    let bytes = || bytes::Bytes::from_static(b"made");
    let values: [NewValue; 5] = [
        bytes().into(),
        b"made".to_vec().into(),
        b"made".into(),
        b"made"[..].into(),
        "made".into(),
    ];
    each_mode(|_, _, _, _, images| {
        for (key, value) in values.iter().enumerate() {
            let made = || Ok::<_, Infallible>(value.clone());
            assert_eq!(&images.try_get_with([key as u8], made).unwrap()[..], b"made");
        }
    });
}

/// Waits until so many calls have found nothing.
fn await_misses(store: &Store, count: usize) {
    let until = Instant::now() + Duration::from_secs(60);
    while store.stats().misses < count as u64 {
        assert!(Instant::now() < until, "{} misses of {count}", store.stats().misses);
        thread::yield_now();
    }
}

/// Asks for one key from many threads at once; the work is told which call of it this is, from 0.
fn all_at_once<E: Send + Sync + 'static>(
    images: &Keyspace,
    work: impl Fn(usize) -> Result<NewValue, E> + Sync,
) -> (Vec<thread::Result<Got<E>>>, usize) {
    let (calls, start) = (AtomicUsize::new(0), Barrier::new(CALLERS));
    let results = thread::scope(|scope| {
        let call = || {
            start.wait();
            images.try_get_with("key", || work(calls.fetch_add(1, Ordering::SeqCst)))
        };
        let threads: Vec<_> = (0..CALLERS).map(|_| scope.spawn(call)).collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    (results, calls.into_inner())
}

fn count(got: &[Fetched], origin: Origin) -> usize {
    got.iter().filter(|fetched| fetched.origin() == origin).count()
}

#[test]
fn one_caller_works_for_all() {
    each_mode(|_, _, _, store, images| {
        let (results, calls) = all_at_once(images, |_| {
            await_misses(store, CALLERS);
            let value = NewValue::new("value").tag("tag").metadata("meta");
            Ok::<_, Infallible>(value)
        });
        assert_eq!(calls, 1);
        let got: Vec<_> = results.into_iter().map(|result| result.unwrap().unwrap()).collect();
        assert_eq!(count(&got, Origin::Work), 1);
        for fetched in &got {
            assert_eq!((&fetched[..], fetched.metadata()), (&b"value"[..], &b"meta"[..]));
            assert!(fetched.not_stored().is_none());
        }
        assert_eq!(store.stats().inserts, 1);
        let again = images.try_get_with("key", || -> Result<NewValue, Infallible> { panic!() });
        assert_eq!(again.unwrap().origin(), Origin::Store);
        images.invalidate_tag("tag").unwrap();
        assert!(!images.contains("key").unwrap());
    });
}

#[test]
fn keys_do_not_wait_for_each_other() {
    each_mode(|_, _, _, _, images| {
        let inner = |key: &'static str| move || Ok::<_, Infallible>(key.as_bytes());
        let outer = images.try_get_with("outer", || {
            images.try_get_with("inner", inner("inner")).map(Fetched::into_bytes)
        });
        assert_eq!(&outer.unwrap()[..], b"inner");
        assert!(images.contains("inner").unwrap() && images.contains("outer").unwrap());
    });
}

#[test]
fn an_error_goes_to_all_who_waited_and_is_forgotten() {
    each_mode(|_, _, _, store, images| {
        let mut shared = 0;
        for round in 1.. {
            let (results, calls) = all_at_once(images, |call| {
                await_misses(store, round * CALLERS);
                Err(call.to_string())
            });
            let mut errors: Vec<Arc<String>> = Vec::new();
            for result in results {
                match result.unwrap() {
                    Err(TryGetError::Work(error)) => errors.push(error),
                    other => panic!("{other:?}"),
                }
            }
            for call in 0..calls {
                let same = errors.iter().filter(|error| ***error == call.to_string());
                let same: Vec<_> = same.collect();
                assert!(same.iter().all(|error| Arc::ptr_eq(error, same[0])));
                shared += same.len() - 1;
            }
            // Whoever joins after the landing works again, so not every round has somebody wait.
            if shared > 0 {
                break;
            }
            assert!(round < 1000, "nobody ever waits");
        }
        let got = images.try_get_with("key", || Ok::<_, String>("value")).unwrap();
        assert_eq!(&got[..], b"value");
        assert_eq!(got.origin(), Origin::Work);
        let error = TryGetError::Work(Arc::new(Error::ReadOnly));
        assert_eq!(error.to_string(), Error::ReadOnly.to_string());
    });
}

#[test]
fn a_panic_lets_another_caller_work() {
    each_mode(|_, _, _, store, images| {
        let (results, calls) = all_at_once(images, |call| {
            await_misses(store, CALLERS);
            assert!(call > 0, "this panic belongs to the test");
            Ok::<_, Infallible>(NewValue::new("value"))
        });
        assert_eq!(calls, 2);
        let (panicked, got): (Vec<_>, Vec<_>) = results.into_iter().partition(|r| r.is_err());
        assert_eq!(panicked.len(), 1);
        let got: Vec<_> = got.into_iter().map(|result| result.unwrap().unwrap()).collect();
        assert_eq!(count(&got, Origin::Work), 1);
        assert!(got.iter().all(|fetched| fetched[..] == *b"value"));
        assert!(images.contains("key").unwrap());
    });
}

/// The worker's call began before the invalidation, and so it may have its bytes; the others may not.
#[test]
fn nobody_who_waited_gets_what_was_invalidated_meanwhile() {
    let invalidations: [fn(&Keyspace); 4] = [
        |images| assert!(images.invalidate("key").is_ok()),
        |images| assert!(images.invalidate_tag("tag").is_ok()),
        |images| assert!(images.invalidate_all().is_ok()),
        |images| images.insert("key", b"fresh").unwrap(),
    ];
    for invalidate in invalidations {
        each_mode(|_, _, _, store, images| {
            let (results, _) = all_at_once(images, |call| {
                if call > 0 {
                    return Ok::<_, Infallible>(NewValue::new("fresh"));
                }
                await_misses(store, CALLERS);
                invalidate(images);
                Ok(NewValue::new("stale").tag("tag"))
            });
            let got: Vec<_> = results.into_iter().map(|result| result.unwrap().unwrap()).collect();
            let stale: Vec<_> = got.iter().filter(|fetched| fetched[..] == *b"stale").collect();
            assert_eq!(stale.len(), 1);
            assert_eq!(stale[0].origin(), Origin::Work);
            assert_eq!(&images.get("key").unwrap().unwrap()[..], b"fresh");
        });
    }
}

#[test]
fn who_comes_after_an_invalidation_gets_nothing_made_before_it() {
    each_mode(|_, _, _, store, images| {
        thread::scope(|scope| {
            let mut late = None;
            let early = images.try_get_with("key", || {
                images.invalidate("key").unwrap();
                let fresh = || Ok::<_, Infallible>("fresh");
                late = Some(scope.spawn(move || images.try_get_with("key", fresh)));
                await_misses(store, 2);
                Ok::<_, Infallible>("stale")
            });
            assert_eq!(&early.unwrap()[..], b"stale");
            let late = late.unwrap().join().unwrap().unwrap();
            assert_eq!((&late[..], late.origin()), (&b"fresh"[..], Origin::Work));
        });
    });
}

#[test]
fn what_the_store_cannot_take_is_given_out_all_the_same() {
    each_mode(|disk, _, _, store, images| {
        disk.set_capacity_bytes(Some(disk.used_bytes()));
        let (results, calls) = all_at_once(images, |_| {
            await_misses(store, CALLERS);
            Ok::<_, Infallible>(NewValue::new(vec![7; 50_000]).metadata("meta"))
        });
        let got: Vec<_> = results.into_iter().map(|result| result.unwrap().unwrap()).collect();
        assert_eq!(count(&got, Origin::Work), calls);
        assert_eq!(count(&got, Origin::Shared), CALLERS - calls);
        for fetched in got {
            assert_eq!((fetched.len(), fetched.metadata()), (50_000, &b"meta"[..]));
            assert!(matches!(fetched.not_stored(), Some(Error::NoSpace { .. })));
        }
        assert!(!images.contains("key").unwrap());
        disk.set_capacity_bytes(None);
        let taken = images.try_get_with("key", || Ok::<_, Infallible>("value")).unwrap();
        assert!(taken.not_stored().is_none() && images.contains("key").unwrap());
    });
}

#[test]
fn work_that_takes_too_long_is_given_out_without_being_stored() {
    each_mode(|_, clock, _, store, images| {
        let slow = images.try_get_with("key", || {
            images.invalidate("key").unwrap();
            clock.advance(minutes(10));
            store.maintain().unwrap();
            Ok::<_, Infallible>("value")
        });
        let slow = slow.unwrap();
        assert!(matches!(slow.not_stored(), Some(Error::FillTimedOut { .. })));
        assert!(!images.contains("key").unwrap());
        let tags = NewValue::new("value").tag("");
        let untagged = images.try_get_with("key", || Ok::<_, Infallible>(tags)).unwrap();
        assert!(matches!(untagged.not_stored(), Some(Error::Limit { .. })));
        assert!(!images.contains("key").unwrap());
        let long = images.try_get_with(vec![0; 70_000], || Ok::<_, Infallible>("value"));
        assert!(matches!(long, Err(TryGetError::Store(Error::Limit { .. }))));
    });
}

#[test]
fn a_store_that_is_only_looked_at_lets_everyone_work() {
    each_mode(|disk, clock, _, store, images| {
        images.insert("there", b"value").unwrap();
        store.close().unwrap();
        let store = on_memory(disk, clock).open_read_only().unwrap();
        let images = store.existing_keyspace("images").unwrap();
        let fetch = |key| images.try_get_with(key, || Ok::<_, Infallible>("made")).unwrap();
        assert_eq!(fetch("there").origin(), Origin::Store);
        let made = fetch("key");
        assert_eq!((&made[..], made.origin()), (&b"made"[..], Origin::Work));
        assert!(matches!(made.not_stored(), Some(Error::ReadOnly)));
    });
}

#[test]
fn closing_the_store_ends_the_waiting() {
    each_mode(|_, _, _, store, images| {
        let (at_work, go_on) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                images.try_get_with("key", || {
                    at_work.wait();
                    go_on.wait();
                    Ok::<_, Infallible>("value")
                })
            });
            at_work.wait();
            let other_work = || -> Result<NewValue, Infallible> { panic!("two work at once") };
            let waiting = scope.spawn(move || images.try_get_with("key", other_work));
            await_misses(store, 2);
            store.close().unwrap();
            let waited = waiting.join().unwrap();
            assert!(matches!(waited, Err(TryGetError::Store(Error::Closed))), "{waited:?}");
            go_on.wait();
            let worked = worker.join().unwrap().unwrap();
            assert_eq!(&worked[..], b"value");
            assert!(matches!(worked.not_stored(), Some(Error::Closed)));
        });
    });
}
