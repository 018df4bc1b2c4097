//! A tombstone log of two regions: a repair changes nothing that is read.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| ebbtide::fuzzing::tombstone_log(input));
