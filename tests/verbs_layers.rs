//! Datagrams made of real tracks keep the contract, over a network that loses some; and the check, above and below them,
//! has nothing to say of either.
#![cfg(feature = "verbs")]

use std::net::SocketAddr;
use std::time::Duration;

use trespass::layers::{Checked, Lossy, lossy::LossyConfig};
use trespass_conformance::{Deadlines, Fabrics, Harness};
use trespass_verbs::{VerbsConfig, VerbsFabric};

#[path = "support/rdma.rs"]
mod rdma;

const DEADLINES: Deadlines = Deadlines { handshake: Duration::from_secs(2), close: Duration::from_secs(2) };

type Net = Checked<Lossy<Checked<VerbsFabric>>>;

struct Datagrams;

/// Fabrics whose handshakes and closes may take so long.
fn fabrics(deadlines: Deadlines) -> Fabrics<Net> {
    let config = || VerbsConfig::default().with_slots(2048, 8, 8).with_timeouts(deadlines.handshake, deadlines.close);
    let faults = LossyConfig::new(11).with_loss(100).with_duplication(100).with_reordering(100);
    let over = |verbs| Checked::over(Lossy::over(Checked::over(verbs), faults));
    let (client, server) = rdma::addresses();
    Fabrics { server: over(rdma::fabric(server, config())), client: over(rdma::fabric(client, config())) }
}

impl Harness for Datagrams {
    type Fabric = Net;

    fn fabrics(&self) -> Fabrics<Net> {
        fabrics(Deadlines { handshake: Duration::from_secs(20), close: Duration::from_secs(20) })
    }

    fn hasty_fabrics(&self) -> Fabrics<Net> {
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

    fn unavailable(&self) -> Option<String> {
        rdma::unavailable()
    }
}

trespass_conformance::datagram_conformance_tests!(Datagrams);
