//! Each future of the rendezvous carrier and of its halves, dropped after every number of polls that it can have: a message
//! arrives whole or not at all, its memory comes back either way, nothing leaks, and nobody waits for ever.

#[path = "schedules/polls.rs"]
mod polls;
#[path = "support/sim.rs"]
mod sim;
mod support;

use std::time::Duration;

use polls::polls;
use sim::{End, at_every_poll, ends};
use support::{join, pattern};
use trespass_carriers::{RendezvousCarrier, RendezvousConfig, RendezvousMessage, RendezvousReceiver, RendezvousSender};
use trespass_core::{MemoryFabric, Role, Timer};
use trespass_mock::{MockFabric, MockRegion, MockTrack};

type Carrier = RendezvousCarrier<MockFabric>;

/// Of the messages here those of 1000 bytes are lent, and those of 500 go in segments.
const LENT: usize = 1000;
const CUT: usize = 500;

async fn open(fabric: &MockFabric, track: MockTrack, role: Role) -> Carrier {
    let config = RendezvousConfig::new(fabric.clone()).with_lend_from(LENT);
    RendezvousCarrier::open(track, role, config).await.unwrap()
}

fn written(fabric: &MockFabric, seed: usize, len: usize) -> MockRegion {
    let mut region = fabric.alloc(len).unwrap();
    region.copy_from_slice(&pattern(seed, len));
    region
}

async fn receive_all(carrier: &mut Carrier) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    while let Some(message) = carrier.recv().await.unwrap() {
        got.push(message.to_vec());
    }
    got
}

/// Receives slowly, to the end.
async fn slow_receiver(End { fabric, track, timer }: End) -> Vec<Vec<u8>> {
    let mut carrier = open(&fabric, track, Role::Acceptor).await;
    timer.sleep(Duration::from_micros(100)).await;
    let got = receive_all(&mut carrier).await;
    let _ = carrier.close().await;
    got
}

#[test]
fn a_send_is_dropped_at_any_poll() {
    for len in [10, CUT, LENT] {
        at_every_poll(|seed, most| {
            let sender = move |End { fabric, track, timer }| async move {
                let mut carrier = open(&fabric, track, Role::Connector).await;
                // With this there are no credits for all of what comes.
                carrier.send(&pattern(1, 900)).await.unwrap();
                let region = written(&fabric, 2, len);
                let place = region.as_ptr();
                let sent = polls(carrier.send_region(region, 0..len), Some(most), &timer).await.map(Result::unwrap);
                carrier.send(b"after").await.unwrap();
                let back = carrier.returned().await.expect("whatever becomes of the message");
                assert!(back.as_ptr() == place && back[..] == pattern(2, len));
                assert!(carrier.returned().await.is_none());
                carrier.finish().await.unwrap();
                assert!(receive_all(&mut carrier).await.is_empty());
                carrier.close().await.unwrap();
                sent.is_some()
            };
            let (sent, got) = ends(seed, sender, slow_receiver);
            let mut expected = vec![pattern(1, 900), b"after".to_vec()];
            if sent {
                expected.insert(1, pattern(2, len));
            }
            assert!(got == expected, "seed {seed}, {most} polls of {len} bytes: {}", got.len());
            sent
        });
    }
}

/// More than may be lent at a time, and memory that comes back as it is read.
async fn lend_many(fabric: &MockFabric, carrier: &mut Carrier, count: usize) -> usize {
    let mut back = 0;
    for seed in 0..count {
        carrier.send_region(written(fabric, seed, LENT), 0..LENT).await.unwrap();
        back += usize::from(carrier.try_returned().is_some());
    }
    back
}

#[test]
fn a_receive_is_dropped_at_any_poll() {
    at_every_poll(|seed, most| {
        let sender = |End { fabric, track, timer }| async move {
            let mut carrier = open(&fabric, track, Role::Connector).await;
            let mut back = 0;
            for round in 0..3 {
                timer.sleep(Duration::from_micros(50)).await;
                carrier.send(&pattern(100 + round, 10)).await.unwrap();
                back += lend_many(&fabric, &mut carrier, 2).await;
            }
            while carrier.returned().await.is_some() {
                back += 1;
            }
            carrier.finish().await.unwrap();
            assert!(receive_all(&mut carrier).await.is_empty());
            carrier.close().await.unwrap();
            back
        };
        let receiver = move |End { fabric, track, timer }| async move {
            let mut carrier = open(&fabric, track, Role::Acceptor).await;
            let first = polls(carrier.recv(), Some(most), &timer).await.map(Result::unwrap);
            let mut got: Vec<Vec<u8>> = first.iter().flatten().map(|message| message.to_vec()).collect();
            let enough = first.is_some();
            drop(first);
            got.extend(receive_all(&mut carrier).await);
            carrier.close().await.unwrap();
            (enough, got)
        };
        let (back, (enough, got)) = ends(seed, sender, receiver);
        let rounds = (0..3).flat_map(|round| [pattern(100 + round, 10), pattern(0, LENT), pattern(1, LENT)]);
        assert!(got == rounds.collect::<Vec<_>>(), "seed {seed}, {most} polls: {}", got.len());
        assert_eq!(back, 6);
        enough
    });
}

#[test]
fn a_wait_for_memory_is_dropped_at_any_poll() {
    at_every_poll(|seed, most| {
        let sender = move |End { fabric, track, timer }| async move {
            let mut carrier = open(&fabric, track, Role::Connector).await;
            let mut back = lend_many(&fabric, &mut carrier, 3).await;
            let first = polls(carrier.returned(), Some(most), &timer).await;
            let enough = first.is_some();
            back += usize::from(first.flatten().is_some());
            while carrier.returned().await.is_some() {
                back += 1;
            }
            carrier.close().await.unwrap();
            (enough, back)
        };
        let ((enough, back), got) = ends(seed, sender, slow_receiver);
        assert_eq!((back, got.len()), (3, 3), "seed {seed}, {most} polls");
        enough
    });
}

/// Whatever is lent is read before the goodbye, however often it is begun.
#[test]
fn an_end_is_dropped_at_any_poll() {
    for close in [true, false] {
        at_every_poll(|seed, most| {
            let sender = move |End { fabric, track, timer }| async move {
                let mut carrier = open(&fabric, track, Role::Connector).await;
                let mut back = lend_many(&fabric, &mut carrier, 4).await;
                let enough = match close {
                    true => polls(carrier.close(), Some(most), &timer).await.map(Result::unwrap).is_some(),
                    false => polls(carrier.finish(), Some(most), &timer).await.map(Result::unwrap).is_some(),
                };
                carrier.close().await.unwrap();
                while carrier.returned().await.is_some() {
                    back += 1;
                }
                (enough, back)
            };
            let ((enough, back), got) = ends(seed, sender, slow_receiver);
            assert!(got == (0..4).map(|seed| pattern(seed, LENT)).collect::<Vec<_>>(), "seed {seed}, {most} polls");
            assert_eq!(back, 4);
            enough
        });
    }
}

/// Both halves are in the middle of something, and one future of each is given up.
#[test]
fn what_halves_wait_for_is_dropped_at_any_poll() {
    for len in [CUT, LENT] {
        at_every_poll(|seed, most| {
            let talk = move |role| {
                move |End { fabric, track, timer }| async move {
                    let (sender, receiver) = open(&fabric, track, role).await.split();
                    let sending = send_some(sender, &fabric, len, most, &timer);
                    let (sent, heard) = join(sending, receive_some(receiver, most, &timer)).await;
                    let (sender, outcome) = sent;
                    let (receiver, enough, got) = heard;
                    receiver.reunite(sender).unwrap().close().await.unwrap();
                    (outcome, enough, got)
                }
            };
            let (left, right) = ends(seed, talk(Role::Connector), talk(Role::Acceptor));
            for ((sent, ..), (.., got)) in [(&left, &right), (&right, &left)] {
                let mut expected = vec![pattern(0, LENT), pattern(2, LENT), b"after".to_vec()];
                if *sent {
                    expected.insert(1, pattern(1, len));
                }
                assert!(*got == expected, "seed {seed}, {most} polls of {len} bytes: {}", got.len());
            }
            left.0 && left.1 && right.0 && right.1
        });
    }
}

async fn send_some(
    mut sender: RendezvousSender<MockFabric>,
    fabric: &MockFabric,
    len: usize,
    most: usize,
    timer: &trespass_mock::MockTimer,
) -> (RendezvousSender<MockFabric>, bool) {
    sender.send_region(written(fabric, 0, LENT), 0..LENT).await.unwrap();
    let given_up = sender.send_region(written(fabric, 1, len), 0..len);
    let sent = polls(given_up, Some(most), timer).await.map(Result::unwrap).is_some();
    sender.send_region(written(fabric, 2, LENT), 0..LENT).await.unwrap();
    sender.send(b"after").await.unwrap();
    let _ = polls(sender.returned(), Some(most), timer).await.map(drop);
    while sender.returned().await.is_some() {}
    sender.finish().await.unwrap();
    (sender, sent)
}

async fn receive_some(
    mut receiver: RendezvousReceiver<MockFabric>,
    most: usize,
    timer: &trespass_mock::MockTimer,
) -> (RendezvousReceiver<MockFabric>, bool, Vec<Vec<u8>>) {
    let keep = |message: &RendezvousMessage<MockFabric>| message.to_vec();
    let first = polls(receiver.recv(), Some(most), timer).await.map(Result::unwrap);
    let (enough, mut got) = (first.is_some(), first.iter().flatten().map(keep).collect::<Vec<_>>());
    drop(first);
    while let Some(message) = receiver.recv().await.unwrap() {
        got.push(keep(&message));
    }
    (receiver, enough, got)
}
