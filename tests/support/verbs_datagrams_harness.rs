//! Fabrics of datagrams over real unreliable queue pairs, as the conformance kit wants them.

use trespass_conformance::{Deadlines, Fabrics};
use trespass_verbs::{DatagramConfig, VerbsConfig, VerbsDatagrams};

use crate::rdma;

/// Fabrics whose handshakes and closes may take so long.
pub(crate) fn fabrics(deadlines: Deadlines) -> Fabrics<VerbsDatagrams> {
    let open = |ip| {
        let config = VerbsConfig::default().with_timeouts(deadlines.handshake, deadlines.close);
        let datagrams = DatagramConfig::default().with_slots(8, 8).with_tracks(32);
        rdma::fabric(ip, config).datagrams(datagrams).expect("datagrams")
    };
    let (client, server) = rdma::addresses();
    Fabrics { server: open(server), client: open(client) }
}
