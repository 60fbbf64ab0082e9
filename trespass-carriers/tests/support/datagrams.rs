//! Carriers over datagrams, for tests.
#![allow(dead_code)] // Each test binary uses a part of it.

use futures_executor::block_on;
use trespass_carriers::{CarrierError, DatagramCarrier, DatagramConfig};
use trespass_core::{Fabric, Incoming, ListenerExt, RecvSide, Role, SendSide};
use trespass_mock::{MockAddr, MockConfig, MockDatagramConfig, MockDatagramTrack, MockError, MockNet};

use super::support::both;

pub(crate) type Carrier = DatagramCarrier<MockDatagramTrack>;
pub(crate) type Opened = Result<Carrier, CarrierError<MockError>>;

/// Datagrams of 256 bytes, few slots to send and many to receive.
pub(crate) fn small() -> MockDatagramConfig {
    MockDatagramConfig::default().with_mtu(256).with_slots(8, 256)
}

/// Two tracks: the one that connected, and the one that accepted.
pub(crate) fn tracks(net: &MockNet, config: &MockDatagramConfig) -> (MockDatagramTrack, MockDatagramTrack) {
    let fabric = net.fabric(MockConfig::default()).unwrap().datagrams(config.clone()).unwrap();
    let addr: MockAddr = "there".parse().unwrap();
    let mut listener = fabric.listen(&addr).unwrap();
    let connecting = fabric.connect(&addr);
    block_on(async {
        let accepted = listener.incoming().await.unwrap().accept().await.unwrap();
        (connecting.await.unwrap(), accepted)
    })
}

/// Two carriers, as they were opened.
pub(crate) fn open(net: &MockNet, track: &MockDatagramConfig, configs: [DatagramConfig; 2]) -> (Opened, Opened) {
    let (left, right) = tracks(net, track);
    let [ours, theirs] = configs;
    both(DatagramCarrier::open(left, Role::Connector, ours), DatagramCarrier::open(right, Role::Acceptor, theirs))
}

/// Two carriers.
pub(crate) fn carriers(track: &MockDatagramConfig, config: DatagramConfig) -> (Carrier, Carrier) {
    let (left, right) = open(&MockNet::new(), track, [config.clone(), config]);
    (left.unwrap(), right.unwrap())
}

/// Sends bytes as they are.
pub(crate) fn say(track: &mut MockDatagramTrack, bytes: &[u8]) {
    let mut buf = track.try_reserve(bytes.len()).unwrap();
    buf.copy_from_slice(bytes);
    track.send(buf).unwrap();
    track.flush().unwrap();
}

/// What has arrived, if anything has.
pub(crate) fn heard(track: &mut MockDatagramTrack) -> Option<Vec<u8>> {
    track.try_recv().ok().map(|buf| buf.to_vec())
}
