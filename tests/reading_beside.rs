//! A process that only looks reads beside the one that writes: it shows nothing that has been invalidated,
//! whatever has become of the note of that, and takes nothing for damage that is only erased.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]
#![cfg(not(any(shuttle, planted)))]

#[path = "common/fixture.rs"]
mod fixture;
#[path = "attacks/rig.rs"]
mod rig;

use std::io::ErrorKind;
use std::sync::Arc;

use ebbtide::Store;
use ebbtide::disk::{Fault, FaultyDisk};

use fixture::quiet;
use rig::{Rig, access, images, put, row};

/// Opens a store to look at it, through a disk that can be made to fail.
fn look_faulty(rig: &Rig) -> (FaultyDisk, Store) {
    let disk = FaultyDisk::new(Arc::new(rig.disk.clone()));
    let builder = quiet(Store::builder("/data").disk(disk.clone()), &rig.clock);
    (disk, builder.open_read_only().unwrap())
}

#[test]
fn a_tombstone_that_cannot_be_looked_for_fails_the_read() {
    for fault in [Fault::Error(ErrorKind::TimedOut), Fault::Short] {
        for call in 1.. {
            let rig = Rig::new(false);
            let store = rig.open();
            put(&images(&store), "secret", "value", &["tag"]);
            row(&access(&store), "value", &["tag"]);
            store.sync().unwrap();
            let (disk, looking) = look_faulty(&rig);
            let seen = looking.existing_keyspace("images").unwrap();
            let rows = looking.existing_log("access").unwrap();
            assert!(seen.get("secret").unwrap().is_some());
            images(&store).invalidate("secret").unwrap();
            access(&store).invalidate_tag("tag").unwrap();
            let reached = disk.calls() + call;
            disk.inject(reached, fault);
            let found = seen.get("secret");
            let scanned: Vec<_> = rows.scan(..).into_iter().flatten().collect();
            assert!(!matches!(found, Ok(Some(_))), "{fault:?} at {call}: {found:?}");
            assert!(scanned.iter().all(Result::is_err), "{fault:?} at {call}: {scanned:?}");
            if disk.calls() < reached {
                assert!(call > 4, "{call} calls");
                break;
            }
        }
    }
}
