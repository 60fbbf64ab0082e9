//! Connections coming up and going down: what each event and each command does to an entry.
//!
//! Every step is taken by the driver alone, with the entry out of the table: a step that fails has everything in its
//! hands, and dropping that undoes what was built, queue pair first.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rdma_mummy_sys::{ibv_access_flags as access, ibv_qp_attr_mask as mask, ibv_qp_state, rdma_conn_param};
use trespass_core::Limits;

use super::again::passes;
use super::entry::{Entry, Established, Listening, Pausing, Queues, Request, Requested, Resolving, Taker, Waiting};
use super::{AT_ONCE, Command, Control, Handle, ListenerShared, Ticket, VerbsDriver};
use crate::error::VerbsError;
use crate::hub::Supply;
use crate::link::Link;
use crate::port::mtu_code;
use crate::raw::cm::{CmEvent, CmEventKind, CmId, NewId, blank_param};
use crate::shared::{Claim, SharedConfig, SharedQueue, SharedTrack};
use crate::track::conn::{Conn, Sharing};
use crate::track::slots::Shared;
use crate::track::{RecvQueue, ReliableTrack, SendQueue};

/// Why a request was rejected, as the first byte of the private data. Programs that send none mean the same as zero.
pub(super) const REFUSED: u8 = 0;
pub(super) const BUSY: u8 = 1;
/// Nobody accepted it in time.
pub(super) const EXPIRED: u8 = 2;

/// Retries of a receiver that is not ready: 7 is for ever (InfiniBand specification vol. 1, 9.7.5.2.8).
const RNR_RETRIES: u8 = 7;

/// What queue pairs let peers do, where windows do.
const REMOTE_ACCESS: u32 =
    access::IBV_ACCESS_REMOTE_READ.0 | access::IBV_ACCESS_REMOTE_WRITE.0 | access::IBV_ACCESS_REMOTE_ATOMIC.0;

/// How long one try to resolve an address takes at most; there are more until the handshake's deadline. The kernel misses
/// a neighbour that answers while it is being asked (as over a veth pair), and looks again only when the try is over.
const RESOLVE_STEP: Duration = Duration::from_millis(50);

impl Control {
    /// Begins to listen.
    pub(crate) fn listen(&self, addr: SocketAddr) -> Result<(u64, SocketAddr, Arc<ListenerShared>), VerbsError> {
        let token = self.state().entries.reserve();
        let listening = || {
            self.device.sources.check_listen(addr)?;
            let failed = |error| listen_error(addr, &error);
            let id = CmId::new(&self.channel, token).map_err(failed)?;
            id.bind(addr).map_err(failed)?;
            if id.device_name().is_some_and(|name| name != self.device.name) {
                let why = format!("it is not an address of {}", self.device.name);
                return Err(VerbsError::Unreachable { peer: addr, why });
            }
            // As long as the kernel allows: it holds what the driver has not read yet, and refuses the next as if the
            // listener had said no. The driver reads soon, and says "busy".
            id.listen(i32::MAX).map_err(failed)?;
            Ok(id)
        };
        // Under the lock, so that the first request finds its listener.
        let mut state = self.state();
        match listening() {
            Ok(id) => {
                let shared = ListenerShared::new(self.config.backlog);
                let local = id.local().unwrap_or(addr);
                state.entries.put(token, Entry::Listening(Listening { shared: Arc::clone(&shared), _id: id }));
                Ok((token, local, shared))
            }
            Err(error) => {
                state.entries.remove(token);
                Err(error)
            }
        }
    }

    /// Makes queues for tracks to share.
    pub(crate) fn share(self: &Arc<Self>, config: SharedConfig) -> Result<Claim, VerbsError> {
        if !self.is_driven() {
            return Err(VerbsError::Closed);
        }
        let token = self.state().entries.reserve();
        match SharedQueue::new(self, token, config) {
            Ok(queue) => {
                let queue = Arc::new(queue);
                self.state().entries.put(token, Entry::Shared(Arc::clone(&queue)));
                Ok(Claim::new(queue, Ticket { handle: Handle::new(self), token }))
            }
            Err(error) => {
                self.state().entries.remove(token);
                Err(error)
            }
        }
    }

    pub(super) fn shared(&self, token: u64) -> Option<Arc<SharedQueue>> {
        match self.state().entries.get_mut(token) {
            Some(Entry::Shared(queue)) => Some(Arc::clone(queue)),
            _ => None,
        }
    }

    /// Stops listening: the address is free again when this returns.
    pub(crate) fn unlisten(&self, token: u64) {
        let entry = self.state().entries.remove(token);
        drop(entry);
    }

    /// Begins to connect.
    pub(crate) fn connect(&self, peer: SocketAddr, taker: Taker) -> Result<u64, VerbsError> {
        let mut state = self.state();
        let token = state.entries.reserve();
        match self.begin(token, peer) {
            Ok(id) => {
                let deadline = self.handshake_deadline();
                state.entries.put(token, Entry::Resolving(Resolving { id, peer, taker, deadline, tries: 0 }));
                state.deadlines.insert((deadline, token));
                Ok(token)
            }
            Err(error) => {
                state.entries.remove(token);
                Err(error)
            }
        }
    }

    /// A new identifier that looks for the way to `peer`.
    pub(super) fn begin(&self, token: u64, peer: SocketAddr) -> Result<CmId, VerbsError> {
        self.look_for(CmId::new(&self.channel, token), peer)
    }

    /// Has a new identifier look for the way to `peer`.
    pub(super) fn look_for(&self, id: std::io::Result<CmId>, peer: SocketAddr) -> Result<CmId, VerbsError> {
        let id = id.map_err(|error| VerbsError::os("make a connection identifier", &error))?;
        if let Some(class) = self.config.traffic_class {
            id.set_tos(class).map_err(|error| VerbsError::os("set the traffic class", &error))?;
        }
        self.resolve(&id, peer)?;
        Ok(id)
    }

    pub(super) fn resolve(&self, id: &CmId, peer: SocketAddr) -> Result<(), VerbsError> {
        let from = self.device.sources.towards(peer)?;
        id.resolve_addr(from, peer, RESOLVE_STEP.min(self.config.handshake_timeout))
            .map_err(|error| VerbsError::Unreachable { peer, why: error.to_string() })
    }

    /// Takes an entry out of the table with its deadline, for good.
    pub(super) fn take(&self, token: u64) -> Option<Entry> {
        let mut state = self.state();
        let entry = state.entries.remove(token)?;
        if let Some(deadline) = deadline_of(&entry) {
            state.deadlines.remove(&(deadline, token));
        }
        Some(entry)
    }

    /// Builds everything that a connection needs, with its receives posted, in state INIT. A request that cannot be
    /// served is rejected: later may work.
    fn build(&self, id: CmId, token: u64, peer: SocketAddr, taker: &Taker) -> Result<Queues, VerbsError> {
        let config = &self.config;
        let link = Link { links: Arc::clone(&self.device.links), port: id.port() };
        let built = match taker {
            Taker::Own(_) => self.pool.arena().map(|arena| {
                let shared = Shared::new(arena, link, config.slot_size(), config.send_slots, config.recv_slots);
                (Arc::new(shared), None)
            }),
            Taker::Shared(_, claim) => claim.queue().sit(link).map(|member| {
                let sharing = Sharing { queue: Arc::clone(claim.queue()), member: Arc::clone(&member) };
                (Arc::clone(&member.shared), Some(sharing))
            }),
        };
        let (shared, sharing) = match built {
            Ok(built) => built,
            Err(error) => {
                let _ = id.reject(BUSY);
                return Err(error);
            }
        };
        let conn = match Conn::new(&self.device, id, token, shared, sharing) {
            Ok(conn) => Arc::new(conn),
            Err((id, error)) => {
                let _ = id.reject(BUSY);
                return Err(error);
            }
        };
        let queues = bring_to(&conn, self, ibv_qp_state::IBV_QPS_INIT).and_then(|()| self.equip(&conn, token, peer));
        if queues.is_err() {
            let _ = conn.id.reject(BUSY);
        }
        queues
    }

    /// Both sides of a track on `conn`, which can receive from now on.
    fn equip(&self, conn: &Arc<Conn>, token: u64, peer: SocketAddr) -> Result<Queues, VerbsError> {
        let max_message = self.config.max_message;
        match &conn.sharing {
            None => {
                let recv = RecvQueue::new(Arc::clone(conn), max_message)?;
                Ok(Queues::Own(Box::new((SendQueue::new(Arc::clone(conn), max_message), recv))))
            }
            Some(Sharing { queue, member }) => {
                queue.route(conn.qp.number(), member, peer, token)?;
                Ok(Queues::Shared(Arc::clone(conn), Arc::clone(member)))
            }
        }
    }

    fn param(&self, queues: &Queues) -> rdma_conn_param {
        let mut param = blank_param();
        param.qp_num = queues.conn().qp.number();
        param.responder_resources = self.device.read_atomic;
        param.initiator_depth = self.device.read_atomic;
        param.retry_count = self.config.retries;
        param.rnr_retry_count = RNR_RETRIES;
        param
    }
}

/// Takes the queue pair to `state`, with the connection manager's attributes where we do not know better.
fn bring_to(conn: &Conn, control: &Control, state: u32) -> Result<(), VerbsError> {
    let failed = |error| VerbsError::os("bring the queue pair up", &error);
    let (mut attr, present) = conn.id.qp_attr(state).map_err(failed)?;
    let has = |bit: mask| present & bit.0 as i32 != 0;
    if has(mask::IBV_QP_ACCESS_FLAGS) {
        // What may be reached is decided by the keys of windows; without this, not even they open anything.
        attr.qp_access_flags = if control.config.remote_access { REMOTE_ACCESS } else { 0 };
    }
    if has(mask::IBV_QP_MIN_RNR_TIMER) {
        // Its default is 0, which means 655 ms.
        attr.min_rnr_timer = control.config.min_rnr_timer;
    }
    if has(mask::IBV_QP_TIMEOUT) {
        attr.timeout = control.config.ack_timeout;
    }
    if has(mask::IBV_QP_RETRY_CNT) {
        attr.retry_cnt = control.config.retries;
    }
    if has(mask::IBV_QP_RNR_RETRY) {
        attr.rnr_retry = RNR_RETRIES;
    }
    if has(mask::IBV_QP_MAX_QP_RD_ATOMIC) {
        attr.max_rd_atomic = attr.max_rd_atomic.min(control.device.read_atomic);
    }
    if has(mask::IBV_QP_MAX_DEST_RD_ATOMIC) {
        attr.max_dest_rd_atomic = attr.max_dest_rd_atomic.min(control.device.read_atomic);
    }
    if let (Some(most), true) = (control.config.path_mtu.and_then(mtu_code), has(mask::IBV_QP_PATH_MTU)) {
        attr.path_mtu = attr.path_mtu.min(most);
    }
    if has(mask::IBV_QP_AV) && attr.ah_attr.is_global != 0 {
        let route = &mut attr.ah_attr.grh;
        control.device.sources.check_gid(route.sgid_index)?;
        // The connection manager has that of the connecting end, on both.
        route.traffic_class = control.config.traffic_class.unwrap_or(route.traffic_class);
    }
    conn.qp.modify(&mut attr, present).map_err(failed)?;
    if has(mask::IBV_QP_MAX_QP_RD_ATOMIC) {
        conn.shared.allow_fetches(attr.max_rd_atomic.into());
    }
    Ok(())
}

fn bring_up(conn: &Conn, control: &Control) -> Result<(), VerbsError> {
    bring_to(conn, control, ibv_qp_state::IBV_QPS_RTR)?;
    bring_to(conn, control, ibv_qp_state::IBV_QPS_RTS)
}

pub(super) fn listen_error(addr: SocketAddr, error: &std::io::Error) -> VerbsError {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => VerbsError::AddrInUse { addr },
        Some(libc::EADDRNOTAVAIL | libc::ENODEV) => {
            VerbsError::Unreachable { peer: addr, why: "it is not an address of an RDMA device here".into() }
        }
        _ => VerbsError::os("listen", error),
    }
}

fn deadline_of(entry: &Entry) -> Option<Duration> {
    match entry {
        Entry::Resolving(resolving) => Some(resolving.deadline),
        Entry::Pausing(pausing) => Some(pausing.again),
        Entry::Waiting(waiting) => Some(waiting.deadline),
        Entry::Requested(requested) => Some(requested.deadline),
        Entry::Seeking(seeking) => Some(seeking.step),
        Entry::Asking(asking) => Some(asking.deadline),
        Entry::Listening(_) | Entry::Established(_) | Entry::Port(_) | Entry::Shared(_) => None,
    }
}

impl VerbsDriver {
    /// Takes connection events, until enough of them were dear.
    #[cold]
    pub(super) fn read_connections(&mut self) {
        let mut dear = 0;
        while dear < AT_ONCE {
            let Ok(Some(event)) = self.control.channel.next_event() else { return };
            dear += usize::from(matches!(event.what, CmEventKind::RouteResolved | CmEventKind::Accepted));
            self.handle(event);
        }
    }

    fn handle(&mut self, event: CmEvent) {
        if self.is_of_datagrams(&event) {
            return self.handle_datagrams(event);
        }
        let CmEvent { token, status, what } = event;
        match what {
            CmEventKind::Request { id, responder_resources, initiator_depth } => {
                self.requested(token, id, responder_resources, initiator_depth);
            }
            CmEventKind::AddrResolved => self.addr_resolved(token),
            CmEventKind::AddrUnresolved => self.addr_unresolved(token, status),
            CmEventKind::RouteResolved => self.route_resolved(token),
            CmEventKind::Accepted => self.accepted(token),
            CmEventKind::Established => self.established(token),
            CmEventKind::Rejected { reason } if reason == Some(BUSY) || passes(status) => self.try_later(token),
            CmEventKind::Rejected { reason } => {
                let limit = self.control.config.handshake_timeout;
                self.fail(token, |peer| match reason {
                    Some(EXPIRED) => VerbsError::TimedOut { what: "the handshake", limit },
                    _ => VerbsError::Refused { peer },
                });
            }
            CmEventKind::Unreachable => {
                let why = std::io::Error::from_raw_os_error(status.abs()).to_string();
                self.fail(token, |peer| VerbsError::Unreachable { peer, why });
            }
            CmEventKind::Failed => {
                let why = std::io::Error::from_raw_os_error(status.abs()).to_string();
                self.fail(token, |_| VerbsError::Device { action: "connect", why });
            }
            CmEventKind::Disconnected => self.disconnected(token),
            CmEventKind::DeviceRemoved => self.end_tracks(|_, _| true, "the device was removed"),
            CmEventKind::DatagramRequest { .. }
            | CmEventKind::DatagramAnswer { .. }
            | CmEventKind::DatagramRefused { .. }
            | CmEventKind::Other => {}
        }
    }

    fn requested(&mut self, listener: u64, id: NewId, responder_resources: u8, initiator_depth: u8) {
        let mut state = self.control.state();
        let token = state.entries.reserve();
        let Some(id) = CmId::adopt(id, &self.control.channel, token) else {
            state.entries.remove(token);
            return;
        };
        let shared = match state.entries.get_mut(listener) {
            Some(Entry::Listening(listening)) => Some(Arc::clone(&listening.shared)),
            _ => None,
        };
        let ours = id.device_name().is_some_and(|name| name == self.control.device.name);
        let (Some(shared), Some(peer), true) = (shared, id.peer(), ours) else {
            state.entries.remove(token);
            let _ = id.reject(REFUSED);
            return;
        };
        if !shared.push(Request { token, peer }) {
            state.entries.remove(token);
            let _ = id.reject(BUSY);
            return;
        }
        let deadline = self.control.handshake_deadline();
        let requested =
            Requested { id, peer, listener: Arc::clone(&shared), responder_resources, initiator_depth, deadline };
        state.entries.put(token, Entry::Requested(requested));
        state.deadlines.insert((deadline, token));
        drop(state);
        shared.waker.wake();
    }

    fn addr_resolved(&mut self, token: u64) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let Some(Entry::Resolving(resolving)) = state.entries.get_mut(token) else { return };
        let name = resolving.id.device_name().unwrap_or_default();
        if name != control.device.name {
            drop(state);
            let ours = &control.device.name;
            self.fail(token, |peer| VerbsError::Unreachable {
                peer,
                why: format!(
                    "the way there is through {name}, and this fabric is on {ours}; open it with_local or with_device"
                ),
            });
            return;
        }
        let resolved = resolving.id.resolve_route(control.config.handshake_timeout);
        drop(state);
        if let Err(error) = resolved {
            self.fail(token, |peer| VerbsError::Unreachable { peer, why: error.to_string() });
        }
    }

    /// Tries again where only time was up: the deadline of the handshake ends that.
    fn addr_unresolved(&mut self, token: u64, status: i32) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let Some(Entry::Resolving(resolving)) = state.entries.get_mut(token) else { return };
        let again = match status.abs() {
            libc::ETIMEDOUT => control.resolve(&resolving.id, resolving.peer),
            errno => {
                let why = std::io::Error::from_raw_os_error(errno).to_string();
                Err(VerbsError::Unreachable { peer: resolving.peer, why })
            }
        };
        drop(state);
        if let Err(error) = again {
            self.fail(token, |_| error);
        }
    }

    fn route_resolved(&mut self, token: u64) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        // Looked at before it is taken: anything else at this token is not for this event.
        let Some(Entry::Resolving(_)) = state.entries.get_mut(token) else { return };
        let Some(Entry::Resolving(Resolving { id, peer, taker, deadline, tries })) = state.entries.take(token) else {
            return;
        };
        let begun = control.build(id, token, peer, &taker).and_then(|queues| {
            match queues.conn().id.connect(&mut control.param(&queues)) {
                Ok(()) => Ok(queues),
                Err(error) => Err(VerbsError::Unreachable { peer, why: error.to_string() }),
            }
        });
        match begun {
            Ok(queues) => {
                let waiting = Waiting { queues, peer, taker, deadline, tries: Some(tries) };
                state.entries.put(token, Entry::Waiting(Box::new(waiting)));
            }
            Err(error) => {
                state.entries.remove(token);
                state.deadlines.remove(&(deadline, token));
                drop(state);
                taker.fail(error);
            }
        }
    }

    /// The peer accepted our connect: the queue pair goes up, and the peer is told.
    fn accepted(&mut self, token: u64) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let Some(Entry::Waiting(waiting)) = state.entries.get_mut(token) else { return };
        let conn = Arc::clone(waiting.queues.conn());
        let up = bring_up(&conn, &control)
            .and_then(|()| conn.id.establish().map_err(|error| VerbsError::os("establish the connection", &error)));
        drop(state);
        drop(conn);
        match up {
            Ok(()) => self.established(token),
            Err(error) => self.fail(token, |_| error),
        }
    }

    fn established(&mut self, token: u64) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let Some(Entry::Waiting(_)) = state.entries.get_mut(token) else { return };
        let Some(Entry::Waiting(waiting)) = state.entries.take(token) else { return };
        let Waiting { queues, taker, deadline, .. } = *waiting;
        state.deadlines.remove(&(deadline, token));
        state.entries.put(token, Entry::Established(Established::new(Arc::clone(queues.conn()))));
        drop(state);
        let ticket = Ticket { handle: Handle::new(&control), token };
        let config = &control.config;
        match (queues, taker) {
            (Queues::Own(queues), Taker::Own(promise)) => {
                let (send, recv) = *queues;
                let limits = Limits::new(config.max_message, config.send_slots, config.recv_slots)
                    .with_inline(control.device.depths.inline as usize);
                promise.resolve(Ok(ReliableTrack::new(send, recv, limits, config.close_timeout, ticket)));
            }
            (Queues::Shared(conn, member), Taker::Shared(promise, claim)) => {
                promise.resolve(Ok(SharedTrack::new(conn, member, config.close_timeout, ticket, claim)));
            }
            // What was built is what the taker asked for.
            (_, taker) => taker.fail(VerbsError::Closed),
        }
    }

    fn disconnected(&mut self, token: u64) {
        let conn = match self.control.state().entries.get_mut(token) {
            Some(Entry::Established(established)) => Some(Arc::clone(&established.conn)),
            _ => None,
        };
        match conn {
            // Answers the peer, flushes what is posted, and wakes both sides, which then take what had arrived.
            Some(conn) => conn.end(None),
            None => self
                .fail(token, |peer| VerbsError::Unreachable { peer, why: "it went away during the handshake".into() }),
        }
    }

    /// A handshake has failed.
    pub(super) fn fail(&mut self, token: u64, error: impl FnOnce(SocketAddr) -> VerbsError) {
        let is_handshake =
            self.control.state().entries.get_mut(token).is_some_and(|entry| deadline_of(entry).is_some());
        if !is_handshake {
            return;
        }
        match self.control.take(token) {
            Some(Entry::Resolving(Resolving { id, peer, taker, .. })) => {
                drop(id);
                taker.fail(error(peer));
            }
            Some(Entry::Pausing(Pausing { peer, taker, .. })) => taker.fail(error(peer)),
            Some(Entry::Waiting(waiting)) => {
                let Waiting { queues, peer, taker, .. } = *waiting;
                queues.conn().end(None);
                drop(queues);
                taker.fail(error(peer));
            }
            Some(Entry::Requested(requested)) => requested.listener.forget(token),
            _ => {}
        }
    }

    pub(super) fn expire_handshakes(&mut self, now: Duration) {
        loop {
            let due = self.control.state().deadlines.first().copied().filter(|(deadline, _)| *deadline <= now);
            let Some((deadline, token)) = due else { return };
            self.control.state().deadlines.remove(&(deadline, token));
            if self.step_datagrams(token, now) {
                continue;
            }
            let limit = self.control.config.handshake_timeout;
            let busy = |peer| VerbsError::Busy { peer };
            let nobody =
                |peer| VerbsError::Unreachable { peer, why: format!("nobody there answered within {limit:?}") };
            let late = |_| VerbsError::TimedOut { what: "the handshake", limit };
            let mut state = self.control.state();
            let error: &dyn Fn(SocketAddr) -> VerbsError = match state.entries.get_mut(token) {
                Some(Entry::Pausing(_)) => {
                    drop(state);
                    self.try_again(token);
                    continue;
                }
                Some(Entry::Requested(requested)) => {
                    let _ = requested.id.reject(EXPIRED);
                    &late
                }
                // Who was told to come again, and has, was kept waiting by that.
                Some(Entry::Resolving(resolving)) if resolving.tries > 0 => &busy,
                Some(Entry::Waiting(waiting)) if waiting.tries.is_some_and(|tries| tries > 0) => &busy,
                Some(Entry::Resolving(_)) => &nobody,
                _ => &late,
            };
            drop(state);
            self.fail(token, error);
        }
    }

    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Accept(token, taker) => self.accept(token, taker),
            Command::AcceptDatagrams(token, promise, ticket) => self.accept_datagrams(token, promise, ticket),
            Command::Refuse(token) => match self.control.take(token) {
                Some(Entry::Requested(requested)) => {
                    let _ = requested.id.reject(REFUSED);
                }
                Some(Entry::Asking(asking)) => self.refuse_datagrams(&asking, token, REFUSED),
                _ => {}
            },
            Command::Cancel(token) => match self.control.take(token) {
                Some(Entry::Waiting(waiting)) => waiting.queues.conn().end(None),
                Some(Entry::Established(established)) => tear_down(established),
                Some(Entry::Port(port)) => port.shut(),
                _ => {}
            },
            Command::CutOff(token) => {
                let conn = match self.control.state().entries.get_mut(token) {
                    Some(Entry::Established(established)) => Arc::clone(&established.conn),
                    _ => return,
                };
                conn.end(None);
            }
            Command::TearDown(token) => match self.control.take(token) {
                Some(Entry::Established(established)) => tear_down(established),
                Some(Entry::Port(port)) => port.shut(),
                Some(Entry::Shared(queue)) => drop(queue),
                _ => {}
            },
            Command::Forget(token, number, member) => {
                if let Some(queue) = self.control.shared(token) {
                    queue.forget(number, &member);
                }
            }
            Command::Refill(token) => self.refill(token),
        }
    }

    fn accept(&mut self, token: u64, taker: Taker) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let requested = match state.entries.get_mut(token) {
            Some(Entry::Requested(_)) => state.entries.take(token),
            _ => None,
        };
        let Some(Entry::Requested(Requested { id, peer, responder_resources, initiator_depth, deadline, .. })) =
            requested
        else {
            drop(state);
            let limit = control.config.handshake_timeout;
            taker.fail(VerbsError::TimedOut { what: "the request was not accepted, or withdrawn: it", limit });
            return;
        };
        let accepted = control.build(id, token, peer, &taker).and_then(|queues| {
            let conn = queues.conn();
            bring_up(conn, &control)?;
            let mut param = control.param(&queues);
            param.responder_resources = param.responder_resources.min(initiator_depth);
            param.initiator_depth = param.initiator_depth.min(responder_resources);
            conn.id.accept(&mut param).map_err(|error| VerbsError::os("accept", &error))?;
            Ok(queues)
        });
        match accepted {
            Ok(queues) => {
                let waiting = Waiting { queues, peer, taker, deadline, tries: None };
                state.entries.put(token, Entry::Waiting(Box::new(waiting)));
            }
            Err(error) => {
                state.entries.remove(token);
                state.deadlines.remove(&(deadline, token));
                drop(state);
                taker.fail(error);
            }
        }
    }
}

fn tear_down(mut established: Established) {
    established.conn.end(None);
    established.ack_all();
    if let Some(Sharing { queue, .. }) = &established.conn.sharing {
        // Some devices forget what came to a queue pair and was not looked at when that is destroyed.
        queue.look_now();
    }
}
