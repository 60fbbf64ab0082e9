//! Links that lose packets and links that go away. It changes the network of the machine, so it runs only where that is
//! the one that scripts/with-rdma makes: two devices on a veth pair.
#![cfg(feature = "verbs")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass_carriers::{MessageCarrier, MessageConfig};
use trespass_core::{
    Access, Completed, ErrorKind, Fabric, Incoming, Listener, ListenerExt, MemoryFabric, RecvSide, RecvSideExt, Region,
    RemoteMemory, RemoteMemoryExt, Role, SendSide, SendSideExt, SharedRegion, TransportError, TryError, Window,
};
use trespass_verbs::{ReliableTrack, VerbsConfig, VerbsError, leaked_registrations};

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

/// There is one network: one test at a time.
fn network() -> Option<MutexGuard<'static, ()>> {
    static NETWORK: Mutex<()> = Mutex::new(());
    if !Path::new("/sys/class/net/veth0").exists() {
        eprintln!("SKIPPED: this machine has devices of its own, and their links are not ours to cut");
        return None;
    }
    Some(NETWORK.lock().unwrap_or_else(PoisonError::into_inner))
}

fn ip(args: &str) {
    rdma::run(Command::new("ip").args(args.split(' ')));
}

fn tc(args: &str) {
    rdma::run(Command::new("tc").args(args.split(' ')));
}

/// Echoes until the track ends.
fn echo(mut track: ReliableTrack) -> std::thread::JoinHandle<VerbsError> {
    std::thread::spawn(move || {
        block_on(async {
            loop {
                let message = match track.recv().await {
                    Ok(message) => message,
                    Err(error) => return error,
                };
                let mut reply = match track.reserve(message.len()).await {
                    Ok(reply) => reply,
                    Err(error) => return error,
                };
                reply.copy_from_slice(&message);
                if let Err(unsent) = track.send(reply) {
                    return unsent.error;
                }
            }
        })
    })
}

/// The `index`-th message: its length and bytes are known to both ends.
fn fill(index: u32, buf: &mut [u8]) {
    for (offset, byte) in buf.iter_mut().enumerate() {
        *byte = (index as usize * 31 + offset) as u8;
    }
}

fn len_of(index: u32) -> usize {
    [0, 1, 64, 1000, 4096, 16384, 300][index as usize % 7]
}

/// Sends `count` messages with several under way, and checks that each comes back, whole, once and in order.
async fn exchange(track: &mut ReliableTrack, count: u32) -> Result<(), VerbsError> {
    let mut expected = vec![0; 16384];
    let (mut sent, mut received) = (0, 0);
    while received < count {
        while sent < count && sent - received < 16 {
            let mut buf = track.reserve(len_of(sent)).await?;
            fill(sent, &mut buf);
            track.send(buf).map_err(|unsent| unsent.error)?;
            sent += 1;
        }
        track.flush()?;
        let message = track.recv().await?;
        let expected = &mut expected[..len_of(received)];
        fill(received, expected);
        assert!(*message == *expected, "message {received} is not what was sent");
        received += 1;
    }
    Ok(())
}

fn survives_loss(percent: &str, count: u32) {
    needs_rdma!();
    let Some(_network) = network() else { return };
    let (mut near, far) = rdma::pair(VerbsConfig::default());
    let echo = echo(far);
    for link in ["veth0", "veth1"] {
        tc(&format!("qdisc add dev {link} root netem loss {percent}%"));
    }
    let outcome = block_on(exchange(&mut near, count));
    let dropped = rdma::run(Command::new("tc").args(["-s", "qdisc", "show", "dev", "veth0"]));
    for link in ["veth0", "veth1"] {
        tc(&format!("qdisc del dev {link} root"));
    }
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(!dropped.contains("dropped 0,"), "nothing was lost, so nothing was shown: {dropped}");
    block_on(near.close()).expect("closed");
    assert_eq!(echo.join().expect("the echo").kind(), ErrorKind::Closed);
}

#[test]
fn one_percent_of_loss_loses_nothing() {
    survives_loss("1", 1500);
}

#[test]
fn five_percent_of_loss_loses_nothing() {
    survives_loss("5", 400);
}

/// Keeps `track` busy until it fails; how long after `cut` that was, and with what.
fn cut_under_load(link: &str) -> (Duration, VerbsError) {
    let (mut near, far) = rdma::pair(VerbsConfig::default());
    let _echo = echo(far);
    block_on(exchange(&mut near, 50)).expect("a working link");
    ip(&format!("link set {link} down"));
    let cut = Instant::now();
    let error = block_on(exchange(&mut near, u32::MAX)).expect_err("the link is down");
    let took = cut.elapsed();
    // It sticks, on both sides of the track.
    assert!(matches!(near.try_reserve(1), Err(TryError::Failed(again)) if again == error));
    assert!(matches!(near.try_recv(), Err(TryError::Failed(again)) if again == error));
    ip(&format!("link set {link} up"));
    (took, error)
}

fn until_both_ports_are_active() {
    let deadline = Instant::now() + Duration::from_secs(30);
    let (client, server) = rdma::addresses();
    let both_active = || {
        let config = || VerbsConfig::default();
        trespass_verbs::VerbsFabric::open(config().with_local(client)).is_ok()
            && trespass_verbs::VerbsFabric::open(config().with_local(server)).is_ok()
    };
    while !both_active() {
        assert!(Instant::now() < deadline, "the links are up again, and the ports are not");
        std::thread::yield_now();
    }
}

fn a_new_connection_works() {
    until_both_ports_are_active();
    let (mut near, far) = rdma::pair(VerbsConfig::default());
    let echo = echo(far);
    block_on(exchange(&mut near, 20)).expect("a new connection");
    block_on(near.close()).expect("closed");
    echo.join().expect("the echo");
}

#[test]
fn the_own_link_down_is_a_typed_error_in_time() {
    needs_rdma!();
    let Some(_network) = network() else { return };
    let (took, error) = cut_under_load("veth0");
    eprintln!("own link down: {error} after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(matches!(error.kind(), ErrorKind::Device | ErrorKind::Disconnected), "{error}");
    a_new_connection_works();
}

#[test]
fn the_peers_link_down_is_a_typed_error_in_time() {
    needs_rdma!();
    let Some(_network) = network() else { return };
    let (took, error) = cut_under_load("veth1");
    eprintln!("the peer's link down: {error} after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(matches!(error.kind(), ErrorKind::Device | ErrorKind::Disconnected), "{error}");
    a_new_connection_works();
}

/// An end that only waits to receive has nothing under way that could fail: its beats are what does.
#[test]
fn an_idle_carrier_learns_that_the_peers_link_is_down() {
    needs_rdma!();
    let Some(_network) = network() else { return };
    let (near, far) = rdma::pair(VerbsConfig::default());
    let every = Duration::from_secs(1);
    let config = || MessageConfig::default().with_keepalive(Some(every));
    let (opening, accepting) =
        (MessageCarrier::open(near, Role::Connector, config()), MessageCarrier::open(far, Role::Acceptor, config()));
    let far = std::thread::spawn(move || block_on(accepting));
    let mut near = block_on(opening).expect("a carrier");
    let _stands_still = far.join().expect("the other end").expect("a carrier");
    ip("link set veth1 down");
    let cut = Instant::now();
    let error = block_on(near.recv()).expect_err("the link is down");
    let took = cut.elapsed();
    ip("link set veth1 up");
    eprintln!("idle, and the peer's link down: {error} after {took:?}, {} beats", near.stats().beats_sent);
    assert!(matches!(error.kind(), ErrorKind::Device | ErrorKind::Disconnected), "{error}");
    assert!(near.stats().beats_sent > 0);
    // What was due within two seconds, and what the track takes in other tests of this file.
    assert!(took < 2 * every + Duration::from_secs(5), "{took:?}");
    a_new_connection_works();
}

/// Reads with as many under way as the track lets until it has ended and all have come back, and takes `link` down after
/// some. How long the rest took, and with what the track ended.
fn cut_under_reads(link: &str) -> (Duration, VerbsError) {
    let (client, server) = rdma::addresses();
    let open = |ip| rdma::fabric(ip, VerbsConfig::default());
    let (client, server) = (open(client), open(server));
    let mut listener = server.listen(&SocketAddr::new(rdma::addresses().1, 0)).expect("a listener");
    let connecting = client.connect(&listener.local());
    let (mut near, _far) = block_on(async {
        let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        (connecting.await.expect("connected"), accepted)
    });
    let len = 100_000;
    let shared = server.alloc(len).expect("memory").share();
    let window = shared.export(0..len, Access::ReadOnly).expect("a window");
    let whole = window.remote().slice(0, len).expect("inside");
    let mut idle: Vec<_> = (0..near.fetch_slots()).map(|_| client.alloc(len).expect("memory")).collect();
    let (all, mut worked, mut failed) = (idle.len(), 0, 0);
    let mut cut = None;
    loop {
        while let Some(region) = idle.pop() {
            let Ok(permit) = near.try_fetch_permit() else {
                idle.push(region);
                break;
            };
            if let Err(unsent) = near.read(permit, region, 0, whole, 0) {
                idle.push(unsent.buf.1);
                break;
            }
        }
        match block_on(near.completed()) {
            Ok(Completed::Memory { region, result, .. }) => {
                idle.push(region);
                match result {
                    Ok(()) => worked += 1,
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::Device | ErrorKind::Disconnected), "{error}");
                        failed += 1;
                    }
                }
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                let took = cut.map(|cut: Instant| cut.elapsed()).expect("it ended after the cut");
                assert_eq!(idle.len(), all, "all memory came back");
                assert!(failed > 0, "reads were under way");
                ip(&format!("link set {link} up"));
                // Both ends say goodbye when they are dropped: not over a link that is still coming up.
                until_both_ports_are_active();
                return (took, error);
            }
        }
        if worked >= 50 && cut.is_none() {
            ip(&format!("link set {link} down"));
            cut = Some(Instant::now());
        }
    }
}

fn gives_reads_back_in_time(link: &str) {
    let Some(_network) = network() else { return };
    let (took, error) = cut_under_reads(link);
    eprintln!("{link} down under reads: {error} after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(matches!(error.kind(), ErrorKind::Device | ErrorKind::Disconnected), "{error}");
    assert_eq!(leaked_registrations(), 0);
    a_new_connection_works();
}

#[test]
fn the_own_link_down_gives_reads_back_in_time() {
    needs_rdma!();
    gives_reads_back_in_time("veth0");
}

#[test]
fn the_peers_link_down_gives_reads_back_in_time() {
    needs_rdma!();
    gives_reads_back_in_time("veth1");
}
