//! Streams on real verbs: whole bytes, no deadlock, real ends, whoever dies; and no allocation. Its allocator counts.
#![cfg(all(feature = "verbs", feature = "tokio"))]

use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::thread;

use allocation_counter::measure;
use futures_executor::block_on;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use trespass_carriers::{
    CarrierError, MessageCarrier, MessageConfig, Refusal, StreamCarrier, StreamConfig, StreamReadHalf,
};
use trespass_core::{Fabric, InOrder, Incoming, Listener, ListenerExt, Lossless, Role, SendSide, Track};
use trespass_verbs::{ReliableTrack, SharedConfig, VerbsConfig};

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

type Stream = StreamCarrier<ReliableTrack>;

/// Sizes small enough that everything fills up.
fn small() -> VerbsConfig {
    VerbsConfig::default().with_slots(1024, 8, 8)
}

fn both_ways() -> [StreamConfig; 2] {
    [StreamConfig::default(), StreamConfig::default().with_coalesce(true)]
}

fn pair(track: VerbsConfig, config: &StreamConfig) -> (Stream, Stream) {
    let (near, far) = rdma::pair(track);
    thread::scope(|scope| {
        let far = scope.spawn(|| block_on(StreamCarrier::open(far, Role::Acceptor, config.clone())));
        let near = block_on(StreamCarrier::open(near, Role::Connector, config.clone()));
        (near.expect("opened"), far.join().expect("a thread").expect("opened"))
    })
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8)) as u8).collect()
}

async fn read_to_end<T: Track<Delivery: Lossless + InOrder>>(half: &mut StreamReadHalf<T>) -> Vec<u8> {
    let mut heard = Vec::new();
    half.read_to_end(&mut heard).await.expect("an end of file");
    heard
}

/// Runs one end to its end, both directions at once, in one task: the writer begins, and writes many times all buffering.
async fn exchange<T: Track<Delivery: Lossless + InOrder>>(stream: StreamCarrier<T>, data: &[u8], chunk: usize) {
    let (mut read, mut write) = stream.into_split();
    let writing = async {
        for chunk in data.chunks(chunk) {
            write.write_all(chunk).await.expect("written");
        }
        write.shutdown().await.expect("shut down");
    };
    let ((), heard) = futures_util::future::join(writing, read_to_end(&mut read)).await;
    assert!(heard == data);
}

#[test]
fn two_ends_that_write_more_than_all_buffering_get_through() {
    needs_rdma!();
    for config in both_ways() {
        for (track, chunk, len) in
            [(small(), 64, 100_000), (small(), 3000, 400_000), (VerbsConfig::default(), 70_000, 4 << 20)]
        {
            let (near, far) = pair(track, &config);
            let data = pattern(len);
            thread::scope(|scope| {
                scope.spawn(|| block_on(exchange(far, &data, chunk)));
                block_on(exchange(near, &data, chunk));
            });
        }
    }
}

/// Many streams at once on tracks that share their queues, where a peer that sends without credit would be ended.
#[test]
fn streams_on_shared_queues_get_through() {
    needs_rdma!();
    let (near, far) = rdma::addresses();
    let open = |ip| rdma::fabric(ip, small()).shared(SharedConfig::default().with_tracks(4, 8)).expect("shared queues");
    let (near, server) = (open(near), open(far));
    let mut listener = server.listen(&SocketAddr::new(far, 0)).expect("a listener");
    let data = pattern(60_000);
    thread::scope(|scope| {
        for _ in 0..4 {
            let connecting = near.connect(&listener.local());
            let (one, other) = block_on(async {
                let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
                (connecting.await.expect("connected"), accepted)
            });
            for (track, role) in [(one, Role::Connector), (other, Role::Acceptor)] {
                let data = &data;
                scope.spawn(move || {
                    block_on(async {
                        let stream = StreamCarrier::open(track, role, StreamConfig::default()).await.expect("opened");
                        exchange(stream, data, 3000).await;
                    });
                });
            }
        }
    });
}

/// A thread for each half.
#[test]
fn four_threads_get_through() {
    needs_rdma!();
    for config in both_ways() {
        let (near, far) = pair(small(), &config);
        let data = pattern(300_000);
        thread::scope(|scope| {
            for stream in [near, far] {
                let (mut read, mut write) = stream.into_split();
                let data = &data;
                scope.spawn(move || {
                    block_on(async {
                        for chunk in data.chunks(700) {
                            write.write_all(chunk).await.expect("written");
                        }
                        write.shutdown().await.expect("shut down");
                    });
                });
                scope.spawn(move || assert!(block_on(read_to_end(&mut read)) == *data));
            }
        });
    }
}

/// A client, a relay in one task, a server: tokio's own loop, over two connections.
#[test]
fn copy_bidirectional_relays() {
    needs_rdma!();
    let config = StreamConfig::default();
    let ((mut client, mut near), (mut far, mut server)) = (pair(small(), &config), pair(small(), &config));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let data = pattern(200_000);
    runtime.block_on(async {
        let relay = tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        let echo = tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(&mut server);
            tokio::io::copy(&mut read, &mut write).await.expect("copied");
            write.shutdown().await.expect("shut down");
        });
        let (mut read, mut write) = tokio::io::split(&mut client);
        let mut heard = Vec::new();
        let sending = async {
            write.write_all(&data).await.expect("written");
            write.shutdown().await.expect("shut down");
        };
        let ((), read) = futures_util::future::join(sending, read.read_to_end(&mut heard)).await;
        read.expect("an end of file");
        assert!(heard == data);
        assert_eq!(relay.await.expect("the relay").expect("relayed"), (200_000, 200_000));
        echo.await.expect("the echo");
    });
}

#[test]
fn a_write_that_nobody_flushes_arrives() {
    needs_rdma!();
    let (mut near, mut far) = pair(small(), &StreamConfig::default());
    block_on(near.write_all(b"not flushed")).expect("written");
    let mut heard = [0; 11];
    block_on(far.read_exact(&mut heard)).expect("read");
    assert_eq!(&heard, b"not flushed");
}

/// Whoever has shut down may drop the stream at once, however much was under way.
#[test]
fn nothing_is_lost_by_a_drop_after_a_shutdown() {
    needs_rdma!();
    let track = VerbsConfig::default().with_slots(4096, 64, 64);
    for len in [0, 1, 10_000, 200_000] {
        let (mut near, far) = pair(track.clone(), &StreamConfig::default());
        let data = pattern(len);
        block_on(async {
            near.write_all(&data).await.expect("written");
            near.shutdown().await.expect("shut down");
        });
        drop(near);
        // Nothing was read before.
        let (mut read, _write) = far.into_split();
        assert!(block_on(read_to_end(&mut read)) == data, "{len} bytes");
    }
}

#[test]
fn a_drop_without_a_shutdown_is_a_death_after_all_that_had_arrived() {
    needs_rdma!();
    let (mut near, mut far) = pair(small(), &StreamConfig::default());
    block_on(async {
        near.write_all(b"and then").await.expect("written");
        // It has arrived when it is answered.
        let mut heard = [0; 8];
        far.read_exact(&mut heard[..4]).await.expect("read");
        far.write_all(b"!").await.expect("written");
        near.read_exact(&mut heard[..1]).await.expect("read");
        drop(near);
        let mut rest = Vec::new();
        let error = far.read_to_end(&mut rest).await.expect_err("a death");
        assert_eq!((&rest[..], error.kind()), (&b"then"[..], ErrorKind::ConnectionReset));
        loop {
            if let Err(error) = far.write_all(b"x").await {
                break assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            }
        }
    });
}

/// Bytes that make no sense, from a track that is no stream's; and a carrier of another kind.
#[test]
fn strangers_are_told_apart() {
    needs_rdma!();
    let (mut near, far) = rdma::pair(small());
    let mut nonsense = near.try_reserve(100).expect("a slot");
    nonsense.fill(0xa5);
    near.send(nonsense).expect("sent");
    near.flush().expect("flushed");
    let opened = block_on(StreamCarrier::open(far, Role::Acceptor, StreamConfig::default()));
    assert!(matches!(opened, Err(CarrierError::Protocol(_))), "{opened:?}");
    let (near, far) = rdma::pair(small());
    thread::scope(|scope| {
        let far = scope.spawn(|| block_on(MessageCarrier::open(far, Role::Acceptor, MessageConfig::default())));
        let near = block_on(StreamCarrier::open(near, Role::Connector, StreamConfig::default()));
        assert_eq!(near.expect_err("refused"), CarrierError::Refused(Refusal::Kind(1)));
        assert_eq!(far.join().expect("a thread").expect_err("refused"), CarrierError::Incompatible(Refusal::Kind(1)));
    });
}

/// Passes bytes on; the processor is left to the device, which may be software.
fn pass(from: &mut Stream, to: &mut Stream, data: &[u8], keep: &mut [u8]) {
    let mut cx = Context::from_waker(Waker::noop());
    let (mut sent, mut heard) = (0, 0);
    while heard < data.len() {
        if sent < data.len() {
            if let Poll::Ready(put) = from.poll_put(&mut cx, &[IoSlice::new(&data[sent..])]) {
                sent += put.expect("written");
            }
        }
        assert!(matches!(from.poll_push(&mut cx), Poll::Pending | Poll::Ready(Ok(()))));
        match to.poll_fill(&mut cx) {
            Poll::Pending => thread::yield_now(),
            Poll::Ready(bytes) => {
                let bytes = bytes.expect("read");
                let len = bytes.len();
                keep[heard..heard + len].copy_from_slice(bytes);
                heard += len;
                to.consume(len);
            }
        }
    }
}

#[test]
fn bytes_allocate_nothing() {
    needs_rdma!();
    for config in both_ways() {
        let (mut near, mut far) = pair(small(), &config);
        let (data, mut keep) = (pattern(20_000), vec![0; 20_000]);
        let mut round = |len: usize| {
            pass(&mut near, &mut far, &data[..len], &mut keep);
            pass(&mut far, &mut near, &data[..len], &mut keep);
        };
        for len in [1, 20_000, 300] {
            round(len);
        }
        let counted = measure(|| [1, 64, 1016, 1017, 5000, 20_000].into_iter().cycle().take(60).for_each(&mut round));
        assert_eq!(counted.count_total, 0, "{counted:?}");
    }
}
