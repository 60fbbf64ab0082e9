//! Messages that are lent and read: whole, in order, once, and the memory comes back whatever happens (K2, K5, K6).

mod support;

use futures_executor::block_on;
use support::raw::{self, Greeting, Raw};
use support::{Error, Pair, both, pattern, poll_once, small, tracks, tracks_in};
use trespass_carriers::{
    CarrierError, MessageCarrier, MessageConfig, Phase, RendezvousCarrier, RendezvousConfig, Violation,
};
use trespass_core::{Access, ErrorKind, RemoteWindow, Role, TransportError, TryError};
use trespass_mock::{MockConfig, MockFabric, MockNet, MockTrack};

type Carrier = RendezvousCarrier<MockFabric>;

fn config(fabric: &MockFabric) -> RendezvousConfig<MockFabric> {
    RendezvousConfig::new(fabric.clone()).with_lend_from(300)
}

fn carriers_of(track: MockConfig) -> Pair<Carrier, Carrier> {
    carriers_between(tracks(track.clone(), track))
}

fn carriers_between(tracks: Pair<MockTrack, MockTrack>) -> Pair<Carrier, Carrier> {
    let Pair { left, right, fabrics } = tracks;
    let (left, right) = both(
        RendezvousCarrier::open(left, Role::Connector, config(&fabrics[0])),
        RendezvousCarrier::open(right, Role::Acceptor, config(&fabrics[1])),
    );
    Pair { left: left.unwrap(), right: right.unwrap(), fabrics }
}

fn carriers() -> Pair<Carrier, Carrier> {
    carriers_of(small())
}

/// Sends a message of its own out of `carrier`, in memory that was allocated for it.
async fn lend(carrier: &mut Carrier, seed: usize, len: usize) {
    let mut region = carrier.alloc(len.max(1)).unwrap();
    region[..len].copy_from_slice(&pattern(seed, len));
    carrier.send_region(region, 0..len).await.unwrap();
}

#[test]
fn all_sorts_arrive_whole_and_in_order() {
    let mut pair = carriers();
    assert!(pair.left.lends() && pair.right.lends());
    // Inline, whole, in segments, lent: by turns.
    let sizes = [0, 1, 248, 249, 299, 300, 301, 5000, 100_000, 1, 70_000, 300, 0, 1 << 20];
    let (left, right) = (&mut pair.left, &mut pair.right);
    both(
        async {
            for (seed, &len) in sizes.iter().enumerate() {
                match seed % 3 {
                    0 => left.send(&pattern(seed, len)).await.unwrap(),
                    _ => lend(left, seed, len).await,
                }
            }
            left.finish().await.unwrap();
        },
        async {
            for (seed, &len) in sizes.iter().enumerate() {
                let message = right.recv().await.unwrap().expect("a message");
                assert!(*message == pattern(seed, len), "message {seed} of {len} bytes");
                assert_eq!(message.was_lent(), seed % 3 != 0 && len >= 300);
            }
            assert!(right.recv().await.unwrap().is_none());
        },
    );
    let total = sizes.iter().sum::<usize>() as u64;
    assert_eq!((left.stats().messages_sent, left.stats().bytes_sent), (sizes.len() as u64, total));
    assert_eq!((right.stats().messages_received, right.stats().bytes_received), (sizes.len() as u64, total));
    assert_eq!(pair.rnr(), 0);
}

#[test]
fn memory_comes_back_when_it_was_read_and_not_before() {
    let mut pair = carriers();
    block_on(lend(&mut pair.left, 1, 1000));
    assert!(poll_once(&mut Box::pin(pair.left.returned())).is_pending());
    let message = block_on(pair.right.recv()).unwrap().unwrap();
    let region = block_on(pair.left.returned()).expect("it was read");
    assert_eq!(region[..], pattern(1, 1000));
    assert!(block_on(pair.left.returned()).is_none());
    // What was read into is registered memory too: it is sent on as it is.
    let region = message.into_region().expect("it was lent");
    let (sent, echoed) = both(pair.right.send_region(region, 0..1000), pair.left.recv());
    sent.unwrap();
    assert_eq!(*echoed.unwrap().unwrap(), pattern(1, 1000));
}

/// With few credits each end has to take in what the other says, all the while.
#[test]
fn both_ends_lend_sixty_four_before_they_receive() {
    let mut pair = carriers();
    let talk = async |carrier: &mut Carrier, ours: usize, theirs: usize| {
        for seed in 0..64 {
            lend(carrier, ours + seed, 400).await;
        }
        for seed in 0..64 {
            assert_eq!(*carrier.recv().await.unwrap().unwrap(), pattern(theirs + seed, 400));
        }
        for _ in 0..64 {
            assert!(carrier.returned().await.is_some());
        }
        carrier.close().await
    };
    assert_eq!(both(talk(&mut pair.left, 0, 100), talk(&mut pair.right, 100, 0)), (Ok(()), Ok(())));
}

#[test]
fn one_more_than_sixty_four_waits() {
    let mut pair = carriers_of(small().with_send_slots(80).with_recv_slots(80));
    block_on(async {
        for seed in 0..64 {
            lend(&mut pair.left, seed, 400).await;
        }
    });
    let mut sending = Box::pin(lend(&mut pair.left, 64, 400));
    assert!(poll_once(&mut sending).is_pending());
    both(sending, async {
        for seed in 0..65 {
            assert_eq!(*pair.right.recv().await.unwrap().unwrap(), pattern(seed, 400));
        }
    });
}

/// Both ends send far more than all buffers hold, of every sort, while they receive.
#[test]
fn both_ways_at_once() {
    let mut pair = carriers();
    let talk = async |carrier: &mut Carrier, base: usize, theirs: usize| {
        for round in 0..200 {
            let len = [10, 400, 2000, 40_000][round % 4];
            lend(carrier, base + round, len).await;
            if round >= 20 {
                let (seed, len) = (theirs + round - 20, [10, 400, 2000, 40_000][(round - 20) % 4]);
                assert_eq!(*carrier.recv().await.unwrap().unwrap(), pattern(seed, len));
            }
            while carrier.lends() {
                match poll_once(&mut Box::pin(carrier.returned())) {
                    std::task::Poll::Ready(Some(_)) => {}
                    _ => break,
                }
            }
        }
        for round in 180..200 {
            let len = [10, 400, 2000, 40_000][round % 4];
            assert_eq!(*carrier.recv().await.unwrap().unwrap(), pattern(theirs + round, len));
        }
        carrier.finish().await.unwrap();
        assert!(carrier.recv().await.unwrap().is_none());
    };
    both(talk(&mut pair.left, 0, 1000), talk(&mut pair.right, 1000, 0));
    let (left, right) = both(pair.left.close(), pair.right.close());
    assert_eq!((left, right), (Ok(()), Ok(())));
}

#[test]
fn a_peer_that_knows_nothing_of_it_gets_segments() {
    let Pair { left, right, fabrics } = tracks(small(), small());
    let (left, right) = both(
        RendezvousCarrier::open(left, Role::Connector, config(&fabrics[0])),
        MessageCarrier::open(right, Role::Acceptor, MessageConfig::default()),
    );
    let (mut left, mut right) = (left.unwrap(), right.unwrap());
    assert!(!left.lends());
    let (_, message) = both(lend(&mut left, 5, 5000), right.recv());
    assert_eq!(*message.unwrap().unwrap(), pattern(5, 5000));
    assert!(block_on(left.returned()).is_some());
}

#[test]
fn what_cannot_be_sent_comes_back_with_a_reason() {
    let mut pair = carriers();
    let region = pair.left.alloc(1000).unwrap();
    let error = block_on(pair.left.send_region(region, 500..1001)).unwrap_err();
    assert_eq!(error, CarrierError::Oversize { len: 501, max: 1000 });
    let region = block_on(pair.left.returned()).expect("it was not sent");
    block_on(pair.left.finish()).unwrap();
    let error = block_on(pair.left.send_region(region, 0..1000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(block_on(pair.left.returned()).is_some());
    assert!(block_on(pair.right.recv()).unwrap().is_none());
}

#[test]
fn a_close_waits_until_all_is_read() {
    let mut pair = carriers();
    let (closed, ()) = both(
        async {
            for seed in 0..10 {
                lend(&mut pair.left, seed, 5000).await;
            }
            pair.left.close().await
        },
        async {
            for seed in 0..10 {
                assert_eq!(*pair.right.recv().await.unwrap().unwrap(), pattern(seed, 5000));
            }
            assert!(pair.right.recv().await.unwrap().is_none());
        },
    );
    closed.unwrap();
    block_on(async {
        for _ in 0..10 {
            assert!(pair.left.returned().await.is_some());
        }
        assert!(pair.left.returned().await.is_none());
    });
}

/// And it says so whenever it is asked, though by then the memory is back.
#[test]
fn a_close_gives_up_a_peer_that_reads_nothing() {
    let (net, mut driver) = MockNet::virtual_time();
    let mut pair = carriers_between(tracks_in(&net, small(), small()));
    block_on(lend(&mut pair.left, 1, 5000));
    for _ in 0..2 {
        let closed = trespass_core::block_on(&mut driver, pair.left.close());
        assert_eq!(closed, Err(CarrierError::TimedOut(Phase::Close)));
    }
    assert!(block_on(pair.left.returned()).is_some());
}

#[test]
fn two_that_close_with_all_lent_do_not_wait_for_each_other() {
    let mut pair = carriers_of(small().with_recv_slots(64));
    both(
        async {
            for seed in 0..10 {
                lend(&mut pair.left, seed, 5000).await;
            }
        },
        async {
            for seed in 0..10 {
                lend(&mut pair.right, seed, 5000).await;
            }
        },
    );
    assert_eq!(both(pair.left.close(), pair.right.close()), (Ok(()), Ok(())));
    for carrier in [&mut pair.left, &mut pair.right] {
        for _ in 0..10 {
            assert!(block_on(carrier.returned()).is_some());
        }
    }
}

#[test]
fn a_peer_that_dies_gives_all_memory_back() {
    let mut pair = carriers_of(small().with_recv_slots(64));
    block_on(async {
        for seed in 0..5 {
            lend(&mut pair.left, seed, 5000).await;
        }
        lend(&mut pair.right, 9, 5000).await;
    });
    pair.fabrics[1].kill();
    block_on(async {
        let error = loop {
            match pair.left.recv().await {
                Ok(message) => assert!(message.is_some()),
                Err(error) => break error,
            }
        };
        assert!(matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::RemoteAccess), "{error:?}");
        for _ in 0..5 {
            assert!(pair.left.returned().await.is_some());
        }
        assert!(pair.left.returned().await.is_none());
        assert!(pair.left.close().await.is_err());
    });
}

#[test]
fn a_carrier_that_is_dropped_takes_its_memory_away() {
    let mut pair = carriers();
    block_on(async {
        for seed in 0..3 {
            lend(&mut pair.left, seed, 5000).await;
        }
    });
    drop(pair.left);
    let error = block_on(async {
        loop {
            match pair.right.recv().await {
                Ok(message) => assert!(message.is_some()),
                Err(error) => break error,
            }
        }
    });
    assert!(matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::RemoteAccess), "{error:?}");
}

#[test]
fn futures_that_are_dropped_lose_nothing() {
    let mut pair = carriers_of(small().with_recv_slots(64));
    block_on(async {
        for seed in 0..20 {
            lend(&mut pair.left, seed, 700).await;
        }
    });
    let mut received = 0;
    while received < 20 {
        // Each receive is given up after one poll, and begun again.
        if let std::task::Poll::Ready(message) = poll_once(&mut Box::pin(pair.right.recv())) {
            assert_eq!(*message.unwrap().unwrap(), pattern(received, 700));
            received += 1;
        }
    }
    let mut back = 0;
    while back < 20 {
        if let std::task::Poll::Ready(region) = poll_once(&mut Box::pin(pair.left.returned())) {
            assert_eq!(region.unwrap()[..], pattern(back, 700));
            back += 1;
        }
    }
}

#[test]
fn a_thread_that_polls_gets_them_too() {
    let mut pair = carriers();
    block_on(lend(&mut pair.left, 3, 5000));
    let message = loop {
        match pair.right.try_recv() {
            Ok(message) => break message.expect("a message"),
            Err(TryError::WouldBlock) => {}
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
    };
    assert!(message.was_lent());
    assert_eq!(*message, pattern(3, 5000));
}

/// Whether an error is the right one.
type Expected = fn(&Error) -> bool;

/// A carrier, and a peer that says what it likes.
fn against_raw() -> (Carrier, Raw, [MockFabric; 2]) {
    let Pair { left, right, fabrics } = tracks(small(), small());
    let mut raw = Raw::new(left);
    assert!(raw.say(&Greeting { optional: 1 << 8, ..Greeting::honest(raw::HELLO) }.bytes()));
    let carrier = block_on(RendezvousCarrier::open(right, Role::Acceptor, config(&fabrics[1]))).unwrap();
    assert!(carrier.lends());
    (carrier, raw, fabrics)
}

#[test]
fn a_peer_that_lends_nonsense_is_told_off() {
    let good = RemoteWindow::new(0, 1000, 7, Access::ReadOnly).unwrap().encode();
    let long = RemoteWindow::new(0, u64::MAX / 2, 7, Access::ReadOnly).unwrap().encode();
    let empty = RemoteWindow::new(0, 0, 7, Access::ReadOnly).unwrap().encode();
    let mut overflowing = good;
    overflowing[8..].fill(0xff);
    let longer = [good.as_slice(), &[0]].concat();
    let cases: [(u8, &[u8], Expected); 7] = [
        (48, &good[1..], |error| matches!(error, CarrierError::Protocol(Violation::Window(_)))),
        (48, &longer, |error| matches!(error, CarrierError::Protocol(Violation::Window(_)))),
        (48, &overflowing, |error| matches!(error, CarrierError::Protocol(Violation::Window(_)))),
        (48, &long, |error| matches!(error, CarrierError::Protocol(Violation::Oversize { .. }))),
        (48, &empty, |error| matches!(error, CarrierError::Protocol(Violation::EmptySegment))),
        // Nothing was lent to it.
        (49, &[], |error| matches!(error, CarrierError::Protocol(Violation::OutOfPlace(49)))),
        // A window that there is not: the device says so.
        (48, &good, |error| error.kind() == ErrorKind::RemoteAccess),
    ];
    for (kind, body, expected) in cases {
        let (mut carrier, mut raw, _fabrics) = against_raw();
        assert!(raw.frame(kind, body));
        let error = block_on(carrier.recv()).unwrap_err();
        assert!(expected(&error), "{kind} {body:?} gave {error:?}");
    }
    // Where it was not agreed there is no such thing.
    for (kind, body) in [(48, good.as_slice()), (49, &[])] {
        let Pair { left, right, fabrics } = tracks(small(), small());
        let mut raw = Raw::new(left);
        assert!(raw.say(&Greeting::honest(raw::HELLO).bytes()));
        let mut carrier = block_on(RendezvousCarrier::open(right, Role::Acceptor, config(&fabrics[1]))).unwrap();
        assert!(raw.frame(kind, body));
        assert_eq!(block_on(carrier.recv()).unwrap_err(), CarrierError::Protocol(Violation::OutOfPlace(kind)));
    }
}

/// Errors stick, and no message is left out in the middle: what came behind one that can never be read does not come either.
#[test]
fn what_cannot_be_read_is_the_last_that_is_heard_of() {
    let window = RemoteWindow::new(0, 1000, 7, Access::ReadOnly).unwrap().encode();
    for (wrong, kind) in [(true, ErrorKind::Protocol), (false, ErrorKind::RemoteAccess)] {
        let (mut carrier, mut raw, _fabrics) = against_raw();
        assert!(raw.frame(48, &window) && raw.frame(raw::MESSAGE, b"behind it"));
        if wrong {
            assert!(raw.frame(77, b""));
        }
        // A send that waits for credits takes all of it in, and finds what is wrong, if anything is.
        let _ = poll_once(&mut carrier.send(&[0; 5000]));
        let error = block_on(carrier.recv()).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(block_on(carrier.recv()).unwrap_err(), error);
        assert_eq!(carrier.try_recv().unwrap_err(), TryError::Failed(error));
    }
}
