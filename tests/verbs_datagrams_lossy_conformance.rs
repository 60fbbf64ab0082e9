//! Datagram tracks over real unreliable queue pairs keep the contract over a network that loses and reorders, too.
#![cfg(feature = "verbs")]

use trespass_conformance::Harness;
use trespass_verbs::{UnreliableTrack, VerbsDatagrams};

use harness::fabrics;
use netem::Share;
use verbs_harness::harness_of_verbs;

#[path = "support/verbs_datagrams_harness.rs"]
mod harness;
#[path = "support/netem.rs"]
mod netem;
#[path = "support/rdma.rs"]
mod rdma;
#[path = "support/verbs_harness.rs"]
mod verbs_harness;

/// Over links that are bad for as long as any property is checked. What is late is at most 2 ms late, which is far within
/// what the kit waits for.
struct Lossy {
    /// None where nothing may be spoilt, which [`unavailable`](Harness::unavailable) says then.
    _links: Option<Share>,
}

impl Lossy {
    fn new() -> Self {
        let ours = rdma::unavailable().is_none() && netem::foreign().is_none();
        Self { _links: ours.then(|| Share::of("delay 2ms reorder 25% 50% loss 5%")) }
    }
}

impl Harness for Lossy {
    harness_of_verbs!(VerbsDatagrams, UnreliableTrack);

    fn unavailable(&self) -> Option<String> {
        rdma::unavailable().or_else(netem::foreign)
    }
}

trespass_conformance::datagram_conformance_tests!(Lossy::new());
