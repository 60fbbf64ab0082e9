#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| trespass_fuzz::messages(input));
