//! Carriers under thousands of schedules and plans: nothing lost, duplicated, reordered, leaked or hung.
//!
//! `TRESPASS_SEEDS` says how many schedules, `TRESPASS_SEED` which one alone. `scripts/test` runs a hundred thousand.

mod dice;
mod halves;
mod harness;
mod message;
mod polls;

use halves::HalvesEnd;
use message::MessageEnd;
use trespass_mock::explore;

#[test]
fn messages_under_every_schedule() {
    explore(2000, harness::run::<MessageEnd>);
}

#[test]
fn bytes_under_every_schedule() {
    explore(500, harness::run::<HalvesEnd>);
}

/// The same with a bug in it: found, each of them, and with a seed that replays it.
#[cfg(feature = "planted-bugs")]
mod planted {
    use std::panic::catch_unwind;

    use trespass_carriers::{Bug, plant};

    use super::*;

    fn is_found(bug: Bug) {
        let search = || {
            explore(20_000, |seed| {
                plant(Some(bug));
                let outcome = harness::run::<MessageEnd>(seed);
                plant(None);
                outcome
            });
        };
        let panic = catch_unwind(search).expect_err("a bug that was planted was not found");
        let why = panic.downcast_ref::<String>().expect("what a panic says");
        let seed = why.split("TRESPASS_SEED=").nth(1).and_then(|rest| rest.split(' ').next());
        let seed: u64 = seed.and_then(|seed| seed.parse().ok()).expect("a seed to replay");
        plant(Some(bug));
        let again = harness::run::<MessageEnd>(seed);
        plant(None);
        assert!(again.is_err(), "seed {seed} fails once and not again: {why}");
        assert!(harness::run::<MessageEnd>(seed).is_ok(), "seed {seed} fails without the bug");
        println!("{bug:?}: {why}");
    }

    #[test]
    fn in_the_credits() {
        is_found(Bug::Credits);
    }

    #[test]
    fn in_the_close() {
        is_found(Bug::Close);
    }

    #[test]
    fn in_the_reassembly() {
        is_found(Bug::Reassembly);
    }

    #[test]
    fn in_the_wake_ups() {
        is_found(Bug::WakeUp);
    }

    #[test]
    fn in_the_drain() {
        is_found(Bug::Drain);
    }
}
