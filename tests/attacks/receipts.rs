//! What a receipt says of what is written after the invalidation that hides it.

use std::io::Write;
use std::sync::{Arc, Mutex};

use ebbtide::disk::MemoryDisk;
use ebbtide::{Keyspace, Level, Receipt, Row, Store};

use crate::fixture::{hours, open, quiet};
use crate::hooked::HookedDisk;
use crate::leaving::{CAPACITY, opened, sized};
use crate::rig::{Rig, access, each_mode, row};

/// Whoever stores a value makes room for it first, and may be overtaken by an invalidation meanwhile: what is
/// written all the same, if anything is, has not left.
#[test]
fn a_receipt_does_not_say_that_what_is_still_to_be_written_has_left() {
    const KEY: &str = "secret-key";
    type Put = fn(&Keyspace, &[u8]);
    let puts: [Put; 4] = [
        |images, value| drop(images.fill(KEY).commit(value)),
        |images, value| drop(images.insert(KEY, value)),
        |images, value| drop(images.insert_batch([(KEY, value)])),
        |images, value| {
            let mut writer = images.fill(KEY).memory_limit_bytes(0).into_writer().unwrap();
            writer.write_all(value).unwrap();
            let _ = writer.commit();
        },
    ];
    for put in puts {
        each_mode(|rig| {
            let mut value = b"secret-value".to_vec();
            value.resize(45_000, 3);
            let mut overtaken = 0;
            for call in 1.. {
                let rig = rig.with(MemoryDisk::new(1));
                let (_, disk, store) = opened(&rig);
                let images = sized(&store, CAPACITY);
                for key in ["first", "second"] {
                    images.insert(key, vec![1; 20_000]).unwrap();
                }
                store.sync().unwrap();
                let receipt = Arc::new(Mutex::new(None));
                let (invalidating, noted) = (images.clone(), Arc::clone(&receipt));
                let at = disk.calls() + call;
                disk.interrupt(at, move || {
                    *noted.lock().unwrap() = Some(invalidating.invalidate(KEY).unwrap());
                });
                put(&images, &value);
                if disk.calls() < at {
                    break;
                }
                store.sync().unwrap();
                let receipt = receipt.lock().unwrap().take().unwrap();
                if images.get(KEY).unwrap().is_some() {
                    // It is newer.
                    continue;
                }
                let is_left = receipt.level() == Level::Unlinked;
                assert!(!is_left || !rig.on_disk(b"secret-value"), "before call {call}");
                overtaken += 1;
            }
            assert!(overtaken > 0);
        });
    }
}

/// A row that waits in an appender is older than the invalidation of its tag, and written after it.
fn invalidated_while_it_waits(rig: &Rig) -> (Store, Receipt) {
    let store = rig.open();
    let log = access(&store);
    let mut rows = log.appender();
    rows.append(Row::anonymous().tag("t").payload("secret-row")).unwrap();
    let receipt = log.invalidate_tag("t").unwrap();
    rows.flush().unwrap();
    store.sync().unwrap();
    assert!(rig.on_disk(b"secret-row"));
    (store, receipt)
}

/// Rows that wait in an appender may be older than an invalidation, and are written after it.
#[test]
fn a_receipt_does_not_say_that_rows_which_wait_have_left() {
    each_mode(|rig| {
        let (store, receipt) = invalidated_while_it_waits(rig);
        assert_eq!(receipt.level(), Level::Hidden);
        rig.clock.advance(hours(18));
        store.maintain().unwrap();
        assert_eq!(receipt.level(), Level::Unlinked);
        assert!(!rig.on_disk(b"secret-row"));
    });
}

/// Their bucket is made when they are written.
#[test]
fn a_receipt_knows_how_long_rows_that_wait_will_stay() {
    each_mode(|rig| {
        let (store, receipt) = invalidated_while_it_waits(rig);
        let deadline = store.stats().logs[0].buckets[0].deadline;
        assert!(receipt.gone_by() >= deadline, "{} before {deadline}", receipt.gone_by());
    });
}

/// The directory of the trash cannot be synced once something has been unlinked in it; a second sync may succeed
/// without having written anything.
#[test]
fn a_receipt_does_not_say_that_what_a_failed_sync_unlinked_has_left() {
    each_mode(|rig| {
        let rig = rig.with(MemoryDisk::new(1));
        let disk = HookedDisk::new(&rig.disk);
        let builder = quiet(Store::builder("/data").disk(disk.clone()), &rig.clock);
        let store = open(builder, rig.mapped);
        let log = access(&store);
        row(&log, "secret-row", &["t"]);
        store.sync().unwrap();
        let receipt = log.invalidate_tag("t").unwrap();
        rig.clock.advance(hours(18));
        store.drop_expired().unwrap();
        disk.forget_next_sync("/data/trash");
        store.maintain().unwrap_err();
        store.maintain().unwrap();
        assert!(!rig.on_disk(b"secret-row") && rig.cut(0).on_disk(b"secret-row"));
        assert!(receipt.level() < Level::Unlinked, "{:?}", receipt.level());
        let next = rig.kill().open();
        next.maintain().unwrap();
    });
}
