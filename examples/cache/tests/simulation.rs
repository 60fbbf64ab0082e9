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

/// `TRESPASS_SEEDS` says otherwise. A build that is not optimized takes some seconds for ten.
const SCHEDULES: u64 = if cfg!(debug_assertions) { 100 } else { 1000 };

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
    assert!(summary.acknowledged > 200 && summary.epochs > 2 && summary.one_sided > 20, "{summary:?}");
}

/// Each bug is found, by what it breaks: else the test above would show nothing.
#[cfg(feature = "planted-bugs")]
mod planted {
    use trespass_example_cache::{Bug, plant};

    use super::cluster;

    /// So many seeds are tried for each: a bug of its own may take a while to show.
    const MOST: u64 = 300;

    fn found(bug: Bug, how: &[&str]) {
        let finding = (0..MOST).find_map(|seed| {
            plant(Some(bug));
            let outcome = cluster::run(seed);
            plant(None);
            Some((seed, outcome.err()?))
        });
        let (seed, wrong) = finding.unwrap_or_else(|| panic!("{bug:?} was not found in {MOST} schedules"));
        eprintln!("{bug:?} is found by seed {seed}: {wrong}");
        assert!(how.iter().any(|how| wrong.starts_with(how)), "{bug:?} is found otherwise, by seed {seed}: {wrong}");
        cluster::run(seed).unwrap_or_else(|wrong| panic!("seed {seed} without {bug:?}: {wrong}"));
    }

    #[test]
    fn an_acknowledgement_before_replication_is_found() {
        found(Bug::Acknowledge, &["lost", "older than known"]);
    }

    #[test]
    fn a_node_that_serves_before_it_has_its_keys_is_found() {
        found(Bug::Handover, &["lost", "older than known"]);
    }

    #[test]
    fn a_node_that_serves_when_its_lease_is_over_is_found() {
        found(Bug::Lease, &["lost", "older than known"]);
    }

    #[test]
    fn an_older_version_that_replaces_a_newer_one_is_found() {
        found(Bug::Version, &["lost", "older than known"]);
    }

    #[test]
    fn a_value_that_is_read_when_its_time_is_up_is_found() {
        found(Bug::Expiry, &["past its time"]);
    }

    #[test]
    fn what_is_lent_and_not_taken_back_is_found() {
        found(Bug::Lent, &["lost", "older than known"]);
    }
}
