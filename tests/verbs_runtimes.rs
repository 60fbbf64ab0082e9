//! Tracks and carriers on every executor, on real verbs: what `runtimes.rs` does in process.
#![cfg(feature = "verbs")]

#[path = "support/rdma.rs"]
mod rdma;
#[path = "support/runtimes/mod.rs"]
mod runtimes;

use std::net::SocketAddr;

use trespass_verbs::{VerbsConfig, VerbsFabric};

/// Skips, loudly, where there is no RDMA.
fn is_skipped() -> bool {
    let why = rdma::unavailable();
    if let Some(why) = &why {
        eprintln!("SKIPPED: {why}");
    }
    why.is_some()
}

fn fabrics() -> runtimes::cases::Ends<VerbsFabric> {
    let (client, server) = rdma::addresses();
    let fabric = |ip| rdma::fabric(ip, VerbsConfig::default().with_slots(4096, 8, 8));
    (fabric(server), fabric(client), SocketAddr::new(server, 0))
}

runtimes::on_every_runtime!(crate::fabrics);
