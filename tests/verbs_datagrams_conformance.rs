//! Datagram tracks over real unreliable queue pairs keep the contract: the same properties as for any datagram track.
#![cfg(feature = "verbs")]

#[path = "support/verbs_datagrams_harness.rs"]
mod harness;
#[path = "support/rdma.rs"]
mod rdma;

trespass_conformance::datagram_conformance_tests!(harness::Datagrams);
