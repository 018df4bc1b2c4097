//! Logs as they are found.

use super::*;
use crate::format::tombstone::{ENTRY_LEN, REGION_HEADER_LEN};

#[test]
fn a_file_that_is_missing_among_those_expected_is_a_loss() {
    let bench = Bench::new();
    bench.commit(60);
    let dir = Path::new(DIR);
    let lost = |expected: Option<(u64, u64)>| {
        let found = read(&bench.disk, expected);
        assert_eq!(found.damaged.len(), usize::from(found.lost));
        (found.lost, found.stale.len(), found.logs.len())
    };
    assert_eq!(lost(Some((1, 3))), (false, 0, 3));
    assert_eq!(lost(None), (false, 0, 3));
    assert_eq!(lost(Some((1, 2))), (false, 0, 3), "made just before the stop");
    assert_eq!(lost(Some((2, 3))), (false, 1, 2), "forgotten just before the stop");
    assert_eq!(lost(Some((1, 4))), (true, 0, 3));
    bench.disk.remove_file(&dir.join(log_name(2))).unwrap();
    assert_eq!(lost(Some((1, 3))), (true, 0, 2));
    assert_eq!(lost(Some((3, 3))), (false, 1, 1));
    assert_eq!(lost(None), (true, 0, 2), "a gap");
}

#[test]
fn a_name_far_ahead_is_passed_over() {
    let bench = Bench::new();
    bench.commit(60);
    let stray = |number: u64| {
        bench.memory.write_file(&Path::new(DIR).join(log_name(number)), b"?").unwrap();
    };
    [MAX_LOG_NUMBER - 1, MAX_LOG_NUMBER].into_iter().for_each(stray);
    let found = bench.found();
    assert_eq!((found.range(), found.lost, found.stale.len()), (Some((1, 3)), false, 0));
    stray(4);
    let found = bench.found();
    assert_eq!((found.range(), found.lost), (Some((1, 4)), true), "it may have been begun");
    // Nothing is known of them.
    let found = read(&bench.disk, None);
    assert_eq!((found.logs.len(), found.lost, found.stale.len()), (4, true, 2));
    // The next opening, which knows this, misses one.
    assert_eq!(found.range(), Some((1, 5)));
    for number in 1..=4 {
        bench.disk.remove_file(&Path::new(DIR).join(log_name(number))).unwrap();
    }
    let found = read(&bench.disk, None);
    assert_eq!((found.range(), found.lost, found.stale.len()), (Some((1, 1)), true, 2));
    stray(1);
    assert_eq!(read(&bench.disk, None).logs.len(), 1);
    assert!(read(&bench.disk, Some((1, 2))).lost);
}

#[test]
fn a_file_that_is_not_as_it_was_written_is_a_loss() {
    let damages: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes.truncate(4000),
        |bytes| {
            bytes[0] ^= 1;
            bytes[2048] ^= 1;
        },
        |bytes| bytes.clear(),
    ];
    for damage in damages {
        let bench = Bench::new();
        bench.commit(5);
        bench.change(1, damage);
        let found = bench.found();
        assert!(found.lost);
        assert_eq!(found.damaged.len(), 1);
    }
    for identity in
        [LogIdentity { store_id: [8; 16], ..IDENTITY }, LogIdentity { check_value: 10, ..IDENTITY }]
    {
        let bench = Bench::new();
        bench.commit(5);
        let found = read_logs(&bench.disk, Path::new(DIR), None, identity).unwrap();
        assert!(found.lost && floors(&found).is_empty());
    }
    let bench = Bench::new();
    bench.commit(30);
    bench
        .disk
        .rename(&Path::new(DIR).join(log_name(2)), &Path::new(DIR).join(log_name(1)))
        .unwrap();
    assert!(read(&bench.disk, None).lost, "its number is another");
}

#[test]
fn what_is_not_whole_is_told_with_its_file() {
    let bench = Bench::new();
    bench.commit(5);
    bench.found().check_whole().unwrap();
    bench.change(1, Vec::clear);
    let checked = bench.found().check_whole();
    let path = Path::new(DIR).join(log_name(1));
    assert!(matches!(checked, Err(Error::Corrupt { path: told, .. }) if told == path));
}

#[test]
fn where_no_file_is_left_one_may_be_missing_if_one_was_seen() {
    let bench = Bench::new();
    let none = bench.found();
    let at_first = none.position();
    assert!(!at_first.is_forgotten(&none));
    bench.commit(1);
    let later = bench.found();
    assert!(!at_first.is_forgotten(&later), "the first file is there");
    assert!(later.position().is_forgotten(&none));
}

#[test]
fn a_file_of_another_version_is_left_alone() {
    let bench = Bench::new();
    bench.commit(1);
    bench.change(1, |bytes| bytes[2048 + 8..][..4].copy_from_slice(&0xfff6_0009_u32.to_le_bytes()));
    let read = read_logs(&bench.disk, Path::new(DIR), None, IDENTITY);
    assert!(matches!(read, Err(Error::UnknownVersion { found: 9, known: VERSION, .. })));
}

#[test]
fn a_torn_entry_is_no_loss_and_is_made_void() {
    let bench = Bench::new();
    bench.commit(2);
    // As if three had been written with one call that was not acknowledged.
    bench.change(1, |bytes| {
        for at in [512 + 64 + 20, 2048 + 512 + 64 + 20] {
            bytes[at] ^= 1;
        }
    });
    let found = bench.found();
    assert_eq!((found.lost, found.torn.len(), floors(&found)), (false, 1, vec![1]));
    let bench = bench.reopened();
    assert!(bench.found().torn.is_empty());
    bench.commit(1);
    assert_eq!(floors(&bench.found()), [1, 2]);
    assert_eq!(bench.found().position().place(), (1, 3));
}

#[test]
fn one_region_is_enough_and_the_difference_shows() {
    let bench = Bench::new();
    bench.commit(3);
    assert!(bench.differences().is_empty());
    bench.change(1, |bytes| bytes[512 + 64..512 + 128].fill(0));
    let found = bench.found();
    assert_eq!((found.lost, floors(&found)), (false, vec![1, 2, 3]));
    assert_eq!(bench.differences(), [512 + 64], "below a later mark");
    let bench = Bench::new();
    bench.commit(3);
    bench.change(1, |bytes| bytes[512 + 128..512 + 192].fill(0));
    assert!(bench.differences().is_empty(), "it may be being written");
    bench.change(1, |bytes| bytes[512 + 130] = 1);
    assert_eq!(bench.differences(), [512 + 128]);
}

#[test]
fn the_highest_generation_in_headers_and_floors_is_known() {
    let bench = Bench::new();
    bench.log.commit(tombstone(first_of(2), 1)).unwrap();
    assert_eq!(bench.found().generation, 3);
    bench.log.commit(tombstone(first_of(8), 1)).unwrap();
    bench.log.commit(tombstone(first_of(4), 1)).unwrap();
    assert_eq!(bench.found().generation, 8);
}

#[test]
fn there_is_more_if_an_entry_or_a_file_follows() {
    let bench = Bench::new();
    let look = |position: &Position| position.look(&bench.disk, Path::new(DIR));
    let more = |position: &Position| look(position).unwrap().is_some();
    bench.commit(1);
    let seen = bench.found().position();
    assert!(!more(&seen));
    bench.commit(1);
    assert!(more(&seen));
    assert!(!more(&bench.found().position()));
    let seen = bench.found().position();
    bench.commit(22);
    let full = bench.found().position();
    assert!(!more(&full), "the second region is none of it");
    bench.commit(1);
    assert!(more(&seen) && more(&full));
    assert!(!more(&bench.found().position()), "the one before does not count");
    assert!(!full.is_forgotten(&bench.found()));
    bench.commit(24);
    bench.log.forget_below(1000, 0).unwrap();
    assert_eq!(bench.found().range(), Some((3, 3)));
    assert!(more(&full), "its file is forgotten, and the next as well");
    assert!(
        full.is_forgotten(&bench.found()) && !bench.found().position().is_forgotten(&bench.found())
    );
    bench.disk.inject(bench.disk.calls() + 1, Fault::ErrorsFrom(io::ErrorKind::TimedOut));
    assert!(look(&seen).is_err(), "nothing can be said");
}

/// Of a unit of several entries, each in turn is blank when it is read first, in both regions.
#[test]
fn a_unit_that_was_met_before_all_of_it_was_there_is_met_again() {
    for blank in 0..4 {
        let bench = Bench::new();
        bench.commit(2);
        bench.log.commit(tombstone(3, 8)).unwrap();
        let places = [0, 2048].map(|region| region + 512 + (2 + blank) * 64);
        let mut whole = Vec::new();
        bench.change(1, |bytes| {
            whole = bytes.clone();
            places.iter().for_each(|at| bytes[*at..*at + 64].fill(0));
        });
        let mut position = bench.found().position();
        assert_eq!(position.place(), (1, 2));
        // What cannot be read is read once more, and not again as long as it is the same.
        let dir = Path::new(DIR);
        let seen = position.look(&bench.disk, dir).unwrap().unwrap();
        position.advance(&bench.found(), seen);
        assert!(position.look(&bench.disk, dir).unwrap().is_none());
        bench.change(1, |bytes| bytes.copy_from_slice(&whole));
        let seen = position.look(&bench.disk, dir).unwrap().unwrap();
        assert_eq!(floors(&bench.found()), [1, 2, 3]);
        position.advance(&bench.found(), seen);
        assert_eq!(position.place(), (1, 6));
        assert!(position.look(&bench.disk, dir).unwrap().is_none());
    }
}

#[test]
fn names_are_ten_digits_and_nothing_else() {
    assert_eq!(parse_log_name("0000000012.log"), Some(12));
    assert_eq!(parse_log_name(&log_name(MAX_LOG_NUMBER)), Some(MAX_LOG_NUMBER));
    for name in ["12.log", "0000000012", "+000000012.log", "10000000000.log", "spare", ".log"] {
        assert_eq!(parse_log_name(name), None, "{name}");
    }
}

#[test]
fn a_read_that_fails_during_a_repair_makes_nothing_void() {
    let mut refused = 0;
    for call in 1..=10 {
        let bench = Bench::new();
        bench.commit(3);
        // Only the second region holds the last entry, which no later one calls durable.
        bench.change(1, |bytes| bytes[REGION_HEADER_LEN as usize + 2 * ENTRY_LEN + 9] ^= 1);
        let found = bench.found();
        let log = log_on(&bench.disk, &bench.state);
        bench.disk.inject(bench.disk.calls() + call, Fault::Error(io::ErrorKind::Other));
        refused += u64::from(log.resume(&found).is_err());
        bench.disk.clear();
        assert_eq!(floors(&bench.found()), [1, 2, 3], "call {call}");
    }
    assert!(refused > 0);
}

#[test]
fn what_cannot_be_read_is_not_asked_for_again_for_each_entry() {
    let bench = Bench::new();
    bench.commit(24);
    let regions = OpenRegions::open(&bench.disk, &Path::new(DIR).join(log_name(1))).unwrap();
    let before = bench.disk.calls();
    bench.disk.inject(before + 1, Fault::ErrorsFrom(io::ErrorKind::Other));
    assert!((0..24).all(|index| regions.entry(0, index).is_none()));
    assert_eq!(bench.disk.calls() - before, 1);
}

/// The last entry fills the log, and its sync is lost; the process ends before the entry stands in the next log.
#[test]
fn a_log_that_was_given_up_when_it_was_full_is_written_once_more() {
    let mut followed = 0;
    for call in 3.. {
        let bench = Bench::new();
        bench.commit(23);
        let next = bench.disk.calls() + 1;
        bench.disk.inject(next, Fault::SyncLost(io::ErrorKind::TimedOut));
        bench.disk.inject(next + call, Fault::ErrorsFrom(io::ErrorKind::TimedOut));
        if bench.log.commit(tombstone(24, 1)).is_ok() {
            break;
        }
        bench.disk.clear();
        let bench = bench.reopened();
        assert_eq!(floors(&bench.found()).last(), Some(&24));
        let newest = bench.state.current().newest_log;
        followed += newest - 1;
        let left = FaultyDisk::new(Arc::new(bench.memory.crash(&mut |_| 0)));
        let left = read(&left, Some((1, newest)));
        assert_eq!(floors(&left).last(), Some(&24), "call {call}");
    }
    assert!(followed > 0);
}

#[test]
fn an_entry_that_neither_region_holds_is_a_loss_if_a_later_one_calls_it_durable() {
    let bench = Bench::new();
    bench.commit(5);
    for region in [0, FILE_LEN / 2] {
        let at = (region + REGION_HEADER_LEN) as usize + 2 * ENTRY_LEN;
        bench.change(1, |bytes| bytes[at + 9] ^= 1);
    }
    let found = bench.found();
    assert!(found.lost && found.torn.is_empty());
    assert_eq!(found.damaged[0].1, "tombstones that cannot be read");
}

/// A log of several pieces whose end is not read looks like one that ends there.
#[test]
fn a_log_that_is_not_read_to_its_end_is_a_loss() {
    let bench = Bench::new();
    let disk: Arc<dyn Disk> = Arc::new(bench.disk.clone());
    let state = Arc::clone(&bench.state);
    let log = TombstoneLog::create(disk, PathBuf::from(DIR), state, IDENTITY, 256 << 10);
    for floor in 1..=3 {
        log.commit(tombstone(floor, 1500)).unwrap();
    }
    let (mut lost, mut refused, mut whole) = (0, 0, false);
    for call in 1.. {
        let before = bench.disk.calls();
        bench.disk.inject(before + call, Fault::ErrorsFrom(io::ErrorKind::TimedOut));
        let found = read_logs(&bench.disk, Path::new(DIR), Some((1, 1)), IDENTITY);
        let met = bench.disk.calls() - before >= call;
        bench.disk.clear();
        match found {
            Ok(found) if found.lost => lost += 1,
            Ok(found) => {
                assert_eq!(floors(&found), [1, 2, 3], "call {call}");
                whole |= !met;
            }
            Err(Error::Io { .. }) => refused += 1,
            Err(e) => panic!("call {call}: {e}"),
        }
        if !met {
            break;
        }
    }
    assert_eq!(refused, 2, "to list the directory, and to open the file");
    assert!(lost >= 4 && whole, "{lost}");
}

#[test]
fn a_log_that_leaves_before_it_is_opened_is_a_loss() {
    let bench = Bench::new();
    bench.commit(1);
    let memory = bench.memory.clone();
    let path = Path::new(DIR).join(log_name(1));
    bench.disk.interrupt(bench.disk.calls() + 2, move || memory.remove_file(&path).unwrap());
    assert!(bench.found().lost);
}
