//! Datagrams between two devices: ports of many peers, and tracks that share the port of their listener.
#![cfg(feature = "verbs")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass_core::{
    Endpoint, ErrorKind, Fabric, Incoming, Listener, ListenerExt, Port, PortExt, PortFabric, RecvSide, RecvSideExt,
    SendSide, SendSideExt, Sourced, Track, TransportError, TryError,
};
use trespass_verbs::{
    DatagramConfig, DatagramListener, UnreliableTrack, VerbsConfig, VerbsDatagrams, VerbsError, VerbsPort,
};

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

/// Datagrams on the device that connects and on the one that listens.
fn fabrics(config: &DatagramConfig) -> (VerbsDatagrams, VerbsDatagrams) {
    let (near, far) = rdma::addresses();
    let open = |ip| rdma::fabric(ip, VerbsConfig::default()).datagrams(config.clone()).expect("datagrams");
    (open(near), open(far))
}

fn far_addr() -> SocketAddr {
    SocketAddr::new(rdma::addresses().1, 0)
}

/// Connects, and accepts.
fn join(near: &VerbsDatagrams, listener: &mut DatagramListener) -> (UnreliableTrack, UnreliableTrack) {
    let connecting = near.connect(&listener.local());
    block_on(async {
        let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        (connecting.await.expect("connected"), accepted)
    })
}

/// One message of `len` bytes of `byte`, sent.
fn put(track: &mut UnreliableTrack, len: usize, byte: u8) {
    let mut buf = block_on(track.reserve(len)).expect("a slot");
    buf.fill(byte);
    track.send(buf).expect("sent");
    track.flush().expect("flushed");
}

#[test]
fn ports_find_each_other_and_answer() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default());
    let (mut asks, mut answers) = block_on(async {
        let answers = far.open_port(&far_addr()).expect("a port");
        let asks = near.open_port(&SocketAddr::new(rdma::addresses().0, 0)).expect("a port");
        (asks, answers)
    });
    block_on(async {
        let peer = near.resolve(&answers.local()).await.expect("found");
        assert_eq!(peer, answers.peer());
        for len in [0, 1, 40, 256, 257, asks.limits().max_message] {
            let mut buf = asks.reserve(len).await.expect("a slot");
            buf.fill(len as u8);
            asks.send_to(buf, &peer).expect("sent");
            asks.flush().expect("flushed");
            let question = answers.recv().await.expect("the question");
            assert_eq!((question.len(), question.source()), (len, asks.peer()));
            assert!(question.iter().all(|byte| *byte == len as u8));
            let mut buf = answers.reserve(len).await.expect("a slot");
            buf.copy_from_slice(&question);
            answers.send_to(buf, &question.source()).expect("sent");
            answers.flush().expect("flushed");
            let answer = asks.recv().await.expect("the answer");
            assert_eq!((answer.len(), answer.source()), (len, peer));
            assert_eq!(answer.immediate(), None);
        }
        asks.close().await.expect("closed");
        answers.close().await.expect("closed");
    });
    assert_eq!((asks.handles_made(), answers.handles_made()), (1, 1));
}

#[test]
fn a_track_connects_and_echoes() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default());
    let mut listener = far.listen(&far_addr()).expect("a listener");
    let (mut one, mut other) = join(&near, &mut listener);
    assert_eq!(one.peer(), listener.local());
    assert_eq!((one.local(), other.local()), (other.peer(), one.peer()));
    for round in 0..200u32 {
        let len = [0, 1, 40, 256, 257, 1000, one.limits().max_message][round as usize % 7];
        put(&mut one, len, round as u8);
        let message = block_on(other.recv()).expect("a message");
        assert_eq!(&*message, vec![round as u8; len]);
        put(&mut other, len, !round as u8);
        assert_eq!(&*block_on(one.recv()).expect("the echo"), vec![!round as u8; len]);
    }
    block_on(one.close()).expect("closed");
    block_on(other.close()).expect("closed");
    assert!(matches!(one.try_recv(), Err(TryError::Failed(VerbsError::Closed))));
    assert_eq!((one.dropped(), other.dropped(), other.strangers()), (0, 0, 0));
}

/// Takes a message, giving the processor away until there is one.
fn take(track: &mut UnreliableTrack) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match track.try_recv() {
            Ok(message) => return message.to_vec(),
            Err(TryError::WouldBlock) => assert!(Instant::now() < deadline, "nothing came"),
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
        std::thread::yield_now();
    }
}

/// Waits until `done`, giving the processor away.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what} in time");
        std::thread::yield_now();
    }
}

/// Answers each message with the same, until the track ends.
async fn echo(mut track: UnreliableTrack) -> Result<(), VerbsError> {
    loop {
        let message = track.recv().await?;
        let mut reply = track.reserve(message.len()).await?;
        reply.copy_from_slice(&message);
        track.send(reply).map_err(|unsent| unsent.error)?;
        track.flush()?;
    }
}

/// Sends `count` messages of its own, one after the other, and checks that each comes back. Nothing is lost on a quiet
/// network while the quotas are kept.
async fn ping(track: &mut UnreliableTrack, name: u32, count: u32) -> Result<(), VerbsError> {
    for round in 0..count {
        let mut buf = track.reserve(8).await?;
        buf[..4].copy_from_slice(&name.to_le_bytes());
        buf[4..].copy_from_slice(&round.to_le_bytes());
        track.send(buf).map_err(|unsent| unsent.error)?;
        let reply = track.recv().await?;
        assert_eq!((&reply[..4], &reply[4..]), (&name.to_le_bytes()[..], &round.to_le_bytes()[..]));
    }
    Ok(())
}

#[test]
fn many_tracks_share_a_port_from_two_threads() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default().with_slots(8, 8).with_tracks(16));
    let mut listener = far.listen(&far_addr()).expect("a listener");
    let (mut ones, mut others): (Vec<_>, Vec<_>) = (0..16).map(|_| join(&near, &mut listener)).unzip();
    let half = others.split_off(8);
    let serve = |tracks: Vec<UnreliableTrack>| {
        std::thread::spawn(move || block_on(futures_util::future::join_all(tracks.into_iter().map(echo))))
    };
    let servers = [serve(others), serve(half)];
    std::thread::scope(|scope| {
        let (first, second) = ones.split_at_mut(8);
        for (number, tracks) in [first, second].into_iter().enumerate() {
            scope.spawn(move || {
                let names = (number as u32 * 8)..;
                let pings = tracks.iter_mut().zip(names).map(|(track, name)| ping(track, name, 200));
                for outcome in block_on(futures_util::future::join_all(pings)) {
                    outcome.expect("every echo");
                }
            });
        }
    });
    // One more than the listener has tracks for.
    let refused = near.connect(&listener.local());
    let accepted = block_on(async { listener.incoming().await.expect("a request").accept().await });
    assert_eq!(accepted.expect_err("no seat").kind(), ErrorKind::ResourceLimit);
    assert_eq!(block_on(refused).expect_err("no seat").kind(), ErrorKind::Busy);
    drop(ones);
    // A datagram says nothing of an end: the tracks end with their fabric's driver.
    drop((near, far, listener));
    for server in servers {
        assert!(!server.is_finished());
        drop(server);
    }
}

#[test]
fn who_reads_nothing_drops_and_disturbs_nobody() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default().with_slots(8, 16).with_tracks(2));
    let mut listener = far.listen(&far_addr()).expect("a listener");
    let (mut floods, hoards) = join(&near, &mut listener);
    let (mut speaks, mut answers) = join(&near, &mut listener);
    let mut sent = 0;
    for round in 0..200u8 {
        for _ in 0..4 {
            put(&mut floods, 100, round);
            sent += 1;
        }
        put(&mut speaks, 50, round);
        assert_eq!(take(&mut answers), [round; 50]);
        put(&mut answers, 50, !round);
        assert_eq!(take(&mut speaks), [!round; 50]);
    }
    until("all but the quota is dropped", || {
        let _ = answers.try_recv();
        hoards.dropped() == sent - 16
    });
    assert_eq!((answers.dropped(), speaks.dropped()), (0, 0));
    // What it has is whole, the oldest first; and then there is room again.
    let mut hoards = hoards;
    let held: Vec<_> = (0..16).map(|_| block_on(hoards.recv()).expect("a message")).collect();
    for (index, message) in held.iter().enumerate() {
        assert_eq!(**message, [index as u8 / 4; 100]);
    }
    assert!(matches!(hoards.try_recv(), Err(TryError::WouldBlock)));
    assert_eq!(hoards.posted(), 16);
    drop(held);
    put(&mut floods, 100, 255);
    assert_eq!(take(&mut hoards), [255; 100]);
    assert!(hoards.posted() > 16);
}

#[test]
fn strangers_are_dropped_and_counted() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default());
    let mut listener = far.listen(&far_addr()).expect("a listener");
    let (mut stays, mut other) = join(&near, &mut listener);
    let (mut stranger, forgotten) = join(&near, &mut listener);
    put(&mut stranger, 10, 1);
    drop(forgotten);
    for round in 0..100 {
        put(&mut stranger, 64, round);
        put(&mut stays, 64, round);
        assert_eq!(take(&mut other), [round; 64]);
    }
    until("all of them are counted", || {
        let _ = other.try_recv();
        // The first may have come while it was still known.
        (100..=101).contains(&other.strangers())
    });
    assert_eq!((other.dropped(), stays.strangers()), (0, 0));
}

#[test]
fn a_datagram_too_long_is_refused_at_reserve() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default());
    let mut listener = far.listen(&far_addr()).expect("a listener");
    let (mut one, mut other) = join(&near, &mut listener);
    let max = one.limits().max_message;
    assert_eq!((max, other.limits()), (other.limits().max_message, one.limits()));
    let refused = one.try_reserve(max + 1).expect_err("too long").failed().expect("not a matter of time");
    assert_eq!(refused, VerbsError::Oversize { len: max + 1, max });
    assert_eq!(refused.kind(), ErrorKind::Oversize);
    put(&mut one, max, 9);
    assert_eq!(take(&mut other), vec![9; max]);
    let mut port = near.open_port(&SocketAddr::new(rdma::addresses().0, 0)).expect("a port");
    let refused = port.try_reserve(max + 1).expect_err("too long").failed().expect("not a matter of time");
    assert_eq!(refused.kind(), ErrorKind::Oversize);
}

#[test]
fn slots_run_out_and_come_back() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default().with_slots(4, 64));
    let mut listener = far.listen(&far_addr()).expect("a listener");
    let (mut one, mut other) = join(&near, &mut listener);
    let reserved: Vec<_> = (0..4).map(|_| one.try_reserve(1).expect("a slot")).collect();
    assert!(matches!(one.try_reserve(1), Err(TryError::WouldBlock)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(one.poll_send_ready(&mut cx).is_pending());
    let mut reserved = reserved.into_iter();
    drop(reserved.next());
    assert!(one.poll_send_ready(&mut cx).is_ready());
    for buf in reserved {
        one.send(buf).expect("sent");
    }
    let before = one.counters().send_doorbells;
    one.flush().expect("flushed");
    one.flush().expect("flushed");
    assert_eq!(one.counters().send_doorbells, before + 1);
    for _ in 0..3 {
        take(&mut other);
    }
    for round in 0..50u8 {
        let mut buf = block_on(one.reserve(1)).expect("a slot comes back");
        buf[0] = round;
        one.send(buf).expect("sent");
        one.flush().expect("flushed");
        assert_eq!(take(&mut other), [round]);
    }
    // Of another track.
    let foreign = other.try_reserve(3).expect("a slot");
    let unsent = one.send(foreign).expect_err("not its own");
    assert_eq!((unsent.error.kind(), unsent.buf.len()), (ErrorKind::ForeignBuffer, 3));
    put(&mut one, 1, 1);
}

/// Sends messages with and without a word, through few slots.
fn words<T: Track>(one: &mut T, other: &mut T) {
    for (round, word) in [None, Some(0), Some(0x0102_0304), None, Some(u32::MAX), None].into_iter().enumerate() {
        let buf = block_on(one.reserve(round * 100)).expect("a slot");
        match word {
            None => one.send(buf).expect("sent"),
            Some(word) => assert!(one.send_immediate(buf, word).is_ok()),
        }
        one.flush().expect("flushed");
        let message = block_on(other.recv()).expect("a message");
        assert_eq!((message.len(), T::immediate(&message)), (round * 100, word));
    }
}

#[test]
fn words_travel_beside_messages() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default().with_slots(2, 8));
    let mut listener = far.listen(&far_addr()).expect("a listener");
    let (mut one, mut other) = join(&near, &mut listener);
    words(&mut one, &mut other);
    let (mut one, mut other) = rdma::pair(VerbsConfig::default().with_slots(1024, 2, 8));
    words(&mut one, &mut other);
}

#[test]
fn buffers_outlive_everything() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default());
    let mut listener = far.listen(&far_addr()).expect("a listener");
    let (mut one, mut other) = join(&near, &mut listener);
    put(&mut one, 500, 7);
    let received = block_on(other.recv()).expect("a message");
    let mut reserved = other.try_reserve(500).expect("a slot");
    drop((one, other, listener, near, far));
    reserved.fill(8);
    assert_eq!((&*received, &*reserved), (&[7; 500][..], &[8; 500][..]));
    std::thread::spawn(move || drop((received, reserved))).join().expect("dropped elsewhere");
}

/// Says whether it was woken.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_buffer_given_back_wakes_a_receiver_that_has_none() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default().with_slots(8, 8).with_tracks(2));
    let mut listener = far.listen(&far_addr()).expect("a listener");
    let (mut one, mut other) = join(&near, &mut listener);
    for round in 0..8u8 {
        put(&mut one, 1, round);
    }
    let mut held: Vec<_> = (0..8).map(|_| block_on(other.recv()).expect("a message")).collect();
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    assert!(other.poll_recv_ready(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!((bell.0.load(Ordering::SeqCst), other.posted()), (false, 8));
    let last = held.pop();
    std::thread::spawn(move || drop(last)).join().expect("dropped elsewhere");
    assert!(bell.0.load(Ordering::SeqCst), "it was not woken");
    assert!(other.poll_recv_ready(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(other.posted(), 9);
    put(&mut one, 1, 88);
    assert_eq!(*block_on(other.recv()).expect("a message"), [88]);
}

#[test]
fn a_listener_may_go_before_its_tracks() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default());
    let mut listener = far.listen(&far_addr()).expect("a listener");
    let addr = listener.local();
    assert_eq!(far.listen(&addr).expect_err("taken").kind(), ErrorKind::Busy);
    let (mut one, mut other) = join(&near, &mut listener);
    let waiting = near.connect(&addr);
    until("the request is there", || {
        let mut cx = Context::from_waker(Waker::noop());
        match listener.poll_incoming(&mut cx) {
            Poll::Ready(incoming) => {
                drop(incoming.expect("a request"));
                true
            }
            Poll::Pending => false,
        }
    });
    assert_eq!(block_on(waiting).expect_err("refused").kind(), ErrorKind::Refused);
    drop(listener);
    assert_eq!(block_on(near.connect(&addr)).expect_err("nobody").kind(), ErrorKind::Refused);
    put(&mut one, 3, 3);
    assert_eq!(take(&mut other), [3; 3]);
    let mut again = far.listen(&addr).expect("the address is free");
    let (mut two, mut another) = join(&near, &mut again);
    put(&mut two, 4, 4);
    assert_eq!(take(&mut another), [4; 4]);
    put(&mut other, 5, 5);
    assert_eq!(take(&mut one), [5; 5]);
}

#[test]
fn what_is_not_there_is_not_found() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default());
    let listener = far.listen(&far_addr()).expect("a listener");
    let port = far.open_port(&far_addr()).expect("a port");
    // A port is no listener, and a listener no port.
    assert_eq!(block_on(near.connect(&port.local())).expect_err("a port").kind(), ErrorKind::Refused);
    assert_eq!(block_on(near.resolve(&listener.local())).expect_err("a listener").kind(), ErrorKind::Refused);
    let vacant = SocketAddr::new(rdma::addresses().1, 1);
    assert_eq!(block_on(near.resolve(&vacant)).expect_err("nobody").kind(), ErrorKind::Refused);
    let config = VerbsConfig::default().with_timeouts(Duration::from_millis(300), Duration::from_secs(1));
    let hasty = rdma::fabric(rdma::addresses().0, config).datagrams(DatagramConfig::default()).expect("datagrams");
    let began = Instant::now();
    assert_eq!(block_on(hasty.connect(&listener.local())).expect_err("nobody accepts").kind(), ErrorKind::TimedOut);
    assert!((300..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[test]
fn a_close_waits_for_the_own_device_alone() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default());
    let mut listener = far.listen(&far_addr()).expect("a listener");
    let (mut one, other) = join(&near, &mut listener);
    put(&mut one, 1, 1);
    let (sender, mut receiver) = other.split();
    assert_eq!(*block_on(receiver.recv()).expect("a message"), [1]);
    // Dropping the sending half ends a track, and its peer knows nothing of it.
    drop(sender);
    assert_eq!(block_on(receiver.recv()).expect_err("the end").kind(), ErrorKind::Closed);
    for _ in 0..20 {
        put(&mut one, 1, 1);
    }
    let (mut sender, mut receiver) = one.split();
    assert_eq!(block_on(sender.close()), Ok(()));
    assert_eq!(block_on(sender.close()), Ok(()));
    assert!(matches!(sender.try_reserve(1), Err(TryError::Failed(VerbsError::Closed))));
    assert!(matches!(receiver.try_recv(), Err(TryError::Failed(VerbsError::Closed))));
}

#[test]
fn halves_wake_by_themselves() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default().with_slots(2, 64));
    let mut listener = far.listen(&far_addr()).expect("a listener");
    let (one, other) = join(&near, &mut listener);
    let echoing = std::thread::spawn(move || block_on(echo(other)));
    let (mut sender, mut receiver) = one.split();
    const COUNT: u32 = 3000;
    // Far fewer under way than the quotas: all come back.
    let (returned, credit) = std::sync::mpsc::sync_channel::<()>(16);
    let receiving = std::thread::spawn(move || {
        let mut seen = HashMap::new();
        for _ in 0..COUNT {
            let message = block_on(receiver.recv()).expect("an echo");
            *seen.entry(u32::from_le_bytes(message[..4].try_into().expect("four bytes"))).or_insert(0) += 1;
            let _ = returned.send(());
        }
        (seen, receiver)
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
    let (seen, _receiver) = receiving.join().expect("the receiver");
    assert_eq!((seen.len(), seen.values().sum::<u32>()), (COUNT as usize, COUNT));
    assert!(!echoing.is_finished());
}

#[test]
fn a_port_answers_many_and_says_who_asked() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default());
    let mut answers = far.open_port(&far_addr()).expect("a port");
    let open = || near.open_port(&SocketAddr::new(rdma::addresses().0, 0)).expect("a port");
    let mut asking: Vec<VerbsPort> = (0..5).map(|_| open()).collect();
    let to = block_on(near.resolve(&answers.local())).expect("found");
    for round in 0..50u8 {
        for port in &mut asking {
            let mut buf = block_on(port.reserve(1)).expect("a slot");
            buf[0] = round;
            port.send_to(buf, &to).expect("sent");
            port.flush().expect("flushed");
        }
        let mut sources = Vec::new();
        for _ in 0..asking.len() {
            let question = block_on(answers.recv()).expect("a question");
            assert_eq!(*question, [round]);
            let mut buf = block_on(answers.reserve(2)).expect("a slot");
            buf.copy_from_slice(&[round, round]);
            answers.send_to(buf, &question.source()).expect("sent");
            sources.push(question.source());
        }
        answers.flush().expect("flushed");
        for port in &mut asking {
            assert_eq!(*block_on(port.recv()).expect("an answer"), [round, round]);
            assert!(sources.contains(&port.peer()));
        }
    }
    assert_eq!(answers.handles_made(), 1, "all of them are at one address");
}
