//! A harness for a layer over the mock: what the kit knows of the mock, it knows of the mock under a layer.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod metered;

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use trespass_conformance::{Deadlines, Fabrics, Harness};
use trespass_core::{ErrorKind, Fabric, InOrder, Lossless, ThreadFabric, Track};
use trespass_mock::{MockAddr, MockConfig, MockFabric, MockNet, MockTrack};

pub(crate) const DEADLINES: Deadlines = Deadlines { handshake: Duration::from_secs(1), close: Duration::from_secs(1) };

/// A layer, as its harness knows it.
pub(crate) trait Wrap: Sync {
    type Fabric: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>;
    fn over(mock: MockFabric) -> Self::Fabric;
    fn below(track: &<Self::Fabric as Fabric>::Track) -> &MockTrack;
    fn addr(mock: MockAddr) -> <Self::Fabric as Fabric>::Addr;
}

pub(crate) struct Over<W>(PhantomData<fn() -> W>);

impl<W> Over<W> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<W: Wrap> Harness for Over<W> {
    type Fabric = W::Fabric;

    fn fabrics(&self) -> Fabrics<W::Fabric> {
        let [server, client] = mocks(MockConfig::default()).map(W::over);
        Fabrics { server, client }
    }

    fn hasty_fabrics(&self) -> Fabrics<W::Fabric> {
        let config = MockConfig::default();
        let config = config.with_handshake_timeout(DEADLINES.handshake).with_close_timeout(DEADLINES.close);
        let [server, client] = mocks(config).map(W::over);
        Fabrics { server, client }
    }

    fn listen_addr(&self) -> <W::Fabric as Fabric>::Addr {
        W::addr(fresh_addr())
    }

    fn vacant_addr(&self) -> <W::Fabric as Fabric>::Addr {
        W::addr("nobody".parse().expect("an address"))
    }

    fn deadlines(&self) -> Deadlines {
        DEADLINES
    }

    fn doorbells(&self, track: &<W::Fabric as Fabric>::Track) -> Option<u64> {
        Some(W::below(track).counters().doorbells)
    }

    fn arms(&self, track: &<W::Fabric as Fabric>::Track) -> Option<u64> {
        Some(W::below(track).counters().arms)
    }

    fn cut(&self, track: &<W::Fabric as Fabric>::Track) -> Option<ErrorKind> {
        W::below(track).break_link();
        Some(ErrorKind::Disconnected)
    }
}

/// Two fabrics of one net, with few slots.
pub(crate) fn mocks(config: MockConfig) -> [MockFabric; 2] {
    let net = MockNet::new();
    let config = config.with_max_message(4096).with_send_slots(8).with_recv_slots(8);
    let fabric = || net.fabric(config.clone()).expect("a good configuration");
    [fabric(), fabric()]
}

pub(crate) fn fresh_addr() -> MockAddr {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    MockAddr::new(&format!("server-{}", NEXT.fetch_add(1, Ordering::Relaxed))).expect("an address")
}
