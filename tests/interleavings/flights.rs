//! Callers that make a missing value. Beside an invalidation: nobody gets bytes whose making had begun
//! before an invalidation that had returned before the call. Beside a close: nobody waits for ever.

use std::sync::atomic::{AtomicU64, Ordering};

use ebbtide::{Error, Origin, TryGetError};
use shuttle::thread;

use crate::fixture::files_of;
use crate::promises::{World, options};
use crate::schedules::scenarios;

scenarios! {
    callers_and_invalidation: 40,
    callers_and_close,
}

fn callers_and_invalidation(mapped: bool) {
    let world = World::new(mapped, 0, options());
    // Counted when the making of a value begins.
    let (begun, floor, newest) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let fetch = || {
        let promised = floor.load(Ordering::Relaxed).max(newest.load(Ordering::Relaxed));
        let mut made = None;
        let work = || {
            let version = begun.fetch_add(1, Ordering::Relaxed) + 1;
            made = Some(version);
            thread::yield_now();
            Ok::<_, std::io::Error>(version.to_le_bytes().repeat(40))
        };
        let fetched = world.images.try_get_with("photo", work).unwrap();
        let version = u64::from_le_bytes(fetched[..8].try_into().unwrap());
        assert_eq!(fetched.to_vec(), version.to_le_bytes().repeat(40), "wrong bytes");
        assert!(version >= promised, "version {version} after {promised} was promised");
        assert!(fetched.not_stored().is_none());
        assert_eq!(fetched.origin() == Origin::Work, made == Some(version));
        newest.fetch_max(version, Ordering::Relaxed);
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                fetch();
                fetch();
            });
        }
        scope.spawn(|| {
            let before = begun.load(Ordering::Relaxed);
            world.images.invalidate("photo").unwrap();
            floor.fetch_max(before + 1, Ordering::Relaxed);
            fetch();
            world.store.scrub().unwrap();
            fetch();
        });
    });
    fetch();
    world.verify().unwrap();
    assert!(world.store.problems().is_empty());
}

fn callers_and_close(mapped: bool) {
    let world = World::new(mapped, 0, options());
    let work = || {
        thread::yield_now();
        Ok::<_, std::io::Error>(b"made".to_vec())
    };
    let call = || match world.images.try_get_with("photo", work) {
        Ok(fetched) => {
            assert_eq!(&fetched[..], b"made");
            assert!(fetched.not_stored().is_none_or(|error| matches!(error, Error::Closed)));
        }
        Err(TryGetError::Store(error)) => assert!(matches!(error, Error::Closed), "{error}"),
        Err(other) => panic!("{other}"),
    };
    let closed = thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(call);
        }
        let closing = scope.spawn(|| {
            world.store.close().unwrap();
            files_of(&world.disk)
        });
        closing.join().unwrap()
    });
    assert!(closed == files_of(&world.disk), "a file changed after the store was closed");
}
