//! A block of log rows: its directory, and each row.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| ebbtide::fuzzing::rows(input));
