//! A send that is dropped before it is ready withdraws its message: it arrives not at all, never in part (K5).

mod support;

use std::mem;
use std::task::Poll;

use futures_executor::block_on;
use proptest::prelude::*;
use support::{Carrier, Pair, both, carriers, join, pattern, poll_once, small};
use trespass_carriers::MessageConfig;
use trespass_core::TryError;

fn pair() -> Pair<Carrier, Carrier> {
    carriers(small(), MessageConfig::default())
}

/// Takes what is there, without waiting.
fn take(carrier: &mut Carrier, into: &mut Vec<Vec<u8>>) {
    loop {
        match carrier.try_recv() {
            Ok(Some(message)) => into.push(message.to_vec()),
            Ok(None) | Err(TryError::WouldBlock) => return,
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
    }
}

/// Polls a send so many times, the peer taking what is there in between; then drops it. Whether it was ready first.
fn poll_and_drop(pair: &mut Pair<Carrier, Carrier>, data: &[u8], polls: usize, received: &mut Vec<Vec<u8>>) -> bool {
    let mut sending = pair.left.send(data);
    for _ in 0..polls {
        if let Poll::Ready(outcome) = poll_once(&mut sending) {
            outcome.unwrap();
            return true;
        }
        take(&mut pair.right, received);
    }
    false
}

#[test]
fn a_send_may_be_dropped_after_any_number_of_polls() {
    for len in [0, 100, 248, 249, 3000, 10_000] {
        for polls in 0..40 {
            let mut pair = pair();
            let mut received = Vec::new();
            let data = pattern(polls, len);
            let ready = poll_and_drop(&mut pair, &data, polls, &mut received);
            let (sent, rest) = both(
                async {
                    pair.left.send(b"after").await?;
                    pair.left.finish().await
                },
                async {
                    let mut rest = Vec::new();
                    while let Some(message) = pair.right.recv().await.unwrap() {
                        rest.push(message.to_vec());
                    }
                    rest
                },
            );
            sent.unwrap();
            received.extend(rest);
            let expected = if ready { vec![data, b"after".to_vec()] } else { vec![b"after".to_vec()] };
            assert!(received == expected, "{len} bytes, {polls} polls, ready {ready}");
            assert_eq!(pair.rnr(), 0);
        }
    }
}

/// A future that is forgotten, not dropped, has no say in it: what comes next withdraws its message.
#[test]
fn a_send_that_is_forgotten_is_withdrawn_by_what_comes_next() {
    type Next = fn(&mut Carrier) -> bool;
    let what: [(&str, Next); 6] = [
        ("send", |carrier| poll_once(&mut carrier.send(b"after")).is_ready()),
        ("long send", |carrier| poll_once(&mut carrier.send(&[1; 1000])).is_ready()),
        ("try_send", |carrier| carrier.try_send(b"after").is_ok()),
        ("flush", |carrier| carrier.try_send(b"after").is_ok() && carrier.flush().is_ok()),
        ("finish", |carrier| poll_once(&mut carrier.finish()).is_ready()),
        ("close", |carrier| poll_once(&mut Box::pin(carrier.close())).is_ready()),
    ];
    for (name, next) in what {
        let mut pair = pair();
        let mut sending = pair.left.send(&[7; 10_000]);
        assert!(poll_once(&mut sending).is_pending());
        mem::forget(sending);
        let mut received = Vec::new();
        for _ in 0..100 {
            let done = next(&mut pair.left);
            let _ = pair.left.flush();
            take(&mut pair.right, &mut received);
            if done {
                break;
            }
        }
        take(&mut pair.right, &mut received);
        assert!(received.iter().all(|message| message == b"after" || *message == [1; 1000]), "{name}: {received:?}");
    }
}

/// What waits for credits behind one that was withdrawn goes out before the goodbye, and not in the middle of the other.
#[test]
fn a_close_sends_what_waits_behind_a_withdrawal() {
    let mut pair = pair();
    let buf = pair.left.try_reserve(3).unwrap();
    {
        let data = [7; 10_000];
        let mut sending = pair.left.send(&data);
        assert!(poll_once(&mut sending).is_pending());
        // What comes meanwhile is taken in, and to say so takes the credit that an Abort would have.
        while pair.right.try_send(b"meanwhile").is_ok() {}
        pair.right.flush().unwrap();
        assert!(poll_once(&mut sending).is_pending());
    }
    assert_eq!((pair.left.stats().credit_updates_sent, pair.left.stats().messages_withdrawn), (1, 0));
    pair.left.send_buf(buf).unwrap();
    let (closed, received) = both(pair.left.close(), async {
        let mut received = Vec::new();
        while let Some(message) = pair.right.recv().await.unwrap() {
            received.push(message.len());
        }
        (received, pair.right.close().await)
    });
    assert_eq!((closed, received), (Ok(()), (vec![3], Ok(()))));
}

#[test]
fn a_buffer_reserved_before_is_sent_after_the_withdrawal() {
    let mut pair = pair();
    let buf = pair.left.try_reserve(0).unwrap();
    {
        let data = [7; 10_000];
        let mut sending = pair.left.send(&data);
        assert!(poll_once(&mut sending).is_pending());
        mem::forget(sending);
    }
    pair.left.send_buf(buf).unwrap();
    let (finished, message) = both(pair.left.finish(), async {
        let first = pair.right.recv().await.unwrap().unwrap().to_vec();
        (first, pair.right.recv().await.unwrap().is_none())
    });
    finished.unwrap();
    assert_eq!(message, (Vec::new(), true));
}

/// The memory of what was withdrawn is free again, and nothing counts as sent.
#[test]
fn withdrawals_are_counted() {
    let mut pair = pair();
    for _ in 0..50 {
        poll_and_drop(&mut pair, &[1; 5000], 1, &mut Vec::new());
        take(&mut pair.right, &mut Vec::new());
    }
    assert_eq!(pair.left.stats().messages_sent, 0);
    block_on(async { join(pair.left.send(b"x"), pair.right.recv()).await }).0.unwrap();
    assert_eq!(pair.left.stats().messages_withdrawn, 50);
}

/// Dropping a receive loses nothing either.
#[test]
fn a_receive_may_be_dropped_after_any_number_of_polls() {
    let mut pair = pair();
    for at in 0..200 {
        let data = pattern(at, (at * 37) % 2000);
        let mut sending = pair.left.send(&data);
        let mut received = None;
        let mut sent = false;
        while received.is_none() {
            sent = sent || poll_once(&mut sending).is_ready();
            let mut receiving = Box::pin(pair.right.recv());
            if let Poll::Ready(message) = poll_once(&mut receiving) {
                received = message.unwrap();
            }
        }
        assert!(*received.unwrap() == data);
        if !sent {
            assert!(poll_once(&mut sending).is_ready());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Any mixture of sends that are kept and dropped, both ways at once.
    #[test]
    fn only_whole_messages_arrive(plan in prop::collection::vec((0..4000_usize, 0..12_usize), 1..20)) {
        let mut pair = pair();
        let mut received = Vec::new();
        let mut expected = Vec::new();
        for (seed, (len, polls)) in plan.into_iter().enumerate() {
            let data = pattern(seed, len);
            if poll_and_drop(&mut pair, &data, polls, &mut received) {
                expected.push(data);
            }
        }
        let (finished, ()) = both(pair.left.finish(), async {
            while let Some(message) = pair.right.recv().await.unwrap() {
                received.push(message.to_vec());
            }
        });
        finished.unwrap();
        prop_assert!(received == expected);
        prop_assert_eq!(pair.rnr(), 0);
    }
}
