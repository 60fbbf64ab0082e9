//! Messages that are lent and read, on real verbs.
#![cfg(feature = "verbs")]

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass_carriers::{CarrierError, MessageConfig, RendezvousCarrier, RendezvousConfig};
use trespass_core::{ErrorKind, Fabric, Incoming, Listener, ListenerExt, Role, TransportError};
use trespass_verbs::{ReliableTrack, VerbsConfig, VerbsError, VerbsFabric, leaked_queue_pairs, leaked_registrations};

#[path = "support/holdings.rs"]
mod holdings;
#[path = "support/rdma.rs"]
mod rdma;
use holdings::Holdings;
use rdma::needs_rdma;

type Carrier = RendezvousCarrier<VerbsFabric>;

/// The kernel counts for all: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fabrics() -> (VerbsFabric, VerbsFabric) {
    let (near, far) = rdma::addresses();
    let config = VerbsConfig::default().with_slots(4096, 32, 32);
    (rdma::fabric(near, config.clone()), rdma::fabric(far, config))
}

fn tracks(near: &VerbsFabric, far: &VerbsFabric) -> (ReliableTrack, ReliableTrack) {
    let mut listener = far.listen(&SocketAddr::new(rdma::addresses().1, 0)).expect("a listener");
    let connecting = near.connect(&listener.local());
    block_on(async {
        let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        (connecting.await.expect("connected"), accepted)
    })
}

async fn open(track: ReliableTrack, role: Role, fabric: &VerbsFabric) -> Carrier {
    let messages = MessageConfig::default().with_max_message(61 << 20);
    let config = RendezvousConfig::new(fabric.clone()).with_messages(messages).with_lend_from(8192);
    RendezvousCarrier::open(track, role, config).await.expect("opened")
}

/// The accepting end, in a thread of its own.
fn serve<T: Send + 'static>(
    track: ReliableTrack,
    fabric: &VerbsFabric,
    talk: impl AsyncFnOnce(Carrier) -> T + Send + 'static,
) -> JoinHandle<T> {
    let fabric = fabric.clone();
    std::thread::spawn(move || block_on(async { talk(open(track, Role::Acceptor, &fabric).await).await }))
}

fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ seed.wrapping_mul(131) ^ (at >> 8)) as u8).collect()
}

async fn lend(carrier: &mut Carrier, seed: usize, len: usize) -> Result<(), CarrierError<VerbsError>> {
    let mut region = carrier.alloc(len.max(1))?;
    region[..len].copy_from_slice(&pattern(seed, len));
    carrier.send_region(region, 0..len).await
}

/// Sends `count` messages, each of which comes back, by memory that goes round.
async fn ping(mut carrier: Carrier, count: usize) {
    for seed in 0..count {
        let len = [0, 1, 4000, 5000, 8191, 8192, 100_000, 1 << 20][seed % 8];
        lend(&mut carrier, seed, len).await.expect("sent");
        let echo = carrier.recv().await.expect("received").expect("an echo");
        assert!(*echo == pattern(seed, len), "message {seed} of {len} bytes");
        assert_eq!(echo.was_lent(), len >= 8192);
        assert_eq!(carrier.returned().await.map(|region| region.len()), Some(len.max(1)));
    }
    carrier.finish().await.expect("finished");
    assert!(carrier.recv().await.expect("the end").is_none());
    carrier.close().await.expect("closed");
}

async fn pong(mut carrier: Carrier) {
    while let Some(message) = carrier.recv().await.expect("received") {
        let len = message.len();
        match message.into_region() {
            // As it was read, so it is lent.
            Ok(region) => carrier.send_region(region, 0..len).await.expect("sent"),
            Err(message) => carrier.send(&message).await.expect("sent"),
        }
    }
    carrier.close().await.expect("closed");
}

#[test]
fn messages_of_all_lengths_go_there_and_back() {
    needs_rdma!();
    let _alone = alone();
    let (near, far) = fabrics();
    let (one, other) = tracks(&near, &far);
    let server = serve(other, &far, pong);
    block_on(async { ping(open(one, Role::Connector, &near).await, 64).await });
    server.join().expect("the server");
    assert_eq!((leaked_queue_pairs(), leaked_registrations()), (0, 0));
}

#[test]
fn many_are_under_way_at_once() {
    needs_rdma!();
    let _alone = alone();
    let (near, far) = fabrics();
    let (one, other) = tracks(&near, &far);
    let server = serve(other, &far, async move |mut carrier| {
        for seed in 0..200 {
            let message = carrier.recv().await.expect("received").expect("a message");
            assert!(*message == pattern(seed, 65536), "message {seed}");
        }
        // The peer says goodbye, once it knows that all is read.
        assert!(carrier.recv().await.expect("the end").is_none());
    });
    block_on(async {
        let mut carrier = open(one, Role::Connector, &near).await;
        for seed in 0..200 {
            lend(&mut carrier, seed, 65536).await.expect("sent");
        }
        // It waits until all is read.
        carrier.close().await.expect("closed");
        for _ in 0..200 {
            assert!(carrier.returned().await.is_some());
        }
        assert!(carrier.returned().await.is_none());
    });
    server.join().expect("the server");
}

/// The next messages are being read when their reader has had enough: that is no failure, at either end.
#[test]
fn a_close_while_one_is_read_is_clean() {
    needs_rdma!();
    let _alone = alone();
    let (near, far) = fabrics();
    for _ in 0..5 {
        let (one, other) = tracks(&near, &far);
        let (all_lent, lent) = std::sync::mpsc::channel();
        let server = serve(other, &far, async move |mut carrier| {
            lent.recv().expect("the lender");
            let message = carrier.recv().await.expect("received").expect("a message");
            assert!(*message == pattern(0, 1 << 20));
            carrier.close().await
        });
        block_on(async {
            let mut carrier = open(one, Role::Connector, &near).await;
            for seed in 0..3 {
                lend(&mut carrier, seed, 1 << 20).await.expect("sent");
            }
            all_lent.send(()).expect("the reader");
            assert_eq!(carrier.close().await, Ok(()));
            for _ in 0..3 {
                assert!(carrier.returned().await.is_some());
            }
        });
        assert_eq!(server.join().expect("the server"), Ok(()));
    }
    assert_eq!((leaked_queue_pairs(), leaked_registrations()), (0, 0));
}

/// The reader goes away at any moment: the lender has all its memory back, and learns that the peer is gone.
#[test]
fn a_reader_that_goes_gives_all_memory_back() {
    needs_rdma!();
    let _alone = alone();
    let (near, far) = fabrics();
    for round in 0..20 {
        let (one, other) = tracks(&near, &far);
        let server = serve(other, &far, async move |mut carrier| {
            for seed in 0..round % 5 {
                let message = carrier.recv().await.expect("received").expect("a message");
                assert!(*message == pattern(seed, 1 << 20));
            }
            // In the middle of the next, likely.
        });
        block_on(async {
            let mut carrier = open(one, Role::Connector, &near).await;
            let mut out = 0;
            let begun = Instant::now();
            let error = loop {
                let sent = lend(&mut carrier, out, 1 << 20).await;
                out += 1;
                if let Err(error) = sent {
                    break error;
                }
                if out == 8 {
                    break carrier.recv().await.expect_err("nobody sends");
                }
            };
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
            for _ in 0..out {
                assert!(carrier.returned().await.is_some());
            }
            assert!(carrier.returned().await.is_none());
        });
        server.join().expect("the server");
    }
    assert_eq!((leaked_queue_pairs(), leaked_registrations()), (0, 0));
}

/// The lender goes away: what was read is whole, and the rest is an error.
#[test]
fn a_lender_that_goes_is_found_out() {
    needs_rdma!();
    let _alone = alone();
    let (near, far) = fabrics();
    for round in 0..20 {
        let (one, other) = tracks(&near, &far);
        let server = serve(other, &far, async move |mut carrier| {
            let mut seed = 0;
            loop {
                match carrier.recv().await {
                    Ok(message) => assert!(*message.expect("no goodbye") == pattern(seed, 1 << 20)),
                    Err(error) => break error,
                }
                seed += 1;
            }
        });
        block_on(async {
            let mut carrier = open(one, Role::Connector, &near).await;
            for seed in 0..4 {
                lend(&mut carrier, seed, 1 << 20).await.expect("sent");
            }
            for _ in 0..round % 4 {
                assert!(carrier.returned().await.is_some());
            }
        });
        let error = server.join().expect("the server");
        assert!(matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::RemoteAccess), "{error}");
    }
    assert_eq!((leaked_queue_pairs(), leaked_registrations()), (0, 0));
}

#[test]
fn nothing_is_left_behind() {
    needs_rdma!();
    let _alone = alone();
    let (near, far) = fabrics();
    let round = |count| {
        let (one, other) = tracks(&near, &far);
        let server = serve(other, &far, pong);
        block_on(async { ping(open(one, Role::Connector, &near).await, count).await });
        server.join().expect("the server");
    };
    // What the fabrics keep for the next.
    round(16);
    let before = Holdings::now();
    for _ in 0..30 {
        round(8);
    }
    assert_eq!(before.or_latest(), before);
}
