//! Datagram tracks over real unreliable queue pairs, as the conformance kit wants them.

use std::net::SocketAddr;
use std::time::Duration;

use trespass_conformance::{Deadlines, Fabrics, Harness};
use trespass_verbs::{DatagramConfig, UnreliableTrack, VerbsConfig, VerbsDatagrams};

use crate::rdma;

const DEADLINES: Deadlines = Deadlines { handshake: Duration::from_secs(2), close: Duration::from_secs(2) };

/// Over the links as they are.
pub(crate) struct Datagrams;

/// Fabrics whose handshakes and closes may take so long.
fn fabrics(deadlines: Deadlines) -> Fabrics<VerbsDatagrams> {
    let open = |ip| {
        let config = VerbsConfig::default().with_timeouts(deadlines.handshake, deadlines.close);
        let datagrams = DatagramConfig::default().with_slots(8, 8).with_tracks(32);
        rdma::fabric(ip, config).datagrams(datagrams).expect("datagrams")
    };
    let (client, server) = rdma::addresses();
    Fabrics { server: open(server), client: open(client) }
}

impl Harness for Datagrams {
    type Fabric = VerbsDatagrams;

    fn fabrics(&self) -> Fabrics<VerbsDatagrams> {
        fabrics(Deadlines { handshake: Duration::from_secs(20), close: Duration::from_secs(20) })
    }

    fn hasty_fabrics(&self) -> Fabrics<VerbsDatagrams> {
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

    fn doorbells(&self, track: &UnreliableTrack) -> Option<u64> {
        Some(track.counters().send_doorbells)
    }

    fn arms(&self, track: &UnreliableTrack) -> Option<u64> {
        Some(track.counters().arms)
    }

    fn unavailable(&self) -> Option<String> {
        rdma::unavailable()
    }
}
