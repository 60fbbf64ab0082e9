//! No heap allocation per message over datagrams after warm-up, sending and receiving, and none that a peer could drive up.
//!
//! Allocations are counted per thread, so everything here runs on one.

#[path = "support/datagrams.rs"]
mod datagrams;
mod support;

use allocation_counter::measure;
use datagrams::{open, small};
use support::{pattern, poll_once};
use trespass_carriers::DatagramConfig;
use trespass_mock::MockNet;

#[test]
fn messages_of_any_size_allocate_nothing() {
    // No time passes, so that no alarm costs anything.
    let net = MockNet::virtual_time().0;
    let (left, right) = open(&net, &small(), [DatagramConfig::default(), DatagramConfig::default()]);
    let (mut left, mut right) = (left.unwrap(), right.unwrap());
    for len in [0, 1, 248, 249, 5000, 20_000] {
        let data = pattern(len, len);
        let mut pass = || {
            let mut sending = left.send(&data);
            while poll_once(&mut sending).map(Result::unwrap).is_pending() {}
            assert!(*right.try_recv().unwrap().unwrap() == data);
        };
        (0..50).for_each(|_| pass());
        let counted = measure(|| (0..200).for_each(|_| pass()));
        assert_eq!(counted.count_total, 0, "{len} bytes");
    }
}

/// With loss, duplication and reordering, and waits between: what is incomplete and given up goes back to the pool.
#[test]
fn a_bad_network_makes_nothing_allocate() {
    let track = small().with_seed(3).with_loss(50).with_duplication(100).with_reordering(200);
    let quick = DatagramConfig::default().with_max_message(8000);
    // The handshake is made over the same bad network; time has to pass for it.
    let (left, right) = open(&MockNet::new(), &track, [quick.clone(), quick]);
    let (mut left, mut right) = (left.unwrap(), right.unwrap());
    let data = pattern(1, 8000);
    let mut at = 0_usize;
    let mut received = 0;
    let mut pass = || {
        at += 1;
        let mut sending = left.send(&data[..at * 7919 % 8000]);
        while poll_once(&mut sending).map(Result::unwrap).is_pending() {}
        while let Ok(message) = right.try_recv() {
            received += usize::from(message.is_some());
        }
    };
    (0..2000).for_each(|_| pass());
    let counted = measure(|| (0..500).for_each(|_| pass()));
    assert_eq!(counted.count_total, 0);
    assert!(received > 200, "{received}");
    assert!(right.stats().given_up > 50, "{:?}", right.stats());
}
