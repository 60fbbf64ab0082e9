//! The same with a bug in it: found, each of them, and with a seed that replays it.

use trespass_carriers::{Bug, plant};

use crate::datagram::DatagramEnd;
use crate::message::MessageEnd;
use crate::rendezvous::RendezvousEnd;
use crate::run::run;
use crate::stream::StreamEnd;
use crate::subject::Subject;

/// How many schedules it may take to find one, whatever `TRESPASS_SEEDS` says.
const BOUND: u64 = 20_000;

fn run_with<S: Subject>(bug: Bug, seed: u64) -> Result<(), String> {
    plant(Some(bug));
    let outcome = run::<S>(seed);
    plant(None);
    outcome.map(|_| ())
}

/// The schedules of this carrier find it: the seed that they print finds it again, and nothing without it.
fn is_found<S: Subject>(bug: Bug) {
    let found = (0..BOUND).find_map(|seed| Some((seed, run_with::<S>(bug, seed).err()?)));
    let (seed, why) = found.expect("a bug that was planted was not found");
    assert!(why.contains(&format!("replay it: TRESPASS_SEED={seed} ")), "no line to replay it: {why}");
    assert!(run_with::<S>(bug, seed).is_err(), "seed {seed} fails once and not again: {why}");
    assert!(run::<S>(seed).is_ok(), "seed {seed} fails without the bug");
    println!("{bug:?}, after {} schedules: {why}", seed + 1);
}

/// The schedules of this carrier have nothing to do with it.
fn is_not_of<S: Subject>(bug: Bug) {
    for seed in 0..1000 {
        run_with::<S>(bug, seed).unwrap();
    }
}

#[test]
fn in_the_credits() {
    is_found::<MessageEnd>(Bug::Credits);
    is_found::<RendezvousEnd>(Bug::Credits);
}

#[test]
fn in_the_close() {
    is_found::<MessageEnd>(Bug::Close);
    is_found::<RendezvousEnd>(Bug::Close);
}

#[test]
fn in_the_reassembly() {
    is_found::<MessageEnd>(Bug::Reassembly);
    is_found::<RendezvousEnd>(Bug::Reassembly);
}

#[test]
fn in_the_wake_ups() {
    is_found::<MessageEnd>(Bug::WakeUp);
    is_found::<RendezvousEnd>(Bug::WakeUp);
}

#[test]
fn in_the_drain() {
    is_found::<MessageEnd>(Bug::Drain);
}

#[test]
fn in_the_rendezvous_which_nobody_else_can_find() {
    is_found::<RendezvousEnd>(Bug::Rendezvous);
    is_not_of::<MessageEnd>(Bug::Rendezvous);
    is_not_of::<StreamEnd>(Bug::Rendezvous);
    is_not_of::<DatagramEnd>(Bug::Rendezvous);
}

#[test]
fn in_gathered_writes_which_only_streams_can_find() {
    is_found::<StreamEnd>(Bug::Gathered);
    is_not_of::<MessageEnd>(Bug::Gathered);
    is_not_of::<RendezvousEnd>(Bug::Gathered);
    is_not_of::<DatagramEnd>(Bug::Gathered);
}

#[test]
fn in_duplicates_which_only_datagrams_can_find() {
    is_found::<DatagramEnd>(Bug::Duplicates);
    is_not_of::<MessageEnd>(Bug::Duplicates);
    is_not_of::<StreamEnd>(Bug::Duplicates);
    is_not_of::<RendezvousEnd>(Bug::Duplicates);
}
