#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tokenry_fuzz::connected(bytes));
