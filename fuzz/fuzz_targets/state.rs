//! A twin file, and its payload taken for each of the files kept that way.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| ebbtide::fuzzing::state(input));
