//! Datagram tracks over real unreliable queue pairs keep the contract: the same properties as for any datagram track.
#![cfg(feature = "verbs")]

use trespass_conformance::Harness;
use trespass_verbs::{UnreliableTrack, VerbsDatagrams};

use harness::fabrics;
use verbs_harness::harness_of_verbs;

#[path = "support/verbs_datagrams_harness.rs"]
mod harness;
#[path = "support/rdma.rs"]
mod rdma;
#[path = "support/verbs_harness.rs"]
mod verbs_harness;

/// Over the links as they are.
struct Datagrams;

impl Harness for Datagrams {
    harness_of_verbs!(VerbsDatagrams, UnreliableTrack);

    fn unavailable(&self) -> Option<String> {
        rdma::unavailable()
    }
}

trespass_conformance::datagram_conformance_tests!(Datagrams);
