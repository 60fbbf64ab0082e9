//! Five nodes, eight clients, and an operator who kills nodes, cuts them off and brings them back, in a simulation: see
//! `support/cluster.rs` for what goes wrong, and `support/history.rs` for what may not come of it.
#![cfg(feature = "mock")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/dice.rs"]
mod dice;
#[path = "support/history.rs"]
mod history;

use trespass::mock::explore;

/// As many as a test has time for; `TRESPASS_SEEDS` says otherwise.
const SCHEDULES: u64 = 1000;

#[test]
fn no_acknowledged_write_is_lost_and_nothing_is_read_past_its_time() {
    explore(SCHEDULES, |seed| cluster::run(seed).map(drop));
}

#[test]
fn the_same_seed_is_the_same_run() {
    let trace = || cluster::run(7).unwrap_or_else(|wrong| panic!("{wrong}")).trace;
    assert_eq!(trace(), trace());
}

#[test]
fn something_goes_on() {
    let summary = cluster::run(1).unwrap_or_else(|wrong| panic!("{wrong}"));
    eprintln!("{summary:?}");
    assert!(summary.acknowledged > 200 && summary.epochs > 2, "{summary:?}");
}
