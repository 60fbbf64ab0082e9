//! Real verbs keep the contract: the same properties as for the mock, between two devices.
#![cfg(feature = "verbs")]

use std::net::SocketAddr;
use std::time::Duration;

use trespass_conformance::{Deadlines, Fabrics, Harness, MemoryHarness};
use trespass_verbs::{ReliableTrack, VerbsConfig, VerbsFabric};

#[path = "support/rdma.rs"]
mod rdma;

const DEADLINES: Deadlines = Deadlines { handshake: Duration::from_secs(2), close: Duration::from_secs(2) };

/// The two devices of the machine, or one that plays both parts.
struct VerbsHarness;

/// Fabrics whose handshakes and closes may take so long.
fn fabrics(deadlines: Deadlines) -> Fabrics<VerbsFabric> {
    let config = || VerbsConfig::default().with_slots(4096, 8, 8).with_timeouts(deadlines.handshake, deadlines.close);
    let (client, server) = rdma::addresses();
    Fabrics { server: rdma::fabric(server, config()), client: rdma::fabric(client, config()) }
}

impl Harness for VerbsHarness {
    type Fabric = VerbsFabric;

    fn fabrics(&self) -> Fabrics<VerbsFabric> {
        fabrics(Deadlines { handshake: Duration::from_secs(20), close: Duration::from_secs(20) })
    }

    fn hasty_fabrics(&self) -> Fabrics<VerbsFabric> {
        fabrics(DEADLINES)
    }

    fn listen_addr(&self) -> SocketAddr {
        SocketAddr::new(rdma::addresses().1, 0)
    }

    fn vacant_addr(&self) -> SocketAddr {
        SocketAddr::new(rdma::addresses().1, 1)
    }

    fn deadlines(&self) -> Deadlines {
        DEADLINES
    }

    fn scale(&self) -> f64 {
        0.1
    }

    fn doorbells(&self, track: &ReliableTrack) -> Option<u64> {
        Some(track.counters().send_doorbells)
    }

    fn arms(&self, track: &ReliableTrack) -> Option<u64> {
        Some(track.counters().arms)
    }

    fn unavailable(&self) -> Option<String> {
        rdma::unavailable()
    }
}

impl MemoryHarness for VerbsHarness {}

trespass_conformance::conformance_tests!(VerbsHarness);
trespass_conformance::memory_conformance_tests!(VerbsHarness);
