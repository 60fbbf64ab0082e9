//! A queue pair for datagrams, with all that share it.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdma_mummy_sys::{ibv_qp_attr_mask as mask, ibv_qp_state, ibv_recv_wr, ibv_wc, ibv_wc_flags, ibv_wc_status};

use super::config::{Pools, Shape};
use super::header::{HEADER, sender};
use crate::device::{Device, cq_depth};
use crate::driver::Control;
use crate::error::VerbsError;
use crate::hub::{Gate, HubMemory, Lane, Member, Received, Receives, Seats, Side, Source, Supply};
use crate::link::Link;
use crate::raw::ah::Ah;
use crate::raw::cm::CmId;
use crate::raw::cq::{CompletionBatch, Cq};
use crate::raw::qp::{Depths, Qp, blank_attr};
use crate::status;
use crate::track::conn::count_leaked;
use crate::track::slots::Shared;

/// One queue pair for datagrams, with the seats of those who use it. Shared by them and the driver; the last to let go
/// destroys it: first the queue pair, which makes the device let go of all memory and of the address handles.
pub(crate) struct Port {
    pub(crate) qp: Qp,
    pub(crate) sends: Lane,
    pub(crate) receives: Lane,
    /// What its datagrams have to show.
    pub(crate) key: u32,
    pub(crate) shape: Shape,
    state: Mutex<State>,
    pub(crate) memory: Arc<HubMemory>,
    /// The identifier by which it was found, where it has no listener's.
    _id: Mutex<Option<CmId>>,
    /// Datagrams of those who are not its peers.
    strangers: AtomicU64,
    /// Calls that posted receives.
    recv_doorbells: AtomicU64,
    /// Keeps the device open; last.
    device: Arc<Device>,
}

struct State {
    routes: Routes,
    receives: Receives,
    seats: Seats,
    /// The handles that the sends of each seat may name.
    handles: Box<[Vec<Arc<Ah>>]>,
}

/// Whom a datagram is for.
enum Routes {
    /// Everything for one.
    All(Arc<Member>),
    /// By who sent it.
    By(HashMap<Source, Arc<Member>>),
}

impl Port {
    /// A queue pair that is up, for `seats` users at most, with nobody there yet.
    pub(crate) fn new(
        control: &Arc<Control>,
        token: u64,
        shape: Shape,
        seats: usize,
        key: u32,
    ) -> Result<Self, VerbsError> {
        let device = Arc::clone(&control.device);
        let (sends, receives) = (seats * shape.send_slots, seats * shape.recv_slots);
        let send_cq = Cq::new(&device.context, &device.channel, cq_depth(sends), device.vector, token << 1)?;
        let recv_cq = Cq::new(&device.context, &device.channel, cq_depth(receives), device.vector, (token << 1) | 1)?;
        let depths = Depths { send: sends as u32, recv: receives as u32, inline: shape.inline as u32 };
        let (qp, _) = Qp::datagram(&device.pd, &send_cq, &recv_cq, depths)?;
        let memory = HubMemory::new(seats, shape.recv_slots, shape.slot_size(), control, token);
        let state = State {
            routes: Routes::By(HashMap::new()),
            receives: Receives::new(Arc::clone(&memory)),
            seats: Seats::new(seats),
            handles: (0..seats).map(|_| Vec::new()).collect(),
        };
        let port = Self {
            qp,
            sends: Lane::new(send_cq, Side::Send),
            receives: Lane::new(recv_cq, Side::Recv),
            key,
            shape,
            state: Mutex::new(state),
            memory,
            _id: Mutex::new(None),
            strangers: AtomicU64::new(0),
            recv_doorbells: AtomicU64::new(0),
            device,
        };
        port.bring_up().map_err(|error| VerbsError::os("bring the queue pair up", &error))?;
        Ok(port)
    }

    fn bring_up(&self) -> std::io::Result<()> {
        let step = |state, bits: &[mask], sq_psn| {
            let mut attr = blank_attr();
            attr.qp_state = state;
            attr.port_num = self.shape.port;
            attr.qkey = self.key;
            attr.sq_psn = sq_psn;
            self.qp.modify(&mut attr, bits.iter().fold(mask::IBV_QP_STATE.0, |all, bit| all | bit.0) as i32)
        };
        step(ibv_qp_state::IBV_QPS_INIT, &[mask::IBV_QP_PKEY_INDEX, mask::IBV_QP_PORT, mask::IBV_QP_QKEY], 0)?;
        step(ibv_qp_state::IBV_QPS_RTR, &[], 0)?;
        step(ibv_qp_state::IBV_QPS_RTS, &[mask::IBV_QP_SQ_PSN], 0)
    }

    /// Keeps the identifier by which the port was found for as long as the port is.
    pub(crate) fn keep(&self, id: CmId) {
        *self._id.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }

    /// Takes a free seat, with receive buffers for its quota posted, for whoever sends from `shared`.
    pub(crate) fn sit(&self, pools: &Pools) -> Result<Arc<Member>, VerbsError> {
        // What has completed by now frees the seats of those who left.
        self.look_at_sends();
        self.look();
        let arena = pools.sends.arena()?;
        let link = Link { links: Arc::clone(&self.device.links), port: self.shape.port };
        let shared = Arc::new(Shared::new(arena, link, self.shape.slot_size(), self.shape.send_slots, 0));
        let mut state = self.lock();
        self.post(&mut state)?;
        let Some(seat) = state.seats.free() else {
            return Err(VerbsError::ResourceLimit {
                action: "accept another track",
                why: format!("the listener has {} already (raise `tracks`)", state.seats.len()),
            });
        };
        if seat >= state.receives.blocks() {
            let arena = pools.receives.arena()?;
            state.receives.grow(arena, self.shape.slot_len())?;
            self.post(&mut state)?;
        }
        let handles = std::mem::take(&mut state.handles[seat]);
        let member = state.seats.sit(seat, shared, self.shape.recv_slots);
        drop(state);
        drop(handles);
        Ok(member)
    }

    /// Everything that arrives is for `member`.
    pub(crate) fn route_all(&self, member: &Arc<Member>) {
        self.lock().routes = Routes::All(Arc::clone(member));
    }

    /// What `source` sends is for `member`.
    pub(crate) fn route(&self, source: Source, member: &Arc<Member>) {
        if let Routes::By(routes) = &mut self.lock().routes {
            routes.insert(source, Arc::clone(member));
        }
    }

    /// Keeps `handle` for as long as sends of `member` may name it, in place of the one at `place` if there is one.
    pub(crate) fn hold(&self, member: &Member, place: usize, handle: Arc<Ah>) {
        let mut state = self.lock();
        let Some(seat) = state.seats.seat_of(member) else { return };
        let handles = &mut state.handles[seat];
        let old = match handles.get_mut(place) {
            Some(held) => Some(std::mem::replace(held, handle)),
            None => {
                handles.push(handle);
                None
            }
        };
        drop(state);
        drop(old);
    }

    #[inline]
    fn after_look(&self, outcome: std::io::Result<()>) {
        if let Err(error) = outcome {
            self.end(Some(VerbsError::os("poll the receive completion queue", &error)));
        }
    }

    /// Posts what has come back, if that is due or `all` is asked for.
    pub(crate) fn refill(&self, all: bool) {
        let mut state = self.lock();
        let failed = if all || state.receives.is_due() { self.post(&mut state).err() } else { None };
        drop(state);
        if let Some(failure) = failed {
            self.end(Some(failure));
        }
    }

    fn sort(&self, batch: &mut CompletionBatch) {
        let mut failure = None;
        let mut unread = Vec::new();
        let mut state = self.lock();
        while let Some(completion) = batch.next() {
            if let Err(error) = self.deliver(&mut state, completion, &mut unread) {
                failure = failure.or(Some(error));
            }
        }
        if state.receives.is_due() {
            failure = failure.or(self.post(&mut state).err());
        }
        drop(state);
        drop(unread);
        if let Some(failure) = failure {
            self.end((failure != VerbsError::Closed).then_some(failure));
        }
    }

    /// One datagram to whom it is for.
    #[inline]
    fn deliver(&self, state: &mut State, completion: &ibv_wc, unread: &mut Vec<Received>) -> Result<(), VerbsError> {
        let slot = completion.wr_id as u32;
        let Some(start) = self.memory.slot(slot).filter(|_| state.receives.completed(slot)) else {
            return Err(VerbsError::Device {
                action: "receive",
                why: "the device completed what it was not given".into(),
            });
        };
        if completion.status != ibv_wc_status::IBV_WC_SUCCESS {
            return Err(status::failure(completion).unwrap_or(VerbsError::Closed));
        }
        let len = completion.byte_len as usize;
        let has_header = completion.wc_flags & ibv_wc_flags::IBV_WC_GRH.0 != 0;
        let gid = match (HEADER..=self.shape.slot_len()).contains(&len) && has_header {
            // SAFETY: the device wrote `len` bytes, at least a header, and does not have the slot any more.
            true => sender(unsafe { start.cast::<[u8; HEADER]>().as_ref() }),
            false => None,
        };
        let source = Source { gid: gid.unwrap_or(Ipv6Addr::UNSPECIFIED), number: completion.src_qp };
        let member = match (&state.routes, gid) {
            (_, None) => None,
            (Routes::All(member), _) => Some(member),
            (Routes::By(routes), _) => routes.get(&source),
        };
        let Some(member) = member.cloned() else {
            self.strangers.fetch_add(1, Ordering::Relaxed);
            state.receives.reject(slot);
            return Ok(());
        };
        if !member.has_room() && self.memory.returned() > 0 {
            // Some of what came back may be its own.
            self.post(state)?;
        }
        if !member.has_room() {
            member.count_dropped();
            state.receives.reject(slot);
            return Ok(());
        }
        state.receives.assign(slot, &member);
        // SAFETY: the union holds immediate data where the flags say so, and is 4 bytes of anything otherwise.
        let word = unsafe { completion.imm_data_invalidated_rkey_union.imm_data };
        // SAFETY: the device completed this slot, which `completed` took from it, and wrote `len` bytes into it, which
        // were checked above; `assign` keeps it from being posted before it is given back.
        let message = unsafe {
            let memory = &self.memory;
            let (offset, len) = (HEADER as u32, (len - HEADER) as u32);
            Received::new(memory, (slot, start), offset, len, source, (completion.wc_flags, word))
        };
        match member.inbox.push(message) {
            None => self.receives.got(&member),
            // Given back when the lock is not held.
            Some(message) => {
                member.count_dropped();
                unread.push(message);
            }
        }
        Ok(())
    }

    fn post(&self, state: &mut State) -> Result<(), VerbsError> {
        let post = |first: *mut ibv_recv_wr| {
            self.recv_doorbells.fetch_add(1, Ordering::Relaxed);
            // SAFETY: `first` heads a list of requests of `Receives`, each pointing to its element, all boxed and alive.
            // Their slots were given back (or never out), so no reference to the memory exists; `Receives` keeps them
            // from being handed out before their completion, and the memory outlives the queue pair (`Port`).
            unsafe { self.qp.post_recv(first) }
        };
        state.receives.post(post).map_err(|error| VerbsError::os("post receives", &error))
    }

    #[inline]
    fn after_look_at_sends(&self, outcome: std::io::Result<()>) {
        if let Err(error) = outcome {
            self.end(Some(VerbsError::os("poll the send completion queue", &error)));
        }
    }

    fn sort_sends(&self, batch: &mut CompletionBatch) {
        let mut failure = None;
        let state = self.lock();
        while let Some(completion) = batch.next() {
            if completion.status != ibv_wc_status::IBV_WC_SUCCESS {
                // Nothing comes back from here: what did not complete stays with the queue pair until that is gone.
                failure = failure.or(Some(status::failure(completion).unwrap_or(VerbsError::Closed)));
            } else if let Some(member) = state.seats.owner(completion.wr_id) {
                member.complete(completion.wr_id);
                self.sends.got(member);
            }
        }
        drop(state);
        if let Some(failure) = failure {
            self.end((failure != VerbsError::Closed).then_some(failure));
        }
    }

    /// An event of one of the completion queues came: what it is about is sorted, and it is asked for again while
    /// anybody sleeps.
    pub(crate) fn on_event(&self, side: Side) {
        let (lane, look): (_, fn(&Self)) = match side {
            Side::Send => (&self.sends, Self::look_at_sends_surely),
            Side::Recv => (&self.receives, Self::look_surely),
        };
        match lane.on_event(|| look(self)) {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => self.end(Some(VerbsError::os("arm a completion queue", &error))),
        }
        if side == Side::Recv {
            self.mind_shortage();
        }
    }

    /// Ends the port: nothing goes out any more, and all that use it are woken and told.
    pub(crate) fn end(&self, failure: Option<VerbsError>) {
        self.qp.fail();
        let members: Vec<_> = self.lock().seats.iter().cloned().collect();
        for member in members {
            member.shared.end(failure.clone());
        }
    }

    /// Datagrams that no peer of this port sent: dropped.
    pub(crate) fn strangers(&self) -> u64 {
        self.strangers.load(Ordering::Relaxed)
    }

    pub(crate) fn recv_doorbells(&self) -> u64 {
        self.recv_doorbells.load(Ordering::Relaxed)
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate for Port {
    fn qp(&self) -> &Qp {
        &self.qp
    }

    fn sends(&self) -> &Lane {
        &self.sends
    }

    fn shape(&self) -> (usize, usize) {
        (self.shape.send_slots, self.shape.inline)
    }

    #[inline]
    fn look_at_sends(&self) {
        let outcome = self.sends.look(|batch| self.sort_sends(batch));
        self.after_look_at_sends(outcome);
    }

    fn look_at_sends_surely(&self) {
        let outcome = self.sends.look_surely(|batch| self.sort_sends(batch));
        self.after_look_at_sends(outcome);
    }

    fn fail(&self, failure: VerbsError) {
        self.end(Some(failure));
    }

    /// Nothing more is for `member`. Its seat is free once its sends are over and its buffers are back.
    fn leave(&self, member: &Arc<Member>, sends: u64) {
        // What has arrived by now may still be read.
        self.look();
        let mut state = self.lock();
        match &mut state.routes {
            Routes::All(_) => state.routes = Routes::By(HashMap::new()),
            Routes::By(routes) => routes.retain(|_, one| !Arc::ptr_eq(one, member)),
        }
        drop(state);
        member.leave(sends);
        member.shared.end(None);
    }
}

impl Supply for Port {
    type Queue = Cq;

    fn receives(&self) -> &Lane {
        &self.receives
    }

    #[inline]
    fn look(&self) {
        if self.memory.is_due() {
            self.refill(false);
        }
        let outcome = self.receives.look(|batch| self.sort(batch));
        self.after_look(outcome);
    }

    fn look_surely(&self) {
        if self.memory.returned() > 0 {
            self.refill(true);
        }
        let outcome = self.receives.look_surely(|batch| self.sort(batch));
        self.after_look(outcome);
    }

    #[cold]
    fn look_now(&self) {
        let outcome = self.receives.look_now(|batch| self.sort(batch));
        self.after_look(outcome);
    }

    fn mind_shortage(&self) {
        self.memory.call_when_returned(self.memory.is_short());
        if self.memory.returned() > 0 {
            self.refill(true);
        }
    }

    fn fail(&self, failure: VerbsError) {
        self.end(Some(failure));
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if !self.qp.destroy() {
            count_leaked();
            self.sends.leak();
            self.receives.leak();
            let mut state = self.lock();
            std::mem::forget((state.seats.clear(), std::mem::take(&mut state.handles)));
            drop(state);
            std::mem::forget(Arc::clone(&self.memory));
            std::mem::forget(Arc::clone(&self.device));
        }
    }
}
