//! Nets and fabrics: who shares an address space, and who makes tracks in it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use trespass_core::{Fabric, Limits};

use crate::addr::MockAddr;
use crate::clock::{MockDriver, MockTimer};
use crate::config::MockConfig;
use crate::conn::End;
use crate::connect::{Joined, MockConnecting, Request};
use crate::counters::MockCounters;
use crate::datagram::{Directory, Member, MockDatagramConfig, MockDatagrams};
use crate::error::MockError;
use crate::listen::{ListenerShared, MockListener};
use crate::memory::Domain;
use crate::registry::Registry;
use crate::sim::{MockPlan, Trouble};
use crate::sync::{Mutex, lock};
use crate::track::MockTrack;

/// An address space in this process, with a clock: fabrics made from one net reach each other, and nobody else.
///
/// Cheap to clone: a handle.
///
/// ```
/// use trespass_mock::{MockConfig, MockNet};
///
/// let net = MockNet::new();
/// let server = net.fabric(MockConfig::default()).unwrap();
/// let client = net.fabric(MockConfig::default().with_send_slots(8)).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct MockNet {
    shared: Arc<NetShared>,
}

#[derive(Debug)]
struct NetShared {
    timer: MockTimer,
    listeners: Mutex<HashMap<MockAddr, Arc<ListenerShared<MockTrack>>>>,
    datagrams: Directory,
    /// What the next connector is called.
    connectors: AtomicU64,
    /// That of a simulation.
    trouble: Option<Arc<Trouble>>,
}

impl MockNet {
    /// A net in real time.
    pub fn new() -> Self {
        Self::with_timer(MockTimer::real(), None)
    }

    /// A net in virtual time, which starts at zero, and what moves it. See [`MockDriver`].
    pub fn virtual_time() -> (Self, MockDriver) {
        let (timer, driver) = MockTimer::driven();
        (Self::with_timer(timer, None), driver)
    }

    /// A net in real time in which a plan slows things down, by the chances of `seed`: for tests that have threads of their own,
    /// which no [`MockSim`](crate::MockSim) can have.
    ///
    /// # Errors
    /// Kind `Config` for a plan with events that end something, or break a handshake: they need a simulation.
    pub fn with_plan(seed: u64, plan: MockPlan) -> Result<Self, MockError> {
        match plan.events.iter().find(|event| !event.fault.lasts()) {
            None => Ok(Self::simulated(&Trouble::new(seed, plan, MockTimer::real()))),
            Some(event) => Err(MockError::Config {
                field: "events",
                value: format!("{:?}", event.fault),
                must: "a stall, a partition or the like: what ends something needs a `MockSim`",
            }),
        }
    }

    /// The net of a simulation.
    pub(crate) fn simulated(trouble: &Arc<Trouble>) -> Self {
        Self::with_timer(trouble.timer().clone(), Some(Arc::clone(trouble)))
    }

    fn with_timer(timer: MockTimer, trouble: Option<Arc<Trouble>>) -> Self {
        let (listeners, connectors) = (Mutex::default(), AtomicU64::new(0));
        Self { shared: Arc::new(NetShared { timer, listeners, datagrams: Directory::new(), connectors, trouble }) }
    }

    /// A fabric in this net: think of it as one process with one device.
    ///
    /// # Errors
    /// Kind `Config` where a setting is out of its range; it names the setting.
    pub fn fabric(&self, config: MockConfig) -> Result<MockFabric, MockError> {
        Ok(self.fabric_of(config.checked()?))
    }

    fn fabric_of(&self, config: MockConfig) -> MockFabric {
        let trouble = self.shared.trouble.as_ref();
        MockFabric {
            shared: Arc::new_cyclic(|shared| FabricShared {
                number: trouble.map_or(0, |trouble| trouble.adopt(shared)),
                limits: config.limits(),
                domain: Arc::new(Domain::new(config.memory_limit, trouble.map(|trouble| trouble.secret()))),
                config,
                net: Arc::clone(&self.shared),
                killed: AtomicBool::new(false),
                ends: Registry::default(),
                members: Registry::default(),
                listeners: Registry::default(),
                requests: Registry::default(),
                retired: Mutex::default(),
            }),
        }
    }
}

impl Default for MockNet {
    fn default() -> Self {
        Self::new()
    }
}

/// A fabric of a [`MockNet`]: makes listeners and tracks. Cheap to clone: a handle.
///
/// The example of this crate's first page sends messages by it. It has one-sided memory, too:
/// ```
/// use trespass_core::{
///     Access, Completed, Fabric, Incoming, ListenerExt, MemoryFabric, Region, RemoteMemory, RemoteMemoryExt, SharedRegion, Window,
/// };
/// use trespass_mock::{MockError, MockFabric};
///
/// # futures_executor::block_on(async {
/// let fabric = MockFabric::new();
/// let mut listener = fabric.listen(&"server".parse()?)?;
/// let connecting = fabric.connect(&"server".parse()?);
/// let _server = listener.incoming().await?.accept().await?;
/// let mut client = connecting.await?;
///
/// // The server lends its memory, and the client is told of the window, here in passing.
/// let mut lent = fabric.alloc(5)?;
/// lent.copy_from_slice(b"hello");
/// let lent = lent.share();
/// let window = lent.export(0..5, Access::ReadOnly)?;
/// let remote = window.remote().slice(0, 5).expect("it lies inside");
///
/// let permit = client.fetch_permit().await?;
/// client.read(permit, fabric.alloc(5)?, 0, remote, 7).map_err(|unsent| unsent.error)?;
/// let Completed::Memory { region, result, tag: 7 } = client.completed().await? else { panic!("a read was queued") };
/// result?;
/// assert_eq!(&*region, b"hello");
/// # Ok::<(), MockError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct MockFabric {
    pub(crate) shared: Arc<FabricShared>,
}

impl MockFabric {
    /// A fabric with the default configuration, alone in a net of its own, in real time. It may connect to itself.
    pub fn new() -> Self {
        MockNet::new().fabric_of(MockConfig::default())
    }

    /// How it is set up.
    pub fn config(&self) -> &MockConfig {
        &self.shared.config
    }

    /// What all its tracks together have done so far, those that are gone included. Takes time with each live track.
    pub fn counters(&self) -> MockCounters {
        let live = self.shared.ends.live();
        let mut sum = *lock(&self.shared.retired);
        for end in &live {
            sum += end.counters();
        }
        for member in self.shared.members.live() {
            sum += member.counters();
        }
        sum
    }

    /// Dies as a process does that is sent SIGKILL: every track, listener and connection request of this fabric is gone at
    /// once. What had not reached a peer is lost; peers see their tracks closed and their connects refused.
    ///
    /// What the "dead" still call fails with [`MockError::Killed`], after what had arrived was received; so does every
    /// new `listen` and `connect`. There is no way back: make another fabric.
    pub fn kill(&self) {
        // Before the lists are read: whoever adds to them afterwards looks at it.
        self.shared.killed.store(true, Ordering::SeqCst);
        for listener in self.shared.listeners.live() {
            listener.kill(&self.shared);
        }
        for request in self.shared.requests.live() {
            request.kill(&self.shared);
        }
        for end in self.shared.ends.live() {
            end.kill();
        }
        for member in self.shared.members.live() {
            member.kill(&self.shared);
        }
        // Only now: nobody is to see its accesses refused.
        self.shared.domain.kill();
    }

    /// Datagrams of this fabric: the twin of what `trespass-verbs` has under the same name.
    ///
    /// # Errors
    /// Kind `Config` where a setting is out of its range; it names the setting.
    pub fn datagrams(&self, config: MockDatagramConfig) -> Result<MockDatagrams, MockError> {
        MockDatagrams::new(&self.shared, config)
    }

    /// Breaks the link of every reliable track that this fabric has now: both ends fail with kind `Disconnected`, after what had
    /// arrived was received. Listeners, connection requests and later tracks are none the worse.
    pub fn break_link(&self) {
        for end in self.shared.ends.live() {
            end.break_link();
        }
    }
}

impl Default for MockFabric {
    fn default() -> Self {
        Self::new()
    }
}

impl Fabric for MockFabric {
    type Addr = MockAddr;
    type Error = MockError;
    type Timer = MockTimer;
    type Track = MockTrack;
    type Listener = MockListener;
    type Connecting = MockConnecting;

    fn listen(&self, addr: &MockAddr) -> Result<MockListener, MockError> {
        self.shared.listen(addr)
    }

    fn connect(&self, addr: &MockAddr) -> MockConnecting {
        self.shared.connect(addr).unwrap_or_else(MockConnecting::failed)
    }

    fn timer(&self) -> MockTimer {
        self.shared.timer().clone()
    }
}

/// What dies with a fabric.
pub(crate) trait Mortal: fmt::Debug + Send + Sync {
    /// `whose` was killed. No lock may be held.
    fn kill(&self, whose: &Arc<FabricShared>);
}

/// What the handles of a fabric share, and its tracks, listeners and requests hold on to.
#[derive(Debug)]
pub(crate) struct FabricShared {
    /// Which of a simulation it is.
    number: usize,
    config: MockConfig,
    limits: Limits,
    domain: Arc<Domain>,
    net: Arc<NetShared>,
    killed: AtomicBool,
    ends: Registry<End>,
    members: Registry<Member>,
    listeners: Registry<dyn Mortal>,
    /// Those that this fabric made, and those that it has to answer.
    requests: Registry<dyn Mortal>,
    /// The counters of tracks that are gone.
    retired: Mutex<MockCounters>,
}

impl FabricShared {
    pub(crate) fn config(&self) -> &MockConfig {
        &self.config
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// What happens in its net, if that is simulated.
    pub(crate) fn trouble(&self) -> Option<&Arc<Trouble>> {
        self.net.trouble.as_ref()
    }

    /// Which of a simulation it is.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// The tracks that it has now.
    pub(crate) fn live_ends(&self) -> Vec<Arc<End>> {
        self.ends.live()
    }

    /// Its memory.
    pub(crate) fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// Where datagrams go in its net.
    pub(crate) fn directory(&self) -> &Directory {
        &self.net.datagrams
    }

    pub(crate) fn timer(&self) -> &MockTimer {
        &self.net.timer
    }

    /// Fails once the fabric was killed.
    pub(crate) fn alive(&self) -> Result<(), MockError> {
        match self.killed.load(Ordering::SeqCst) {
            true => Err(MockError::Killed),
            false => Ok(()),
        }
    }

    fn listen(self: &Arc<Self>, addr: &MockAddr) -> Result<MockListener, MockError> {
        self.alive()?;
        let listener = match lock(&self.net.listeners).entry(addr.clone()) {
            Entry::Occupied(_) => return Err(MockError::AddressInUse { addr: addr.clone() }),
            Entry::Vacant(place) => {
                Arc::clone(place.insert(Arc::new(ListenerShared::new(addr.clone(), Arc::clone(self)))))
            }
        };
        self.note_listener(&listener);
        let listener = MockListener::new(listener);
        // Killed meanwhile: the list may have been read before the listener was in it.
        self.alive()?;
        Ok(listener)
    }

    /// The address of `listener` is free again.
    pub(crate) fn unlisten(&self, listener: &ListenerShared<MockTrack>) {
        let mut listeners = lock(&self.net.listeners);
        let gone = match listeners.entry(listener.addr().clone()) {
            Entry::Occupied(place) if std::ptr::eq(Arc::as_ptr(place.get()), listener) => Some(place.remove()),
            _ => None,
        };
        drop(listeners);
        drop(gone);
    }

    fn connect(self: &Arc<Self>, addr: &MockAddr) -> Result<MockConnecting, MockError> {
        self.alive()?;
        let listener = lock(&self.net.listeners).get(addr).cloned();
        let listener = listener.ok_or_else(|| MockError::NobodyListens { addr: addr.clone() })?;
        self.request(addr, &listener, Arc::clone(self))
    }

    /// Asks `listener`, at `addr`, for a track of `connector`'s, which is of this fabric.
    pub(crate) fn request<T: Joined>(
        &self,
        addr: &MockAddr,
        listener: &ListenerShared<T>,
        connector: T::Connector,
    ) -> Result<MockConnecting<T>, MockError> {
        let name = MockAddr::of_connector(self.net.connectors.fetch_add(1, Ordering::Relaxed));
        let request = Arc::new(Request::new(name, addr.clone(), connector));
        self.note(&request);
        listener.enqueue(&request)?;
        let connecting = MockConnecting::waiting(request);
        self.alive()?;
        Ok(connecting)
    }

    /// Takes note of a new listener.
    pub(crate) fn note_listener<T: Joined>(&self, listener: &Arc<ListenerShared<T>>) {
        let listener: Arc<dyn Mortal> = Arc::clone(listener) as _;
        self.listeners.add(&listener);
    }

    /// Takes note of a request that this fabric made, or is to answer.
    pub(crate) fn note<T: Joined>(&self, request: &Arc<Request<T>>) {
        let request: Arc<dyn Mortal> = Arc::clone(request) as _;
        self.requests.add(&request);
    }

    /// Takes note of a new sender and receiver of datagrams; one of a fabric that was killed meanwhile dies at once.
    pub(crate) fn adopt_member(self: &Arc<Self>, member: &Arc<Member>) {
        self.members.add(member);
        if self.alive().is_err() {
            member.kill(self);
        }
    }

    /// Takes note of a new end; one of a fabric that was killed meanwhile dies at once.
    pub(crate) fn adopt(&self, end: &Arc<End>) {
        self.ends.add(end);
        if self.alive().is_err() {
            end.kill();
        }
    }

    /// Keeps what an end that goes has counted.
    pub(crate) fn retire(&self, counters: MockCounters) {
        *lock(&self.retired) += counters;
    }
}
