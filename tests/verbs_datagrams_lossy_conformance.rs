//! Datagram tracks over real unreliable queue pairs keep the contract over a network that loses and reorders, too.
#![cfg(feature = "verbs")]

use std::net::SocketAddr;

use trespass_conformance::{Deadlines, Fabrics, Harness};
use trespass_verbs::{UnreliableTrack, VerbsDatagrams};

use harness::Datagrams;
use netem::Share;

#[path = "support/verbs_datagrams_harness.rs"]
mod harness;
#[path = "support/netem.rs"]
mod netem;
#[path = "support/rdma.rs"]
mod rdma;

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
    type Fabric = VerbsDatagrams;

    fn fabrics(&self) -> Fabrics<VerbsDatagrams> {
        Datagrams.fabrics()
    }

    fn hasty_fabrics(&self) -> Fabrics<VerbsDatagrams> {
        Datagrams.hasty_fabrics()
    }

    fn listen_addr(&self) -> SocketAddr {
        Datagrams.listen_addr()
    }

    fn vacant_addr(&self) -> SocketAddr {
        Datagrams.vacant_addr()
    }

    fn deadlines(&self) -> Deadlines {
        Datagrams.deadlines()
    }

    fn scale(&self) -> f64 {
        Datagrams.scale()
    }

    fn doorbells(&self, track: &UnreliableTrack) -> Option<u64> {
        Datagrams.doorbells(track)
    }

    fn arms(&self, track: &UnreliableTrack) -> Option<u64> {
        Datagrams.arms(track)
    }

    fn unavailable(&self) -> Option<String> {
        Datagrams.unavailable().or_else(netem::foreign)
    }
}

trespass_conformance::datagram_conformance_tests!(Lossy::new());
