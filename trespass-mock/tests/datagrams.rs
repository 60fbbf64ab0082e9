//! Datagrams: ports of many peers, tracks of one, what is dropped, and a network with faults.

mod common;

use std::collections::HashSet;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use common::{Wakeups, addr, blocks, failure, kind_of, poll_once};
use futures_executor::block_on;
use trespass_core::{
    Datagram, Endpoint, ErrorKind, Fabric, Incoming, Listener, ListenerExt, Port, PortExt, PortFabric, RecvSide,
    RecvSideExt, SendSide, SendSideExt, Sourced, ThreadFabric, Timer, Track, TransportError, Unsent,
};
use trespass_mock::{
    MockConfig, MockDatagramConfig, MockDatagramTrack, MockDatagrams, MockError, MockFabric, MockListener, MockNet,
    MockPeer, MockPort,
};

fn config() -> MockDatagramConfig {
    MockDatagramConfig::default().with_slots(8, 8).with_mtu(256)
}

fn datagrams(config: MockDatagramConfig) -> MockDatagrams {
    MockFabric::new().datagrams(config).unwrap()
}

fn join(
    near: &MockDatagrams,
    listener: &mut MockListener<MockDatagramTrack>,
) -> (MockDatagramTrack, MockDatagramTrack) {
    let connecting = near.connect(&listener.local());
    block_on(async {
        let ours = listener.incoming().await.unwrap().accept().await.unwrap();
        (connecting.await.unwrap(), ours)
    })
}

fn pair(config: MockDatagramConfig) -> (MockDatagramTrack, MockDatagramTrack) {
    let fabric = datagrams(config);
    let mut listener = fabric.listen(&addr("server")).unwrap();
    join(&fabric, &mut listener)
}

fn put(track: &mut MockDatagramTrack, bytes: &[u8]) {
    common::put(track, bytes);
}

fn post(port: &mut MockPort, bytes: &[u8], to: &MockPeer) {
    let mut buf = port.try_reserve(bytes.len()).unwrap();
    buf.copy_from_slice(bytes);
    port.send_to(buf, to).unwrap();
    port.flush().unwrap();
}

#[test]
fn they_are_fabrics_for_threads_and_ports() {
    fn check<F: PortFabric + ThreadFabric<Track: Track<Delivery = Datagram>>>() {}
    check::<MockDatagrams>();
}

#[test]
fn three_ports_echo() {
    let fabric = datagrams(config());
    let open = |name| fabric.open_port(&addr(name)).unwrap();
    let (mut server, mut clients) = (open("server"), [open("one"), open("other")]);
    let to = block_on(fabric.resolve(&addr("server"))).unwrap();
    assert_eq!(to, server.peer());
    for round in 0..50_u8 {
        for (client, id) in clients.iter_mut().zip(0..) {
            post(client, &[id, round], &to);
        }
        for _ in 0..2 {
            let question = block_on(server.recv()).unwrap();
            assert_eq!(question.source(), clients[usize::from(question[0])].peer());
            assert_eq!(question.immediate(), None);
            post(&mut server, &question, &question.source());
        }
        for (client, id) in clients.iter_mut().zip(0..) {
            let answer = block_on(client.recv()).unwrap();
            assert_eq!((&*answer, answer.source()), (&[id, round][..], to));
            drop(answer);
            assert!(blocks(client.try_recv()), "an answer to somebody else");
        }
    }
    for port in clients.iter_mut().chain([&mut server]) {
        block_on(port.close()).unwrap();
        assert_eq!((port.dropped(), kind_of(port.try_recv())), (0, ErrorKind::Closed));
    }
}

#[test]
fn a_port_may_send_to_itself() {
    let mut port = datagrams(config()).open_port(&addr("alone")).unwrap();
    let own = port.peer();
    post(&mut port, b"echo", &own);
    assert_eq!(&*port.try_recv().unwrap(), b"echo");
}

#[test]
fn a_track_takes_only_its_peers() {
    let fabric = datagrams(config());
    let mut listener = fabric.listen(&addr("server")).unwrap();
    let (mut near, mut far) = join(&fabric, &mut listener);
    let (mut other, mut beside) = join(&fabric, &mut listener);
    let mut stranger = fabric.open_port(&addr("stranger")).unwrap();
    put(&mut near, b"mine");
    put(&mut far, b"yours");
    let (to_far, to_near) = (near.try_recv().unwrap().source(), far.try_recv().unwrap().source());
    put(&mut beside, b"ours");
    assert_eq!(other.try_recv().unwrap().source(), to_far, "the tracks of a listener share its port");
    for to in [&to_far, &to_near] {
        post(&mut stranger, b"hello?", to);
    }
    assert!(blocks(near.try_recv()) && blocks(far.try_recv()) && blocks(beside.try_recv()));
    assert_eq!((near.strangers(), far.strangers(), beside.strangers(), other.strangers()), (1, 1, 1, 0));
    assert_eq!((near.dropped(), far.dropped()), (0, 0));
    put(&mut near, b"mine again");
    assert_eq!(&*far.try_recv().unwrap(), b"mine again");
}

#[test]
fn what_goes_beyond_the_quota_is_dropped_and_counted() {
    let (mut near, mut far) = pair(config());
    let count = |far: &mut MockDatagramTrack| (0..).take_while(|_| far.try_recv().is_ok()).count();
    // Left unread.
    (0..20).for_each(|id| put(&mut near, &[id]));
    assert_eq!((count(&mut far), far.dropped()), (8, 12));
    // Held, in part; and what is dropped takes the next one at once.
    (0..3).for_each(|id| put(&mut near, &[id]));
    let mut held: Vec<_> = (0..3).map(|_| far.try_recv().unwrap()).collect();
    (0..20).for_each(|id| put(&mut near, &[id]));
    assert_eq!((count(&mut far), far.dropped()), (5, 27));
    assert!(held.iter().zip(0..).all(|(buf, id)| **buf == [id]), "a buffer that is held was written to");
    held.clear();
    (0..8).for_each(|id| put(&mut near, &[id]));
    assert_eq!((count(&mut far), far.dropped()), (8, 27));
    assert_eq!(far.posted(), 8 + 8 + 3 + 5 + 8, "each one that was dropped was posted again");
    assert_eq!(far.counters().dropped, 27);
}

#[test]
fn the_overflow_of_a_port_is_counted_and_its_senders_go_on() {
    let fabric = datagrams(config());
    let open = |name| fabric.open_port(&addr(name)).unwrap();
    let (mut server, mut one, mut other) = (open("server"), open("one"), open("other"));
    let to = server.peer();
    for round in 0..10 {
        post(&mut one, &[round], &to);
        post(&mut other, &[round], &to);
    }
    assert_eq!((0..).take_while(|_| server.try_recv().is_ok()).count(), 8);
    assert_eq!((server.dropped(), one.dropped()), (12, 0));
    post(&mut other, b"now", &to);
    assert_eq!(&*server.try_recv().unwrap(), b"now");
}

#[test]
fn nobody_there_is_no_error() {
    let fabric = datagrams(config());
    let mut port = fabric.open_port(&addr("here")).unwrap();
    let gone = fabric.open_port(&addr("gone")).unwrap();
    let to = gone.peer();
    drop(gone);
    (0..50).for_each(|_| post(&mut port, b"hello?", &to));
    // Another life at the same address is another peer.
    let mut again = fabric.open_port(&addr("gone")).unwrap();
    assert_ne!(again.peer(), to);
    post(&mut port, b"hello?", &to);
    assert!(blocks(again.try_recv()));
    // The same for a track: the end of its peer is silent.
    let (mut near, far) = pair(config());
    drop(far);
    (0..50).for_each(|_| put(&mut near, b"hello?"));
    assert!(blocks(near.try_recv()));
    assert_eq!(block_on(near.close()), Ok(()));
}

#[test]
fn a_peer_of_another_net_is_unreachable() {
    let mut port = datagrams(config()).open_port(&addr("here")).unwrap();
    let mut foreign = datagrams(config()).open_port(&addr("there")).unwrap();
    let buf = port.try_reserve(3).unwrap();
    let unsent = port.send_to(buf, &foreign.peer()).unwrap_err();
    assert_eq!((unsent.error.kind(), unsent.buf.len()), (ErrorKind::Unreachable, 3));
    // A buffer of another port comes back too.
    let unsent = foreign.send_to(unsent.buf, &port.peer()).unwrap_err();
    assert_eq!(unsent.error, MockError::ForeignBuffer);
}

#[test]
fn the_longest_datagram_is_that_of_the_shorter_end() {
    let net = MockNet::new();
    let open = |mtu| net.fabric(MockConfig::default()).unwrap().datagrams(config().with_mtu(mtu)).unwrap();
    let (short, long) = (open(100), open(200));
    let mut listener = short.listen(&addr("server")).unwrap();
    let (mut near, far) = join(&long, &mut listener);
    assert_eq!((near.limits().max_message, far.limits().max_message), (100, 100));
    assert_eq!(failure(near.try_reserve(101)), MockError::Oversize { len: 101, max: 100 });
    assert!(near.try_reserve(100).is_ok());
    // A port learns of it by silence.
    let (mut port, mut small) = (long.open_port(&addr("long")).unwrap(), short.open_port(&addr("short")).unwrap());
    let to = block_on(long.resolve(&addr("short"))).unwrap();
    post(&mut port, &[1; 200], &to);
    post(&mut port, &[2; 100], &to);
    assert_eq!(&*small.try_recv().unwrap(), [2; 100]);
    assert_eq!(small.dropped(), 1);
    assert_eq!(kind_of(port.try_reserve(201)), ErrorKind::Oversize);
}

#[test]
fn a_listener_gives_so_many_tracks_at_once() {
    let fabric = datagrams(config().with_tracks(2));
    let mut listener = fabric.listen(&addr("server")).unwrap();
    let busy = MockError::TracksFull { addr: addr("server"), tracks: 2 };
    let (_near, far) = join(&fabric, &mut listener);
    // Two ask for what there is one of: the second to be accepted is told, and so is who accepts it.
    let asked = [fabric.connect(&addr("server")), fabric.connect(&addr("server"))];
    let answers: Vec<_> = (0..2).map(|_| block_on(block_on(listener.incoming()).unwrap().accept())).collect();
    let asked = asked.map(block_on);
    assert!(answers[0].is_ok() && asked[0].is_ok());
    assert_eq!((answers[1].as_ref().err(), asked[1].as_ref().err()), (Some(&busy), Some(&busy)));
    assert_eq!(block_on(fabric.connect(&addr("server"))).err(), Some(busy));
    drop(far);
    join(&fabric, &mut listener);
}

#[test]
fn addresses_are_taken_and_free_again() {
    let fabric = MockFabric::new();
    let datagrams = fabric.datagrams(config()).unwrap();
    let at = addr("here");
    let mut port = datagrams.open_port(&at).unwrap();
    let reliable = fabric.listen(&at).unwrap();
    assert_eq!(datagrams.open_port(&at).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(datagrams.listen(&at).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(block_on(datagrams.connect(&at)).unwrap_err().kind(), ErrorKind::Refused);
    block_on(port.close()).unwrap();
    assert_eq!(block_on(datagrams.resolve(&at)).unwrap_err().kind(), ErrorKind::Refused);
    let listener = datagrams.listen(&at).unwrap();
    assert_eq!(block_on(datagrams.resolve(&at)).unwrap_err().kind(), ErrorKind::Refused);
    // The port is not what is there now.
    drop(port);
    assert_eq!(datagrams.open_port(&at).unwrap_err().kind(), ErrorKind::Busy);
    drop((listener, reliable));
    datagrams.open_port(&at).unwrap();
}

#[test]
fn a_killed_fabric_takes_its_datagrams_along() {
    let net = MockNet::new();
    let fabric = || net.fabric(MockConfig::default()).unwrap();
    let (killed, lives) = (fabric(), fabric().datagrams(config()).unwrap());
    let dead = killed.datagrams(config()).unwrap();
    let mut listener = dead.listen(&addr("server")).unwrap();
    let mut port = dead.open_port(&addr("port")).unwrap();
    let (mut near, mut far) = join(&lives, &mut listener);
    put(&mut near, b"before");
    let asked = lives.connect(&addr("server"));
    killed.kill();
    assert_eq!(&*far.try_recv().unwrap(), b"before");
    assert_eq!(failure(far.try_recv()), MockError::Killed);
    assert_eq!(failure(far.try_reserve(1)), MockError::Killed);
    assert_eq!(block_on(far.close()), Err(MockError::Killed));
    assert_eq!(failure(port.try_recv()), MockError::Killed);
    assert_eq!(block_on(listener.incoming()).unwrap_err(), MockError::Killed);
    assert_eq!(block_on(asked).unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(dead.open_port(&addr("again")).unwrap_err(), MockError::Killed);
    assert_eq!(dead.listen(&addr("again")).unwrap_err(), MockError::Killed);
    // The peer is told nothing, and the addresses are free.
    put(&mut near, b"after");
    assert!(blocks(near.try_recv()));
    lives.open_port(&addr("port")).unwrap();
    lives.listen(&addr("server")).unwrap();
    assert_eq!((killed.counters().sends, killed.counters().receives), (0, 1));
}

#[test]
fn a_dropped_connect_gives_its_seat_back() {
    let fabric = datagrams(config().with_tracks(1));
    let mut listener = fabric.listen(&addr("server")).unwrap();
    for polls in 0..3 {
        let mut connecting = fabric.connect(&addr("server"));
        for _ in 0..polls {
            assert!(poll_once(&mut connecting).is_pending());
        }
        drop(connecting);
        // Accepted, and never taken.
        let connecting = fabric.connect(&addr("server"));
        drop(block_on(listener.incoming()).unwrap().accept());
        drop(connecting);
        join(&fabric, &mut listener);
    }
}

#[test]
fn a_handshake_keeps_to_virtual_time() {
    let (net, mut driver) = MockNet::virtual_time();
    let config_of = MockConfig::default().with_handshake_timeout(Duration::from_secs(60));
    let fabric = net.fabric(config_of).unwrap().datagrams(config()).unwrap();
    let _silent = fabric.listen(&addr("server")).unwrap();
    let connected = trespass_core::block_on(&mut driver, fabric.connect(&addr("server")));
    assert_eq!(connected.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(fabric.timer().now(), Duration::from_secs(60));
}

#[test]
fn a_word_goes_beside_a_datagram() {
    let (mut near, mut far) = pair(config());
    words(&mut near, &mut far);
    let (near, far) = (near.split(), far.split());
    words(&mut { near.0 }, &mut { far.1 });
}

#[test]
fn a_word_goes_beside_a_reliable_message() {
    let (mut near, mut far) = common::pair(common::small());
    words(&mut near, &mut far);
    // Also of one that has to wait for a receive.
    let hold = |_| {
        common::put(&mut near, b"held");
        far.try_recv().unwrap()
    };
    let held: Vec<_> = (0..8).map(hold).collect();
    for word in [7, 8] {
        let buf = near.try_reserve(1).unwrap();
        near.send_immediate(buf, word).map_err(|unsent| unsent.error).unwrap();
    }
    common::put(&mut near, b"no word");
    drop(held);
    let words: Vec<_> = (0..3).map(|_| block_on(far.recv()).unwrap().immediate()).collect();
    assert_eq!(words, [Some(7), Some(8), None]);
}

/// Sends messages with words and without, in the same slots, and looks at what arrives.
fn words<S, R>(near: &mut S, far: &mut R)
where
    S: SendSide<Error = MockError>,
    R: RecvSide<Error = MockError>,
{
    for word in [None, Some(0), Some(u32::MAX), None, Some(1)].into_iter().cycle().take(40) {
        for len in [0, 5] {
            let buf = near.try_reserve(len).unwrap();
            let sent = match word {
                Some(word) => near.send_immediate(buf, word),
                None => near.send(buf).map_err(Unsent::certain),
            };
            assert_eq!(sent.map_err(|unsent| unsent.error), Ok(()));
            near.flush().unwrap();
            let message = far.try_recv().unwrap();
            assert_eq!((message.len(), R::immediate(&message)), (len, word));
        }
    }
}

/// What arrives of 1000 datagrams, each of which is taken at once.
fn run(config: MockDatagramConfig) -> (Vec<u16>, trespass_mock::MockFaults) {
    let (mut near, mut far) = pair(config);
    let mut got = Vec::new();
    let mut take = |far: &mut MockDatagramTrack| {
        while let Ok(buf) = far.try_recv() {
            got.push(u16::from_le_bytes(buf[..].try_into().unwrap()));
        }
    };
    for id in 0..1000_u16 {
        put(&mut near, &id.to_le_bytes());
        take(&mut far);
    }
    let faults = near.faults();
    block_on(near.close()).unwrap();
    take(&mut far);
    assert_eq!(far.dropped(), 0);
    (got, faults)
}

#[test]
fn a_perfect_network_loses_nothing() {
    let (got, faults) = run(config());
    assert_eq!(got, (0..1000).collect::<Vec<_>>());
    assert_eq!((faults.lost, faults.duplicated, faults.overtaken), (0, 0, 0));
}

#[test]
fn each_fault_does_what_it_says_and_no_more() {
    let base = || config().with_seed(5);
    let (lost, faults) = run(base().with_loss(100));
    assert_eq!(lost.len() as u64, 1000 - faults.lost);
    assert!(lost.is_sorted() && (50..200).contains(&faults.lost), "{faults:?}");
    let (twice, faults) = run(base().with_duplication(100));
    assert_eq!(twice.len() as u64, 1000 + faults.duplicated);
    assert!(twice.is_sorted() && (50..200).contains(&faults.duplicated), "{faults:?}");
    let (mut late, faults) = run(base().with_reordering(100));
    let overtaken = late.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
    assert_eq!(late.len(), 1000);
    // The last one may have been held with nothing behind it.
    assert!(faults.overtaken - overtaken <= 1 && (50..200).contains(&overtaken), "{faults:?}");
    late.sort_unstable();
    assert_eq!(late, (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_seed_says_which_faults() {
    let with = |seed| run(config().with_seed(seed).with_loss(100).with_duplication(100).with_reordering(100));
    assert_eq!(with(1), with(1));
    assert_ne!(with(1), with(2));
    let (all, faults) = run(config().with_loss(1000));
    assert_eq!((all.len(), faults.lost), (0, 1000));
}

#[test]
fn a_bad_setting_is_named() {
    let refused = |config: MockDatagramConfig| match MockFabric::new().datagrams(config) {
        Err(MockError::Config { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(config().with_mtu(0)), "mtu");
    assert_eq!(refused(config().with_mtu((1 << 16) + 1)), "mtu");
    assert_eq!(refused(config().with_slots(0, 1)), "send_slots");
    assert_eq!(refused(config().with_slots(1, 1 << 16)), "recv_slots");
    assert_eq!(refused(config().with_tracks(0)), "tracks");
}

#[test]
fn an_arrival_wakes_who_waits() {
    let (mut near, mut far) = pair(config());
    let (wakeups, waker) = Wakeups::new();
    assert_eq!(far.poll_recv_ready(&mut Context::from_waker(&waker)), Poll::Pending);
    put(&mut near, b"wake up");
    assert_eq!(wakeups.take(), 1);
    assert_eq!(far.poll_recv_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(()));
    // All slots reserved: one that is sent comes back at once.
    let mut bufs: Vec<_> = (0..8).map(|_| near.try_reserve(1).unwrap()).collect();
    assert_eq!(near.poll_send_ready(&mut Context::from_waker(&waker)), Poll::Pending);
    near.send(bufs.pop().unwrap()).unwrap();
    near.flush().unwrap();
    assert_eq!(wakeups.take(), 1);
    assert!(near.try_reserve(1).is_ok());
}

#[test]
fn ports_on_many_threads_hear_from_all() {
    const EACH: u16 = 500;
    let fabric = datagrams(config().with_slots(8, 64));
    let mut server = fabric.open_port(&addr("server")).unwrap();
    let to = server.peer();
    thread::scope(|scope| {
        for id in 0..4_u8 {
            let fabric = &fabric;
            scope.spawn(move || {
                let mut port = fabric.open_port(&addr(&format!("client-{id}"))).unwrap();
                for round in 0..EACH {
                    let [low, high] = round.to_le_bytes();
                    post(&mut port, &[id, low, high], &to);
                    // One at a time, so that nothing is dropped: four of 64.
                    assert_eq!(&*block_on(port.recv()).unwrap(), [id, low, high]);
                }
            });
        }
        let mut seen = HashSet::new();
        for _ in 0..4 * EACH {
            let question = block_on(server.recv()).unwrap();
            assert!(seen.insert(question.to_vec()), "the same one twice");
            post(&mut server, &question, &question.source());
        }
    });
    assert_eq!(server.dropped(), 0);
}

#[test]
fn tracks_of_one_listener_on_many_threads_do_not_mix() {
    let fabric = datagrams(config());
    let mut listener = fabric.listen(&addr("server")).unwrap();
    let tracks: Vec<_> = (0..4).map(|_| join(&fabric, &mut listener)).collect();
    thread::scope(|scope| {
        for (id, (mut near, mut far)) in (0..4_u8).zip(tracks) {
            scope.spawn(move || {
                for round in 0..500_u16 {
                    let [low, high] = round.to_le_bytes();
                    let mut buf = block_on(near.reserve(3)).unwrap();
                    buf.copy_from_slice(&[id, low, high]);
                    near.send(buf).unwrap();
                    near.flush().unwrap();
                    assert_eq!(&*block_on(near.recv()).unwrap(), [id, low, high]);
                }
            });
            scope.spawn(move || {
                for _ in 0..500 {
                    let question = block_on(far.recv()).unwrap();
                    assert_eq!(question[0], id);
                    put(&mut far, &question);
                }
                // The last answer is not lost with its sender.
                block_on(far.close()).unwrap();
                assert_eq!(far.strangers(), 0);
            });
        }
    });
}
