//! Messages over real unreliable queue pairs: whole or not at all, on good links and on bad ones.
#![cfg(feature = "verbs")]

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass_carriers::{DatagramCarrier, DatagramConfig};
use trespass_core::{Fabric, Incoming, Listener, ListenerExt, Role, TryError};
use trespass_verbs::{DatagramConfig as TrackConfig, UnreliableTrack, VerbsConfig};

#[path = "support/netem.rs"]
mod netem;
#[path = "support/rdma.rs"]
mod rdma;
use netem::Spoilt;
use rdma::needs_rdma;

type Carrier = DatagramCarrier<UnreliableTrack>;

/// There is one network: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tracks() -> (UnreliableTrack, UnreliableTrack) {
    let (near, far) = rdma::addresses();
    let open = |ip| {
        let datagrams = TrackConfig::default().with_slots(16, 256);
        rdma::fabric(ip, VerbsConfig::default()).datagrams(datagrams).expect("datagrams")
    };
    let (client, server) = (open(near), open(far));
    let mut listener = server.listen(&SocketAddr::new(far, 0)).expect("a listener");
    let connecting = client.connect(&listener.local());
    block_on(async {
        let accepted = listener.incoming().await.expect("a request").accept().await;
        (connecting.await.expect("connected"), accepted.expect("accepted"))
    })
}

/// Two carriers; the handshakes have a thread each.
fn carriers(config: &DatagramConfig) -> (Carrier, Carrier) {
    let (near, far) = tracks();
    let theirs = config.clone();
    let other = std::thread::spawn(move || {
        let mut carrier = block_on(DatagramCarrier::open(far, Role::Acceptor, theirs)).expect("open");
        block_on(carrier.send(b"open")).expect("sent");
        carrier
    });
    let mut carrier = block_on(DatagramCarrier::open(near, Role::Connector, config.clone())).expect("open");
    // Answers for as long as the other end may not have heard that it was heard.
    while !other.is_finished() {
        let _ = carrier.try_recv();
        std::thread::yield_now();
    }
    (carrier, other.join().expect("the acceptor"))
}

/// The message of this number.
fn message(number: u32, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| ((at as u32 * 31) ^ (at as u32 >> 8) ^ (number * 7)) as u8).collect();
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// The next message, if one comes within `patience`.
fn next(carrier: &mut Carrier, patience: Duration) -> Option<Vec<u8>> {
    let deadline = Instant::now() + patience;
    loop {
        match carrier.try_recv() {
            Ok(message) => return message.map(|message| message.to_vec()),
            Err(TryError::WouldBlock) if Instant::now() > deadline => return None,
            Err(TryError::WouldBlock) => std::thread::yield_now(),
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
    }
}

#[test]
fn every_length_arrives_on_good_links() {
    needs_rdma!();
    let _alone = alone();
    let (mut near, mut far) = carriers(&DatagramConfig::default());
    let eager = near.eager_limit();
    for (number, len) in [4, 100, eager - 1, eager, eager + 1, 10_000, 100_000].into_iter().enumerate() {
        let data = message(number as u32, len);
        block_on(near.send(&data)).expect("sent");
        assert!(next(&mut far, Duration::from_secs(10)).expect("it arrives") == data, "{len} bytes");
    }
    block_on(near.close()).expect("closed");
    assert!(block_on(far.recv()).expect("no error").is_none(), "a goodbye was heard");
}

#[test]
fn what_bad_links_leave_is_whole_and_comes_once() {
    needs_rdma!();
    let _alone = alone();
    if let Some(why) = netem::foreign() {
        return eprintln!("SKIPPED: {why}");
    }
    const COUNT: u32 = 300;
    let spoilt = Spoilt::links("delay 2ms reorder 25% 50% loss 5% duplicate 2%");
    let config = DatagramConfig::default().with_open_timeout(Duration::from_secs(60));
    let (mut near, mut far) = carriers(&config);
    let len = |number: u32| 4 + number as usize * 97 % 12_000;
    let mut seen = vec![false; COUNT as usize];
    let mut look = |far: &mut Carrier, patience| {
        while let Some(got) = next(far, patience) {
            let number = u32::from_le_bytes(got[..4].try_into().expect("four bytes"));
            assert!(got == message(number, len(number)), "message {number} is not what was sent");
            assert!(!std::mem::replace(&mut seen[number as usize], true), "message {number} came twice");
        }
    };
    for number in 0..COUNT {
        block_on(near.send(&message(number, len(number)))).expect("sent");
        look(&mut far, Duration::from_millis(3));
    }
    look(&mut far, Duration::from_millis(500));
    let told = Spoilt::told();
    drop(spoilt);
    let arrived = seen.iter().filter(|seen| **seen).count();
    let stats = far.stats();
    eprintln!("{arrived} of {COUNT} arrived; {stats:?}; {told}");
    assert!(!told.contains("dropped 0,"), "nothing was lost, so nothing was shown: {told}");
    assert!((100..COUNT as usize).contains(&arrived), "{arrived} of {COUNT} arrived");
    assert!(stats.duplicates > 0, "nothing came twice, so nothing was shown: {stats:?}");
    assert_eq!((stats.garbage, stats.stale), (0, 0), "{stats:?}");
    // All is as before once the network is.
    let data = message(1, 50_000);
    block_on(near.send(&data)).expect("sent");
    assert!(next(&mut far, Duration::from_secs(10)).expect("it arrives") == data);
}
