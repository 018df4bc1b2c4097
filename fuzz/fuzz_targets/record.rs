//! One record, header and prefix: what is accepted was written by the encoder.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| ebbtide::fuzzing::record(input));
