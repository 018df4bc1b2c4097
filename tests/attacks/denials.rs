//! Denials beside writes that they meet, and what is forgotten of them.

use std::sync::{Arc, Mutex};

use ebbtide::{Error, Outcome, Scope};

use crate::fixture::{MODES, START, hours, minutes};
use crate::rig::{REFUSED, Rig, images, put, seen, with_each_call_failing};

/// A tag is denied while a value that carries it is written over one that does not.
#[test]
fn a_write_that_a_denial_refuses_takes_nothing_away() {
    for mapped in MODES {
        let mut met = 0;
        for call in 1.. {
            let rig = Rig::new(mapped);
            let (disk, store) = rig.open_faulty();
            let images = images(&store);
            put(&images, "key", "old", &[]);
            store.sync().unwrap();
            let (at, erasing) = (disk.calls() + call, Arc::new(Mutex::new(Some(store.clone()))));
            disk.interrupt(at, move || {
                let store = erasing.lock().unwrap().take().unwrap();
                let erase = store.erase_tag("cat", Scope::Keyspaces);
                erase.deny_until(store.now() + hours(1)).commit().unwrap();
            });
            let result = images.fill("key").tag("cat").commit("new");
            if disk.calls() < at {
                break;
            }
            let left = match result {
                Ok(Outcome::Stored) => panic!("call {call}: the tag is denied"),
                Ok(Outcome::Superseded) => None,
                Err(Error::Denied { .. }) => Some("old"),
                Err(other) => panic!("call {call}: {other}"),
            };
            met += 1;
            for after in [store, rig.kill().open(), rig.cut(0).open()] {
                let found = seen(&after, "key");
                assert!(found.is_none() || found.as_deref() == Some("old"), "call {call}");
                assert!(left.is_none() || found.is_some(), "call {call}: nothing is left");
            }
        }
        assert!(met > 0);
    }
}

/// The log with the denial has been followed by another one, and the time cannot be written down by which it is over.
#[test]
fn a_denial_is_not_forgotten_by_a_time_that_the_next_process_does_not_know() {
    for mapped in MODES {
        let prepare = || {
            let rig = Rig::new(mapped);
            let (disk, store) = rig.open_faulty();
            let images = images(&store);
            images.erase("key").deny_until(START + hours(2)).commit().unwrap();
            for _ in 0..40 {
                images.invalidate("other").unwrap();
            }
            rig.clock.advance(hours(2) + minutes(1));
            (rig, disk, store)
        };
        let mut denied = 0;
        with_each_call_failing(
            REFUSED,
            prepare,
            |store| store.maintain(),
            |rig, _, _, call| {
                let after = rig.cut(0);
                let clock = ebbtide::ManualClock::new(START);
                clock.reboot(minutes(0));
                let after = Rig { clock, ..after };
                let next = after.open();
                match images(&next).insert("key", "value") {
                    Err(Error::Denied { .. }) => denied += 1,
                    result => {
                        let now = next.now();
                        assert!(now >= START + hours(2), "call {call}: {result:?} at {now}");
                    }
                }
            },
        );
        assert!(denied > 0);
    }
}
