//! Credits and back-pressure (K3): whatever fills up drains again, and a receiver that is not ready is never met.

mod support;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Poll, ready};
use std::thread;

use futures_executor::block_on;
use support::{Carrier, both, carriers, join, pattern, small};
use trespass_carriers::{Message, MessageConfig};
use trespass_core::TryError;
use trespass_mock::{MockConfig, MockTrack};

/// Sends `count` messages, all of them before it receives the peer's.
async fn send_then_receive(carrier: &mut Carrier, count: usize, len: usize, seed: usize) {
    for at in 0..count {
        carrier.send(&pattern(seed + at, len)).await.unwrap();
    }
    carrier.finish().await.unwrap();
    for at in 0..count {
        let message = carrier.recv().await.unwrap().unwrap();
        assert!(*message == pattern(seed + at, len), "message {at}");
    }
    assert!(carrier.recv().await.unwrap().is_none());
}

/// The standing deadlock test: both ends send many times all buffering before either receives.
#[test]
fn both_ends_may_send_before_either_receives() {
    for (track, config) in [
        (small(), MessageConfig::default()),
        (small().with_send_slots(4), MessageConfig::default()),
        (small().with_recv_slots(9).with_send_slots(64), MessageConfig::default()),
        (small().with_recv_slots(64).with_send_slots(64), MessageConfig::default()),
        (MockConfig::default(), MessageConfig::default()),
    ] {
        let buffering = track.max_message * (track.send_slots + 2 * track.recv_slots);
        for len in [0, 1, 64, track.max_message - 8, track.max_message, 10 * track.max_message] {
            let count = 50.max(8 * buffering.min(1 << 20) / len.max(64)).min(4000);
            let mut pair = carriers(track.clone(), config.clone());
            both(send_then_receive(&mut pair.left, count, len, 7), send_then_receive(&mut pair.right, count, len, 7));
            assert_eq!(pair.rnr(), 0);
            assert!(pair.left.stats().spilled_messages > 0, "{len} bytes: nothing filled up");
        }
    }
}

#[test]
fn both_ends_may_send_before_either_receives_from_two_threads() {
    for len in [64, 3000] {
        let pair = carriers(small(), MessageConfig::default());
        let (mut left, mut right) = (pair.left, pair.right);
        let other = thread::spawn(move || block_on(send_then_receive(&mut left, 3000, len, 1)));
        block_on(send_then_receive(&mut right, 3000, len, 1));
        other.join().unwrap();
        assert_eq!(pair.fabrics.iter().map(|fabric| fabric.counters().rnr_stalls).sum::<u64>(), 0);
    }
}

/// Beyond the limit senders wait, without end if nobody receives; and they go on once one does.
#[test]
fn beyond_the_spill_limit_a_send_waits_for_the_peers_application() {
    for limit in [0, 4096] {
        let mut pair = carriers(small(), MessageConfig::default().with_spill_limit(limit));
        let data = pattern(3, 200);
        {
            let mut waiting = pin!(join(
                async {
                    for _ in 0..1000 {
                        pair.left.send(&data).await.unwrap();
                    }
                },
                async {
                    for _ in 0..1000 {
                        pair.right.send(&data).await.unwrap();
                    }
                },
            ));
            // To rest: what one poll wakes, the next does.
            block_on(poll_fn(|cx| {
                for _ in 0..5000 {
                    assert!(waiting.as_mut().poll(cx).is_pending());
                }
                Poll::Ready(())
            }));
        }
        let spilled = pair.left.stats().spilled_bytes;
        assert!(spilled <= limit as u64, "{spilled} of {limit}");
        let received = drain(&mut pair.right) + drain(&mut pair.left);
        assert!(received > limit / 400);
        both(
            async {
                pair.left.send(&data).await.unwrap();
                pair.left.finish().await.unwrap();
                while pair.left.recv().await.unwrap().is_some() {}
            },
            async {
                while pair.right.recv().await.unwrap().is_some() {}
                pair.right.finish().await.unwrap();
            },
        );
        assert_eq!(pair.rnr(), 0);
    }
}

/// How many messages are there to take just now.
fn drain(carrier: &mut Carrier) -> usize {
    std::iter::from_fn(|| match carrier.try_recv() {
        Ok(Some(message)) => {
            assert_eq!(*message, pattern(3, 200));
            Some(())
        }
        Ok(None) | Err(TryError::WouldBlock) => None,
        Err(TryError::Failed(error)) => panic!("{error}"),
    })
    .count()
}

#[test]
fn an_application_that_holds_its_messages_stalls_the_peer_until_it_lets_go() {
    let mut pair = carriers(small(), MessageConfig::default());
    let mut held = Vec::new();
    let mut sent = 0;
    // Both ends are polled in turn until nothing moves.
    for _ in 0..100 {
        if pair.left.try_send(&[sent]).is_ok() {
            sent += 1;
        }
        pair.left.flush().unwrap();
        held.extend(pair.right.try_recv().ok().flatten());
    }
    // All receives but those for control, and one that the track has not posted again yet.
    assert!((3..=4).contains(&sent) && held.len() == usize::from(sent), "{sent}");
    assert!(pair.left.stats().stalls > 0);
    // The other direction is none the worse.
    for _ in 0..100 {
        let (sent, received) = both(pair.right.send(b"back"), pair.left.recv());
        sent.unwrap();
        assert_eq!(&*received.unwrap().unwrap(), b"back");
    }
    held.clear();
    let stalled_at = sent;
    for _ in 0..100 {
        if pair.left.try_send(&[sent]).is_ok() {
            sent += 1;
        }
        pair.left.flush().unwrap();
        held.extend(pair.right.try_recv().ok().flatten());
    }
    assert_eq!(usize::from(sent - stalled_at), held.len());
    assert!((3..=4).contains(&held.len()), "{held:?}");
    assert_eq!(pair.rnr(), 0);
}

/// The documented bound: at most ¾ of the slots less 5 may be held without harm.
#[test]
fn an_application_may_hold_what_is_documented() {
    for slots in [8, 9, 12, 16, 64] {
        let mut pair = carriers(small().with_recv_slots(slots), MessageConfig::default());
        let may_hold = slots * 3 / 4 - 5;
        let mut held: std::collections::VecDeque<Message<MockTrack>> = Default::default();
        for _ in 0..may_hold {
            both(pair.left.send(b"held"), async { held.push_back(pair.right.recv().await.unwrap().unwrap()) })
                .0
                .unwrap();
        }
        for _ in 0..500 {
            let (sent, received) = both(pair.left.send(b"next"), pair.right.recv());
            sent.unwrap();
            held.push_back(received.unwrap().unwrap());
            held.pop_front();
        }
        assert_eq!(pair.rnr(), 0);
    }
}

/// A receiver that waits for a message, and the last buffers come back on another thread: the peer must learn of it.
#[test]
fn buffers_that_come_back_while_the_receiver_waits_wake_the_peer() {
    for slots in [8, 16] {
        let mut pair = carriers(small().with_recv_slots(slots), MessageConfig::default());
        let mut held = Vec::new();
        while let Ok(()) = pair.left.try_send(b"held") {
            pair.left.flush().unwrap();
            held.push(pair.right.try_recv().unwrap().unwrap());
        }
        assert!(held.len() >= slots / 2 - 1, "{held:?}");
        let (mut left, mut right) = (pair.left, pair.right);
        let sender = thread::spawn(move || {
            block_on(left.send(b"next")).unwrap();
            left
        });
        let dropper = thread::spawn(move || {
            for message in held {
                thread::sleep(std::time::Duration::from_millis(2));
                drop(message);
            }
        });
        assert_eq!(&*block_on(right.recv()).unwrap().unwrap(), b"next");
        dropper.join().unwrap();
        drop(sender.join().unwrap());
    }
}

/// Held send slots cannot keep credits from the peer.
#[test]
fn control_has_slots_of_its_own() {
    let mut pair = carriers(small().with_send_slots(8), MessageConfig::default());
    let mut held = Vec::new();
    while let Ok(buf) = pair.right.try_reserve(1) {
        held.push(buf);
    }
    assert_eq!(held.len(), 6, "two are kept for control");
    let (sent, ()) = both(
        async {
            for at in 0..200 {
                pair.left.send(&[at]).await.unwrap();
            }
        },
        async {
            for at in 0..200 {
                assert_eq!(*pair.right.recv().await.unwrap().unwrap(), [at]);
            }
        },
    );
    let () = sent;
    assert!(pair.right.stats().credit_updates_sent > 0);
    drop(held);
    assert_eq!(pair.rnr(), 0);
}

/// Questions and answers carry the credits: no frame goes out for nothing else.
#[test]
fn traffic_both_ways_needs_no_credit_frames() {
    let mut pair = carriers(small(), MessageConfig::default());
    let before = pair.fabrics[0].counters();
    for _ in 0..1000 {
        both(
            async {
                pair.left.send(b"question").await.unwrap();
                pair.left.recv().await.unwrap().unwrap();
            },
            async {
                pair.right.recv().await.unwrap().unwrap();
                pair.right.send(b"answer").await.unwrap();
            },
        );
    }
    for stats in [pair.left.stats(), pair.right.stats()] {
        assert_eq!((stats.credit_updates_sent, stats.stalls, stats.spilled_messages), (0, 0, 0));
    }
    let counted = pair.fabrics[0].counters().since(before);
    assert_eq!((counted.sends, counted.doorbells), (1000, 1000));
}

/// One-way traffic: one frame of credits for half a window of messages.
#[test]
fn one_way_traffic_costs_few_credit_frames() {
    let mut pair = carriers(small().with_recv_slots(64).with_send_slots(64), MessageConfig::default());
    for _ in 0..100 {
        for _ in 0..32 {
            pair.left.try_send(b"one way").unwrap();
        }
        pair.left.flush().unwrap();
        for _ in 0..32 {
            pair.right.try_recv().unwrap().unwrap();
        }
        assert!(pair.right.try_recv().is_err());
        assert!(pair.left.try_recv().is_err());
    }
    let updates = pair.right.stats().credit_updates_sent;
    assert!((60..=110).contains(&updates), "{updates}");
    assert_eq!(pair.rnr(), 0);
}

/// A thread that polls, and never waits: sending alone takes in the credits that it needs.
#[test]
fn busy_polling_ends_need_no_wakers() {
    let pair = carriers(small(), MessageConfig::default());
    let (mut left, mut right) = (pair.left, pair.right);
    let arms: u64 = pair.fabrics.iter().map(|fabric| fabric.counters().arms).sum();
    let sender = thread::spawn(move || {
        for at in 0..20_000_u32 {
            while let Err(error) = left.try_send(&at.to_le_bytes()) {
                assert_eq!(error, TryError::WouldBlock);
                thread::yield_now();
            }
            left.flush().unwrap();
        }
        left
    });
    for at in 0..20_000_u32 {
        let message = loop {
            match right.try_recv() {
                Ok(message) => break message.unwrap(),
                Err(error) => assert_eq!(error, TryError::WouldBlock),
            }
            thread::yield_now();
        };
        assert_eq!(*message, at.to_le_bytes());
    }
    drop(sender.join().unwrap());
    let counters: Vec<_> = pair.fabrics.iter().map(|fabric| fabric.counters()).collect();
    assert_eq!(counters.iter().map(|counted| counted.arms).sum::<u64>(), arms, "nothing was armed");
    assert_eq!(counters.iter().map(|counted| counted.rnr_stalls).sum::<u64>(), 0);
}

/// One carrier, used by two tasks: each is woken for what it waits for, whoever of them takes it in.
#[test]
fn a_reader_and_a_writer_may_share_a_carrier() {
    async fn write(carrier: &Mutex<Carrier>, count: usize) {
        for at in 0..count {
            let data = pattern(at, at % 240);
            poll_fn(|cx| {
                let mut carrier = carrier.lock().unwrap();
                loop {
                    match carrier.try_send(&data) {
                        Ok(()) => break,
                        Err(TryError::WouldBlock) => ready!(carrier.poll_send_ready(cx)),
                        Err(TryError::Failed(error)) => panic!("{error}"),
                    }
                }
                carrier.flush().unwrap();
                Poll::Ready(())
            })
            .await;
        }
    }

    async fn read(carrier: &Mutex<Carrier>, count: usize) {
        for at in 0..count {
            let message = poll_fn(|cx| carrier.lock().unwrap().poll_recv(cx)).await.unwrap().unwrap();
            assert!(*message == pattern(at, at % 240));
        }
    }

    for (track, config) in [
        (small(), MessageConfig::default()),
        (small().with_send_slots(4), MessageConfig::default().with_spill_limit(0)),
    ] {
        let pair = carriers(track, config);
        let (left, right) = (Mutex::new(pair.left), Mutex::new(pair.right));
        thread::scope(|scope| {
            for carrier in [&left, &right] {
                scope.spawn(|| block_on(write(carrier, 5000)));
                scope.spawn(|| block_on(read(carrier, 5000)));
            }
        });
        assert_eq!(pair.fabrics.iter().map(|fabric| fabric.counters().rnr_stalls).sum::<u64>(), 0);
    }
}

/// A receiver that always finds something still gives credits: the sender never has to stop.
#[test]
fn a_receiver_that_is_never_idle_keeps_its_sender_going() {
    let mut pair = carriers(small().with_recv_slots(32), MessageConfig::default());
    for _ in 0..4 {
        pair.left.try_send(b"ahead").unwrap();
    }
    for _ in 0..1000 {
        pair.left.try_send(b"next").unwrap();
        pair.left.flush().unwrap();
        pair.right.try_recv().unwrap().unwrap();
    }
    assert_eq!(pair.left.stats().stalls, 0);
}

/// A thread that never flushes still gets its messages out once it runs out of slots.
#[test]
fn running_out_of_slots_flushes() {
    let mut pair = carriers(small().with_recv_slots(64), MessageConfig::default());
    let mut received = 0;
    for _ in 0..1000 {
        let _ = pair.left.try_send(b"never flushed");
        received += usize::from(pair.right.try_recv().is_ok());
    }
    assert!(received > 500, "{received}");
}

/// What waits for credits inside goes out before what is sent later, whoever waits for it.
#[test]
fn a_send_waits_for_what_waits_before_it() {
    for len in [10, 3000] {
        let mut pair = carriers(small().with_send_slots(32), MessageConfig::default());
        let bufs: Vec<_> = (0..20).map(|_| pair.left.try_reserve(1).unwrap()).collect();
        for buf in bufs {
            pair.left.send_buf(buf).unwrap();
        }
        let data = pattern(1, len);
        let sending = async {
            if len == 10 {
                poll_fn(|cx| pair.left.poll_send_ready(cx)).await;
            }
            pair.left.send(&data).await
        };
        let (sent, lengths) = both(sending, async {
            let mut lengths = Vec::new();
            while lengths.len() < 21 {
                lengths.push(pair.right.recv().await.unwrap().unwrap().len());
            }
            lengths
        });
        sent.unwrap();
        assert_eq!(lengths, [vec![1; 20], vec![len]].concat());
    }
}
