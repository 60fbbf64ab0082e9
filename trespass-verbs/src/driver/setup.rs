//! What connections are made of: identifiers, queue pairs with their receives posted, and the states that these go through.
//!
//! The steps between, as events and commands come in, are in `handshake`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rdma_mummy_sys::{ibv_access_flags as access, ibv_qp_attr_mask as mask, ibv_qp_state, rdma_conn_param};

use super::entry::{Entry, Listening, Queues, Resolving, Taker};
use super::handshake::BUSY;
use super::{Control, Handle, ListenerShared, Ticket};
use crate::error::VerbsError;
use crate::link::Link;
use crate::port::mtu_code;
use crate::raw::cm::{CmId, blank_param};
use crate::shared::{Claim, SharedConfig, SharedQueue};
use crate::track::conn::{Conn, Sharing};
use crate::track::slots::Shared;
use crate::track::{RecvQueue, SendQueue};

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
        if let Some(deadline) = entry.deadline() {
            state.deadlines.remove(&(deadline, token));
        }
        Some(entry)
    }

    /// Builds everything that a connection needs, with its receives posted, in state INIT. A request that cannot be
    /// served is rejected: later may work.
    pub(super) fn build(&self, id: CmId, token: u64, peer: SocketAddr, taker: &Taker) -> Result<Queues, VerbsError> {
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

    pub(super) fn param(&self, queues: &Queues) -> rdma_conn_param {
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

pub(super) fn bring_up(conn: &Conn, control: &Control) -> Result<(), VerbsError> {
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
