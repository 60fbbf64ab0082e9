//! What the conformance kit has to know of the toy fabric.

use trespass_conformance::{Deadlines, Fabrics, Harness};
use trespass_core::ErrorKind;

use crate::toy::track::ToyTrack;
use crate::toy::{Toy, ToyAddr, ToyConfig};

#[derive(Debug, Default)]
pub(crate) struct ToyHarness {
    config: ToyConfig,
}

impl Harness for ToyHarness {
    type Fabric = Toy;

    fn fabrics(&self) -> Fabrics<Toy> {
        Fabrics::same(Toy::new(self.config))
    }

    fn listen_addr(&self) -> ToyAddr {
        ToyAddr(0)
    }

    fn vacant_addr(&self) -> ToyAddr {
        ToyAddr(1)
    }

    fn deadlines(&self) -> Deadlines {
        Deadlines { handshake: self.config.handshake, close: self.config.close }
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
