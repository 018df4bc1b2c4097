//! A ledger file: what is accepted was written by the encoder, and a changed byte is noticed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| ebbtide::fuzzing::ledger(input));
