//! The publish-subscribe of `examples/custom_carrier` on real verbs.
#![cfg(feature = "verbs")]

mod pubsub_cases;
#[path = "support/rdma.rs"]
mod rdma;

use std::net::SocketAddr;

use pubsub_cases::{Ends, exercise};
use rdma::needs_rdma;
use trespass::verbs::VerbsConfig;

#[test]
fn publish_subscribe_on_verbs() {
    needs_rdma!();
    exercise(|| {
        let (client, server) = rdma::addresses();
        Ends {
            server: rdma::fabric(server, VerbsConfig::default()),
            client: rdma::fabric(client, VerbsConfig::default()),
            addr: SocketAddr::new(server, 0),
        }
    });
}
