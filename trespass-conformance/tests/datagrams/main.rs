//! The datagram properties are tested themselves: tracks with a bug are caught by the property that is there for it, and
//! every property of the group catches something.

mod bad;

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bad::{Bad, Bug};
use trespass_conformance::{DatagramHarness, Deadlines, Fabrics, Harness, datagram_properties, run_all_for_datagrams};
use trespass_core::{Fabric, ThreadFabric};
use trespass_layers::{Layered, Lossy, lossy::LossyConfig};
use trespass_mock::{MockAddr, MockConfig, MockFabric, MockNet};

/// A bug, the property that notices it, and a part of what that says.
const TABLE: &[(Bug, &str, &str)] = &[
    (Bug::Truncates, "datagrams::a_datagram_arrives_whole_or_not_at_all", "the peer never sent it like this"),
    (Bug::Invents, "datagrams::nothing_is_invented", "arrived"),
    (Bug::DeliversStrangers, "datagrams::only_the_messages_of_the_peer_arrive", "the peer never sent it like this"),
    (Bug::LosesTheLongest, "datagrams::what_is_sent_again_and_again_arrives", "never arrived whole"),
    (Bug::IsReliable, "datagrams::a_receiver_that_takes_nothing_stalls_nobody", "the device alone has to give it back"),
    (Bug::IsReliable, "datagrams::a_receiver_that_holds_all_stalls_nobody", "the device alone has to give it back"),
    (Bug::IsReliable, "datagrams::an_overflow_disturbs_no_other_track", "the device alone has to give it back"),
    (Bug::CloseWaits, "datagrams::a_close_waits_for_the_device_alone", "for a close, in"),
    (Bug::OverflowIsAnError, "datagrams::a_receiver_that_takes_nothing_stalls_nobody", "resource limit"),
    (Bug::OverflowIsAnError, "datagrams::a_receiver_that_holds_all_stalls_nobody", "resource limit"),
    (Bug::OverflowEndsAll, "datagrams::an_overflow_disturbs_no_other_track", "resource limit"),
    (Bug::CloseThrowsAway, "datagrams::what_had_arrived_comes_before_the_own_end", "was thrown away"),
    (Bug::GoneHangs, "datagrams::a_peer_that_is_gone_hangs_nobody", "never became ready"),
    (Bug::LosesWakeUps, "datagrams::halves_work_while_messages_are_lost", ""),
    // Properties of any track notice on datagram tracks too.
    (Bug::Truncates, "buffers::every_length_arrives_whole", "never arrived whole"),
    (Bug::Truncates, "buffers::truncate_shortens_the_message", "never arrived whole"),
    (Bug::LosesTheLongest, "buffers::every_length_arrives_whole", "never arrived whole"),
    (Bug::NeverWakes, "waking::a_message_wakes_the_latest_waker", "a wake-up was lost"),
    (Bug::NeverWakes, "waking::each_side_has_its_own_waker", "a wake-up was lost"),
    (Bug::NeverWakes, "buffers::dropped_receive_buffers_wake_the_receiver", "a wake-up was lost"),
    (Bug::NeverWakes, "ends::a_close_wakes_the_own_receiver", "a wake-up was lost"),
];

/// What is under the bug.
trait Below: Sync {
    type Fabric: ThreadFabric<Addr = MockAddr>;
    fn over(mock: MockFabric) -> Self::Fabric;
}

struct Datagrams;

impl Below for Datagrams {
    type Fabric = Lossy<MockFabric>;

    fn over(mock: MockFabric) -> Lossy<MockFabric> {
        Lossy::over(mock, LossyConfig::new(3).with_loss(50).with_duplication(50).with_reordering(50))
    }
}

struct NoDatagrams;

impl Below for NoDatagrams {
    type Fabric = MockFabric;

    fn over(mock: MockFabric) -> MockFabric {
        mock
    }
}

struct BadHarness<B> {
    bug: Bug,
    patience: Duration,
    below: PhantomData<fn() -> B>,
}

const DEADLINES: Deadlines = Deadlines { handshake: Duration::from_millis(400), close: Duration::from_millis(400) };

impl<B: Below> Harness for BadHarness<B> {
    type Fabric = Layered<Bad, B::Fabric>;

    fn fabrics(&self) -> Fabrics<Self::Fabric> {
        let config = MockConfig::default().with_max_message(2048).with_send_slots(8).with_recv_slots(8);
        let config = config.with_handshake_timeout(DEADLINES.handshake).with_close_timeout(DEADLINES.close);
        let (net, bad) = (MockNet::new(), Bad::new(self.bug));
        let fabric = || Layered::new(B::over(net.fabric(config.clone()).expect("a good configuration")), bad.clone());
        Fabrics { server: fabric(), client: fabric() }
    }

    fn listen_addr(&self) -> MockAddr {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        MockAddr::new(&format!("server-{}", NEXT.fetch_add(1, Ordering::Relaxed))).expect("an address")
    }

    fn vacant_addr(&self) -> MockAddr {
        "nobody".parse().expect("an address")
    }

    fn deadlines(&self) -> Deadlines {
        DEADLINES
    }

    fn patience(&self) -> Duration {
        self.patience
    }
}

fn harness<B>(bug: Bug, patience: Duration) -> BadHarness<B> {
    BadHarness { bug, patience, below: PhantomData }
}

trespass_conformance::datagram_conformance_tests!(harness::<Datagrams>(Bug::Nothing, Duration::from_secs(30)));

/// What property `name` says of a bug.
fn failure_of<H: DatagramHarness>(harness: &H, bug: Bug, name: &str) -> String {
    let property = datagram_properties().into_iter().find(|property| property.to_string() == name);
    let property = property.unwrap_or_else(|| panic!("there is no property {name}"));
    let failed = catch_unwind(AssertUnwindSafe(|| property.check(harness)));
    let Err(panic) = failed else { panic!("{bug:?} was not noticed by {name}") };
    let text = panic.downcast_ref::<String>().cloned();
    text.or(panic.downcast_ref::<&str>().map(ToString::to_string)).expect("a panic with a text")
}

#[test]
fn every_bug_is_caught() {
    // It will not come, whatever it is: there is no sense in waiting for long.
    let patience = Duration::from_millis(700);
    for (bug, name, says) in TABLE {
        let text = match bug {
            Bug::IsReliable => failure_of(&harness::<NoDatagrams>(*bug, patience), *bug, name),
            _ => failure_of(&harness::<Datagrams>(*bug, patience), *bug, name),
        };
        assert!(text.contains(says), "{bug:?} was noticed by {name}, but by: {text}");
    }
}

#[test]
fn every_property_of_datagrams_catches_something() {
    for property in datagram_properties::<BadHarness<Datagrams>>() {
        let caught = TABLE.iter().any(|(_, name, _)| *name == property.to_string());
        assert!(caught || property.group != "datagrams", "no bug is there for {property}: can it fail at all?");
    }
}

#[test]
fn filters_choose_and_the_summary_counts() {
    let filters = ["datagrams::".to_owned(), "one_flush_is_one_doorbell".to_owned()];
    let patience = Duration::from_secs(30);
    let summary = run_all_for_datagrams(&harness::<Datagrams>(Bug::Nothing, patience), &filters);
    assert_eq!((summary.passed.len(), summary.skipped.len(), summary.failed.len()), (11, 1, 0), "{summary}");
    let names = datagram_properties::<BadHarness<Datagrams>>().into_iter().map(|property| property.to_string());
    assert!(names.into_iter().all(|name| !name.starts_with("carriers::")), "carriers need tracks that lose nothing");
}

/// The tracks under a harness are datagram tracks, or nothing of this shows anything.
const _: fn() = || {
    fn datagrams<F: Fabric<Track: trespass_core::Track<Delivery = trespass_core::Datagram>>>() {}
    datagrams::<Layered<Bad, MockFabric>>();
};
