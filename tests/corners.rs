//! Stores that lie as they rarely do, and work that is rarely done: whichever call fails, in whichever
//! way, what was told to be done is done, and nothing else is said.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/corners.rs"]
mod corners;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/fixture.rs"]
mod fixture;

use corners::{CORNERS, Corner, Scene};
use ebbtide::disk::Fault;
use faults::FAULTS;

/// Does the work with these calls failing, and checks what comes of it; false if no call was left.
fn survive(corner: &Corner, left: &Left, faults: &[(u64, Fault)], mapped: bool) -> bool {
    let what = format!("{}, {faults:?}, mapped: {mapped}", corner.name);
    let scene = Scene::new(left, mapped);
    for (call, fault) in faults {
        scene.disk.inject(*call, *fault);
    }
    let done = (corner.work)(&scene);
    let reached = faults.iter().all(|(call, _)| scene.disk.calls() >= *call);
    assert!(done.is_ok() || reached || faults.len() > 1, "{what}: {done:?}");
    // Of two faults there are many; each is checked in one of the ways.
    let by_chance = faults.iter().map(|(call, _)| call / 2).sum::<u64>() % 2 == 0;
    for power in [false, true] {
        if faults.len() == 1 || power == by_chance {
            corner.check(&scene, power, &what);
        }
    }
    reached
}

type Left = (ebbtide::disk::MemoryDisk, ebbtide::ManualClock);

#[test]
fn any_call_in_a_corner_may_fail() {
    let mut runs = 0;
    for corner in CORNERS.iter().filter(|corner| corner.after.is_empty()) {
        let left = (corner.prepare)();
        for fault in FAULTS {
            for call in 1.. {
                runs += 1;
                if !survive(corner, &left, &[(call, fault)], call % 2 == 0) {
                    break;
                }
            }
        }
    }
    println!("{runs} runs");
}

#[test]
fn another_call_may_fail_after_a_failed_one() {
    let mut runs = 0;
    for corner in CORNERS.iter().filter(|corner| !corner.after.is_empty()) {
        let left = (corner.prepare)();
        let clean = Scene::new(&left, false);
        (corner.work)(&clean).unwrap();
        for before in corner.after {
            for first in clean.calls_before() + 1..=clean.disk.calls() {
                for fault in FAULTS {
                    for second in first + 1.. {
                        runs += 1;
                        let faults = [(first, *before), (second, fault)];
                        if !survive(corner, &left, &faults, second % 2 == 0) {
                            break;
                        }
                    }
                }
            }
        }
    }
    println!("{runs} runs");
}
