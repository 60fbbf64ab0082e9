//! Tracks and ports of datagrams come and go, also while the network loses what they say, and leave nothing behind.
#![cfg(feature = "verbs")]

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass_core::{
    Endpoint, ErrorKind, Fabric, Incoming, Listener, ListenerExt, Port, PortExt, PortFabric, RecvSide, RecvSideExt,
    SendSide, SendSideExt, Sourced, TransportError, TryError,
};
use trespass_verbs::{
    DatagramConfig, DatagramIncoming, DatagramListener, UnreliableTrack, VerbsConfig, VerbsDatagrams, VerbsFabric,
    leaked_queue_pairs,
};

#[path = "support/holdings.rs"]
mod holdings;
#[path = "support/netem.rs"]
mod netem;
#[path = "support/rdma.rs"]
mod rdma;
use holdings::{Holdings, resident};
use netem::Spoilt;
use rdma::needs_rdma;

/// The kernel counts for all, and there is one network: one test at a time. librdmacm has been used once, since what it
/// opens then it keeps.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    World::new(Duration::from_secs(5)).end();
    guard
}

/// Whether the links may be spoilt; says so where not.
fn owns_network() -> bool {
    let foreign = netem::foreign();
    if let Some(why) = &foreign {
        eprintln!("SKIPPED: {why}");
    }
    foreign.is_none()
}

/// A listener that echoes, each track in a thread of its own, and a fabric to connect from.
struct World {
    client: VerbsDatagrams,
    addr: SocketAddr,
    stop: mpsc::Sender<()>,
    server: std::thread::JoinHandle<usize>,
    drivers: [std::thread::JoinHandle<()>; 2],
}

/// Datagrams whose driver runs on a thread of the test's own, to be waited for.
fn datagrams(ip: IpAddr, handshake: Duration) -> (VerbsDatagrams, std::thread::JoinHandle<()>) {
    let config = VerbsConfig::default().with_local(ip).with_slots(1024, 8, 8).with_timeouts(handshake, handshake);
    let (fabric, driver) = VerbsFabric::open_manual(config).expect("the device");
    let datagrams = fabric.datagrams(DatagramConfig::default().with_slots(8, 8).with_tracks(64)).expect("datagrams");
    (datagrams, std::thread::spawn(move || driver.run()))
}

impl World {
    fn new(handshake: Duration) -> Self {
        let (near, far) = rdma::addresses();
        let ((server, one), (client, other)) = (datagrams(far, handshake), datagrams(near, handshake));
        let listener = server.listen(&SocketAddr::new(far, 0)).expect("a listener");
        let addr = listener.local();
        let (stop, stopped) = mpsc::channel();
        let server = std::thread::spawn(move || block_on(serve(listener, stopped, handshake / 2)));
        Self { client, addr, stop, server, drivers: [one, other] }
    }

    /// Ends when everything is torn down: that is the last that a driver does. Says how many tracks were accepted.
    fn end(self) -> usize {
        self.stop.send(()).expect("the server");
        // One last request, by which the server learns of it.
        let _ = block_on(self.client.connect(&self.addr));
        let accepted = self.server.join().expect("the server");
        drop(self.client);
        for driver in self.drivers {
            driver.join().expect("a driver");
        }
        accepted
    }
}

async fn serve(mut listener: DatagramListener, stop: mpsc::Receiver<()>, patience: Duration) -> usize {
    let mut conversations = Vec::new();
    let mut accepted = 0;
    while let Ok(incoming) = listener.incoming().await {
        if stop.try_recv().is_ok() {
            break;
        }
        conversations.retain(|conversation: &std::thread::JoinHandle<()>| !conversation.is_finished());
        conversations.push(std::thread::spawn(move || block_on(converse(incoming, patience))));
        accepted += 1;
    }
    for conversation in conversations {
        conversation.join().expect("a conversation");
    }
    accepted
}

/// Echoes until a message of nothing comes, which is the other's goodbye, or nothing for too long: nothing else tells that
/// the other has gone.
async fn converse(incoming: DatagramIncoming, patience: Duration) {
    let mut track = match incoming.accept().await {
        Ok(track) => track,
        Err(error) => return eprintln!("not accepted: {error}"),
    };
    let mut heard = Instant::now();
    loop {
        let message = match track.try_recv() {
            Ok(message) if message.is_empty() => return,
            Ok(message) => message,
            Err(TryError::WouldBlock) if heard.elapsed() > patience => return,
            Err(TryError::WouldBlock) => {
                std::thread::yield_now();
                continue;
            }
            Err(TryError::Failed(error)) => panic!("{error}"),
        };
        heard = Instant::now();
        let mut reply = track.reserve(message.len()).await.expect("a slot");
        reply.copy_from_slice(&message);
        track.send(reply).expect("sent");
        track.flush().expect("flushed");
    }
}

async fn put(track: &mut UnreliableTrack, message: &[u8]) {
    let mut buf = track.reserve(message.len()).await.expect("a slot");
    buf.copy_from_slice(message);
    track.send(buf).expect("sent");
    track.flush().expect("flushed");
}

async fn exchange(mut track: UnreliableTrack) {
    put(&mut track, &[3; 100]).await;
    assert_eq!(&*track.recv().await.expect("the echo"), [3; 100]);
    put(&mut track, &[]).await;
    track.close().await.expect("closed");
}

#[test]
fn hundreds_of_tracks_leave_nothing() {
    needs_rdma!();
    let _alone = alone();
    let empty = Holdings::now();
    let world = World::new(Duration::from_secs(60));
    let before = Holdings::now();
    let connect = || block_on(async { exchange(world.client.connect(&world.addr).await.expect("connected")).await });
    // As many at once as there will ever be: that takes what memory it takes.
    let tracks: Vec<_> = (0..10).map(|_| block_on(world.client.connect(&world.addr)).expect("connected")).collect();
    for track in tracks {
        block_on(exchange(track));
    }
    let memory = resident();
    for _ in 0..300 {
        connect();
    }
    let after = before.or_latest();
    eprintln!("before: {before:?}\nafter: {after:?}\nresident: {memory} KiB, then {} KiB", resident());
    assert_eq!(after, before);
    assert!(resident() < memory + 1024, "resident memory grew from {memory} to {} KiB", resident());
    assert_eq!(world.end(), 310);
    assert_eq!(Holdings::now(), empty);
    assert_eq!(leaked_queue_pairs(), 0);
}

#[test]
fn ports_leave_nothing() {
    needs_rdma!();
    let _alone = alone();
    let empty = Holdings::now();
    let (near, far) = rdma::addresses();
    let ((one, first), (other, second)) =
        (datagrams(near, Duration::from_secs(5)), datagrams(far, Duration::from_secs(5)));
    let before = Holdings::now();
    for round in 0..100u8 {
        let mut asks = one.open_port(&SocketAddr::new(near, 0)).expect("a port");
        let mut answers = other.open_port(&SocketAddr::new(far, 0)).expect("a port");
        block_on(async {
            let peer = one.resolve(&answers.local()).await.expect("found");
            let mut buf = asks.reserve(1).await.expect("a slot");
            buf[0] = round;
            asks.send_to(buf, &peer).expect("sent");
            asks.flush().expect("flushed");
            let question = answers.recv().await.expect("the question");
            assert_eq!((&*question, question.source()), (&[round][..], asks.peer()));
            if round % 2 == 0 {
                asks.close().await.expect("closed");
            }
        });
    }
    assert_eq!(before.or_latest(), before);
    drop((one, other));
    first.join().expect("a driver");
    second.join().expect("a driver");
    assert_eq!(Holdings::now(), empty);
    assert_eq!(leaked_queue_pairs(), 0);
}

/// Polls `future` up to `polls` times, each after it was woken, and drops it.
fn drop_after<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    block_on(std::future::poll_fn(|cx| {
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
    let world = World::new(Duration::from_secs(5));
    let mut finished = 0;
    for round in 0..150 {
        // A step between two drops that is prime to the number of steps visits them all, at many moments.
        let polls = round * 3 % 5;
        let work = async {
            let connecting = world.client.connect(&world.addr);
            for _ in 0..round % 7 * 20 {
                std::thread::yield_now();
            }
            exchange(connecting.await.expect("connected")).await;
        };
        finished += usize::from(drop_after(work, polls).is_some());
    }
    eprintln!("{finished} of 150 got to their end before they were dropped");
    assert!(finished < 150);
    // Everybody else is as well as ever.
    block_on(async { exchange(world.client.connect(&world.addr).await.expect("connected")).await });
    world.end();
    let after = Holdings::now();
    eprintln!("before: {empty:?}\nafter: {after:?}");
    assert_eq!(after, empty);
    assert_eq!(leaked_queue_pairs(), 0);
}

/// Sends `count` messages that are known by their number, a few at a time, and counts what comes back of each: that it is
/// whole is checked.
fn pelt(track: &mut UnreliableTrack, count: u32) -> Vec<u32> {
    let mut seen = vec![0; count as usize];
    let len = |number: u32| 4 + (number as usize * 37) % (track.limits().max_message - 3);
    let fill = |number: u32, buf: &mut [u8]| {
        for (index, byte) in buf.iter_mut().enumerate() {
            *byte = (number as usize * 31 + index) as u8;
        }
        buf[..4].copy_from_slice(&number.to_le_bytes());
    };
    let lens: Vec<_> = (0..count).map(len).collect();
    // Takes what comes until that is `awaited`, or too long nothing.
    let mut look = |track: &mut UnreliableTrack, awaited: u32, patience: Duration| {
        let deadline = Instant::now() + patience;
        loop {
            match track.try_recv() {
                Ok(message) => {
                    let number = u32::from_le_bytes(message[..4].try_into().expect("four bytes"));
                    let mut expected = vec![0; lens[number as usize]];
                    fill(number, &mut expected);
                    assert!(*message == *expected, "message {number} is not what was sent");
                    seen[number as usize] += 1;
                    if number == awaited {
                        return;
                    }
                }
                Err(TryError::WouldBlock) if Instant::now() > deadline => return,
                Err(TryError::WouldBlock) => std::thread::yield_now(),
                Err(TryError::Failed(error)) => panic!("{error}"),
            }
        }
    };
    for number in 0..count {
        let mut buf = block_on(track.reserve(lens[number as usize])).expect("a slot");
        fill(number, &mut buf);
        track.send(buf).expect("sent");
        track.flush().expect("flushed");
        look(track, number, Duration::from_millis(20));
    }
    // Stragglers.
    look(track, u32::MAX, Duration::from_millis(500));
    seen
}

#[test]
fn what_a_bad_network_leaves_is_whole() {
    needs_rdma!();
    let _alone = alone();
    if !owns_network() {
        return;
    }
    let world = World::new(Duration::from_secs(60));
    let mut track = block_on(world.client.connect(&world.addr)).expect("connected");
    let spoilt = Spoilt::links("delay 2ms reorder 25% 50% loss 5% duplicate 2%");
    let seen = pelt(&mut track, 400);
    let told = Spoilt::told();
    drop(spoilt);
    let (lost, twice) =
        (seen.iter().filter(|times| **times == 0).count(), seen.iter().filter(|times| **times > 1).count());
    eprintln!("of 400 there and back, {lost} were lost, {twice} came more than once; {told}");
    assert!(!told.contains("dropped 0,"), "nothing was lost, so nothing was shown: {told}");
    assert!((1..120).contains(&lost), "{lost} of 400 were lost");
    assert!(twice > 0, "nothing came twice");
    // All is as before once the network is.
    assert_eq!(pelt(&mut track, 50), [1; 50]);
    block_on(async {
        put(&mut track, &[]).await;
        track.close().await.expect("closed");
    });
    drop(track);
    world.end();
}

#[test]
fn lost_requests_and_answers_are_made_good() {
    needs_rdma!();
    let _alone = alone();
    if !owns_network() {
        return;
    }
    let empty = Holdings::now();
    let world = World::new(Duration::from_secs(60));
    let spoilt = Spoilt::links("loss 35%");
    let (mut took, mut tracks) = (Vec::new(), Vec::new());
    for _ in 0..12 {
        let began = Instant::now();
        tracks.push(block_on(world.client.connect(&world.addr)).expect("connected"));
        took.push(began.elapsed());
    }
    drop(spoilt);
    for track in tracks {
        block_on(exchange(track));
    }
    eprintln!("connects took {took:?}");
    assert!(took.iter().any(|took| *took > Duration::from_millis(150)), "nothing was lost, so nothing was shown");
    assert_eq!(world.end(), 12, "each request was accepted once, however often it was made");
    assert_eq!(Holdings::now(), empty);
}

#[test]
fn a_cut_link_is_a_time_out() {
    needs_rdma!();
    let _alone = alone();
    if !owns_network() {
        return;
    }
    let world = World::new(Duration::from_secs(2));
    let mut track = block_on(world.client.connect(&world.addr)).expect("connected");
    let spoilt = Spoilt::links("loss 100%");
    let error = block_on(world.client.connect(&world.addr)).expect_err("nobody hears");
    assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Unreachable), "{error}");
    // The own device has sent it all the same.
    block_on(async {
        put(&mut track, &[1; 10]).await;
        track.close().await.expect("closed");
    });
    drop((track, spoilt));
    let track = block_on(world.client.connect(&world.addr)).expect("connected");
    block_on(exchange(track));
    world.end();
}

#[test]
fn address_handles_are_few() {
    needs_rdma!();
    let _alone = alone();
    if !owns_network() {
        return;
    }
    let (near, far) = rdma::addresses();
    let aliases: Vec<IpAddr> = (1..=6).map(|host| IpAddr::from([10, 9, 1, host])).collect();
    for alias in &aliases {
        rdma::run(Command::new("ip").args(["addr", "add", &format!("{alias}/32"), "dev", "veth1"]));
    }
    let open = |ip| rdma::fabric(ip, VerbsConfig::default());
    let config = DatagramConfig::default().with_slots(2, 32).with_peers(3);
    let one = open(near).datagrams(config.clone()).expect("datagrams");
    let other = open(far).datagrams(config).expect("datagrams");
    let mut port = one.open_port(&SocketAddr::new(near, 0)).expect("a port");
    let mut ports: Vec<_> =
        aliases.iter().map(|ip| other.open_port(&SocketAddr::new(*ip, 0)).expect("a port")).collect();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let peers: Vec<_> = ports.iter().map(|port| port.peer()).collect();
        for round in 0..30u8 {
            // The same one over and over between the others is never the one to go.
            for index in [0, 1 + usize::from(round) % 5] {
                let mut buf = block_on(port.reserve(1)).expect("a slot");
                buf[0] = round;
                port.send_to(buf, &peers[index]).expect("sent");
                port.flush().expect("flushed");
                let message = block_on(ports[index].recv()).expect("a datagram");
                assert_eq!((&*message, message.source()), (&[round][..], port.peer()));
            }
        }
        assert_eq!(port.handles_made(), 31);
    }));
    drop((port, ports, one, other));
    for alias in &aliases {
        rdma::run(Command::new("ip").args(["addr", "del", &format!("{alias}/32"), "dev", "veth1"]));
    }
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}
