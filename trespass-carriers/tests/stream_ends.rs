//! Ends of streams: a Fin is the only clean one, and what had arrived comes before any other (K1, K4, K7).

#[path = "support/streams.rs"]
mod streams;
mod support;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_executor::block_on;
use streams::{BYTES, honest, opened, read_all, read_exact, read_half, streams};
use support::raw::{CREDIT, Greeting, HELLO, Raw};
use support::{Pair, both, join, pattern, poll_once, small, tracks, tracks_in};
use trespass_carriers::{
    CarrierError, ConfigFault, MessageCarrier, MessageConfig, Phase, Refusal, StreamCarrier, StreamConfig,
};
use trespass_core::{ErrorKind, Role, TransportError, TryError};
use trespass_mock::{MockConfig, MockNet};

fn roomy() -> MockConfig {
    small().with_send_slots(64).with_recv_slots(64)
}

#[test]
fn a_stream_and_a_message_carrier_refuse_each_other_and_both_say_why() {
    let pair = tracks(small(), small());
    let (stream, messages) = both(
        StreamCarrier::open(pair.left, Role::Connector, StreamConfig::default()),
        MessageCarrier::open(pair.right, Role::Acceptor, MessageConfig::default()),
    );
    assert_eq!(stream.unwrap_err(), CarrierError::Refused(Refusal::Kind(1)));
    assert_eq!(messages.unwrap_err(), CarrierError::Incompatible(Refusal::Kind(1)));
    let pair = tracks(small(), small());
    let (messages, stream) = both(
        MessageCarrier::open(pair.left, Role::Connector, MessageConfig::default()),
        StreamCarrier::open(pair.right, Role::Acceptor, StreamConfig::default()),
    );
    assert_eq!(messages.unwrap_err(), CarrierError::Refused(Refusal::Kind(2)));
    assert_eq!(stream.unwrap_err(), CarrierError::Incompatible(Refusal::Kind(2)));
}

#[test]
fn what_will_not_do_is_refused_before_anything_is_said() {
    let fault = |track: MockConfig, config: StreamConfig| {
        let pair = tracks(track, small());
        match block_on(StreamCarrier::open(pair.left, Role::Connector, config)).unwrap_err() {
            CarrierError::Config(fault) => fault,
            other => panic!("{other:?}"),
        }
    };
    let zero = StreamConfig::default().with_open_timeout(Duration::ZERO);
    assert_eq!(fault(small(), zero), ConfigFault::Timeout(Phase::Open));
    let zero = StreamConfig::default().with_close_timeout(Duration::ZERO);
    assert_eq!(fault(small(), zero), ConfigFault::Timeout(Phase::Close));
    let few = ConfigFault::SendSlots { have: 3, need: 4 };
    assert_eq!(fault(small().with_send_slots(3), StreamConfig::default()), few);
}

#[test]
fn an_open_that_nobody_answers_ends_at_its_deadline() {
    for role in [Role::Connector, Role::Acceptor] {
        let (net, mut driver) = MockNet::virtual_time();
        let pair = tracks_in(&net, small(), small());
        let config = StreamConfig::default().with_open_timeout(Duration::from_secs(3));
        let outcome = trespass_core::block_on(&mut driver, StreamCarrier::open(pair.left, role, config));
        assert_eq!(outcome.unwrap_err(), CarrierError::TimedOut(Phase::Open));
        assert_eq!(driver.now(), Duration::from_secs(3));
    }
}

/// Whoever finishes and drops the stream takes nothing from the peer, however much was under way.
#[test]
fn nothing_is_lost_by_a_drop_after_a_finish() {
    for len in [0, 1, 5000, 14_000] {
        let mut pair = streams(roomy(), StreamConfig::default());
        let data = pattern(len, len);
        block_on(async {
            pair.left.put_all(&data).await.unwrap();
            pair.left.finish().await.unwrap();
        });
        drop(pair.left);
        let (read, end) = block_on(read_all(&mut pair.right));
        assert_eq!(end, Ok(()));
        assert!(read == data);
    }
}

#[test]
fn a_drop_without_a_finish_is_a_death_after_all_that_had_arrived() {
    let mut pair = streams(roomy(), StreamConfig::default());
    let data = pattern(1, 10_000);
    block_on(pair.left.put_all(&data)).unwrap();
    drop(pair.left);
    let (read, end) = block_on(read_all(&mut pair.right));
    assert_eq!(end, Err(CarrierError::Disconnected));
    assert!(read == data);
    assert_eq!(block_on(read_all(&mut pair.right)), (vec![], Err(CarrierError::Disconnected)), "errors stick");
    assert_eq!(block_on(pair.right.put(b"x")), Err(CarrierError::Disconnected));
    assert_eq!(block_on(pair.right.finish()), Err(CarrierError::Disconnected));
    assert_eq!(block_on(pair.right.close()), Err(CarrierError::Disconnected));
}

#[test]
fn bytes_come_before_the_death_of_the_peer_and_of_the_link() {
    for pull in [false, true] {
        let mut pair = streams(roomy(), StreamConfig::default());
        let data = pattern(2, 9000);
        block_on(pair.left.put_all(&data)).unwrap();
        // One frame is being read.
        assert_eq!(block_on(pair.right.fill()).unwrap(), &data[..256]);
        pair.right.consume(100);
        match pull {
            true => pair.fabrics[0].break_link(),
            false => pair.fabrics[0].kill(),
        }
        // A writer finds it first.
        let error = block_on(async {
            loop {
                if let Err(error) = pair.right.put(b"x").await {
                    break error;
                }
            }
        });
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        let (read, end) = block_on(read_all(&mut pair.right));
        assert_eq!(end.unwrap_err().kind(), ErrorKind::Disconnected);
        assert!(read == data[100..]);
    }
}

#[test]
fn a_death_wakes_whoever_waits_in_either_half() {
    let mut pair = streams(small(), StreamConfig::default());
    block_on(pair.left.put(b"x")).unwrap();
    let (mut read, mut write) = pair.right.into_split();
    let killer = &pair.fabrics[0];
    let left = pair.left;
    let ((read, wrote), ()) = both(
        join(read_half(&mut read), async {
            loop {
                if let Err(error) = write.put(&[1; 1000]).await {
                    break error;
                }
            }
        }),
        async {
            killer.kill();
            drop(left);
        },
    );
    assert_eq!(read, (b"x".to_vec(), Err(CarrierError::Disconnected)));
    assert_eq!(wrote, CarrierError::Disconnected);
}

#[test]
fn a_close_says_all_and_is_idempotent() {
    let mut pair = streams(small(), StreamConfig::default());
    block_on(pair.left.put(b"last")).unwrap();
    block_on(pair.right.put(b"unread")).unwrap();
    assert_eq!(block_on(pair.left.close()), Ok(()));
    assert_eq!(block_on(pair.left.close()), Ok(()));
    assert!(pair.left.track().is_none());
    assert_eq!(block_on(pair.left.put(b"x")), Err(CarrierError::Closed));
    assert_eq!(block_on(pair.left.fill()), Err(CarrierError::Closed));
    assert_eq!(block_on(read_all(&mut pair.right)), (b"last".to_vec(), Ok(())));
    assert_eq!(block_on(pair.right.put(b"x")), Err(CarrierError::Closed));
    assert_eq!(block_on(pair.right.finish()), Ok(()), "there is nobody to say it to");
    assert_eq!(block_on(pair.right.close()), Ok(()));
    assert_eq!(block_on(read_all(&mut pair.right)), (vec![], Ok(())));
}

#[test]
fn both_may_close_at_once() {
    for finish in [false, true] {
        let mut pair = streams(small(), StreamConfig::default());
        block_on(pair.left.put(b"bye")).unwrap();
        block_on(pair.right.put(b"bye")).unwrap();
        let end = async |stream: &mut streams::Stream| {
            if finish {
                stream.finish().await.unwrap();
            }
            stream.close().await
        };
        let Pair { left, right, .. } = &mut pair;
        assert_eq!(both(end(left), end(right)), (Ok(()), Ok(())));
    }
}

/// The peer grants one frame, and that was the Welcome.
#[test]
fn a_close_that_cannot_say_goodbye_ends_at_its_deadline() {
    let (net, mut driver) = MockNet::virtual_time();
    let timeout = Duration::from_secs(7);
    let pair = tracks_in(&net, small(), small());
    let mut raw = Raw::new(pair.left);
    raw.say(&Greeting { credits: 1, ..honest(HELLO) }.bytes());
    let config = StreamConfig::default().with_close_timeout(timeout);
    let opening = StreamCarrier::open(pair.right, Role::Acceptor, config);
    let mut stream = trespass_core::block_on(&mut driver, opening).unwrap();
    let outcome = trespass_core::block_on(&mut driver, stream.close());
    assert_eq!(outcome, Err(CarrierError::TimedOut(Phase::Close)));
    assert!(driver.now() >= timeout && driver.now() < timeout * 2, "{:?}", driver.now());
    assert_eq!(trespass_core::block_on(&mut driver, stream.close()), outcome, "errors stick");
}

#[test]
fn a_writing_half_that_is_dropped_unfinished_ends_the_stream() {
    let mut pair = streams(small(), StreamConfig::default());
    block_on(pair.left.put(b"half a")).unwrap();
    block_on(pair.right.put(b"answer")).unwrap();
    let (mut read, write) = pair.left.into_split();
    // One who waits is told.
    let (read, ()) = both(read_half(&mut read), async { drop(write) });
    assert_eq!(read.1, Err(CarrierError::Closed));
    assert_eq!(block_on(read_all(&mut pair.right)), (b"half a".to_vec(), Err(CarrierError::Disconnected)));
}

#[test]
fn a_writing_half_that_is_dropped_after_its_finish_leaves_the_reader_be() {
    let mut pair = streams(small(), StreamConfig::default());
    let (mut read, mut write) = pair.left.into_split();
    block_on(write.put(b"question")).unwrap();
    block_on(write.finish()).unwrap();
    drop(write);
    let data = pattern(4, 30_000);
    let (answered, heard) = both(
        async {
            assert_eq!(read_all(&mut pair.right).await, (b"question".to_vec(), Ok(())));
            pair.right.put_all(&data).await.unwrap();
            pair.right.finish().await
        },
        read_half(&mut read),
    );
    assert_eq!((answered, heard.1), (Ok(()), Ok(())));
    assert!(heard.0 == data);
}

#[test]
fn a_reading_half_that_is_dropped_leaves_the_writer_be() {
    let mut pair = streams(small(), StreamConfig::default());
    let (read, mut write) = pair.left.into_split();
    block_on(pair.right.put(b"nobody reads this")).unwrap();
    drop(read);
    let data = pattern(6, 30_000);
    let (sent, heard) = both(
        async {
            write.put_all(&data).await?;
            write.finish().await
        },
        read_all(&mut pair.right),
    );
    assert_eq!((sent, heard.1), (Ok(()), Ok(())));
    assert!(heard.0 == data);
}

/// Wherever the work of an end is dropped, the other end is told: bytes from the beginning, and kind Disconnected.
#[test]
fn work_dropped_at_any_await_is_a_death() {
    let data = pattern(8, 5000);
    let mut finished = 0;
    for polls in 0..200 {
        let Pair { mut left, mut right, fabrics: _fabrics } = streams(small(), StreamConfig::default());
        let mut hearing = Box::pin(async { read_all(&mut right).await });
        let mut early = None;
        {
            let data = data.clone();
            let mut work = pin!(async move {
                left.put_all(&data).await.unwrap();
                left.finish().await.unwrap();
            });
            for _ in 0..polls {
                let done = work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
                if let Poll::Ready(heard) = poll_once(&mut hearing) {
                    early = Some(heard);
                    break;
                }
                if done {
                    break;
                }
            }
        }
        let (heard, end) = early.unwrap_or_else(|| block_on(hearing));
        assert!(data.starts_with(&heard));
        match end {
            Ok(()) => {
                assert!(heard == data);
                finished += 1;
            }
            Err(error) => assert_eq!(error, CarrierError::Disconnected),
        }
        if finished > 3 {
            return;
        }
    }
    panic!("it never finished");
}

/// A close discards what the peer sends from then on, also while it is not done: bytes that were read after others had been
/// discarded would be bytes with a gap.
#[test]
fn nothing_is_read_once_a_close_has_begun() {
    let (mut stream, mut raw) = opened(StreamConfig::default().with_coalesce(true));
    for _ in 0..2 {
        assert_eq!(block_on(stream.put(b"early")).unwrap(), 5);
        assert!(stream.poll_push(&mut Context::from_waker(Waker::noop())).is_ready());
    }
    // It lies in a frame of the stream's, and what is told of reads takes the credit that it would have had.
    assert_eq!(block_on(stream.put(b"late")).unwrap(), 4);
    for _ in 0..4 {
        assert!(raw.frame(BYTES, b"read"));
    }
    assert_eq!(block_on(read_exact(&mut stream, 16)).unwrap(), b"readreadreadread");
    assert!(poll_once(&mut Box::pin(stream.close())).is_pending());
    assert!(raw.frame(BYTES, b"more"));
    assert_eq!(stream.try_fill().unwrap_err(), TryError::WouldBlock);
    assert!(!raw.is_closed());
    assert!(raw.frame(CREDIT, b""));
    block_on(stream.close()).unwrap();
    assert!(raw.is_closed());
}
