//! Ports coming up and going down, and how they find each other.
//!
//! A request is one message of the connection manager, its answer another. Either may be lost, so a request is made again,
//! with the same nonce, until there is an answer or the deadline passes; and whoever is asked gives the same answer to the
//! same nonce. The kernel would ask again too, after four seconds.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rdma_mummy_sys::{ibv_ah_attr, ud_t};

use super::asking::Listening;
use super::entry::{Entry, ListenerShared};
use super::failures::{Failed, REMOVED};
use super::handshake::{BUSY, EXPIRED};
use super::setup::listen_error;
use super::{Control, Handle, Ticket, VerbsDriver};
use crate::datagram::{Datagrams, Hello, KEYS, Parts, Port, UnreliableTrack, VerbsPeer, VerbsPort, Wanted};
use crate::error::VerbsError;
use crate::hub::{Member, Source, Supply};
use crate::promise::Promise;
use crate::raw::ah::Ah;
use crate::raw::cm::{CmEvent, CmEventKind, CmId, PrivateData};

/// How long after a request it is made again, at first; then twice as long each time, up to the other.
const FIRST_STEP: Duration = Duration::from_millis(200);
const LAST_STEP: Duration = Duration::from_secs(2);

/// A queue pair that is up.
pub(crate) struct PortEntry {
    pub(super) port: Arc<Port>,
    pub(super) role: Role,
}

pub(super) enum Role {
    /// Of a track that was connected, or a listener that is closed.
    Silent,
    /// Answers whoever looks for it.
    Addressed {
        _id: CmId,
    },
    Listening(Box<Listening>),
}

/// What is looked for.
pub(crate) struct Seeking {
    id: CmId,
    datagrams: Arc<Datagrams>,
    peer: SocketAddr,
    nonce: u64,
    attempt: u32,
    pub(super) want: Want,
    deadline: Duration,
    /// When the request is made again, or the deadline.
    pub(super) step: Duration,
    next_step: Duration,
}

/// Who wants to know.
pub(crate) enum Want {
    Track(Arc<Promise<UnreliableTrack>>, Option<(Arc<Port>, Arc<Member>)>),
    Peer(Arc<Promise<VerbsPeer>>),
}

impl Want {
    pub(crate) fn track(promise: &Arc<Promise<UnreliableTrack>>) -> Self {
        Self::Track(Arc::clone(promise), None)
    }

    pub(crate) fn peer(promise: &Arc<Promise<VerbsPeer>>) -> Self {
        Self::Peer(Arc::clone(promise))
    }

    /// Says that nothing came of it; a success goes to the promise itself.
    pub(super) fn resolve(self, outcome: Result<std::convert::Infallible, VerbsError>) {
        let Err(error) = outcome;
        match self {
            Self::Track(promise, built) => {
                drop(built);
                promise.resolve(Err(error));
            }
            Self::Peer(promise) => promise.resolve(Err(error)),
        }
    }
}

impl PortEntry {
    fn new(port: Arc<Port>, role: Role) -> Self {
        Self { port, role }
    }

    /// What requests of tracks wait in, where there may be any.
    pub(super) fn listener(&self) -> Option<&Arc<ListenerShared>> {
        match &self.role {
            Role::Listening(listening) => Some(&listening.shared),
            Role::Silent | Role::Addressed { .. } => None,
        }
    }

    /// Ends it.
    pub(super) fn shut(self) {
        if let Some(listener) = self.listener() {
            drop(listener.close());
        }
        self.port.end(None);
    }
}

/// A number that nobody guesses by chance.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

fn random_key() -> u32 {
    random() as u32 & KEYS
}

impl Control {
    /// Listens for requests for datagrams, on a queue pair for all tracks to come.
    pub(crate) fn listen_for_datagrams(
        self: &Arc<Self>,
        datagrams: &Arc<Datagrams>,
        addr: SocketAddr,
    ) -> Result<(SocketAddr, Arc<ListenerShared>, Arc<Ticket>), VerbsError> {
        let shared = ListenerShared::new(self.config.backlog);
        let (seats, key) = (datagrams.config.tracks, random_key());
        let (token, local, _) = self.open(datagrams, addr, seats, key, |_, id| {
            Ok((Role::Listening(Listening::new(id, datagrams, &shared)), ()))
        })?;
        Ok((local, shared, Arc::new(Ticket { handle: Handle::new(self), token })))
    }

    /// Opens a port that answers whoever looks for it.
    pub(crate) fn open_port(
        self: &Arc<Self>,
        datagrams: &Arc<Datagrams>,
        addr: SocketAddr,
    ) -> Result<VerbsPort, VerbsError> {
        let key = datagrams.config.key;
        let (token, local, (port, member)) = self.open(datagrams, addr, 1, key, |port, id| {
            let member = port.sit(&datagrams.pools)?;
            port.route_all(&member);
            Ok((Role::Addressed { _id: id }, (Arc::clone(port), member)))
        })?;
        let ticket = Ticket { handle: Handle::new(self), token };
        let ways = datagrams.ways_from(local);
        Ok(VerbsPort::new(port, member, ways, local, self.config.close_timeout, ticket))
    }

    /// Makes a port with `seats` at `addr`, with the role and what else comes of it and its identifier.
    fn open<T>(
        self: &Arc<Self>,
        datagrams: &Datagrams,
        addr: SocketAddr,
        seats: usize,
        key: u32,
        role: impl FnOnce(&Arc<Port>, CmId) -> Result<(Role, T), VerbsError>,
    ) -> Result<(u64, SocketAddr, T), VerbsError> {
        if !self.is_driven() {
            return Err(VerbsError::Closed);
        }
        // Under the lock, so that the first request finds it.
        let mut state = self.state();
        let token = state.entries.reserve();
        let opened = || {
            self.device.sources.check_listen(addr)?;
            let failed = |error| listen_error(addr, &error);
            let id = CmId::of_datagrams(&self.channel, token).map_err(failed)?;
            id.bind(addr).map_err(failed)?;
            if id.device_name().is_some_and(|name| name != self.device.name) {
                let why = format!("it is not an address of {}", self.device.name);
                return Err(VerbsError::Unreachable { peer: addr, why });
            }
            let port = Arc::new(Port::new(self, token, datagrams.shape, seats, key)?);
            id.listen(i32::try_from(self.config.backlog).unwrap_or(i32::MAX)).map_err(failed)?;
            let local = id.local().unwrap_or(addr);
            let (role, rest) = role(&port, id)?;
            Ok((PortEntry::new(port, role), local, rest))
        };
        match opened() {
            Ok((entry, local, rest)) => {
                state.entries.put(token, Entry::Port(entry));
                Ok((token, local, rest))
            }
            Err(error) => {
                state.entries.remove(token);
                Err(error)
            }
        }
    }

    /// Stops listening for datagrams: the address is free again when this returns. The tracks live on.
    pub(crate) fn unlisten_for_datagrams(&self, token: u64) {
        let mut state = self.state();
        let role = match state.entries.get_mut(token) {
            Some(Entry::Port(port)) => std::mem::replace(&mut port.role, Role::Silent),
            _ => return,
        };
        drop(state);
        drop(role);
    }

    /// Begins to look for the port at `peer`.
    pub(crate) fn seek(&self, datagrams: &Arc<Datagrams>, peer: SocketAddr, want: Want) -> Result<u64, VerbsError> {
        let mut state = self.state();
        let token = state.entries.reserve();
        match self.look_for(CmId::of_datagrams(&self.channel, token), peer) {
            Ok(id) => {
                let deadline = self.handshake_deadline();
                let step = deadline.min(self.now() + FIRST_STEP);
                let (datagrams, nonce) = (Arc::clone(datagrams), random());
                let next_step = FIRST_STEP * 2;
                let seeking = Seeking { id, datagrams, peer, nonce, attempt: 0, want, deadline, step, next_step };
                state.entries.put(token, Entry::Seeking(Box::new(seeking)));
                state.deadlines.insert((step, token));
                Ok(token)
            }
            Err(error) => {
                state.entries.remove(token);
                Err(error)
            }
        }
    }
}

impl Seeking {
    /// Asks the peer, once the way there is known; what is asked for is built before that.
    fn ask(&mut self, control: &Arc<Control>, token: u64) -> Result<(), VerbsError> {
        let (number, key, wanted) = match &mut self.want {
            Want::Peer(_) => (0, 0, Wanted::Port),
            Want::Track(_, built) => {
                let (port, _) = match built {
                    Some(built) => built,
                    None => built.insert(build(control, token, &self.datagrams)?),
                };
                (port.qp.number(), port.key, Wanted::Track)
            }
        };
        let hello = Hello {
            wanted,
            number,
            key,
            mtu: self.datagrams.shape.mtu as u32,
            nonce: self.nonce,
            attempt: self.attempt,
        };
        let unreachable = |error: io::Error| VerbsError::Unreachable { peer: self.peer, why: error.to_string() };
        self.id.ask(number, &hello.encode()).map_err(unreachable)
    }

    /// A new request in place of the one that nobody answered.
    fn ask_again(&mut self, control: &Control, token: u64) -> Result<(), VerbsError> {
        self.attempt += 1;
        self.id = control.look_for(CmId::of_datagrams(&control.channel, token), self.peer)?;
        self.step = self.deadline.min(control.now() + self.next_step);
        self.next_step = LAST_STEP.min(self.next_step * 2);
        Ok(())
    }
}

/// A port for one track, with its user.
fn build(control: &Arc<Control>, token: u64, datagrams: &Datagrams) -> Result<(Arc<Port>, Arc<Member>), VerbsError> {
    let port = Arc::new(Port::new(control, token, datagrams.shape, 1, random_key())?);
    let member = port.sit(&datagrams.pools)?;
    Ok((port, member))
}

/// A track of `member` with the peer behind `source`, which said `hello`.
pub(super) fn make_track(
    control: &Control,
    (port, member): (Arc<Port>, Arc<Member>),
    source: Source,
    hello: &Hello,
    way: ibv_ah_attr,
    (local, peer): (SocketAddr, SocketAddr),
    ticket: Arc<Ticket>,
) -> Result<UnreliableTrack, VerbsError> {
    let handle = Arc::new(Ah::new(&control.device.pd, way)?);
    let way = ud_t { ah: handle.raw(), remote_qpn: hello.number, remote_qkey: hello.key };
    port.hold(&member, 0, handle);
    port.route(source, &member);
    let mtu = port.shape.mtu.min(hello.mtu as usize);
    let close_timeout = control.config.close_timeout;
    // SAFETY: the port holds the handle for this member, above.
    Ok(unsafe { UnreliableTrack::new(Parts { port, member, way, mtu, local, peer, close_timeout, ticket }) })
}

impl VerbsDriver {
    /// Whether `event` is for something of datagrams.
    pub(super) fn is_of_datagrams(&self, event: &CmEvent) -> bool {
        use CmEventKind as kind;
        match event.what {
            kind::DatagramRequest { .. } | kind::DatagramAnswer { .. } | kind::DatagramRefused { .. } => true,
            _ => matches!(self.control.state().entries.get_mut(event.token), Some(Entry::Seeking(_) | Entry::Port(_))),
        }
    }

    pub(super) fn handle_datagrams(&mut self, event: CmEvent) {
        let CmEvent { token, status, what } = event;
        let system = || io::Error::from_raw_os_error(status.abs());
        match what {
            CmEventKind::DatagramRequest { id, data } => self.asked(token, id, &data),
            CmEventKind::AddrResolved => self.seek_route(token),
            CmEventKind::RouteResolved => self.seek_port(token),
            CmEventKind::DatagramAnswer { way, data } => self.answered(token, way, &data),
            CmEventKind::DatagramRefused { reason } => {
                let limit = self.control.config.handshake_timeout;
                self.fail_seeking(token, |peer| match reason {
                    Some(BUSY) => VerbsError::Busy { peer },
                    Some(EXPIRED) => VerbsError::TimedOut { what: "the handshake", limit },
                    _ => VerbsError::Refused { peer },
                });
            }
            CmEventKind::AddrUnresolved if status.abs() == libc::ETIMEDOUT => self.seek_address(token),
            // The next step asks again.
            CmEventKind::Unreachable if status.abs() == libc::ETIMEDOUT => {}
            CmEventKind::AddrUnresolved | CmEventKind::Unreachable => {
                self.fail_seeking(token, |peer| VerbsError::Unreachable { peer, why: system().to_string() });
            }
            CmEventKind::Failed => {
                let why = system().to_string();
                self.fail_seeking(token, |_| VerbsError::Device { action: "connect", why });
            }
            CmEventKind::DeviceRemoved => self.fail_all_of(Failed::Device, REMOVED),
            _ => {}
        }
    }

    /// Goes on with what is looked for by `step`; a failure ends that.
    fn seek(&mut self, token: u64, step: impl FnOnce(&Arc<Control>, &mut Seeking) -> Result<(), VerbsError>) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let Some(Entry::Seeking(seeking)) = state.entries.get_mut(token) else { return };
        let gone_on = step(&control, seeking);
        drop(state);
        if let Err(error) = gone_on {
            self.fail_seeking(token, |_| error);
        }
    }

    fn seek_address(&mut self, token: u64) {
        self.seek(token, |control, seeking| control.resolve(&seeking.id, seeking.peer));
    }

    fn seek_route(&mut self, token: u64) {
        self.seek(token, |control, seeking| {
            let (peer, ours) = (seeking.peer, &control.device.name);
            let name = seeking.id.device_name().unwrap_or_default();
            if name != *ours {
                let why = format!(
                    "the way there is through {name}, and this fabric is on {ours}; open it with_local or with_device"
                );
                return Err(VerbsError::Unreachable { peer, why });
            }
            let unreachable = |error: io::Error| VerbsError::Unreachable { peer, why: error.to_string() };
            seeking.id.resolve_route(control.config.handshake_timeout).map_err(unreachable)
        });
    }

    fn seek_port(&mut self, token: u64) {
        self.seek(token, |control, seeking| seeking.ask(control, token));
    }

    /// The peer has answered: what was looked for is found.
    fn answered(&mut self, token: u64, way: ibv_ah_attr, data: &PrivateData) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let Some(Entry::Seeking(seeking)) = state.entries.get_mut(token) else { return };
        let (nonce, step) = (seeking.nonce, seeking.step);
        let hello = Hello::parse(data).filter(|hello| hello.nonce == nonce && hello.number != 0);
        let Some(hello) = hello else {
            drop(state);
            self.fail_seeking(token, |peer| VerbsError::Protocol {
                peer,
                why: "its answer is none of this protocol; is it another program, or another version?",
            });
            return;
        };
        let Some(Entry::Seeking(seeking)) = state.entries.take(token) else { return };
        state.deadlines.remove(&(step, token));
        let Seeking { id, peer, want, .. } = *seeking;
        // SAFETY: a GID is 16 bytes, however they are read.
        let gid = unsafe { way.grh.dgid.raw }.into();
        match want {
            Want::Peer(promise) => {
                state.entries.remove(token);
                drop(state);
                drop(id);
                promise.resolve(Ok(VerbsPeer { gid, number: hello.number, key: hello.key }));
            }
            Want::Track(promise, built) => {
                let Some(built) = built else {
                    state.entries.remove(token);
                    drop(state);
                    promise.resolve(Err(VerbsError::Closed));
                    return;
                };
                let port = Arc::clone(&built.0);
                let local = id.local().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
                port.keep(id);
                state.entries.put(token, Entry::Port(PortEntry::new(port, Role::Silent)));
                drop(state);
                let ticket = Arc::new(Ticket { handle: Handle::new(&control), token });
                let source = Source { gid, number: hello.number };
                let track = make_track(&control, built, source, &hello, way, (local, peer), ticket);
                promise.resolve(track);
            }
        }
    }

    pub(super) fn fail_seeking(&mut self, token: u64, error: impl FnOnce(SocketAddr) -> VerbsError) {
        let is_seeking = matches!(self.control.state().entries.get_mut(token), Some(Entry::Seeking(_)));
        if let (true, Some(Entry::Seeking(seeking))) = (is_seeking, self.control.take(token)) {
            let Seeking { id, peer, want, .. } = *seeking;
            drop(id);
            want.resolve(Err(error(peer)));
        }
    }

    /// Time is up for what is at `token`, if that is of datagrams. Its deadline is out of the table.
    pub(super) fn step_datagrams(&mut self, token: u64, now: Duration) -> bool {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let limit = control.config.handshake_timeout;
        match state.entries.get_mut(token) {
            Some(Entry::Seeking(seeking)) if seeking.deadline <= now => {
                drop(state);
                self.fail_seeking(token, |_| VerbsError::TimedOut { what: "the handshake", limit });
            }
            Some(Entry::Seeking(seeking)) => {
                let asked = seeking.ask_again(&control, token);
                let step = seeking.step;
                match asked {
                    Ok(()) => {
                        state.deadlines.insert((step, token));
                    }
                    Err(error) => {
                        drop(state);
                        self.fail_seeking(token, |_| error);
                    }
                }
            }
            Some(Entry::Asking(_)) => {
                drop(state);
                if let Some(Entry::Asking(asking)) = control.take(token) {
                    self.refuse_datagrams(&asking, token, EXPIRED);
                }
            }
            _ => return false,
        }
        true
    }

    /// Receive buffers came back to a port or to shared queues whose users sleep.
    pub(super) fn refill(&mut self, token: u64) {
        if let Some(queue) = self.control.shared(token) {
            queue.look_surely();
            return queue.mind_shortage();
        }
        let port = match self.control.state().entries.get_mut(token) {
            Some(Entry::Port(entry)) => Arc::clone(&entry.port),
            _ => return,
        };
        port.refill(true);
        port.mind_shortage();
    }
}
