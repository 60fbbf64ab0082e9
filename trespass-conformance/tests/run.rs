//! Running properties by hand: what a summary says, how one is skipped, and that one which hangs ends the process.

#[path = "../../tests/support/toy/mod.rs"]
mod toy;
#[path = "../../tests/support/toy_harness.rs"]
mod toy_harness;

use std::process::Command;
use std::time::Duration;

use toy::{Toy, ToyAddr};
use toy_harness::ToyHarness;
use trespass_conformance::{Deadlines, Fabrics, Harness, Property, block_on, run_all};

/// A toy that can tell nothing of itself, and may not be there.
#[derive(Default)]
struct Modest {
    toy: ToyHarness,
    missing: bool,
}

impl Harness for Modest {
    type Fabric = Toy;

    fn fabrics(&self) -> Fabrics<Toy> {
        assert!(!self.missing, "what is not there is asked for");
        self.toy.fabrics()
    }

    fn listen_addr(&self) -> ToyAddr {
        self.toy.listen_addr()
    }

    fn vacant_addr(&self) -> ToyAddr {
        self.toy.vacant_addr()
    }

    fn deadlines(&self) -> Deadlines {
        self.toy.deadlines()
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn unavailable(&self) -> Option<String> {
        self.missing.then(|| "it is not there".to_owned())
    }
}

#[test]
fn filters_choose_and_the_summary_counts() {
    let filters = ["buffers::".to_owned(), "a_close_is_idempotent".to_owned()];
    let summary = run_all(&ToyHarness::default(), &filters);
    assert!(summary.passed.iter().all(|name| name.starts_with("buffers::") || name == "ends::a_close_is_idempotent"));
    assert_eq!((summary.passed.len(), summary.skipped.len(), summary.failed.len()), (15, 0, 0), "{summary}");
}

#[test]
fn what_a_fabric_cannot_tell_is_skipped() {
    let filters = ["one_flush_is_one_doorbell".to_owned(), "try_calls_arm".to_owned(), "a_cut_link".to_owned()];
    let summary = run_all(&Modest::default(), &filters);
    assert_eq!((summary.passed.len(), summary.skipped.len(), summary.failed.len()), (0, 3, 0), "{summary}");
}

#[test]
fn what_is_not_there_is_skipped() {
    let summary = run_all(&Modest { missing: true, ..Modest::default() }, &[]);
    assert_eq!((summary.passed.len(), summary.failed.len()), (0, 0), "{summary}");
    assert!(summary.skipped.len() > 50, "{summary}");
    assert!(summary.skipped.iter().all(|(_, why)| why == "it is not there"));
}

#[test]
#[should_panic(expected = "it never became ready")]
fn a_wait_ends() {
    block_on(Duration::from_millis(20), "what never comes", std::future::pending::<()>());
}

#[test]
#[should_panic(expected = "a wake-up was lost")]
fn a_lost_wake_up_is_told() {
    let mut polls = 0;
    let ready_unwoken = std::future::poll_fn(|_| {
        polls += 1;
        if polls > 1 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    block_on(Duration::from_millis(20), "what comes unheard", ready_unwoken);
}

/// The child of the next test: there is no way back from this.
#[test]
fn hangs_where_it_is_told_to() {
    if std::env::var_os("TRESPASS_TEST_HANG").is_some() {
        let run = |_: &Modest| {
            loop {
                std::thread::park();
            }
        };
        Property { group: "test", name: "hangs", clauses: &["B1"], run }.check(&Modest::default());
    }
}

#[test]
fn a_call_that_hangs_ends_the_process() {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["--exact", "hangs_where_it_is_told_to", "--nocapture"]).env("TRESPASS_TEST_HANG", "1");
    let output = command.output().expect("this program again");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it ended well");
    assert!(said.contains("test::hangs") && said.contains("B1"), "it does not say what hangs: {said}");
}
