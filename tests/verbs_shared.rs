//! Reliable tracks that share their queues: many on two threads, one that hoards, one that dies, and carriers over them.
#![cfg(feature = "verbs")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use futures_util::future::{join, join_all};
use trespass_carriers::{MessageCarrier, MessageConfig};
use trespass_core::{
    Endpoint, ErrorKind, Fabric, Incoming, Listener, ListenerExt, RecvSide, RecvSideExt, Role, SendSide, SendSideExt,
    Track, TransportError, TryError,
};
use trespass_verbs::{SharedConfig, SharedListener, SharedTrack, VerbsConfig, VerbsShared};

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

fn config() -> VerbsConfig {
    VerbsConfig::default().with_slots(1024, 8, 8).with_timeouts(Duration::from_secs(10), Duration::from_secs(10))
}

/// Shared queues on the device that connects and on the one that listens.
fn fabrics(tracks: usize, quota: usize) -> (VerbsShared, VerbsShared) {
    let (near, far) = rdma::addresses();
    let open = |ip| {
        let shared = SharedConfig::default().with_tracks(tracks, quota);
        rdma::fabric(ip, config()).shared(shared).expect("shared queues")
    };
    (open(near), open(far))
}

fn listen(far: &VerbsShared) -> SharedListener {
    far.listen(&SocketAddr::new(rdma::addresses().1, 0)).expect("a listener")
}

/// Connects, and accepts.
fn joined(near: &VerbsShared, listener: &mut SharedListener) -> (SharedTrack, SharedTrack) {
    let connecting = near.connect(&listener.local());
    // Side by side: where the one fails, the other waits for ever.
    let connected = async { connecting.await.expect("connected") };
    let accepted = async { listener.incoming().await.expect("a request").accept().await.expect("accepted") };
    block_on(join(connected, accepted))
}

async fn put(track: &mut SharedTrack, message: &[u8]) {
    let mut buf = track.reserve(message.len()).await.expect("a slot");
    buf.copy_from_slice(message);
    track.send(buf).expect("sent");
    track.flush().expect("flushed");
}

/// Answers each message with the same, until the track ends.
async fn echo(mut track: SharedTrack) -> ErrorKind {
    loop {
        let message = match track.recv().await {
            Ok(message) => message,
            Err(error) => return error.kind(),
        };
        put(&mut track, &message).await;
    }
}

/// Sends `count` messages of its own, some at a time, and checks that each comes back, in order.
async fn ping(track: &mut SharedTrack, name: u32, count: u32) {
    let message = |round: u32| [name.to_le_bytes(), round.to_le_bytes()].concat();
    let (mut sent, mut received) = (0, 0);
    while received < count {
        while sent < count && sent - received < 4 {
            put(track, &message(sent)).await;
            sent += 1;
        }
        assert_eq!(&*track.recv().await.expect("the echo"), message(received), "of track {name}");
        received += 1;
    }
}

#[test]
fn one_track_echoes_and_closes() {
    needs_rdma!();
    let (near, far) = fabrics(2, 8);
    let mut listener = listen(&far);
    let (mut one, mut other) = joined(&near, &mut listener);
    assert_eq!((one.local(), one.peer()), (other.peer(), other.local()));
    assert_eq!((one.limits().recv_slots, one.limits().recv_shared, one.posted()), (8, true, 8));
    block_on(async {
        for round in 0..200u32 {
            let message = vec![round as u8; [0, 1, 64, 256, 257, 1024][round as usize % 6]];
            put(&mut one, &message).await;
            let received = other.recv().await.expect("a message");
            assert_eq!((&*received, received.immediate()), (&*message, None));
            put(&mut other, &received).await;
            assert_eq!(&*one.recv().await.expect("the echo"), message);
        }
        let buf = one.reserve(3).await.expect("a slot");
        assert!(one.send_immediate(buf, 7).is_ok());
        for _ in 0..3 {
            put(&mut one, &[9; 100]).await;
        }
        assert!(one.posted() > 8);
        one.close().await.expect("closed");
        // All that arrived comes before the end.
        assert_eq!(other.recv().await.expect("a message").immediate(), Some(7));
        for _ in 0..3 {
            assert_eq!(&*other.recv().await.expect("a message"), [9; 100]);
        }
        assert_eq!(other.recv().await.expect_err("the end").kind(), ErrorKind::Closed);
        assert_eq!(other.close().await, Ok(()));
    });
}

#[test]
fn many_tracks_on_two_threads() {
    needs_rdma!();
    let (near, far) = fabrics(10, 8);
    let mut listener = listen(&far);
    let (mut ones, mut others): (Vec<_>, Vec<_>) = (0..10).map(|_| joined(&near, &mut listener)).unzip();
    // One more than there are seats.
    let refused = near.connect(&listener.local());
    assert_eq!(block_on(refused).expect_err("no seat").kind(), ErrorKind::ResourceLimit);
    let half = others.split_off(5);
    let serve = |tracks: Vec<SharedTrack>| std::thread::spawn(move || block_on(join_all(tracks.into_iter().map(echo))));
    let servers = [serve(others), serve(half)];
    std::thread::scope(|scope| {
        let (first, second) = ones.split_at_mut(5);
        for (number, tracks) in [first, second].into_iter().enumerate() {
            scope.spawn(move || {
                let names = (number as u32 * 5)..;
                block_on(join_all(tracks.iter_mut().zip(names).map(|(track, name)| ping(track, name, 300))));
            });
        }
    });
    for mut track in ones {
        block_on(track.close()).expect("closed");
    }
    for server in servers {
        assert_eq!(server.join().expect("a server"), [ErrorKind::Closed; 5]);
    }
    // The seats are free again.
    let (mut one, other) = joined(&near, &mut listener);
    let server = serve(vec![other]);
    block_on(ping(&mut one, 99, 50));
    block_on(one.close()).expect("closed");
    server.join().expect("the server");
}

#[test]
fn a_hoarder_takes_nothing_from_the_others() {
    needs_rdma!();
    let (near, far) = fabrics(3, 8);
    let mut listener = listen(&far);
    let (mut fills, mut hoards) = joined(&near, &mut listener);
    let (mut one, other) = joined(&near, &mut listener);
    block_on(async {
        for round in 0..8u8 {
            put(&mut fills, &[round; 100]).await;
        }
    });
    let mut held: Vec<_> = block_on(async {
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(hoards.recv().await.expect("a message"));
        }
        held
    });
    assert_eq!(hoards.posted(), 8);
    let server = std::thread::spawn(move || block_on(echo(other)));
    block_on(ping(&mut one, 1, 500));
    for (round, message) in held.iter().enumerate() {
        assert_eq!(**message, [round as u8; 100]);
    }
    // What it gives back is its own again; more than that ends it, with a reason, and nobody else.
    held.truncate(6);
    let deadline = Instant::now() + Duration::from_secs(10);
    while hoards.posted() < 10 {
        assert!(matches!(hoards.try_recv(), Err(TryError::WouldBlock)));
        assert!(Instant::now() < deadline, "two were given back, and {} posted", hoards.posted());
        std::thread::yield_now();
    }
    block_on(async {
        for _ in 0..3 {
            put(&mut fills, &[99; 10]).await;
        }
        assert_eq!(&*hoards.recv().await.expect("within the quota"), [99; 10]);
        assert_eq!(&*hoards.recv().await.expect("within the quota"), [99; 10]);
        assert_eq!(hoards.recv().await.expect_err("one too many").kind(), ErrorKind::Protocol);
        assert!(fills.recv().await.is_err());
    });
    block_on(ping(&mut one, 2, 100));
    for (round, message) in held.iter().enumerate() {
        assert_eq!(**message, [round as u8; 100]);
    }
    block_on(one.close()).expect("closed");
    server.join().expect("the server");
}

#[test]
fn a_dead_track_disturbs_nobody() {
    needs_rdma!();
    let (near, far) = fabrics(8, 8);
    let mut listener = listen(&far);
    let (mut stays, other) = joined(&near, &mut listener);
    let server = std::thread::spawn(move || block_on(echo(other)));
    for round in 0..20 {
        let (mut one, mut other) = joined(&near, &mut listener);
        block_on(async {
            for _ in 0..6 {
                put(&mut one, &[7; 1000]).await;
            }
            if round % 2 == 0 {
                other.recv().await.expect("a message");
            }
            // In the middle of everything, whichever end.
            if round % 3 == 0 {
                drop(one);
                while other.recv().await.is_ok() {}
            } else {
                drop(other);
                while one.recv().await.is_ok() {}
            }
            ping(&mut stays, round, 20).await;
        });
    }
    block_on(stays.close()).expect("closed");
    assert_eq!(server.join().expect("the server"), ErrorKind::Closed);
}

#[test]
fn halves_work_on_two_threads() {
    needs_rdma!();
    let (near, far) = fabrics(2, 32);
    let mut listener = listen(&far);
    let (one, other) = joined(&near, &mut listener);
    let server = std::thread::spawn(move || block_on(echo(other)));
    let (mut sender, mut receiver) = one.split();
    const COUNT: u32 = 2000;
    // Fewer under way than the quota: this stands for credits.
    let (returned, credit) = std::sync::mpsc::sync_channel::<()>(16);
    let receiving = std::thread::spawn(move || {
        for number in 0..COUNT {
            let message = block_on(receiver.recv()).expect("an echo");
            assert_eq!(*message, number.to_le_bytes());
            drop(message);
            let _ = returned.send(());
        }
        receiver
    });
    let mut under_way = 0;
    for number in 0..COUNT {
        if under_way == 16 {
            credit.recv().expect("the receiver");
            under_way -= 1;
        }
        let mut buf = block_on(sender.reserve(4)).expect("a slot");
        buf.copy_from_slice(&number.to_le_bytes());
        sender.send(buf).expect("sent");
        sender.flush().expect("flushed");
        under_way += 1;
    }
    drop(credit);
    let _receiver = receiving.join().expect("the receiver");
    block_on(sender.close()).expect("closed");
    assert_eq!(server.join().expect("the server"), ErrorKind::Closed);
}

/// Messages of all lengths there and back, by a carrier.
async fn carry(track: SharedTrack) {
    let mut carrier = MessageCarrier::open(track, Role::Connector, MessageConfig::default()).await.expect("opened");
    for round in 0..60usize {
        let message: Vec<u8> = (0..[0, 1, 100, 1016, 1017, 20_000][round % 6]).map(|at| (at + round) as u8).collect();
        carrier.send(&message).await.expect("sent");
        assert_eq!(&carrier.recv().await.expect("received").expect("a message")[..], message);
    }
    carrier.finish().await.expect("finished");
    assert!(carrier.recv().await.expect("the end").is_none());
}

async fn carry_back(track: SharedTrack) {
    let mut carrier = MessageCarrier::open(track, Role::Acceptor, MessageConfig::default()).await.expect("opened");
    while let Some(message) = carrier.recv().await.expect("received") {
        let message = message.to_vec();
        carrier.send(&message).await.expect("sent");
    }
    carrier.close().await.expect("closed");
}

#[test]
fn carriers_run_over_shared_queues() {
    needs_rdma!();
    let (near, far) = fabrics(8, 16);
    let mut listener = listen(&far);
    let (ones, others): (Vec<_>, Vec<_>) = (0..8).map(|_| joined(&near, &mut listener)).unzip();
    let server = std::thread::spawn(move || block_on(join_all(others.into_iter().map(carry_back))));
    block_on(join_all(ones.into_iter().map(carry)));
    server.join().expect("the server");
}

#[test]
fn an_unshared_peer_is_as_good() {
    needs_rdma!();
    let (_, far) = fabrics(2, 8);
    let mut listener = listen(&far);
    let near = rdma::fabric(rdma::addresses().0, config());
    let connecting = near.connect(&listener.local());
    block_on(async {
        let mut other = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        let mut one = connecting.await.expect("connected");
        for round in 0..50u8 {
            let mut buf = one.reserve(1).await.expect("a slot");
            buf[0] = round;
            one.send(buf).expect("sent");
            one.flush().expect("flushed");
            let message = other.recv().await.expect("a message");
            put(&mut other, &message).await;
            assert_eq!(*one.recv().await.expect("the echo"), [round]);
        }
        one.close().await.expect("closed");
    });
}

/// Each track's peer sends all that its quota allows, and nobody here looks: fewer receives were posted than that, so the
/// device has to say that it runs low.
#[test]
fn a_burst_of_all_quotas_arrives_though_nobody_looks() {
    needs_rdma!();
    let (near, far) = fabrics(16, 8);
    let mut listener = listen(&far);
    let (mut ones, mut others): (Vec<_>, Vec<_>) = (0..16).map(|_| joined(&near, &mut listener)).unzip();
    block_on(async {
        for (name, one) in ones.iter_mut().enumerate() {
            for round in 0..8 {
                put(one, &[name as u8, round]).await;
            }
        }
        // That it is closed says that all of it has arrived.
        for one in &mut ones {
            one.close().await.expect("closed");
        }
        for (name, other) in others.iter_mut().enumerate() {
            for round in 0..8 {
                assert_eq!(&*other.recv().await.expect("a message"), [name as u8, round]);
            }
            assert_eq!(other.recv().await.expect_err("the end").kind(), ErrorKind::Closed);
        }
    });
}

/// Up to five tracks of eight sends and a quota of eight receives, and memory for two of them.
fn poor() -> (VerbsShared, VerbsShared) {
    let (near, far) = rdma::addresses();
    let open = |ip| {
        let mut config = config();
        config.pool_limit = 2 * 8 * 1024;
        rdma::fabric(ip, config).shared(SharedConfig::default().with_tracks(5, 8)).expect("shared queues")
    };
    (open(near), open(far))
}

#[test]
fn send_memory_is_whose_who_has_something_to_send() {
    needs_rdma!();
    let (near, far) = poor();
    let mut listener = listen(&far);
    let (mut ones, mut others): (Vec<_>, Vec<_>) = (0..4).map(|_| joined(&near, &mut listener)).unzip();
    let all = |track: &mut SharedTrack, byte| -> Vec<_> {
        let mut bufs: Vec<_> = (0..8).map(|_| track.try_reserve(1000).expect("memory")).collect();
        bufs.iter_mut().for_each(|buf| buf.fill(byte));
        bufs
    };
    let mut first = all(&mut ones[0], 1);
    let second = all(&mut ones[1], 2);
    let refused = ones[2].try_reserve(1).expect_err("all of it is out");
    assert!(matches!(refused, TryError::Failed(error) if error.kind() == ErrorKind::ResourceLimit));
    drop(second);
    // What others wrote is not to be seen, however much is asked for.
    let third = all(&mut ones[2], 3);
    drop(third);
    for len in [10, 1024] {
        assert!(ones[3].try_reserve(len).expect("memory").iter().all(|byte| *byte == 0));
    }
    block_on(async {
        for buf in first.drain(..) {
            ones[0].send(buf).expect("sent");
        }
        ones[0].flush().expect("flushed");
        for _ in 0..8 {
            assert_eq!(&*others[0].recv().await.expect("a message"), [1; 1000]);
        }
        // What has arrived is everybody's again, though its sender does nothing more.
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut more = all(&mut ones[1], 4);
        while more.len() < 16 {
            match ones[3].try_reserve(1) {
                Ok(buf) => more.push(buf),
                Err(error) => assert!(matches!(error, TryError::Failed(_)), "{error:?}"),
            }
            assert!(Instant::now() < deadline, "{} of 16 slots are there", more.len());
        }
        // And so is what a track had under way when it went.
        drop(more);
        for round in 0..50u8 {
            // There is a seat more: the last ones are left at some time.
            drop((ones.pop(), others.pop()));
            let connecting = near.connect(&listener.local());
            let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
            let mut one = connecting.await.expect("connected");
            for _ in 0..8 {
                put(&mut one, &[round; 1000]).await;
            }
            ones.push(one);
            others.push(accepted);
        }
    });
}

#[test]
fn where_there_is_no_more_memory_peers_wait_for_buffers_to_come_back() {
    needs_rdma!();
    let (near, far) = poor();
    let mut listener = listen(&far);
    let (mut ones, mut others): (Vec<_>, Vec<_>) = (0..3).map(|_| joined(&near, &mut listener)).unzip();
    block_on(async {
        let mut held = Vec::new();
        for (one, other) in ones.iter_mut().zip(&mut others).take(2) {
            for byte in 0..8 {
                put(one, &[byte; 500]).await;
                held.push(other.recv().await.expect("a message"));
            }
        }
        put(&mut ones[2], b"waits").await;
        for (number, message) in held.drain(..).enumerate() {
            assert_eq!(*message, [number as u8 % 8; 500]);
        }
        assert_eq!(&*others[2].recv().await.expect("a message"), b"waits");
    });
}
