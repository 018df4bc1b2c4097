//! What the next processes make of a future that was corrected, when they cannot read something, are stopped,
//! or find less than there was.

use ebbtide::Store;

use crate::fixture::{MODES, START, hours};
use crate::rig::{Rig, images, put, seen};

/// A future that was wrong.
const FUTURE: u64 = 1000;

/// A store with an older version of a key in the bucket of a future that was wrong, and the newer one in the present
/// one. Both leave at the same time.
fn with_two_versions(rig: &Rig) -> Store {
    rig.clock.set_wall(START + hours(FUTURE));
    let store = rig.open();
    put(&images(&store), "key", "old", &[]);
    store.sync().unwrap();
    rig.clock.set_wall(START);
    store.reset_clock().unwrap();
    put(&images(&store), "key", "new", &[]);
    store.sync().unwrap();
    store
}

/// The clock is wrong once more as the store is opened, so the newer version leaves, and is set back then. The
/// bucket of the older one says when it leaves, but cannot be read just then.
#[test]
fn a_header_that_could_not_be_read_brings_no_older_version_back() {
    for mapped in MODES {
        let rig = Rig::new(mapped);
        let store = with_two_versions(&rig);
        rig.clock.set_wall(START + hours(100));
        store.confirm_clock().unwrap();
        drop(store);
        let opened = rig.each_faulty_opening(|rig, store, call| {
            rig.clock.set_wall(START + hours(1));
            store.reset_clock().unwrap();
            assert_ne!(seen(store, "key").as_deref(), Some("old"), "call {call}");
            for stopped in [rig.kill(), rig.cut(0), rig.cut(call)] {
                assert_ne!(seen(&stopped.open(), "key").as_deref(), Some("old"), "call {call}");
            }
            rig.clock.set_wall(START + hours(100));
        });
        assert!(opened > 5, "{opened}");
    }
}
