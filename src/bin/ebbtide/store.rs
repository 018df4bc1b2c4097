//! Opening a store to look at it, or to work on it.

use std::io::{ErrorKind, Write, stderr};

use ebbtide::{Store, StoreBuilder};

use crate::args::Place;
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;

/// Opens a store to look at it, also beside a process that writes it.
pub(crate) fn open_to_look(place: &Place) -> Result<Store, Failure> {
    builder(place).open_read_only().map_err(|e| Failure::opening(&e))
}

/// As [`open_to_look`], and says so on stderr if the store is damaged: what is then missing would
/// look as if it had never been there.
pub(crate) fn open_to_read(place: &Place, output: &Output) -> Result<Store, Failure> {
    let store = open_to_look(place)?;
    let found = store.recovery_report();
    let files = found.corrupt_records.len() + found.unknown_versions.len();
    if files > 0 && !output.is_json() && !output.is_quiet() {
        let what = if files == 1 { "1 file" } else { &format!("{files} files") };
        // Where stderr is closed there is nobody to tell.
        let _ = writeln!(
            stderr(),
            "ebbtide: something may be missing: {what} damaged or of an unknown version; see `verify`"
        );
    }
    Ok(store)
}

/// Fails if there is no store: opening one to write would create it.
pub(crate) fn check_exists(place: &Place) -> Result<(), Failure> {
    match place.path.join("STORE").symlink_metadata() {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(Failure::no_store(&place.path))
        }
        // Whatever else is wrong, opening says it better.
        _ => Ok(()),
    }
}

/// Opens a store, works on it, does the upkeep that is due, and closes it. What the work gives is
/// given back when all of it is durable.
pub(crate) fn work_on<T>(
    place: &Place,
    output: &Output,
    work: impl FnOnce(&Store) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let store = builder(place).background(false).open().map_err(|e| Failure::opening(&e))?;
    let worked = work(&store);
    let progress = Progress::spinner(output, "upkeep");
    let maintained = store.maintain();
    let closed = store.close();
    drop(progress);
    let worked = worked?;
    let finished = maintained.and(closed);
    finished.map_err(|e| Failure::from(e).after("it was done"))?;
    Ok(worked)
}

fn builder(place: &Place) -> StoreBuilder {
    Store::builder(&place.path).allow_network_file_system(place.allow_network_file_system)
}
