//! Ends: a FIN is the only clean one (K4); a close sends what is queued, is idempotent, and has a deadline (K7).

mod support;

use std::time::Duration;

use futures_executor::block_on;
use support::{Carrier, Pair, both, carriers, pattern, poll_once, small, tracks_in};
use trespass_carriers::{CarrierError, MessageCarrier, MessageConfig, Phase};
use trespass_core::{ErrorKind, RecvSideExt, Role, TransportError, TryError};
use trespass_mock::{MockDriver, MockNet};

fn pair() -> Pair<Carrier, Carrier> {
    carriers(small(), MessageConfig::default())
}

fn kind<T: std::fmt::Debug>(outcome: Result<T, support::Error>) -> ErrorKind {
    outcome.unwrap_err().kind()
}

#[test]
fn a_finish_ends_one_direction_after_all_messages() {
    let mut pair = pair();
    let (left, right) = (&mut pair.left, &mut pair.right);
    both(
        async {
            for at in 0..100 {
                left.send(&pattern(at, 300)).await.unwrap();
            }
            left.finish().await.unwrap();
            left.finish().await.unwrap();
            assert_eq!(kind(left.send(b"more").await), ErrorKind::Closed);
            assert_eq!(left.try_send(b"more"), Err(TryError::Failed(CarrierError::Closed)));
            // The other direction goes on.
            for at in 0..100 {
                assert_eq!(*left.recv().await.unwrap().unwrap(), pattern(at, 200));
            }
            assert!(left.recv().await.unwrap().is_none());
        },
        async {
            for at in 0..100 {
                assert_eq!(*right.recv().await.unwrap().unwrap(), pattern(at, 300));
            }
            assert!(right.recv().await.unwrap().is_none());
            assert!(right.recv().await.unwrap().is_none());
            assert!(right.try_recv().unwrap().is_none());
            for at in 0..100 {
                right.send(&pattern(at, 200)).await.unwrap();
            }
            right.finish().await.unwrap();
        },
    );
    let (left, right) = both(pair.left.close(), pair.right.close());
    assert_eq!((left, right), (Ok(()), Ok(())));
}

#[test]
fn a_close_sends_what_is_queued_and_is_idempotent() {
    let mut pair = pair();
    pair.left.try_send(b"queued").unwrap();
    block_on(pair.left.close()).unwrap();
    block_on(pair.left.close()).unwrap();
    assert_eq!(kind(block_on(pair.left.send(b"more"))), ErrorKind::Closed);
    assert_eq!(kind(block_on(pair.left.recv())), ErrorKind::Closed);
    assert_eq!(&*block_on(pair.right.recv()).unwrap().unwrap(), b"queued");
    assert!(block_on(pair.right.recv()).unwrap().is_none());
    assert_eq!(kind(block_on(pair.right.send(b"to nobody"))), ErrorKind::Closed);
    assert_eq!(block_on(pair.right.close()), Ok(()), "the peer has said goodbye: nothing is unclean");
    assert_eq!(block_on(pair.right.close()), Ok(()));
    assert!(block_on(pair.right.recv()).unwrap().is_none());
}

#[test]
fn a_close_sends_what_waits_for_credits() {
    let mut pair = carriers(small().with_send_slots(32), MessageConfig::default());
    let bufs: Vec<_> = (0..20).map(|_| pair.left.try_reserve(10).unwrap()).collect();
    for buf in bufs {
        pair.left.send_buf(buf).unwrap();
    }
    let (closed, count) = both(pair.left.close(), async {
        let mut count = 0;
        while pair.right.recv().await.unwrap().is_some() {
            count += 1;
        }
        count
    });
    assert_eq!((closed, count), (Ok(()), 20));
}

#[test]
fn both_ends_may_close_at_once() {
    for queued in 0..5 {
        let mut pair = pair();
        for _ in 0..queued {
            let _ = pair.left.try_send(b"unread");
            let _ = pair.right.try_send(b"unread");
        }
        let closed = both(pair.left.close(), pair.right.close());
        assert_eq!(closed, (Ok(()), Ok(())));
    }
}

#[test]
fn a_close_may_be_dropped_after_any_number_of_polls() {
    for polls in 0..5 {
        let mut pair = pair();
        pair.left.try_send(b"queued").unwrap();
        for _ in 0..polls {
            let _ = poll_once(&mut Box::pin(pair.left.close()));
        }
        let (closed, message) = both(pair.left.close(), pair.right.recv());
        closed.unwrap();
        assert_eq!(&*message.unwrap().unwrap(), b"queued");
    }
}

#[test]
fn what_the_peer_still_sends_is_discarded_by_a_close() {
    let mut pair = pair();
    let (closed, ()) = both(pair.left.close(), async {
        for _ in 0..1000 {
            if let Err(error) = pair.right.send(&[0; 5000]).await {
                assert_eq!(error.kind(), ErrorKind::Closed);
                return;
            }
        }
        panic!("the peer never noticed");
    });
    closed.unwrap();
    assert!(block_on(pair.right.recv()).unwrap().is_none());
}

#[test]
fn a_peer_that_is_dropped_is_disconnected_after_all_that_arrived() {
    let mut pair = pair();
    block_on(pair.left.send(b"the last words")).unwrap();
    drop(pair.left);
    assert_eq!(&*block_on(pair.right.recv()).unwrap().unwrap(), b"the last words");
    for _ in 0..2 {
        assert_eq!(kind(block_on(pair.right.recv())), ErrorKind::Disconnected);
        assert_eq!(kind(block_on(pair.right.send(b"anyone?"))), ErrorKind::Disconnected);
        assert_eq!(kind(block_on(pair.right.finish())), ErrorKind::Disconnected);
        assert_eq!(kind(block_on(pair.right.close())), ErrorKind::Disconnected);
    }
}

/// A writer that finds out first leaves to the reader what had arrived.
#[test]
fn what_arrived_before_the_death_is_delivered_after_a_send_failed() {
    let mut pair = pair();
    block_on(pair.left.send(b"one")).unwrap();
    block_on(pair.left.send(b"two")).unwrap();
    drop(pair.left);
    assert_eq!(kind(block_on(pair.right.send(&[0; 5000]))), ErrorKind::Disconnected);
    assert_eq!(&*block_on(pair.right.recv()).unwrap().unwrap(), b"one");
    assert_eq!(&*block_on(pair.right.recv()).unwrap().unwrap(), b"two");
    assert_eq!(kind(block_on(pair.right.recv())), ErrorKind::Disconnected);
}

/// The receiver itself finds out first, when it gives credits in the middle of what had arrived.
#[test]
fn what_arrived_before_the_death_is_delivered_after_credits_could_not_be_given() {
    let mut pair = carriers(small().with_recv_slots(32).with_send_slots(64), MessageConfig::default());
    let mut send = |count: usize| {
        for _ in 0..count {
            pair.left.try_send(b"before").unwrap();
        }
        pair.left.flush().unwrap();
    };
    send(8);
    let held: Vec<_> = (0..8).map(|_| pair.right.try_recv().unwrap().unwrap()).collect();
    block_on(pair.right.send(b"says what is posted")).unwrap();
    drop(held);
    send(15);
    // More than half the window is to be reported, and will be after the next frame.
    for _ in 0..15 {
        pair.right.try_recv().unwrap().unwrap();
    }
    let data = pattern(1, 900);
    assert!(poll_once(&mut pair.left.send(&data)).is_ready());
    drop(pair.left);
    assert!(*block_on(pair.right.recv()).unwrap().unwrap() == data);
    assert_eq!(kind(block_on(pair.right.recv())), ErrorKind::Disconnected);
}

#[test]
fn a_peer_that_dies_wakes_and_fails_whoever_waits() {
    for what in ["recv", "send", "finish", "close"] {
        let mut pair = pair();
        let data = [0; 10_000];
        let waiting = async {
            match what {
                "recv" => pair.right.recv().await.map(drop),
                "send" => pair.right.send(&data).await,
                _ => {
                    // Nothing more can go out.
                    while pair.right.try_send(b"x").is_ok() {}
                    match what {
                        "finish" => pair.right.send(&data).await,
                        _ => pair.right.close().await,
                    }
                }
            }
        };
        let (outcome, ()) = both(waiting, async { pair.fabrics[0].kill() });
        assert!(outcome.is_err() || what == "close", "{what}");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{what}");
        }
    }
}

#[test]
fn a_peer_that_dies_in_mid_message_leaves_nothing_of_it() {
    let mut pair = pair();
    let data = [1; 10_000];
    let mut sending = pair.left.send(&data);
    for _ in 0..4 {
        assert!(poll_once(&mut sending).is_pending());
        assert_eq!(pair.right.try_recv().unwrap_err(), TryError::WouldBlock);
    }
    pair.fabrics[0].kill();
    assert_eq!(kind(block_on(pair.right.recv())), ErrorKind::Disconnected);
}

/// A link that breaks is no end that a peer has said; its own error says more than `Disconnected` would.
#[test]
fn a_broken_link_is_told_as_what_it_is() {
    let mut pair = pair();
    block_on(pair.left.send(b"before")).unwrap();
    pair.fabrics[0].break_link();
    assert_eq!(&*block_on(pair.right.recv()).unwrap().unwrap(), b"before");
    let error = block_on(pair.right.recv()).unwrap_err();
    assert!(matches!(error, CarrierError::Track(_)), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert_eq!(block_on(pair.right.send(b"after")).unwrap_err(), error, "errors stick");
}

/// A FIN followed by the end of the track: what was received is whole, what was to be sent is lost.
#[test]
fn a_fin_is_clean_for_the_receiver_even_if_the_peer_then_dies() {
    let mut pair = pair();
    block_on(pair.left.finish()).unwrap();
    drop(pair.left);
    assert!(block_on(pair.right.recv()).unwrap().is_none());
    assert_eq!(kind(block_on(pair.right.send(b"lost"))), ErrorKind::Disconnected);
    assert!(block_on(pair.right.recv()).unwrap().is_none());
    assert_eq!(kind(block_on(pair.right.close())), ErrorKind::Disconnected, "it never said that it reads no more");
}

#[test]
fn waiting_for_a_fin_does_not_keep_the_peer_from_sending() {
    let mut pair = pair();
    block_on(pair.right.finish()).unwrap();
    let (sent, ()) = both(
        async {
            for _ in 0..500 {
                pair.left.send(&[1; 700]).await.unwrap();
            }
            pair.left.finish().await
        },
        async {
            let mut count = 0;
            while pair.right.recv().await.unwrap().is_some() {
                count += 1;
            }
            assert_eq!(count, 500);
        },
    );
    sent.unwrap();
    assert!(block_on(pair.left.recv()).unwrap().is_none());
}

/// Two carriers in virtual time.
fn virtual_pair(config: MessageConfig) -> (Pair<Carrier, Carrier>, MockDriver) {
    let (net, mut driver) = MockNet::virtual_time();
    let Pair { left, right, fabrics } = tracks_in(&net, small(), small());
    let opening = support::join(
        MessageCarrier::open(left, Role::Connector, config.clone()),
        MessageCarrier::open(right, Role::Acceptor, config),
    );
    let (left, right) = trespass_core::block_on(&mut driver, opening);
    (Pair { left: left.unwrap(), right: right.unwrap(), fabrics }, driver)
}

#[test]
fn a_close_that_cannot_say_goodbye_ends_at_its_deadline() {
    let timeout = Duration::from_secs(7);
    let (mut pair, mut driver) = virtual_pair(MessageConfig::default().with_close_timeout(timeout));
    // The peer's application receives nothing, and messages wait that have no credits.
    let bufs: Vec<_> = (0..6).map(|_| pair.left.try_reserve(1).unwrap()).collect();
    for buf in bufs {
        pair.left.send_buf(buf).unwrap();
    }
    let outcome = trespass_core::block_on(&mut driver, pair.left.close());
    assert_eq!(outcome, Err(CarrierError::TimedOut(Phase::Close)));
    assert!(driver.now() >= timeout && driver.now() < timeout * 2, "{:?}", driver.now());
    assert_eq!(trespass_core::block_on(&mut driver, pair.left.close()), outcome, "errors stick");
    assert_eq!(kind(trespass_core::block_on(&mut driver, pair.left.send(b"x"))), ErrorKind::TimedOut);
}

#[test]
fn an_open_that_nobody_answers_ends_at_its_deadline() {
    for role in [Role::Connector, Role::Acceptor] {
        let (net, mut driver) = MockNet::virtual_time();
        let pair = tracks_in(&net, small(), small());
        let config = MessageConfig::default().with_open_timeout(Duration::from_secs(3));
        let outcome = trespass_core::block_on(&mut driver, MessageCarrier::open(pair.left, role, config));
        assert_eq!(outcome.unwrap_err(), CarrierError::TimedOut(Phase::Open));
        assert_eq!(driver.now(), Duration::from_secs(3));
    }
}

#[test]
fn an_open_whose_peer_goes_away_is_disconnected() {
    for role in [Role::Connector, Role::Acceptor] {
        let pair = support::tracks(small(), small());
        drop(pair.right);
        let outcome = block_on(MessageCarrier::open(pair.left, role, MessageConfig::default()));
        assert_eq!(outcome.unwrap_err(), CarrierError::Disconnected);
    }
}

#[test]
fn an_open_that_is_dropped_drops_its_track() {
    for polls in 0..3 {
        let mut pair = support::tracks(small(), small());
        let mut opening = MessageCarrier::open(pair.left, Role::Connector, MessageConfig::default());
        for _ in 0..polls {
            assert!(poll_once(&mut opening).is_pending());
        }
        drop(opening);
        let mut hellos = 0;
        let end = loop {
            match block_on(pair.right.recv()) {
                Ok(_) => hellos += 1,
                Err(error) => break error.kind(),
            }
        };
        assert_eq!((hellos, end), (usize::from(polls > 0), ErrorKind::Closed));
    }
}
