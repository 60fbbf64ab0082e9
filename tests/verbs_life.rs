//! Connections come and go, in good and bad ways, and leave nothing behind: no queue pair, no memory region, no
//! connection identifier, no descriptor, no memory.
#![cfg(feature = "verbs")]

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll};

use futures_executor::block_on;
use trespass_core::{Fabric, Incoming, Listener, ListenerExt, RecvSideExt, SendSide, SendSideExt};
use trespass_verbs::{ReliableTrack, TrackListener, VerbsConfig, VerbsFabric, VerbsIncoming, leaked_queue_pairs};

#[path = "support/holdings.rs"]
mod holdings;
#[path = "support/rdma.rs"]
mod rdma;
use holdings::{Holdings, resident};
use rdma::needs_rdma;

/// The kernel counts for all: one test at a time. librdmacm has been used once, since what it opens then it keeps.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    World::new().end();
    guard
}

/// Echoes one message of every connection, until it is told to stop. A thread for each: a peer that goes away in the middle
/// of a handshake holds up nobody else.
async fn serve(mut listener: TrackListener, stop: mpsc::Receiver<()>) {
    let mut conversations = Vec::new();
    while let Ok(incoming) = listener.incoming().await {
        if stop.try_recv().is_ok() {
            break;
        }
        conversations.retain(|conversation: &std::thread::JoinHandle<()>| !conversation.is_finished());
        conversations.push(std::thread::spawn(move || block_on(converse(incoming))));
    }
    for conversation in conversations {
        conversation.join().expect("a conversation");
    }
}

/// Whatever fails here is the doing of the other end, which drops what it does at any point.
async fn converse(incoming: VerbsIncoming) {
    let Ok(mut track) = incoming.accept().await else { return };
    let Ok(message) = track.recv().await else { return };
    let Ok(mut reply) = track.reserve(message.len()).await else { return };
    reply.copy_from_slice(&message);
    if track.send(reply).is_ok() && track.flush().is_ok() {
        let _ = track.recv().await;
    }
}

async fn exchange(mut track: ReliableTrack) {
    let mut message = track.reserve(100).await.expect("a slot");
    message.fill(3);
    track.send(message).expect("sent");
    assert_eq!(&*track.recv().await.expect("the echo"), [3; 100]);
    track.close().await.expect("closed");
}

struct World {
    client: VerbsFabric,
    addr: SocketAddr,
    stop: mpsc::Sender<()>,
    server: std::thread::JoinHandle<()>,
    drivers: [std::thread::JoinHandle<()>; 2],
}

/// A fabric whose driver runs on a thread of the test's own, to be waited for.
fn fabric(ip: IpAddr) -> (VerbsFabric, std::thread::JoinHandle<()>) {
    let config = VerbsConfig::default().with_local(ip).with_slots(1024, 8, 8);
    let (fabric, driver) = VerbsFabric::open_manual(config).expect("the device");
    (fabric, std::thread::spawn(move || driver.run()))
}

impl World {
    fn new() -> Self {
        let (near, far) = rdma::addresses();
        let ((server, one), (client, other)) = (fabric(far), fabric(near));
        let listener = server.listen(&SocketAddr::new(far, 0)).expect("a listener");
        let addr = listener.local();
        let (stop, stopped) = mpsc::channel();
        let server = std::thread::spawn(move || block_on(serve(listener, stopped)));
        Self { client, addr, stop, server, drivers: [one, other] }
    }

    /// Ends when everything is torn down: that is the last that a driver does.
    fn end(self) {
        self.stop.send(()).expect("the server");
        // One last request, by which the server learns of it.
        let _ = block_on(self.client.connect(&self.addr));
        self.server.join().expect("the server");
        drop(self.client);
        for driver in self.drivers {
            driver.join().expect("a driver");
        }
    }
}

#[test]
fn a_thousand_connections_leave_nothing() {
    needs_rdma!();
    let rounds = 1000;
    let _alone = alone();
    let empty = Holdings::now();
    let world = World::new();
    let connect = || block_on(async { exchange(world.client.connect(&world.addr).await.expect("connected")).await });
    for _ in 0..50 {
        connect();
    }
    let (before, memory) = (Holdings::now(), resident());
    for _ in 0..rounds {
        connect();
    }
    let after = before.or_latest();
    eprintln!("before: {before:?}\nafter {rounds} rounds: {after:?}\nresident: {memory} KiB, then {} KiB", resident());
    assert_eq!(after, before);
    assert!(resident() < memory + 1024, "resident memory grew from {memory} to {} KiB", resident());
    world.end();
    assert_eq!(Holdings::now(), empty);
    assert_eq!(leaked_queue_pairs(), 0);
}

/// Polls `future` up to `polls` times, each after it was woken, and drops it.
fn drop_after<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    block_on(std::future::poll_fn(|cx: &mut Context<'_>| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }))
}

#[test]
fn futures_dropped_anywhere_leave_nothing() {
    needs_rdma!();
    let _alone = alone();
    let empty = Holdings::now();
    let world = World::new();
    let mut finished = 0;
    for round in 0..200 {
        // A step between two drops that is prime to the number of steps visits them all, at many moments.
        let polls = round * 7 % 11;
        let work = async {
            let connecting = world.client.connect(&world.addr);
            for _ in 0..round % 5 {
                std::thread::yield_now();
            }
            exchange(connecting.await.expect("connected")).await;
        };
        finished += usize::from(drop_after(work, polls).is_some());
    }
    eprintln!("{finished} of 200 got to their end before they were dropped");
    assert!(finished < 200);
    // Everybody else is as well as ever.
    block_on(async { exchange(world.client.connect(&world.addr).await.expect("connected")).await });
    world.end();
    let after = Holdings::now();
    eprintln!("before: {empty:?}\nafter: {after:?}");
    assert_eq!(after, empty);
    assert_eq!(leaked_queue_pairs(), 0);
}
