//! Carriers under thousands of schedules and plans: nothing lost, duplicated, reordered, leaked or hung.
//!
//! `TRESPASS_SEEDS` says how many schedules, `TRESPASS_SEED` which one alone: what a failure prints. `scripts/test` runs a
//! hundred thousand of each carrier. See README.md beside this.

mod check;
mod datagram;
mod dice;
mod end;
mod halves;
mod message;
#[cfg(feature = "planted-bugs")]
mod planted;
mod polls;
mod rendezvous;
mod run;
mod stream;
mod subject;

use datagram::DatagramEnd;
use message::MessageEnd;
use rendezvous::RendezvousEnd;
use run::schedules;
use stream::StreamEnd;

#[test]
fn messages_under_every_schedule() {
    schedules::<MessageEnd>(2000);
}

#[test]
fn streams_under_every_schedule() {
    schedules::<StreamEnd>(2000);
}

#[test]
fn rendezvous_under_every_schedule() {
    schedules::<RendezvousEnd>(2000);
}

#[test]
fn datagrams_under_every_schedule() {
    schedules::<DatagramEnd>(2000);
}
