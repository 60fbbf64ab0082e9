//! No allocation for a datagram, once a track or port is set up. A binary of its own: it has a global allocator that counts.

mod common;

use allocation_counter::measure;
use common::{addr, put};
use futures_executor::block_on;
use trespass_core::{Fabric, Incoming, ListenerExt, Port, PortFabric, RecvSide, SendSide, Sourced};
use trespass_mock::{MockDatagramConfig, MockDatagramTrack, MockDatagrams, MockFabric, MockPeer, MockPort};

fn datagrams(config: MockDatagramConfig) -> MockDatagrams {
    MockFabric::new().datagrams(config.with_slots(8, 8).with_mtu(256)).unwrap()
}

fn pair(config: MockDatagramConfig) -> (MockDatagramTrack, MockDatagramTrack) {
    let fabric = datagrams(config);
    let mut listener = fabric.listen(&addr("server")).unwrap();
    let connecting = fabric.connect(&addr("server"));
    block_on(async {
        let ours = listener.incoming().await.unwrap().accept().await.unwrap();
        (connecting.await.unwrap(), ours)
    })
}

/// Messages with and without a word, taken at once; then more than there is room for.
fn round(near: &mut MockDatagramTrack, far: &mut MockDatagramTrack) -> usize {
    let mut received = 0;
    for id in 0..100_u8 {
        put(near, &[id]);
        let buf = near.try_reserve(200).unwrap();
        assert!(near.send_immediate(buf, id.into()).is_ok());
        near.flush().unwrap();
        while far.try_recv().is_ok() {
            received += 1;
        }
    }
    for id in 0..100_u8 {
        put(near, &[id]);
    }
    while far.try_recv().is_ok() {
        received += 1;
    }
    received
}

#[test]
fn a_datagram_of_a_track_allocates_nothing() {
    let (mut near, mut far) = pair(MockDatagramConfig::default());
    let mut received = 0;
    let info = measure(|| received += round(&mut near, &mut far) + round(&mut far, &mut near));
    assert_eq!((info.count_total, received), (0, 2 * 208), "the first datagrams of a track: {info:?}");
}

#[test]
fn faults_allocate_nothing() {
    let config = MockDatagramConfig::default().with_seed(3);
    let (mut near, mut far) = pair(config.with_loss(100).with_duplication(100).with_reordering(100));
    let mut received = 0;
    let info = measure(|| received += round(&mut near, &mut far));
    let faults = near.faults();
    assert!(received > 100 && faults.lost > 0 && faults.duplicated > 0 && faults.overtaken > 0, "{faults:?}");
    assert_eq!(info.count_total, 0, "{info:?}");
}

#[test]
fn a_datagram_of_a_port_allocates_nothing() {
    let fabric = datagrams(MockDatagramConfig::default());
    let mut asks = fabric.open_port(&addr("asks")).unwrap();
    let mut answers = fabric.open_port(&addr("answers")).unwrap();
    let post = |port: &mut MockPort, to: &MockPeer| {
        let buf = port.try_reserve(20).unwrap();
        port.send_to(buf, to).map_err(|unsent| unsent.error).unwrap();
        port.flush().unwrap();
    };
    let to = answers.peer();
    let info = measure(|| {
        for _ in 0..100 {
            post(&mut asks, &to);
            let question = answers.try_recv().unwrap();
            post(&mut answers, &question.source());
            drop(asks.try_recv().unwrap());
        }
    });
    assert_eq!(info.count_total, 0, "{info:?}");
}
