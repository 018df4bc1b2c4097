//! A whole segment file: walked, sealed into a sidecar, and read record by record.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| ebbtide::fuzzing::segment(input));
