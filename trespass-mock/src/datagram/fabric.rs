//! `MockDatagrams`: the datagrams of one fabric.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use trespass_core::{Fabric, PortFabric};

use super::addressed::MockPort;
use super::config::MockDatagramConfig;
use super::faults::MockFaults;
use super::member::Member;
use super::port::{Place, Port, Seat};
use super::queues::{Inward, Sends};
use super::recv::MockPeer;
use super::track::MockDatagramTrack;
use crate::addr::MockAddr;
use crate::clock::MockTimer;
use crate::connect::{Joined, Maker, MockConnecting};
use crate::error::MockError;
use crate::fabric::FabricShared;
use crate::listen::{ListenerShared, MockListener};
use crate::sync::{Mutex, lock};

/// Unreliable datagrams on a [`MockFabric`](crate::MockFabric), in its net and by its clock: [ports](MockPort) of many peers,
/// and [tracks](MockDatagramTrack) of one. Cheap to clone: a handle.
///
/// The deadline of handshakes and the backlog of listeners are those of the fabric. Datagrams have addresses of their own:
/// a listener for reliable tracks may have the same.
///
/// # Examples
/// ```
/// use trespass_core::{Port, PortExt, PortFabric, Sourced};
/// use trespass_mock::{MockDatagramConfig, MockError, MockFabric};
///
/// # futures_executor::block_on(async {
/// let datagrams = MockFabric::new().datagrams(MockDatagramConfig::default())?;
/// let mut asks = datagrams.open_port(&"asks".parse()?)?;
/// let mut answers = datagrams.open_port(&"answers".parse()?)?;
/// let peer = datagrams.resolve(&"answers".parse()?).await?;
/// let mut buf = asks.reserve(5).await?;
/// buf.copy_from_slice(b"hello");
/// asks.send_to(buf, &peer).map_err(|unsent| unsent.error)?;
/// asks.flush()?;
/// let question = answers.recv().await?;
/// assert_eq!((&*question, question.source()), (&b"hello"[..], asks.peer()));
/// # Ok::<(), MockError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct MockDatagrams {
    shared: Arc<Datagrams>,
}

/// What all ports of a fabric have in common.
#[derive(Debug)]
pub(crate) struct Datagrams {
    fabric: Arc<FabricShared>,
    config: MockDatagramConfig,
    /// How many tracks and ports were made.
    made: AtomicU64,
    /// What the network did to the datagrams of those that are gone.
    retired: Arc<Mutex<MockFaults>>,
}

impl Datagrams {
    /// The queues of a new member.
    fn queues(&self, member: &Arc<Member>) -> (Sends, Inward) {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        (Sends::new(member, &self.config, number, &self.retired), Inward::new(member))
    }

    fn open_port(&self, addr: &MockAddr) -> Result<MockPort, MockError> {
        self.fabric.alive()?;
        let port = Port::new(&self.fabric);
        self.fabric.directory().occupy(addr, Place::Port(port.number()))?;
        let seat = (&port, Seat::Anyone, 1);
        // A new port is nobody's.
        let member = Member::new(&self.fabric, &self.config, seat, Some(addr.clone()), self.config.mtu);
        let (sends, inward) = self.queues(&member.ok_or(MockError::Closed)?);
        let port = MockPort::new(sends, inward, addr.clone());
        // Killed meanwhile.
        self.fabric.alive()?;
        Ok(port)
    }

    fn listen(self: &Arc<Self>, addr: &MockAddr) -> Result<MockListener<MockDatagramTrack>, MockError> {
        self.fabric.alive()?;
        let host = Arc::new(Host { datagrams: Arc::clone(self), port: Port::new(&self.fabric) });
        let listener = Arc::new(ListenerShared::new(addr.clone(), host));
        self.fabric.directory().occupy(addr, Place::Listener(Arc::clone(&listener)))?;
        self.fabric.note_listener(&listener);
        let listener = MockListener::new(listener);
        // Killed meanwhile: the list may have been read before the listener was in it.
        self.fabric.alive()?;
        Ok(listener)
    }

    fn connect(self: &Arc<Self>, addr: &MockAddr) -> Result<MockConnecting<MockDatagramTrack>, MockError> {
        self.fabric.alive()?;
        match self.fabric.directory().at(addr)? {
            Place::Listener(listener) => self.fabric.request(addr, &listener, Arc::clone(self)),
            Place::Port(_) => Err(MockError::Refused { addr: addr.clone() }),
        }
    }

    fn resolve(&self, addr: &MockAddr) -> Result<MockPeer, MockError> {
        self.fabric.alive()?;
        match self.fabric.directory().at(addr)? {
            Place::Port(number) => Ok(self.fabric.directory().peer(number)),
            Place::Listener(_) => Err(MockError::Refused { addr: addr.clone() }),
        }
    }
}

impl Maker for Arc<Datagrams> {
    fn fabric(&self) -> &Arc<FabricShared> {
        &self.fabric
    }
}

/// What the tracks of a listener are made by: they share its port.
#[derive(Debug)]
pub(crate) struct Host {
    datagrams: Arc<Datagrams>,
    port: Arc<Port>,
}

impl Host {
    /// That there may not be another track.
    fn full(&self, addr: &MockAddr) -> MockError {
        MockError::TracksFull { addr: addr.clone(), tracks: self.datagrams.config.tracks }
    }
}

impl Maker for Arc<Host> {
    fn fabric(&self) -> &Arc<FabricShared> {
        &self.datagrams.fabric
    }
}

impl Joined for MockDatagramTrack {
    type Connector = Arc<Datagrams>;
    type Acceptor = Arc<Host>;

    fn admit(listener: &ListenerShared<Self>) -> Result<(), MockError> {
        let host = listener.maker();
        match host.port.taken() < host.datagrams.config.tracks {
            true => Ok(()),
            false => Err(host.full(listener.addr())),
        }
    }

    fn unlisten(listener: &ListenerShared<Self>) {
        let is_it = |place: &Place| matches!(place, Place::Listener(at) if std::ptr::eq(Arc::as_ptr(at), listener));
        listener.maker().fabric().directory().vacate(listener.addr(), is_it);
    }

    fn join(
        (near, from): (&Arc<Datagrams>, &MockAddr),
        (host, to): (&Arc<Host>, &MockAddr),
    ) -> Result<[Self; 2], MockError> {
        let far = &host.datagrams;
        let mtu = near.config.mtu.min(far.config.mtu);
        let port = Port::new(&near.fabric);
        let seat = (&host.port, Seat::Peer(port.number()), far.config.tracks);
        let ours = Member::new(&far.fabric, &far.config, seat, None, mtu).ok_or_else(|| host.full(to))?;
        let ours = Self::new(far.queues(&ours), &port, to, from);
        let seat = (&port, Seat::Peer(host.port.number()), 1);
        // A new port is nobody's.
        let theirs = Member::new(&near.fabric, &near.config, seat, None, mtu).ok_or(MockError::Closed)?;
        Ok([Self::new(near.queues(&theirs), &host.port, from, to), ours])
    }
}

impl MockDatagrams {
    pub(crate) fn new(fabric: &Arc<FabricShared>, config: MockDatagramConfig) -> Result<Self, MockError> {
        let (fabric, config) = (Arc::clone(fabric), config.checked()?);
        let (made, retired) = (AtomicU64::new(0), Arc::default());
        Ok(Self { shared: Arc::new(Datagrams { fabric, config, made, retired }) })
    }

    /// How they are set up, the seed of their faults included.
    pub fn config(&self) -> &MockDatagramConfig {
        &self.shared.config
    }

    /// What the network did to the datagrams of all its tracks and ports that are gone.
    pub fn faults(&self) -> MockFaults {
        *lock(&self.shared.retired)
    }
}

impl Fabric for MockDatagrams {
    type Addr = MockAddr;
    type Error = MockError;
    type Timer = MockTimer;
    type Track = MockDatagramTrack;
    type Listener = MockListener<MockDatagramTrack>;
    type Connecting = MockConnecting<MockDatagramTrack>;

    fn listen(&self, addr: &MockAddr) -> Result<Self::Listener, MockError> {
        self.shared.listen(addr)
    }

    fn connect(&self, addr: &MockAddr) -> Self::Connecting {
        self.shared.connect(addr).unwrap_or_else(MockConnecting::failed)
    }

    fn timer(&self) -> MockTimer {
        self.shared.fabric.timer().clone()
    }
}

impl PortFabric for MockDatagrams {
    type Port = MockPort;
    type Resolving = MockResolving;

    fn open_port(&self, addr: &MockAddr) -> Result<MockPort, MockError> {
        self.shared.open_port(addr)
    }

    /// Done at once.
    fn resolve(&self, addr: &MockAddr) -> MockResolving {
        MockResolving { outcome: Some(self.shared.resolve(addr)) }
    }
}

impl fmt::Debug for MockDatagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockDatagrams").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// A port that is being looked for: ready at the first poll. Further polls give kind `Closed`.
#[derive(Debug)]
pub struct MockResolving {
    outcome: Option<Result<MockPeer, MockError>>,
}

impl Future for MockResolving {
    type Output = Result<MockPeer, MockError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<MockPeer, MockError>> {
        Poll::Ready(self.outcome.take().unwrap_or(Err(MockError::Closed)))
    }
}
