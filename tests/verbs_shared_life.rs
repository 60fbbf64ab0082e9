//! Tracks that share their queues come and go, and leave nothing behind.
#![cfg(feature = "verbs")]

use std::net::SocketAddr;
use std::time::Duration;

use futures_executor::block_on;
use trespass_core::{Fabric, Incoming, Listener, ListenerExt, RecvSideExt, SendSide, SendSideExt, Track};
use trespass_verbs::{
    SharedConfig, SharedListener, SharedTrack, VerbsConfig, VerbsFabric, VerbsShared, leaked_queue_pairs,
};

#[path = "support/holdings.rs"]
mod holdings;
#[path = "support/rdma.rs"]
mod rdma;
use holdings::{Holdings, resident};
use rdma::needs_rdma;

async fn put(track: &mut SharedTrack, message: &[u8]) {
    let mut buf = track.reserve(message.len()).await.expect("a slot");
    buf.copy_from_slice(message);
    track.send(buf).expect("sent");
    track.flush().expect("flushed");
}

/// Answers each message with the same, until the track ends.
async fn echo(mut track: SharedTrack) {
    while let Ok(message) = track.recv().await {
        put(&mut track, &message).await;
    }
}

fn join(near: &VerbsShared, listener: &mut SharedListener) -> (SharedTrack, SharedTrack) {
    let connecting = near.connect(&listener.local());
    block_on(async {
        let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        (connecting.await.expect("connected"), accepted)
    })
}

#[test]
fn hundreds_of_tracks_leave_nothing() {
    needs_rdma!();
    let (near, far) = rdma::addresses();
    let world = || {
        let open = |ip| {
            let config = VerbsConfig::default().with_local(ip).with_slots(1024, 8, 8);
            let config = config.with_timeouts(Duration::from_secs(10), Duration::from_secs(10));
            let (fabric, driver) = VerbsFabric::open_manual(config).expect("a device");
            let shared = fabric.shared(SharedConfig::default().with_tracks(4, 8)).expect("shared queues");
            (shared, std::thread::spawn(move || driver.run()))
        };
        let ((one, first), (other, second)) = (open(near), open(far));
        (one, other, [first, second])
    };
    let end = |drivers: [std::thread::JoinHandle<()>; 2]| drivers.map(|driver| driver.join().expect("a driver"));
    let (one, other, drivers) = world();
    drop((one, other));
    end(drivers);
    let empty = Holdings::now();
    let (one, other, drivers) = world();
    let mut listener = other.listen(&SocketAddr::new(far, 0)).expect("a listener");
    let before = Holdings::now();
    let mut memory = 0;
    for round in 0..200u32 {
        let (mut a, b) = join(&one, &mut listener);
        let server = std::thread::spawn(move || block_on(echo(b)));
        block_on(async {
            for byte in 0..3 {
                put(&mut a, &[byte; 100]).await;
                assert_eq!(&*a.recv().await.expect("the echo"), [byte; 100]);
            }
        });
        if round == 20 {
            memory = resident();
        }
        match round % 3 {
            0 => block_on(a.close()).expect("closed"),
            1 => drop(a.split().0),
            _ => drop(a),
        }
        server.join().expect("the server");
    }
    assert_eq!(before.or_latest(), before);
    assert!(resident() < memory + 1024, "resident memory grew from {memory} to {} KiB", resident());
    drop((one, other, listener));
    end(drivers);
    assert_eq!(Holdings::now(), empty);
    assert_eq!(leaked_queue_pairs(), 0);
}
