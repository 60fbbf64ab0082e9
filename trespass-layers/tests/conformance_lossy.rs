//! Datagram tracks over the mock keep the contract: over a network with no fault, and over a bad one.

mod support;

use support::{DEADLINES, fresh_addr, mocks};
use trespass_conformance::{Deadlines, Fabrics, Harness};
use trespass_core::Fabric;
use trespass_layers::{Checked, Lossy, lossy::LossyConfig};
use trespass_mock::{MockAddr, MockConfig, MockFabric};

/// Checked from above and from below.
type Net = Checked<Lossy<Checked<MockFabric>>>;

struct Datagrams {
    config: LossyConfig,
}

impl Datagrams {
    fn good() -> Self {
        Self { config: LossyConfig::new(0) }
    }

    /// Another seed for each test, and the same one for it in every run.
    fn bad() -> Self {
        let test = std::thread::current();
        let name = test.name().unwrap_or_default().bytes();
        let seed = name.fold(0, |seed: u64, byte| seed.wrapping_mul(257).wrapping_add(byte.into()));
        let config =
            LossyConfig::new(seed).with_loss(200).with_duplication(150).with_reordering(150).with_delay(100, 5);
        Self { config }
    }

    fn over(&self, mock: MockConfig) -> Fabrics<Net> {
        let [server, client] = mocks(mock).map(|mock| Checked::over(Lossy::over(Checked::over(mock), self.config)));
        Fabrics { server, client }
    }
}

impl Harness for Datagrams {
    type Fabric = Net;

    fn fabrics(&self) -> Fabrics<Net> {
        self.over(MockConfig::default())
    }

    fn hasty_fabrics(&self) -> Fabrics<Net> {
        let config = MockConfig::default();
        self.over(config.with_handshake_timeout(DEADLINES.handshake).with_close_timeout(DEADLINES.close))
    }

    fn listen_addr(&self) -> MockAddr {
        fresh_addr()
    }

    fn vacant_addr(&self) -> MockAddr {
        "nobody".parse().expect("an address")
    }

    fn deadlines(&self) -> Deadlines {
        DEADLINES
    }

    fn doorbells(&self, track: &<Net as Fabric>::Track) -> Option<u64> {
        // Where messages are lost a flush may have nothing to ring for.
        let no_faults = self.config == LossyConfig::new(self.config.seed());
        no_faults.then(|| track.inner().inner().inner().counters().doorbells)
    }

    fn arms(&self, track: &<Net as Fabric>::Track) -> Option<u64> {
        Some(track.inner().inner().inner().counters().arms)
    }
}

mod good {
    use super::*;
    trespass_conformance::datagram_conformance_tests!(Datagrams::good());
}

mod bad {
    use super::*;
    trespass_conformance::datagram_conformance_tests!(Datagrams::bad());
}
