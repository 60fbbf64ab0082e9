//! The program: that it does what it says, in process.
#![cfg(feature = "mock")]

use std::process::Command;

#[test]
fn the_program_calls_every_method_in_process() {
    let run =
        Command::new(env!("CARGO_BIN_EXE_trespass-example-rpc")).args(["--calls", "2000"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("every method says what it should") && said.contains("2000 calls by 8 threads"), "{said}");
}

#[test]
fn the_program_says_what_it_cannot_do() {
    let run = Command::new(env!("CARGO_BIN_EXE_trespass-example-rpc")).args(["--connect", "somewhere"]).output();
    let run = run.expect("it runs");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("--fabric verbs"), "{said}");
}
