//! Callers that make a missing value, beside an invalidation: nobody gets bytes whose making had begun
//! before an invalidation that had returned before the call.

use std::sync::atomic::{AtomicU64, Ordering};

use ebbtide::Origin;
use shuttle::thread;

use crate::promises::{World, options};
use crate::schedules::scenarios;

scenarios! {
    callers_and_invalidation: 40,
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
