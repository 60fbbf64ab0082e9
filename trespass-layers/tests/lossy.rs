//! What a lossy fabric does beyond the contract: replay, faults that can be read, ends that stay unheard of.

mod support;

use futures_executor::block_on;
use static_assertions::assert_type_eq_all;
use support::{fresh_addr, mocks};
use trespass_core::{
    Datagram, Endpoint, ErrorKind, Fabric, Incoming, ListenerExt, RecvSide, SendSide, SendSideExt, Track,
    TransportError, TryError,
};
use trespass_layers::{Lossy, lossy::Faults, lossy::LossyConfig};
use trespass_mock::{MockConfig, MockFabric};

type Net = Lossy<MockFabric>;
type LossyTrack = <Net as Fabric>::Track;

assert_type_eq_all!(<LossyTrack as Track>::Delivery, Datagram);

struct Pair {
    client: LossyTrack,
    server: LossyTrack,
    mocks: [MockFabric; 2],
}

fn join([server, client]: &[Net; 2]) -> (LossyTrack, LossyTrack) {
    let addr = fresh_addr();
    let mut listener = server.listen(&addr).expect("a listener");
    let connecting = client.connect(&addr);
    block_on(async {
        let server = listener.incoming().await.expect("a request").accept().await.expect("an accept");
        (connecting.await.expect("a connect"), server)
    })
}

fn pair(config: LossyConfig) -> Pair {
    let mocks = mocks(MockConfig::default());
    let (client, server) = join(&mocks.clone().map(|mock| Lossy::over(mock, config)));
    Pair { client, server, mocks }
}

fn send(track: &mut LossyTrack, byte: u8) {
    let mut buf = track.try_reserve(1).expect("a slot: each was flushed");
    buf[0] = byte;
    track.send(buf).expect("a slot was paid for");
    track.flush().expect("a flush");
}

/// What arrives of messages 0 to 199, each taken as soon as it is there.
fn arrivals(client: &mut LossyTrack, server: &mut LossyTrack) -> Vec<u8> {
    let mut arrived = Vec::new();
    for byte in 0..200 {
        send(client, byte);
        while let Ok(buf) = server.try_recv() {
            arrived.push(buf[0]);
        }
    }
    arrived
}

fn all_faults(seed: u64) -> LossyConfig {
    LossyConfig::new(seed).with_loss(200).with_duplication(200).with_reordering(200).with_delay(200, 7)
}

#[test]
fn a_run_replays_from_its_seed() {
    let run = |seed| {
        let Pair { mut client, mut server, .. } = pair(all_faults(seed));
        let there = arrivals(&mut client, &mut server);
        let back = arrivals(&mut server, &mut client);
        assert_ne!(there, back, "both directions have the same faults");
        (there, back, client.faults())
    };
    assert_eq!(run(9), run(9));
    assert_ne!(run(9), run(10));
    // The seed can be read where the fabric is: what a failing test prints.
    let [mock, _] = mocks(MockConfig::default());
    assert_eq!(Lossy::over(mock, all_faults(77)).config().seed(), 77);
}

#[test]
fn each_track_has_faults_of_its_own() {
    let nets = mocks(MockConfig::default()).map(|mock| Lossy::over(mock, all_faults(4)));
    let mut runs = Vec::new();
    for _ in 0..3 {
        let (mut client, mut server) = join(&nets);
        runs.push(arrivals(&mut client, &mut server));
    }
    assert!(runs[0] != runs[1] && runs[1] != runs[2], "every track has the same faults");
}

#[test]
fn faults_are_counted() {
    let Pair { mut client, mut server, .. } = pair(LossyConfig::new(3).with_loss(300).with_duplication(300));
    let arrived = arrivals(&mut client, &mut server).len() as u64;
    let Faults { lost, duplicated, overflowed, .. } = client.faults();
    assert!(lost > 20 && duplicated > 20, "{:?}", client.faults());
    assert_eq!((arrived, overflowed), (200 - lost + duplicated, 0));
    assert_eq!(server.faults(), Faults::default(), "nothing was sent there");

    // A receiver that takes nothing has room for what the track below holds, at both its ends.
    let Pair { mut client, mut server, .. } = pair(LossyConfig::new(3));
    (0..100).for_each(|byte| send(&mut client, byte));
    let overflowed = client.faults().overflowed;
    let arrived = std::iter::from_fn(|| server.try_recv().ok()).count() as u64;
    assert_eq!((arrived, overflowed), (16, 84));
}

#[test]
fn a_peer_that_ends_is_not_heard_of() {
    for by_close in [false, true] {
        let Pair { mut client, mut server, mocks } = pair(LossyConfig::new(0));
        send(&mut server, 7);
        if by_close {
            block_on(server.close()).expect("a clean close");
        }
        match by_close {
            true => drop(server),
            false => mocks[0].kill(),
        }
        assert_eq!(*client.try_recv().expect("what had arrived"), [7]);
        for byte in 0..100 {
            send(&mut client, byte);
            assert!(matches!(client.try_recv(), Err(TryError::WouldBlock)));
        }
        assert_eq!(client.faults().unheard, 100);
        block_on(client.close()).expect("a close waits for nobody");
        let end = client.try_recv().expect_err("an end of its own").failed().expect("an end");
        assert_eq!(end.kind(), ErrorKind::Closed);
    }
}

#[test]
fn a_link_that_fails_is() {
    let Pair { mut client, mut server, mocks } = pair(LossyConfig::new(0));
    mocks[1].break_link();
    let mut failed = || {
        let buf = client.try_reserve(1)?;
        client.send(buf).map_err(|unsent| TryError::Failed(unsent.error))?;
        client.flush().map_err(TryError::Failed)
    };
    let error = failed().expect_err("a broken link").failed().expect("a failure");
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert_eq!(failed().expect_err("it sticks").failed(), Some(error.clone()));
    assert_eq!(block_on(client.close()).expect_err("it sticks").kind(), ErrorKind::Disconnected);
    let error = server.try_recv().expect_err("a broken link").failed().expect("a failure");
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
}

#[test]
fn what_is_refused_says_so() {
    let Pair { mut client, mut server, .. } = pair(LossyConfig::new(0));
    let max = client.limits().max_message;
    let error = client.try_reserve(max + 1).expect_err("too long").failed().expect("a failure");
    assert!(error.to_string().contains(&max.to_string()), "{error}");
    let buf = server.try_reserve(3).expect("a slot");
    let unsent = client.send(buf).expect_err("a buffer of the peer");
    assert_eq!(unsent.error.kind(), ErrorKind::ForeignBuffer, "{}", unsent.error);
}

/// What is held back when a track is closed goes out then.
#[test]
fn a_close_lets_go_of_what_is_held_back() {
    let Pair { mut client, mut server, .. } = pair(LossyConfig::new(5).with_delay(1000, 1024));
    for byte in 0..4 {
        send(&mut client, byte);
    }
    assert!(matches!(server.try_recv(), Err(TryError::WouldBlock)), "each is late by hundreds, as this seed has it");
    block_on(client.close()).expect("a close");
    let mut arrived: Vec<u8> = std::iter::from_fn(|| server.try_recv().ok()).map(|buf| buf[0]).collect();
    arrived.sort_unstable();
    assert_eq!(arrived, [0, 1, 2, 3]);
}
