//! What the conformance kit has to know of the mock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use trespass_conformance::{Deadlines, Fabrics, Harness, MemoryHarness};
use trespass_core::ErrorKind;
use trespass_mock::{MockAddr, MockConfig, MockFabric, MockNet, MockTrack};

const DEADLINES: Deadlines = Deadlines { handshake: Duration::from_secs(1), close: Duration::from_secs(1) };

/// Two fabrics on one network: two machines, as it were.
pub(crate) struct MockHarness;

impl Harness for MockHarness {
    type Fabric = MockFabric;

    fn fabrics(&self) -> Fabrics<MockFabric> {
        fabrics(MockConfig::default())
    }

    fn hasty_fabrics(&self) -> Fabrics<MockFabric> {
        let config = MockConfig::default();
        fabrics(config.with_handshake_timeout(DEADLINES.handshake).with_close_timeout(DEADLINES.close))
    }

    fn listen_addr(&self) -> MockAddr {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        MockAddr::new(&format!("server-{number}")).expect("an address")
    }

    fn vacant_addr(&self) -> MockAddr {
        "nobody".parse().expect("an address")
    }

    fn deadlines(&self) -> Deadlines {
        DEADLINES
    }

    fn doorbells(&self, track: &MockTrack) -> Option<u64> {
        Some(track.counters().doorbells)
    }

    fn arms(&self, track: &MockTrack) -> Option<u64> {
        Some(track.counters().arms)
    }

    fn cut(&self, track: &MockTrack) -> Option<ErrorKind> {
        track.break_link();
        Some(ErrorKind::Disconnected)
    }
}

fn fabrics(config: MockConfig) -> Fabrics<MockFabric> {
    let net = MockNet::new();
    let config = config.with_max_message(4096).with_send_slots(8).with_recv_slots(8);
    let fabric = || net.fabric(config.clone()).expect("a good configuration");
    Fabrics { server: fabric(), client: fabric() }
}

impl MemoryHarness for MockHarness {}
