//! A checked fabric that breaks the contract is found out by the check, with the clause, before anybody else notices. The
//! fabric is the one that the conformance kit breaks on purpose, and the traffic is the kit's.
#![cfg(debug_assertions)]

#[macro_use]
#[path = "../../trespass-conformance/tests/support/faults.rs"]
mod faults;

#[path = "../../trespass-conformance/tests/broken/bufs.rs"]
mod bufs;
#[path = "../../trespass-conformance/tests/broken/fabric.rs"]
#[allow(dead_code, reason = "the kit's own tests use more of it")]
mod fabric;
#[path = "../../trespass-conformance/tests/broken/fault.rs"]
#[allow(dead_code, reason = "the kit's own tests use more of it")]
mod fault;
#[path = "../../trespass-conformance/tests/broken/receiver.rs"]
mod receiver;
#[path = "../../trespass-conformance/tests/broken/tap.rs"]
mod tap;
#[path = "../../trespass-conformance/tests/broken/track.rs"]
mod track;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Waker};
use std::time::Duration;

use fabric::{Broken, BrokenHarness};
use fault::Fault;
use toy_fabric::ToyAddr;
use trespass_conformance::{Deadlines, Fabrics, Harness, properties};
use trespass_core::{ErrorKind, Fabric, Listener};
use trespass_layers::Checked;

/// A fault, the property whose traffic brings it to light, and the clause that the check names.
const TABLE: &[(Fault, &str, &str)] = &[
    (Fault::Lengthens, "buffers::every_length_arrives_whole", "B1"),
    (Fault::ReservesTooMuch, "buffers::reserve_gives_what_was_asked_for", "B2"),
    (Fault::ClampsOversize, "buffers::reserve_gives_what_was_asked_for", "B2"),
    (Fault::SendFindsNoRoom, "buffers::reserved_buffers_can_be_sent", "B3"),
    (Fault::IgnoresTruncate, "buffers::truncate_shortens_the_message", "B4"),
    (Fault::LeaksASlot, "buffers::dropped_send_buffers_free_their_slots", "B5"),
    (Fault::AcceptsForeignBuffers, "buffers::foreign_buffers_come_back", "B8"),
    (Fault::MisnamesForeignBuffers, "buffers::foreign_buffers_come_back", "B8"),
    (Fault::SplitForgetsBuffers, "waking::halves_work_on_two_threads", "B8"),
    (Fault::OverwritesHeldBuffers, "flow::a_receiver_that_holds_all_stalls_the_sender", "B9"),
    (Fault::RefusesTheWord, "buffers::a_word_stays_beside_its_message", "B11"),
    (Fault::HasNoBound, "flow::a_full_send_queue_would_block", "F4"),
    (Fault::CountsReceivesTwice, "flow::posted_counts_receives", "F6"),
    (Fault::StartsAtZero, "flow::posted_counts_receives", "F6"),
    (Fault::ReadyToReceiveForNothing, "waking::dropped_futures_lose_nothing", "W1"),
    (Fault::ReadyToSendForNothing, "waking::dropped_futures_lose_nothing", "W1"),
    (Fault::HalvesDiffer, "waking::halves_work_on_two_threads", "W6"),
    (Fault::TellsTheEndOnce, "ends::everything_arrived_comes_before_the_end", "E1"),
    (Fault::ClosesOnce, "ends::a_close_is_idempotent", "E3"),
    (Fault::ReservesAfterAClose, "ends::a_close_is_idempotent", "E3"),
    (Fault::EndIsNotReady, "ends::everything_arrived_comes_before_the_end", "E5"),
    (Fault::ErrorsChange, "ends::the_first_cause_sticks", "E6"),
    (Fault::MisnamesThePeer, "connections::tracks_outlive_their_fabric", "C5"),
];

struct CheckedHarness(BrokenHarness);

impl Harness for CheckedHarness {
    type Fabric = Checked<Broken>;

    fn fabrics(&self) -> Fabrics<Checked<Broken>> {
        let Fabrics { server, client } = self.0.fabrics();
        Fabrics { server: Checked::over(server), client: Checked::over(client) }
    }

    fn listen_addr(&self) -> ToyAddr {
        self.0.listen_addr()
    }

    fn vacant_addr(&self) -> ToyAddr {
        self.0.vacant_addr()
    }

    fn deadlines(&self) -> Deadlines {
        self.0.deadlines()
    }

    fn patience(&self) -> Duration {
        self.0.patience
    }

    fn cut(&self, track: &<Checked<Broken> as Fabric>::Track) -> Option<ErrorKind> {
        Some(track.inner().cut())
    }
}

/// What the traffic of a property says over a checked fabric with a fault.
fn failure_of(fault: Fault, name: &str) -> String {
    let mut harness = BrokenHarness::new(fault);
    harness.patience = Duration::from_millis(700);
    let property = properties().into_iter().find(|property| property.to_string() == name);
    let property = property.unwrap_or_else(|| panic!("there is no property {name}"));
    panic_of(fault, || drop(property.check(&CheckedHarness(harness))))
}

fn panic_of(fault: Fault, work: impl FnOnce()) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(work)) else { panic!("{fault:?} was not noticed") };
    let text = panic.downcast_ref::<String>().cloned();
    text.or(panic.downcast_ref::<&str>().map(ToString::to_string)).expect("a panic with a text")
}

#[test]
fn the_check_names_the_clause() {
    for (fault, name, clause) in TABLE {
        let text = failure_of(*fault, name);
        let says = format!("the contract is broken, clause {clause}: ");
        assert!(text.starts_with(&says), "{fault:?} of {clause} was noticed by {name}, but by: {text}");
    }
}

#[test]
fn the_check_names_the_clause_for_a_listener() {
    for fault in [Fault::Nothing, Fault::ClosedListenerGoesOn] {
        let work = || {
            let mut listener =
                CheckedHarness(BrokenHarness::new(fault)).fabrics().server.listen(&ToyAddr(0)).expect("a listener");
            listener.close();
            let polled = listener.poll_incoming(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_ready(), "a check let this pass");
        };
        match fault {
            Fault::Nothing => work(),
            _ => assert!(panic_of(fault, work).starts_with("the contract is broken, clause C6: ")),
        }
    }
}

/// What the check can complain of, every fault above shows that it does.
#[test]
fn every_clause_that_is_checked_has_a_fault() {
    let source = include_str!("../src/checked/on.rs");
    let is_clause = |text: &&str| {
        let mut chars = text.chars();
        chars.next().is_some_and(|group| "BFWEC".contains(group))
            && text.len() > 1
            && chars.all(|digit| digit.is_ascii_digit())
    };
    let checked: BTreeSet<&str> = source.split('"').filter(is_clause).collect();
    let shown: BTreeSet<&str> = TABLE.iter().map(|(_, _, clause)| *clause).chain(["C6"]).collect();
    assert_eq!(checked, shown, "the clauses in the source, and those of the table");
}
