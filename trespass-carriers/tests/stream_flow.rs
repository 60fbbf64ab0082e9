//! Bytes of streams: whole and in order, on their way when they are written, and no deadlock (K2, K3).

#[path = "support/streams.rs"]
mod streams;
mod support;

use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures_executor::block_on;
use static_assertions::assert_impl_all;
use streams::{Read, Stream, Write, open, read_all, read_exact, read_half, streams};
use support::{Pair, both, join, pattern, poll_once, small, tracks_in};
use trespass_carriers::{StreamCarrier, StreamConfig, StreamReadHalf, StreamWriteHalf};
use trespass_core::{Endpoint, ErrorKind, Timer, TransportError, TryError};
use trespass_mock::{MockConfig, MockNet, MockTrack};

assert_impl_all!(StreamCarrier<MockTrack>: Send, Unpin);
assert_impl_all!(StreamReadHalf<MockTrack>: Send, Sync, Unpin);
assert_impl_all!(StreamWriteHalf<MockTrack>: Send, Sync, Unpin);

fn both_ways() -> [StreamConfig; 2] {
    [StreamConfig::default(), StreamConfig::default().with_coalesce(true)]
}

/// What is there to be read, without a wait.
fn there(stream: &mut Stream) -> Vec<u8> {
    let mut read = Vec::new();
    loop {
        match stream.try_fill() {
            Ok([]) => return read,
            Ok(bytes) => {
                read.extend_from_slice(bytes);
                let len = bytes.len();
                stream.consume(len);
            }
            Err(TryError::WouldBlock) => return read,
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
    }
}

#[test]
fn bytes_of_any_length_arrive_in_order() {
    for config in both_ways() {
        for len in [1, 2, 255, 256, 257, 1000, 100_000] {
            let mut pair = streams(small(), config.clone());
            let data = pattern(len, len);
            let (sent, (read, end)) = both(
                async {
                    pair.left.put_all(&data).await?;
                    pair.left.finish().await
                },
                read_all(&mut pair.right),
            );
            assert_eq!((sent, end), (Ok(()), Ok(())));
            assert!(read == data, "{len} bytes");
            assert_eq!(pair.rnr(), 0);
        }
    }
}

/// As on a socket: nobody has to flush, and nobody has to call again.
#[test]
fn a_write_is_on_its_way_when_it_returns() {
    let mut pair = streams(small(), StreamConfig::default());
    for at in 0..1000 {
        let bytes = pattern(at, 1 + at % 300);
        let mut sent = 0;
        let mut heard = Vec::new();
        while sent < bytes.len() {
            sent += pair.left.try_put(&bytes[sent..]).unwrap();
            heard.extend(there(&mut pair.right));
            assert_eq!(heard, bytes[..sent]);
        }
        // The reader gives the writer its credits.
        assert_eq!(there(&mut pair.left), []);
    }
}

#[test]
fn a_small_write_is_one_frame_and_one_doorbell_and_gathered_pieces_share_it() {
    let mut pair = streams(small(), StreamConfig::default());
    let before = pair.left.track().unwrap().counters();
    let pieces = [&b"one"[..], b"", b"two", b"three"].map(IoSlice::new);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(pair.left.poll_put(&mut cx, &pieces), Poll::Ready(Ok(11))));
    let after = pair.left.track().unwrap().counters();
    assert_eq!((pair.left.stats().frames_sent, after.doorbells - before.doorbells), (1, 1));
    assert_eq!(there(&mut pair.right), b"onetwothree");
}

#[test]
fn a_long_write_rings_once_for_many_frames() {
    let mut pair = streams(small().with_send_slots(32).with_recv_slots(32), StreamConfig::default());
    let before = pair.left.track().unwrap().counters().doorbells;
    assert_eq!(pair.left.try_put(&pattern(1, 2560)).unwrap(), 2560);
    assert_eq!(pair.left.stats().frames_sent, 10);
    assert_eq!(pair.left.track().unwrap().counters().doorbells - before, 1);
    assert_eq!(there(&mut pair.right), pattern(1, 2560));
}

#[test]
fn where_it_coalesces_small_writes_wait_for_a_flush_a_full_frame_a_read_or_the_end() {
    let config = StreamConfig::default().with_coalesce(true);
    let mut cx = Context::from_waker(Waker::noop());
    let put = |stream: &mut Stream, bytes: &[u8]| assert_eq!(stream.try_put(bytes).unwrap(), bytes.len());
    let mut pair = streams(small(), config.clone());
    let Pair { left, right, .. } = &mut pair;
    // A flush.
    for _ in 0..20 {
        put(left, b"0123456789");
    }
    assert_eq!(there(right), []);
    assert!(matches!(left.poll_push(&mut cx), Poll::Ready(Ok(()))));
    assert_eq!(there(right), b"0123456789".repeat(20));
    assert_eq!(left.stats().frames_sent, 1);
    // A full frame: 256 bytes.
    put(left, &pattern(1, 255));
    assert_eq!(there(right), []);
    put(left, b"xy");
    assert_eq!(there(right).len(), 256);
    // A read that would block, by a try and by a wait: what is left over.
    assert!(matches!(left.try_fill(), Err(TryError::WouldBlock)));
    assert_eq!(there(right), b"y");
    put(left, b"question");
    assert!(poll_once(&mut pin!(left.fill())).is_pending());
    assert_eq!(there(right), b"question");
    // The end.
    put(left, b"last");
    assert_eq!(block_on(left.finish()), Ok(()));
    assert_eq!(block_on(read_all(right)), (b"last".to_vec(), Ok(())));
    let mut pair = streams(small(), config);
    put(&mut pair.left, b"closed");
    assert_eq!(block_on(pair.left.close()), Ok(()));
    assert_eq!(block_on(read_all(&mut pair.right)), (b"closed".to_vec(), Ok(())));
}

/// The reader of a halved stream sends what the writer left.
#[test]
fn a_reading_half_that_waits_sends_what_was_not_flushed() {
    let mut pair = streams(small(), StreamConfig::default().with_coalesce(true));
    let (mut read, mut write) = pair.left.into_split();
    assert_eq!(write.try_put(b"question").unwrap(), 8);
    assert_eq!(there(&mut pair.right), []);
    assert!(poll_once(&mut pin!(read.fill())).is_pending());
    assert_eq!(there(&mut pair.right), b"question");
}

#[test]
fn bytes_are_lent_where_they_arrived_and_read_in_pieces() {
    let mut pair = streams(small(), StreamConfig::default());
    pair.left.try_put(b"abcdef").unwrap();
    block_on(async {
        let at = pair.right.fill().await.unwrap().as_ptr();
        pair.right.consume(2);
        let bytes = pair.right.fill().await.unwrap();
        assert_eq!((bytes, bytes.as_ptr().addr()), (&b"cdef"[..], at.addr() + 2));
        pair.right.consume(100);
    });
    assert_eq!(there(&mut pair.right), []);
}

#[test]
fn nothing_is_written_by_an_empty_write() {
    let mut pair = streams(small(), StreamConfig::default());
    assert_eq!(pair.left.try_put(b"").unwrap(), 0);
    assert_eq!(block_on(pair.left.put(b"")), Ok(0));
    assert_eq!(pair.left.stats().frames_sent, 0);
}

#[test]
fn one_end_finishes_and_the_other_goes_on() {
    let mut pair = streams(small(), StreamConfig::default());
    let data = pattern(5, 20_000);
    assert_eq!(block_on(pair.left.put(b"go")), Ok(2));
    assert_eq!(block_on(pair.left.finish()), Ok(()));
    assert_eq!(block_on(pair.left.finish()), Ok(()));
    assert_eq!(block_on(pair.left.put(b"more")).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(block_on(read_all(&mut pair.right)), (b"go".to_vec(), Ok(())));
    let (sent, (read, end)) = both(
        async {
            pair.right.put_all(&data).await?;
            pair.right.finish().await
        },
        read_all(&mut pair.left),
    );
    assert_eq!((sent, end), (Ok(()), Ok(())));
    assert!(read == data);
    assert_eq!(block_on(pair.left.close()), Ok(()));
    assert_eq!(block_on(pair.right.close()), Ok(()));
}

/// How much all that is between two ends holds.
fn buffering(track: &MockConfig) -> usize {
    track.max_message * (track.send_slots + 2 * track.recv_slots)
}

fn sizes() -> Vec<MockConfig> {
    vec![
        small(),
        small().with_send_slots(4),
        small().with_recv_slots(9).with_send_slots(64),
        small().with_recv_slots(64).with_send_slots(64),
        MockConfig::default(),
    ]
}

/// Writes much more than all buffering, and reads what the peer writes: both at once, in one task.
async fn exchange(read: &mut Read, write: &mut Write, data: &[u8], chunk: usize) {
    let (sent, (heard, end)) = join(
        async {
            for chunk in data.chunks(chunk) {
                write.put_all(chunk).await?;
            }
            write.finish().await
        },
        read_half(read),
    )
    .await;
    assert_eq!((sent, end), (Ok(()), Ok(())));
    assert!(heard == data);
}

/// The standing deadlock test: both ends write many times all buffering, and the writers are at work before the readers.
#[test]
fn two_ends_that_write_more_than_all_buffering_get_through() {
    for config in both_ways() {
        for track in sizes() {
            for chunk in [1, 64, 5000] {
                let len = (8 * buffering(&track).min(1 << 20)).min(chunk * 20_000);
                let data = pattern(chunk, len);
                let pair = streams(track.clone(), config.clone());
                let (mut left, mut right) = (pair.left.into_split(), pair.right.into_split());
                both(
                    exchange(&mut left.0, &mut left.1, &data, chunk),
                    exchange(&mut right.0, &mut right.1, &data, chunk),
                );
                assert_eq!(pair.fabrics.iter().map(|fabric| fabric.counters().rnr_stalls).sum::<u64>(), 0);
            }
        }
    }
}

/// The same with a thread for each half.
#[test]
fn two_ends_in_four_threads_get_through() {
    for config in both_ways() {
        for (track, chunk) in [(small(), 64), (small(), 3000), (MockConfig::default(), 5000)] {
            let data = pattern(chunk, (8 * buffering(&track)).min(4 << 20));
            let pair = streams(track, config.clone());
            let halves = [pair.left.into_split(), pair.right.into_split()];
            thread::scope(|scope| {
                for (mut read, mut write) in halves {
                    let data = &data;
                    scope.spawn(move || {
                        block_on(async {
                            for chunk in data.chunks(chunk) {
                                write.put_all(chunk).await.unwrap();
                            }
                            write.finish().await.unwrap();
                        });
                    });
                    scope.spawn(move || {
                        let (heard, end) = block_on(read_half(&mut read));
                        assert_eq!(end, Ok(()));
                        assert!(heard == *data);
                    });
                }
            });
        }
    }
}

/// The same where readers come late, by several delays, and writers stall long before.
#[test]
fn late_readers_only_delay() {
    for delay in [0, 1, 20, 1000].map(Duration::from_millis) {
        let (net, mut driver) = MockNet::virtual_time();
        let mut pair = open(tracks_in(&net, small(), small()), StreamConfig::default());
        let timer = pair.left.track().unwrap().timer();
        let data = pattern(7, 8 * buffering(&small()));
        let relay = async |stream: &mut Stream, first: Duration| {
            let mut heard = Vec::new();
            let (mut sent, mut finished) = (0, false);
            let mut pause = timer.sleep(first);
            let mut asleep = true;
            // What `copy_bidirectional` does: one task looks after both directions, whichever goes on.
            poll_fn(|cx| {
                loop {
                    let before = (sent, heard.len(), finished);
                    if sent < data.len() {
                        if let Poll::Ready(put) = stream.poll_put(cx, &[IoSlice::new(&data[sent..])]) {
                            sent += put.unwrap();
                        }
                    } else if !finished {
                        finished = stream.poll_finish(cx).map(Result::unwrap).is_ready();
                    }
                    if asleep && std::pin::Pin::new(&mut pause).poll(cx).is_pending() {
                        if before == (sent, heard.len(), finished) {
                            return Poll::Pending;
                        }
                        continue;
                    }
                    asleep = false;
                    let mut ended = false;
                    if let Poll::Ready(bytes) = stream.poll_fill(cx) {
                        let bytes = bytes.unwrap();
                        ended = bytes.is_empty();
                        heard.extend_from_slice(bytes);
                        let len = bytes.len();
                        stream.consume(len);
                        if len > 0 {
                            (pause, asleep) = (timer.sleep(delay / 100), true);
                        }
                    }
                    if ended && finished {
                        return Poll::Ready(());
                    }
                    if before == (sent, heard.len(), finished) {
                        return Poll::Pending;
                    }
                }
            })
            .await;
            assert!(heard == data);
        };
        let Pair { left, right, .. } = &mut pair;
        let work = join(relay(left, delay), relay(right, delay * 2));
        trespass_core::block_on(&mut driver, work);
        assert!(pair.left.stats().stalls > 0 && pair.right.stats().stalls > 0, "nothing filled up");
        assert_eq!(pair.rnr(), 0);
    }
}

/// A writer gets its credits with no reader beside it, however many bytes come the other way.
#[test]
fn a_writer_needs_no_reader() {
    let pair = streams(small(), StreamConfig::default());
    let (_idle, mut write) = pair.left.into_split();
    let mut right = pair.right;
    let data = pattern(9, 50_000);
    let (sent, (heard, end)) = both(
        async {
            write.put_all(&data).await?;
            write.finish().await
        },
        async {
            // Some bytes that nobody reads.
            right.put_all(&[7; 500]).await.unwrap();
            read_all(&mut right).await
        },
    );
    assert_eq!((sent, end), (Ok(()), Ok(())));
    assert!(heard == data);
}

/// What arrives while a write waits is kept, no more than slots hold, and read afterwards.
#[test]
fn what_a_writer_takes_in_is_there_for_the_reader() {
    let mut pair = streams(small(), StreamConfig::default());
    let Pair { left, right, .. } = &mut pair;
    let (a, b) = (pattern(1, 700), pattern(2, 20_000));
    both(
        async {
            left.put_all(&b).await.unwrap();
            assert!(read_exact(left, 700).await.unwrap() == a);
        },
        async {
            right.put_all(&a).await.unwrap();
            assert!(read_exact(right, 20_000).await.unwrap() == b);
        },
    );
}

#[test]
fn futures_dropped_after_any_number_of_polls_lose_nothing() {
    let pair = streams(small(), StreamConfig::default());
    let (mut read, mut write) = (pair.right, pair.left);
    let data = pattern(3, 60_000);
    let (mut sent, mut heard, mut turn) = (0, Vec::new(), 0_usize);
    while heard.len() < data.len() {
        turn += 1;
        for _ in 0..turn % 3 {
            let mut writing = pin!(write.put(&data[sent..(sent + turn % 700).min(data.len())]));
            if let Poll::Ready(put) = writing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                sent += put.unwrap();
            }
        }
        for _ in 0..turn % 4 {
            let polled = poll_once(&mut pin!(read.fill())).map(|bytes| bytes.unwrap().to_vec());
            if let Poll::Ready(bytes) = polled {
                let len = bytes.len().min(turn % 100);
                heard.extend_from_slice(&bytes[..len]);
                read.consume(len);
            }
        }
    }
    assert!(heard == data);
    let mut polls = 0;
    while poll_once(&mut pin!(write.finish())).is_pending() {
        polls += 1;
        assert!(polls < 10);
        assert!(polls > 0 && there(&mut read).is_empty());
    }
    assert_eq!(block_on(read_all(&mut read)), (vec![], Ok(())));
}

#[test]
fn halves_become_one_again_and_only_their_own() {
    let mut pair = streams(small(), StreamConfig::default());
    pair.left.try_put(b"abc").unwrap();
    pair.right.try_put(b"def").unwrap();
    block_on(pair.right.fill()).unwrap();
    pair.right.consume(1);
    let (left, right) = (pair.left.into_split(), pair.right.into_split());
    let (left_read, right_write) = StreamCarrier::unsplit(left.0, right.1).unwrap_err();
    let mut left = StreamCarrier::unsplit(left_read, left.1).unwrap();
    let mut right = StreamCarrier::unsplit(right.0, right_write).unwrap();
    assert_eq!(there(&mut right), b"bc");
    assert_eq!(there(&mut left), b"def");
    left.try_put(b"on").unwrap();
    assert_eq!(there(&mut right), b"on");
}

/// Counts how often it was woken.
#[derive(Default)]
struct Count(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Count {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

/// Each half has a waker of its own, is woken once for what arrives while it waits, and not at all while it does not.
#[test]
fn each_half_is_woken_while_it_waits() {
    let woken = |count: &std::sync::Arc<Count>| count.0.load(std::sync::atomic::Ordering::SeqCst);
    let counts: [std::sync::Arc<Count>; 2] = Default::default();
    let wakers = counts.clone().map(Waker::from);
    let pair = streams(small(), StreamConfig::default());
    let (mut read, mut write) = pair.left.into_split();
    let mut right = pair.right;
    let mut reading = Context::from_waker(&wakers[0]);
    let mut writing = Context::from_waker(&wakers[1]);
    assert!(read.poll_fill(&mut reading).is_pending());
    assert_eq!((woken(&counts[0]), woken(&counts[1])), (0, 0));
    // Credits are what the writer waits for now: the peer reads none of it.
    while let Poll::Ready(put) = write.poll_put(&mut writing, &[IoSlice::new(&[1; 256])]) {
        put.unwrap();
    }
    let before = (woken(&counts[0]), woken(&counts[1]));
    // Bytes for the reader alone wake both, as credits may come with them; each once.
    right.try_put(b"to the reader").unwrap();
    let after = (woken(&counts[0]) - before.0, woken(&counts[1]) - before.1);
    assert_eq!(after, (1, 1));
    // Whoever does not wait is not woken.
    assert!(matches!(read.poll_fill(&mut reading), Poll::Ready(Ok(b"to the reader"))));
    right.try_put(b"more").unwrap();
    assert_eq!((woken(&counts[0]) - before.0, woken(&counts[1]) - before.1), (1, 1));
}
