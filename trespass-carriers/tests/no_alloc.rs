//! No heap allocation per message after warm-up, sending and receiving; and none that a peer could drive up.
//!
//! Allocations are counted per thread, so everything here runs on one. Beats are off: each takes an alarm, which is an allocation
//! every few seconds.

mod support;

use std::pin::pin;

use allocation_counter::{AllocationInfo, measure};
use futures_executor::block_on;
use support::raw::{ABORT, FIRST, Greeting, HELLO, MESSAGE, MORE, Raw, first, frame};
use support::{Carrier, Pair, carriers, pattern, poll_once, small, timeless_tracks};
use trespass_carriers::{MessageCarrier, MessageConfig};
use trespass_core::{RecvSide, Role};

/// What `action` allocates, after it was done some times to warm up.
fn steady(mut action: impl FnMut()) -> AllocationInfo {
    for _ in 0..50 {
        action();
    }
    measure(|| {
        for _ in 0..200 {
            action();
        }
    })
}

/// One message from left to right, without an executor.
fn pass(pair: &mut Pair<Carrier, Carrier>, data: &[u8], keep: &mut [u8]) {
    let mut sending = pair.left.send(data);
    let mut sent = false;
    loop {
        sent = sent || poll_once(&mut sending).map(Result::unwrap).is_ready();
        if let Ok(message) = pair.right.try_recv() {
            let message = message.unwrap();
            keep[..message.len()].copy_from_slice(&message);
            break;
        }
    }
    while !sent {
        sent = poll_once(&mut sending).map(Result::unwrap).is_ready();
    }
}

#[test]
fn messages_of_any_size_allocate_nothing() {
    let mut pair = carriers(small(), MessageConfig::default().with_keepalive(None));
    let mut keep = vec![0; 100_000];
    for len in [0, 1, 64, 248, 249, 1000, 5000, 100_000] {
        let data = pattern(len, len);
        let counted = steady(|| pass(&mut pair, &data, &mut keep));
        assert_eq!(counted.count_total, 0, "{len} bytes");
        assert!(keep[..len] == data);
    }
}

/// Sizes that change from message to message reuse the same memory.
#[test]
fn mixed_sizes_allocate_nothing() {
    let mut pair = carriers(small(), MessageConfig::default().with_keepalive(None));
    let (data, mut keep) = (pattern(1, 20_000), vec![0; 20_000]);
    let mut at = 0_usize;
    let counted = steady(|| {
        at += 1;
        pass(&mut pair, &data[..at * 7919 % 20_000], &mut keep);
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn polling_without_futures_allocates_nothing() {
    let mut pair = carriers(small(), MessageConfig::default().with_keepalive(None));
    let counted = steady(|| {
        let mut buf = pair.left.try_reserve(64).unwrap();
        buf.fill(7);
        pair.left.send_buf(buf).unwrap();
        pair.left.flush().unwrap();
        assert_eq!(*pair.right.try_recv().unwrap().unwrap(), [7; 64]);
        pair.right.try_send(b"back").unwrap();
        pair.right.flush().unwrap();
        assert_eq!(*pair.left.try_recv().unwrap().unwrap(), *b"back");
    });
    assert_eq!(counted.count_total, 0);
}

/// Both ends send before either receives: what is copied out goes to memory that was used before.
#[test]
fn copying_out_allocates_nothing() {
    let mut pair = carriers(small(), MessageConfig::default().with_keepalive(None));
    let data = pattern(1, 2000);
    let counted = steady(|| {
        let mut left = pin!(send_then_receive(&mut pair.left, &data));
        let mut right = pin!(send_then_receive(&mut pair.right, &data));
        let (mut left_done, mut right_done) = (false, false);
        while !(left_done && right_done) {
            left_done = left_done || poll_once(&mut left).is_ready();
            right_done = right_done || poll_once(&mut right).is_ready();
        }
    });
    assert!(pair.left.stats().spilled_messages > 0);
    assert_eq!(counted.count_total, 0);
}

async fn send_then_receive(carrier: &mut Carrier, data: &[u8]) {
    let lengths = [0, 100, data.len()].into_iter().cycle().take(10);
    for len in lengths.clone() {
        carrier.send(&data[..len]).await.unwrap();
    }
    for len in lengths {
        assert!(*carrier.recv().await.unwrap().unwrap() == data[..len]);
    }
}

#[test]
fn halves_allocate_nothing() {
    let pair = carriers(small(), MessageConfig::default().with_keepalive(None));
    let ((mut sender, _receiver), (_sender, mut receiver)) = (pair.left.split(), pair.right.split());
    for len in [0, 64, 248, 249, 5000] {
        let data = pattern(len, len);
        let counted = steady(|| {
            let mut sending = sender.send(&data);
            let (mut sent, mut heard) = (false, false);
            while !(sent && heard) {
                sent = sent || poll_once(&mut sending).map(Result::unwrap).is_ready();
                if let Ok(message) = receiver.try_recv() {
                    assert!(*message.unwrap() == data);
                    heard = true;
                }
            }
        });
        assert_eq!(counted.count_total, 0, "{len} bytes");
    }
}

#[test]
fn withdrawing_allocates_nothing() {
    let mut pair = carriers(small(), MessageConfig::default().with_keepalive(None));
    let data = pattern(1, 5000);
    let counted = steady(|| {
        {
            let mut sending = pair.left.send(&data);
            assert!(poll_once(&mut sending).is_pending());
        }
        while pair.right.try_recv().is_ok() {}
    });
    assert_eq!(counted.count_total, 0);
    assert!(pair.left.stats().messages_withdrawn > 0);
}

/// While a send waits, a peer may make the carrier hold what the limits say, and no more.
#[test]
fn what_a_peer_makes_a_carrier_hold_is_bounded() {
    const SPILL: u64 = 64 << 10;
    const MAX_MESSAGE: u64 = 32 << 10;
    for (what, frames) in [
        ("empty messages", vec![(MESSAGE, vec![])]),
        ("messages", vec![(MESSAGE, vec![1; 240])]),
        ("long messages", long(MAX_MESSAGE)),
        ("messages that are begun and withdrawn", vec![(FIRST, first(MAX_MESSAGE, b"1")), (ABORT, vec![])]),
    ] {
        let pair = timeless_tracks(small(), small());
        let mut raw = Raw::new(pair.left);
        raw.say(&Greeting::honest(HELLO).bytes());
        let config = MessageConfig::default()
            .with_keepalive(None)
            .with_max_message(MAX_MESSAGE as usize)
            .with_spill_limit(SPILL as usize)
            .with_pool_limit(SPILL as usize);
        let mut carrier = block_on(MessageCarrier::open(pair.right, Role::Acceptor, config)).unwrap();
        let mut taken = 0;
        let counted = measure(|| taken = flood(&mut carrier, &mut raw, &frames));
        // What waits, one message over it, one in assembly, the pool; and the lists of all these.
        let bound = SPILL + 2 * MAX_MESSAGE + SPILL + (32 << 10);
        assert!(counted.bytes_max < bound, "{what}: {} of {bound}", counted.bytes_max);
        match what.ends_with("withdrawn") {
            true => assert_eq!(taken, 10_000, "what is withdrawn takes up nothing"),
            false => assert!(taken < 10_000 && counted.bytes_max > SPILL / 2, "{what}: {taken}, {}", counted.bytes_max),
        }
    }
}

/// Sends frames for as long as the carrier gives credits for them, and gives it none for data, so that its send waits.
/// Returns how many went.
fn flood(carrier: &mut Carrier, raw: &mut Raw, frames: &[(u8, Vec<u8>)]) -> usize {
    let data = [0; 20_000];
    let mut sending = carrier.send(&data);
    let (mut sent, mut heard, mut granted) = (0, 0, 1);
    let mut idle = 0;
    while idle < 100 && sent < 10_000 {
        assert!(poll_once(&mut sending).is_pending());
        while let Ok(bytes) = raw.track.try_recv() {
            granted = u32::from_le_bytes(*bytes[4..].first_chunk().unwrap());
            heard += 1;
        }
        idle += 1;
        // The Hello was one.
        if sent as u32 + 1 < granted {
            let (kind, body) = &frames[sent % frames.len()];
            raw.say(&frame(*kind, 8.max(heard + 4), body));
            sent += 1;
            idle = 0;
        }
    }
    sent
}

/// A message of so many bytes, in segments.
fn long(total: u64) -> Vec<(u8, Vec<u8>)> {
    let rest = total - 240;
    let mut frames = vec![(FIRST, first(total, &[1; 240]))];
    frames.extend((0..rest / 248).map(|_| (MORE, vec![1; 248])));
    frames.push((MORE, vec![1; (rest % 248) as usize]));
    frames
}
