//! What the harnesses of all sorts of tracks over real verbs have in common, for the conformance kit.

use std::time::Duration;

use trespass_conformance::Deadlines;

/// What fabrics that are asked for haste keep to.
pub(crate) const HASTE: Deadlines = Deadlines { handshake: Duration::from_secs(2), close: Duration::from_secs(2) };

/// As long as a slow machine takes.
pub(crate) const LEISURE: Deadlines = Deadlines { handshake: Duration::from_secs(20), close: Duration::from_secs(20) };

/// The methods of a `Harness` for tracks `$track` of fabrics `$fabric`, which `fabrics(Deadlines)` in scope makes.
macro_rules! harness_of_verbs {
    ($fabric:ty, $track:ty) => {
        type Fabric = $fabric;

        fn fabrics(&self) -> trespass_conformance::Fabrics<$fabric> {
            fabrics(crate::verbs_harness::LEISURE)
        }

        fn hasty_fabrics(&self) -> trespass_conformance::Fabrics<$fabric> {
            fabrics(crate::verbs_harness::HASTE)
        }

        fn listen_addr(&self) -> std::net::SocketAddr {
            std::net::SocketAddr::new(crate::rdma::addresses().1, 0)
        }

        fn vacant_addr(&self) -> std::net::SocketAddr {
            std::net::SocketAddr::new(crate::rdma::addresses().1, 1)
        }

        fn deadlines(&self) -> trespass_conformance::Deadlines {
            crate::verbs_harness::HASTE
        }

        fn scale(&self) -> f64 {
            0.1
        }

        fn doorbells(&self, track: &$track) -> Option<u64> {
            Some(track.counters().send_doorbells)
        }

        fn arms(&self, track: &$track) -> Option<u64> {
            Some(track.counters().arms)
        }
    };
}
pub(crate) use harness_of_verbs;
