//! Limits in time: to the silence of a peer, and to one call.

use std::time::Duration;

use trespass_carriers::{CarrierError, MessageConfig, Phase};
use trespass_core::{Endpoint, Timer};

use super::{carriers, config, message, open, post};
use crate::ends::assert_in_time;
use crate::harness::ReliableHarness;
use crate::traffic::pair;
use crate::wait::{Waits, both};

/// A peer that is there and does nothing is found by its silence, by an end that waits to receive.
pub fn a_peer_that_stands_still_is_found<H: ReliableHarness>(h: &H) {
    let limit = Duration::from_millis(300);
    let pair = pair(h);
    let configs = [MessageConfig::default().with_idle_timeout(Some(limit)), MessageConfig::default()];
    let (mut client, _server) = open(h, pair.client, pair.server, configs);
    let timer = client.track().map(Endpoint::timer).expect("it is open");
    let start = timer.now();
    let outcome = h.wait("the end of a peer that stands still", client.recv());
    let took = timer.now() - start;
    assert!(matches!(outcome, Err(CarrierError::TimedOut(Phase::Idle))), "a peer that stands still: {outcome:?}");
    assert!(took >= limit / 2, "the peer was found silent after {took:?}, and the limit is {limit:?}");
    assert_in_time("finding a peer that stands still", took, 2 * limit);
    let outcome = h.wait("a send after it", client.send(b"more"));
    assert!(matches!(outcome, Err(CarrierError::TimedOut(Phase::Idle))), "a send after it: {outcome:?}");
}

/// A receive and a send that run into their limits leave the carrier as it was, but for the message that was withdrawn.
pub fn a_limit_to_one_call_loses_nothing<H: ReliableHarness>(h: &H) {
    let limit = Duration::from_millis(50);
    let mut pair = carriers(h, MessageConfig::default());
    let outcome = h.wait("a receive of nothing", pair.client.recv_within(limit));
    assert!(matches!(outcome, Err(CarrierError::TimedOut(Phase::Receive))), "a receive of nothing: {outcome:?}");
    // More than there are buffers for, and nobody takes it.
    let config = config(pair.client.track().expect("it is open"));
    let withdrawn = message(1, config.max_message);
    let outcome = h.wait("a send to nobody", pair.client.send_within(limit, &withdrawn));
    assert!(matches!(outcome, Err(CarrierError::TimedOut(Phase::Send))), "a send to nobody: {outcome:?}");
    let after = async {
        post(&mut pair.client, 2, 1000).await;
        pair.client.recv_within(Duration::from_secs(30)).await.map(|answer| answer.map(|answer| answer.to_vec()))
    };
    let there = async {
        let got = pair.server.recv().await.map(|got| got.map(|got| got.to_vec()));
        post(&mut pair.server, 3, 1000).await;
        got
    };
    let (answer, got) = h.wait("a message and an answer after it", both(after, there));
    assert_eq!(got.expect("a message"), Some(message(2, 1000)), "what arrives after one that was withdrawn");
    assert_eq!(answer.expect("an answer"), Some(message(3, 1000)), "the answer to it");
}
