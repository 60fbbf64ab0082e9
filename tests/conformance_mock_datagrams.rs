//! The mock's datagrams keep the contract: over a perfect network, and over one that loses, duplicates and reorders.
#![cfg(feature = "mock")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use trespass_conformance::{Deadlines, Fabrics, Harness};
use trespass_mock::{MockAddr, MockConfig, MockDatagramConfig, MockDatagramTrack, MockDatagrams, MockNet};

const DEADLINES: Deadlines = Deadlines { handshake: Duration::from_secs(1), close: Duration::from_secs(1) };

/// Two fabrics on one network: two machines, as it were.
struct Datagrams {
    config: MockDatagramConfig,
}

impl Datagrams {
    fn perfect() -> Self {
        Self { config: MockDatagramConfig::default().with_slots(8, 8) }
    }

    fn faulty() -> Self {
        let config = Self::perfect().config.with_seed(11);
        Self { config: config.with_loss(100).with_duplication(100).with_reordering(100) }
    }

    fn over(&self, config: MockConfig) -> Fabrics<MockDatagrams> {
        let net = MockNet::new();
        let open = || {
            let fabric = net.fabric(config.clone()).expect("a good configuration");
            fabric.datagrams(self.config.clone()).expect("a good configuration")
        };
        Fabrics { server: open(), client: open() }
    }
}

impl Harness for Datagrams {
    type Fabric = MockDatagrams;

    fn fabrics(&self) -> Fabrics<MockDatagrams> {
        self.over(MockConfig::default())
    }

    fn hasty_fabrics(&self) -> Fabrics<MockDatagrams> {
        let config = MockConfig::default();
        self.over(config.with_handshake_timeout(DEADLINES.handshake).with_close_timeout(DEADLINES.close))
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

    fn doorbells(&self, track: &MockDatagramTrack) -> Option<u64> {
        Some(track.counters().doorbells)
    }

    fn arms(&self, track: &MockDatagramTrack) -> Option<u64> {
        Some(track.counters().arms)
    }
}

mod perfect {
    use super::Datagrams;
    trespass_conformance::datagram_conformance_tests!(Datagrams::perfect());
}

mod faulty {
    use super::Datagrams;
    trespass_conformance::datagram_conformance_tests!(Datagrams::faulty());
}
