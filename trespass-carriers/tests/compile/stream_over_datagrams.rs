use trespass_carriers::{StreamCarrier, StreamConfig};
use trespass_core::Role;
use trespass_mock::MockDatagramTrack;

fn open(track: MockDatagramTrack) {
    let _ = StreamCarrier::open(track, Role::Connector, StreamConfig::default());
}

fn main() {}
