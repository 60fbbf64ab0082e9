//! What the conformance kit has to know of the toy fabric.

use std::time::Duration;

use toy_fabric::{Toy, ToyAddr, ToyConfig, ToyTrack};
use trespass_conformance::{Deadlines, Fabrics, Harness};
use trespass_core::ErrorKind;

const DEADLINES: Deadlines = Deadlines { handshake: Duration::from_secs(1), close: Duration::from_secs(1) };

/// Each call makes a net of its own.
#[derive(Debug, Default)]
pub(crate) struct ToyHarness {
    config: ToyConfig,
}

impl Harness for ToyHarness {
    type Fabric = Toy;

    fn fabrics(&self) -> Fabrics<Toy> {
        Fabrics::same(Toy::new(self.config))
    }

    fn hasty_fabrics(&self) -> Fabrics<Toy> {
        Fabrics::same(Toy::new(ToyConfig { handshake: DEADLINES.handshake, close: DEADLINES.close, ..self.config }))
    }

    fn listen_addr(&self) -> ToyAddr {
        ToyAddr(0)
    }

    fn vacant_addr(&self) -> ToyAddr {
        ToyAddr(1)
    }

    fn deadlines(&self) -> Deadlines {
        DEADLINES
    }

    fn doorbells(&self, track: &ToyTrack) -> Option<u64> {
        Some(track.sender.doorbells())
    }

    fn arms(&self, track: &ToyTrack) -> Option<u64> {
        Some(track.sender.arms())
    }

    fn cut(&self, track: &ToyTrack) -> Option<ErrorKind> {
        Some(track.sender.cut())
    }
}
