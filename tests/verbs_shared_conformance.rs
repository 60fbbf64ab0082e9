//! Tracks that share their queues keep the contract, but for what it says of receivers that stall.
#![cfg(feature = "verbs")]

use std::time::Duration;

use trespass_conformance::{Deadlines, Fabrics, Harness, properties};
use trespass_verbs::{SharedConfig, SharedTrack, VerbsConfig, VerbsShared};

#[path = "support/rdma.rs"]
mod rdma;
#[path = "support/verbs_harness.rs"]
mod verbs_harness;
use rdma::needs_rdma;
use verbs_harness::harness_of_verbs;

struct SharedHarness;

fn fabrics(deadlines: Deadlines) -> Fabrics<VerbsShared> {
    let open = |ip| {
        let config = VerbsConfig::default().with_slots(4096, 8, 8).with_timeouts(deadlines.handshake, deadlines.close);
        rdma::fabric(ip, config).shared(SharedConfig::default().with_tracks(32, 8)).expect("shared queues")
    };
    let (client, server) = rdma::addresses();
    Fabrics { server: open(server), client: open(client) }
}

impl Harness for SharedHarness {
    harness_of_verbs!(VerbsShared, SharedTrack);

    fn patience(&self) -> Duration {
        Duration::from_secs(6)
    }
}

/// Properties by which a sender has more under way than the receiver has buffers: F5, which does not hold here, or a part
/// of how something else is shown.
const STALL: &[&str] = &[];

#[test]
fn the_contract_holds_but_for_stalls() {
    needs_rdma!();
    let (mut failed, mut passed) = (Vec::new(), 0);
    for property in properties::<SharedHarness>() {
        let name = property.to_string();
        if property.clauses.contains(&"F5") || STALL.contains(&name.as_str()) {
            continue;
        }
        match std::panic::catch_unwind(|| property.check(&SharedHarness)) {
            Ok(_) => passed += 1,
            Err(_) => failed.push(name),
        }
    }
    eprintln!("{passed} properties hold");
    assert!(failed.is_empty(), "{failed:#?}");
}
