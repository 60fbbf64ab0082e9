//! The mock with one fault in its memory: fabric, listener and handshakes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use trespass_conformance::{Deadlines, Fabrics, Harness, MemoryHarness};
use trespass_core::{Fabric, Incoming, Listener, MemoryFabric, Unsent};
use trespass_mock::{
    MockAccepting, MockAddr, MockConfig, MockConnecting, MockError, MockFabric, MockIncoming, MockListener, MockNet,
    MockTimer,
};

use crate::fault::Fault;
use crate::region::{BrokenRegion, Origin};
use crate::track::BrokenTrack;

/// A fabric with a fault.
#[derive(Clone)]
pub(crate) struct Broken {
    pub(crate) fault: Fault,
    mock: MockFabric,
    /// Shared by the handles alone.
    handle: Arc<()>,
    /// Whether a track was dropped with operations under way.
    pub(crate) dropped: Arc<AtomicBool>,
}

/// What tracks know of their fabric.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) origin: Origin,
    pub(crate) dropped: Arc<AtomicBool>,
    pub(crate) acceptor: bool,
}

impl Broken {
    fn origin(&self) -> Origin {
        Origin { fault: self.fault, mock: self.mock.clone(), handle: Arc::downgrade(&self.handle) }
    }

    fn shared(&self, acceptor: bool) -> Shared {
        Shared { origin: self.origin(), dropped: Arc::clone(&self.dropped), acceptor }
    }
}

impl Fabric for Broken {
    type Addr = MockAddr;
    type Error = MockError;
    type Timer = MockTimer;
    type Track = BrokenTrack;
    type Listener = BrokenListener;
    type Connecting = Wrapping<MockConnecting>;

    fn listen(&self, addr: &MockAddr) -> Result<BrokenListener, MockError> {
        Ok(BrokenListener { mock: self.mock.listen(addr)?, shared: self.shared(true) })
    }

    fn connect(&self, addr: &MockAddr) -> Self::Connecting {
        Wrapping { mock: self.mock.connect(addr), shared: self.shared(false) }
    }

    fn timer(&self) -> MockTimer {
        self.mock.timer()
    }
}

impl MemoryFabric for Broken {
    type Region = BrokenRegion;

    fn alloc(&self, len: usize) -> Result<BrokenRegion, MockError> {
        let len = if self.fault == Fault::AllocatesNothing { len.max(1) } else { len };
        let mut mock = self.mock.alloc(len)?;
        match self.fault {
            Fault::AllocIsNotBlank => mock[len - 1] = 7,
            Fault::ReusesMemoryOfTheDropped if self.dropped.load(Ordering::Acquire) => mock.fill(0x5A),
            _ => {}
        }
        Ok(BrokenRegion { mock, origin: self.origin() })
    }

    fn adopt(&self, memory: Box<[u8]>) -> Result<BrokenRegion, Unsent<Box<[u8]>, MockError>> {
        let mut mock = self.mock.adopt(memory)?;
        if self.fault == Fault::AdoptingBlanks {
            mock.fill(0);
        }
        Ok(BrokenRegion { mock, origin: self.origin() })
    }
}

/// A handshake.
pub(crate) struct Wrapping<F> {
    mock: F,
    shared: Shared,
}

impl<F> Future for Wrapping<F>
where
    F: Future<Output = Result<trespass_mock::MockTrack, MockError>> + Unpin,
{
    type Output = Result<BrokenTrack, MockError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        Pin::new(&mut this.mock).poll(cx).map_ok(|mock| BrokenTrack::new(mock, this.shared.clone()))
    }
}

pub(crate) struct BrokenListener {
    mock: MockListener,
    shared: Shared,
}

impl Listener for BrokenListener {
    type Addr = MockAddr;
    type Error = MockError;
    type Track = BrokenTrack;
    type Incoming = BrokenIncoming;

    fn local(&self) -> MockAddr {
        self.mock.local()
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<BrokenIncoming, MockError>> {
        self.mock.poll_incoming(cx).map_ok(|mock| BrokenIncoming { mock, shared: self.shared.clone() })
    }

    fn close(&mut self) {
        self.mock.close();
    }
}

pub(crate) struct BrokenIncoming {
    mock: MockIncoming,
    shared: Shared,
}

impl Incoming for BrokenIncoming {
    type Addr = MockAddr;
    type Error = MockError;
    type Track = BrokenTrack;
    type Accepting = Wrapping<MockAccepting>;

    fn peer(&self) -> MockAddr {
        self.mock.peer()
    }

    fn accept(self) -> Self::Accepting {
        Wrapping { mock: self.mock.accept(), shared: self.shared }
    }

    fn refuse(self) {
        self.mock.refuse();
    }

    fn busy(self) {
        self.mock.busy();
    }
}

const DEADLINES: Deadlines = Deadlines { handshake: Duration::from_millis(400), close: Duration::from_millis(400) };

/// Runs the kit for a fabric with a fault.
pub(crate) struct BrokenHarness {
    fault: Fault,
    pub(crate) patience: Duration,
}

impl BrokenHarness {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault, patience: Duration::from_secs(30) }
    }
}

impl Harness for BrokenHarness {
    type Fabric = Broken;

    fn fabrics(&self) -> Fabrics<Broken> {
        let net = MockNet::new();
        let config = MockConfig::default().with_max_message(4096).with_send_slots(8).with_recv_slots(8);
        let broken = || Broken {
            fault: self.fault,
            mock: net.fabric(config.clone().with_fetch_slots(6)).expect("a good configuration"),
            handle: Arc::default(),
            dropped: Arc::default(),
        };
        Fabrics { server: broken(), client: broken() }
    }

    fn listen_addr(&self) -> MockAddr {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        MockAddr::new(&format!("server-{}", NEXT.fetch_add(1, Ordering::Relaxed))).expect("an address")
    }

    fn vacant_addr(&self) -> MockAddr {
        "nobody".parse().expect("an address")
    }

    fn deadlines(&self) -> Deadlines {
        DEADLINES
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn doorbells(&self, track: &BrokenTrack) -> Option<u64> {
        Some(track.sender.mock().counters().doorbells)
    }

    fn arms(&self, track: &BrokenTrack) -> Option<u64> {
        Some(track.sender.mock().counters().arms)
    }
}

impl MemoryHarness for BrokenHarness {}
