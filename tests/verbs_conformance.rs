//! Real verbs keep the contract: the same properties as for the mock, between two devices.
#![cfg(feature = "verbs")]

use trespass_conformance::{Deadlines, Fabrics, Harness, MemoryHarness};
use trespass_verbs::{ReliableTrack, VerbsConfig, VerbsFabric};

#[path = "support/rdma.rs"]
mod rdma;
#[path = "support/verbs_harness.rs"]
mod verbs_harness;
use verbs_harness::harness_of_verbs;

/// The two devices of the machine, or one that plays both parts.
struct VerbsHarness;

/// Fabrics whose handshakes and closes may take so long.
fn fabrics(deadlines: Deadlines) -> Fabrics<VerbsFabric> {
    let config = || VerbsConfig::default().with_slots(4096, 8, 8).with_timeouts(deadlines.handshake, deadlines.close);
    let (client, server) = rdma::addresses();
    Fabrics { server: rdma::fabric(server, config()), client: rdma::fabric(client, config()) }
}

impl Harness for VerbsHarness {
    harness_of_verbs!(VerbsFabric, ReliableTrack);

    fn unavailable(&self) -> Option<String> {
        rdma::unavailable()
    }
}

impl MemoryHarness for VerbsHarness {}

trespass_conformance::conformance_tests!(VerbsHarness);
trespass_conformance::memory_conformance_tests!(VerbsHarness);
