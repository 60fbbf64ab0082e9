//! What the conformance kit has to know of the TCP fabric.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use trespass_conformance::{Deadlines, Fabrics, Harness};
use trespass_core::ErrorKind;

use crate::tcp::track::TcpTrack;
use crate::tcp::{TcpConfig, TcpFabric};

const DEADLINES: Deadlines = Deadlines { handshake: Duration::from_secs(1), close: Duration::from_secs(1) };

/// Two fabrics, as two processes have them.
pub(crate) struct TcpHarness;

impl Harness for TcpHarness {
    type Fabric = TcpFabric;

    fn fabrics(&self) -> Fabrics<TcpFabric> {
        fabrics(TcpConfig::default())
    }

    fn hasty_fabrics(&self) -> Fabrics<TcpFabric> {
        fabrics(TcpConfig { handshake: DEADLINES.handshake, close: DEADLINES.close, ..TcpConfig::default() })
    }

    fn listen_addr(&self) -> SocketAddr {
        // An address of its own: nobody else, and no end of a connection, gets a port of it while it is not listened at.
        static NEXT: AtomicU16 = AtomicU16::new(1 << 8);
        let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        SocketAddr::new(Ipv4Addr::new(127, 1, high, low).into(), 0)
    }

    fn vacant_addr(&self) -> SocketAddr {
        let listener = TcpListener::bind(self.listen_addr()).expect("an address");
        listener.local_addr().expect("an address")
    }

    fn deadlines(&self) -> Deadlines {
        DEADLINES
    }

    fn doorbells(&self, track: &TcpTrack) -> Option<u64> {
        Some(track.doorbells())
    }

    fn arms(&self, track: &TcpTrack) -> Option<u64> {
        Some(track.arms())
    }

    fn cut(&self, track: &TcpTrack) -> Option<ErrorKind> {
        Some(track.unplug())
    }
}

fn fabrics(config: TcpConfig) -> Fabrics<TcpFabric> {
    let config =
        TcpConfig { max_message: 4096, send_slots: 8, recv_slots: 8, silence: Duration::from_secs(5), ..config };
    let fabric = || TcpFabric::open(config.clone()).expect("a good configuration");
    Fabrics { server: fabric(), client: fabric() }
}
