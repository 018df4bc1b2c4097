//! All that is promised of a store, once the process to which something happened is over.

use std::fs;
use std::path::Path;

use crate::child::{KEYS, access, images, opened, opened_at};
use crate::fixture::{clock, hours};
use crate::model::Model;

/// Files that a store without anything in it may have, but for the ledger, which is kept for years.
const FEW_FILES: usize = 24;

/// Opens the store, again, past the window, and with a clock that goes back.
pub(crate) fn check_afterwards(data: &Path, mapped: bool, model: &mut Model) {
    let store = opened(data, mapped);
    store.maintain().unwrap();
    model.check(&store);
    assert!(store.verify().unwrap().problems.is_empty());
    assert!(store.verify_ledger().unwrap().problems.is_empty());
    store.close().unwrap();
    let store = opened(data, mapped);
    assert!(store.recovery_report().is_clean(), "{:?}", store.recovery_report());
    model.check(&store);
    store.close().unwrap();

    let later = clock();
    later.advance(hours(17));
    for clock in [later, clock()] {
        let store = opened_at(data, mapped, &clock);
        let (images, access) = (images(&store).unwrap(), access(&store).unwrap());
        let left = (0..KEYS).filter(|key| images.contains(key.to_le_bytes()).unwrap());
        assert_eq!(left.count() + access.scan(..).unwrap().count(), 0, "what is over comes back");
        store.maintain().unwrap();
        store.close().unwrap();
    }
    let files = count_files(data);
    assert!(files <= FEW_FILES, "{files} files are left");
}

fn count_files(dir: &Path) -> usize {
    let count = |entry: fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true if entry.file_name() == "ledger" => 0,
        true => count_files(&entry.path()),
        false => 1,
    };
    fs::read_dir(dir).unwrap().map(|entry| count(entry.unwrap())).sum()
}
