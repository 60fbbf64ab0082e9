//! The rendezvous carrier for threads that poll, and in halves: what the whole one does for a task.

mod support;

use std::collections::VecDeque;
use std::pin::pin;
use std::thread;

use futures_executor::block_on;
use static_assertions::assert_impl_all;
use support::{Pair, both, join, pattern, poll_once, small, tracks};
use trespass_carriers::{
    CarrierError, MessageCarrier, MessageConfig, RendezvousCarrier, RendezvousConfig, RendezvousReceiver,
    RendezvousSender, TryRegionError,
};
use trespass_core::{ErrorKind, Role, TransportError, TryError};
use trespass_mock::{MockConfig, MockFabric, MockRegion};

type Carrier = RendezvousCarrier<MockFabric>;
type Sender = RendezvousSender<MockFabric>;
type Receiver = RendezvousReceiver<MockFabric>;

assert_impl_all!(Sender: Send);
assert_impl_all!(Receiver: Send);

const LEND_FROM: usize = 1000;

fn carriers_of(track: MockConfig) -> Pair<Carrier, Carrier> {
    let Pair { left, right, fabrics } = tracks(track.clone(), track);
    let config = |fabric: &MockFabric| RendezvousConfig::new(fabric.clone()).with_lend_from(LEND_FROM);
    let (left, right) = both(
        RendezvousCarrier::open(left, Role::Connector, config(&fabrics[0])),
        RendezvousCarrier::open(right, Role::Acceptor, config(&fabrics[1])),
    );
    Pair { left: left.unwrap(), right: right.unwrap(), fabrics }
}

fn carriers() -> Pair<Carrier, Carrier> {
    carriers_of(small())
}

fn write(mut region: MockRegion, seed: usize, len: usize) -> MockRegion {
    region[..len].copy_from_slice(&pattern(seed, len));
    region
}

/// What a peer that does as it is told gets of 300 messages, by calls that never wait; and nobody arms anything.
#[test]
fn a_thread_that_polls_lends_and_has_its_memory_back() {
    let mut pair = carriers();
    let arms = |pair: &Pair<Carrier, Carrier>| pair.fabrics.iter().map(|fabric| fabric.counters().arms).sum::<u64>();
    let before = arms(&pair);
    let mut free: Vec<MockRegion> = (0..100).map(|_| pair.left.alloc(2000).unwrap()).collect();
    // Inline, longer than a frame and so lent all the same, lent.
    let len = |seed: usize| [0, 100, 249, 900, 1000, 2000][seed % 6];
    let (mut sent, mut heard, mut full) = (0, 0, 0);
    while heard < 300 {
        while sent < 300 {
            let Some(region) = free.pop() else { break };
            let region = write(region, sent, len(sent));
            let place = region.as_ptr();
            match pair.left.try_send_region(region, 0..len(sent)) {
                Ok(()) => sent += 1,
                Err(TryRegionError::WouldBlock(region)) => {
                    assert!(region.as_ptr() == place && region[..len(sent)] == pattern(sent, len(sent)));
                    full += 1;
                    free.push(region);
                    break;
                }
                Err(TryRegionError::Failed(error)) => panic!("{error}"),
            }
        }
        pair.left.flush().unwrap();
        while let Some(region) = pair.left.try_returned() {
            free.push(region);
        }
        match pair.right.try_recv() {
            Ok(message) => {
                let message = message.expect("no end yet");
                assert!(*message == pattern(heard, len(heard)), "message {heard}");
                assert_eq!(message.was_lent(), len(heard) > 248);
                heard += 1;
            }
            Err(TryError::WouldBlock) => {}
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
    }
    while free.len() < 100 {
        free.extend(pair.left.try_returned());
        let _ = pair.right.try_recv();
    }
    assert!(full > 0, "it never had to wait");
    assert_eq!(arms(&pair), before, "a call that does not wait armed something");
    assert_eq!(pair.rnr(), 0);
    assert!(pair.left.try_returned().is_none());
}

#[test]
fn what_would_block_is_given_back_and_ready_says_when() {
    let mut pair = carriers_of(small().with_recv_slots(100));
    for seed in 0..64 {
        let region = pair.left.alloc(LEND_FROM).unwrap();
        pair.left.try_send_region(write(region, seed, LEND_FROM), 0..LEND_FROM).unwrap();
        // Eight slots are all that there is.
        pair.left.flush().unwrap();
    }
    let region = write(pair.left.alloc(LEND_FROM).unwrap(), 64, LEND_FROM);
    let Err(TryRegionError::WouldBlock(region)) = pair.left.try_send_region(region, 0..LEND_FROM) else {
        panic!("64 may be lent at a time");
    };
    assert_eq!(region[..], pattern(64, LEND_FROM));
    // Shorter ones go.
    pair.left.try_send(b"short").unwrap();
    assert!(poll_once(&mut std::future::poll_fn(|cx| pair.left.poll_send_ready(cx))).is_ready());
    let right = &mut pair.right;
    let (left, ()) = (&mut pair.left, ());
    both(
        async {
            std::future::poll_fn(|cx| left.poll_lend_ready(cx)).await;
            left.try_send_region(region, 0..LEND_FROM).unwrap();
            left.flush().unwrap();
        },
        async {
            for seed in 0..64 {
                assert_eq!(*right.recv().await.unwrap().unwrap(), pattern(seed, LEND_FROM));
            }
            assert_eq!(*right.recv().await.unwrap().unwrap(), *b"short");
            assert_eq!(*right.recv().await.unwrap().unwrap(), pattern(64, LEND_FROM));
        },
    );
}

#[test]
fn what_cannot_be_sent_at_once_comes_back_with_a_reason() {
    let mut pair = carriers();
    let region = pair.left.alloc(2000).unwrap();
    let Err(TryRegionError::Failed(error)) = pair.left.try_send_region(region, 1500..2001) else { panic!("sent") };
    assert_eq!(error, CarrierError::Oversize { len: 501, max: 2000 });
    let region = pair.left.try_returned().expect("it was not sent");
    block_on(pair.left.finish()).unwrap();
    let Err(TryRegionError::Failed(error)) = pair.left.try_send_region(region, 0..2000) else { panic!("sent") };
    assert_eq!(error, CarrierError::Closed);
    assert!(pair.left.try_returned().is_some());

    // A peer that knows nothing of it takes what fits a frame.
    let Pair { left, right, fabrics } = tracks(small(), small());
    let (left, right) = both(
        RendezvousCarrier::open(left, Role::Connector, RendezvousConfig::new(fabrics[0].clone())),
        MessageCarrier::open(right, Role::Acceptor, MessageConfig::default()),
    );
    let (mut left, mut right) = (left.unwrap(), right.unwrap());
    let region = left.alloc(2000).unwrap();
    let Err(TryRegionError::Failed(error)) = left.try_send_region(region, 0..249) else { panic!("sent") };
    assert_eq!(error, CarrierError::Oversize { len: 249, max: 248 });
    let region = write(left.try_returned().unwrap(), 3, 248);
    left.try_send_region(region, 0..248).unwrap();
    left.flush().unwrap();
    assert_eq!(*right.try_recv().unwrap().unwrap(), pattern(3, 248));
    assert!(left.try_returned().is_some());
}

/// Lends `count` messages in memory that goes round, and gets it all back.
async fn lend_all(mut sender: Sender, count: usize, len: usize) -> Sender {
    let (mut free, mut made) = (VecDeque::new(), 0);
    for seed in 0..count {
        let region = match free.pop_front() {
            Some(region) => region,
            None if made < 10 => {
                made += 1;
                sender.alloc(len).unwrap()
            }
            None => sender.returned().await.expect("ten are out"),
        };
        sender.send_region(write(region, seed, len), 0..len).await.unwrap();
        free.extend(sender.try_returned());
    }
    let mut back = free.len();
    while sender.returned().await.is_some() {
        back += 1;
    }
    assert_eq!(back, made);
    sender.finish().await.unwrap();
    sender
}

async fn read_all(mut receiver: Receiver, count: usize, len: usize) -> Receiver {
    for seed in 0..count {
        let message = receiver.recv().await.unwrap().expect("a message");
        assert!(*message == pattern(seed, len), "message {seed} of {len} bytes");
        assert_eq!(message.was_lent(), len >= LEND_FROM);
    }
    assert!(receiver.recv().await.unwrap().is_none());
    receiver
}

/// Each half polled only when it was woken itself.
#[test]
fn each_half_has_a_waker_of_its_own() {
    for len in [100, 900, LEND_FROM, 5000] {
        let Pair { left, right, .. } = carriers();
        let [left, right] = [left, right].map(|carrier| async move {
            let (sender, receiver) = carrier.split();
            let (sender, receiver) = join(lend_all(sender, 300, len), read_all(receiver, 300, len)).await;
            receiver.reunite(sender).unwrap()
        });
        let (mut left, mut right) = both(left, right);
        assert_eq!((left.stats().messages_sent, left.stats().messages_received), (300, 300));
        assert_eq!(both(left.close(), right.close()), (Ok(()), Ok(())));
    }
}

#[test]
fn four_threads_for_two_carriers() {
    for len in [900, 5000] {
        let pair = carriers();
        thread::scope(|scope| {
            for carrier in [pair.left, pair.right] {
                let (sender, receiver) = carrier.split();
                scope.spawn(move || block_on(lend_all(sender, 2000, len)));
                scope.spawn(move || block_on(read_all(receiver, 2000, len)));
            }
        });
        assert_eq!(pair.fabrics.iter().map(|fabric| fabric.counters().rnr_stalls).sum::<u64>(), 0);
    }
}

/// What was lent and what is being read goes back to the peer unread, and so does what it lends later.
#[test]
fn a_dropped_receiver_keeps_no_memory_of_the_peer() {
    for read in 0..3 {
        let Pair { left, right, .. } = carriers();
        let (mut sender, mut receiver) = left.split();
        let (mut other, mut heard) = right.split();
        block_on(async {
            // There are credits for three.
            for seed in 0..2 {
                let region = other.alloc(LEND_FROM).unwrap();
                other.send_region(write(region, seed, LEND_FROM), 0..LEND_FROM).await.unwrap();
            }
            for seed in 0..read {
                assert_eq!(*receiver.recv().await.unwrap().unwrap(), pattern(seed, LEND_FROM));
            }
        });
        drop(receiver);
        let mut back = 0;
        for seed in 0..200 {
            let [ours, theirs] =
                [sender.alloc(LEND_FROM), other.alloc(LEND_FROM)].map(|region| write(region.unwrap(), seed, LEND_FROM));
            other.try_send_region(theirs, 0..LEND_FROM).unwrap();
            other.flush().unwrap();
            sender.try_send_region(ours, 0..LEND_FROM).unwrap();
            sender.flush().unwrap();
            // While this end waits for its memory it comes across what it is lent, and the peer has that back.
            let mut tries = 0;
            while back < seed + 3 {
                tries += 1;
                assert!(tries < 1000, "{back} of {} are back, where {read} were read", seed + 3);
                assert!(sender.try_returned().is_none());
                back += usize::from(other.try_returned().is_some());
            }
            assert_eq!(*heard.try_recv().unwrap().unwrap(), pattern(seed, LEND_FROM));
            assert_eq!(sender.try_returned().unwrap()[..], pattern(seed, LEND_FROM));
        }
        assert!(other.try_returned().is_none());
        assert_eq!(sender.stats().messages_received, read as u64, "what is read ahead nobody has received");
    }
}

#[test]
fn a_close_of_the_sender_waits_for_what_is_lent_and_ends_the_receiver() {
    let Pair { left, right, .. } = carriers();
    let (mut sender, mut receiver) = left.split();
    let (_kept, mut heard) = right.split();
    block_on(async {
        let region = sender.alloc(LEND_FROM).unwrap();
        sender.send_region(write(region, 5, LEND_FROM), 0..LEND_FROM).await.unwrap();
    });
    assert!(poll_once(&mut pin!(receiver.recv())).is_pending());
    assert!(poll_once(&mut pin!(sender.close())).is_pending());
    assert_eq!(receiver.try_recv().unwrap_err(), TryError::WouldBlock, "a close under way has the track to itself");
    let (closed, (error, ())) = both(
        sender.close(),
        join(async { receiver.recv().await.unwrap_err() }, async {
            assert_eq!(*heard.recv().await.unwrap().unwrap(), pattern(5, LEND_FROM));
            assert!(heard.recv().await.unwrap().is_none());
        }),
    );
    closed.unwrap();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(block_on(sender.returned()).unwrap()[..], pattern(5, LEND_FROM));
    assert!(block_on(sender.returned()).is_none());
}

/// Memory of a message that was given up comes back first: to whichever has it then.
#[test]
fn memory_of_what_was_given_up_outlives_the_halves() {
    let Pair { left, mut right, .. } = carriers();
    let (mut sender, receiver) = left.split();
    for seed in 0..3 {
        let region = write(sender.alloc(LEND_FROM).unwrap(), seed, LEND_FROM);
        drop(sender.send_region(region, 0..LEND_FROM));
    }
    assert_eq!(sender.try_returned().unwrap()[..], pattern(0, LEND_FROM));
    assert_eq!(block_on(sender.returned()).unwrap()[..], pattern(1, LEND_FROM));
    let mut left = receiver.reunite(sender).unwrap();
    assert_eq!(block_on(left.returned()).unwrap()[..], pattern(2, LEND_FROM));
    assert!(block_on(left.returned()).is_none());
    assert_eq!(right.try_recv().unwrap_err(), TryError::WouldBlock);
}

#[test]
fn only_halves_of_one_carrier_are_reunited() {
    let Pair { left, right, .. } = carriers();
    let ((mut left_sender, left_receiver), (right_sender, right_receiver)) = (left.split(), right.split());
    assert!(left_sender.lends() && left_sender.eager_limit() < left_sender.max_message());
    left_sender.try_send(b"queued").unwrap();
    let unmatched = left_receiver.reunite(right_sender).unwrap_err();
    let mut left = unmatched.receiver.reunite(left_sender).unwrap();
    let mut right = right_receiver.reunite(unmatched.sender).unwrap();
    left.flush().unwrap();
    assert_eq!(*block_on(right.recv()).unwrap().unwrap(), *b"queued");
    assert_eq!(both(left.close(), right.close()), (Ok(()), Ok(())));
}
