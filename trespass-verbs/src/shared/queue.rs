//! The queues that tracks share, and who has which part of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rdma_mummy_sys::{ibv_recv_wr, ibv_wc, ibv_wc_status};

use super::backing::Backing;
use super::config::SharedConfig;
use crate::device::{Device, cq_depth};
use crate::driver::{Command, Control};
use crate::error::VerbsError;
use crate::hub::{HubMemory, Lane, Loan, Member, Received, Receives, Seats, Side, Source, Stock, Supply};
use crate::link::Link;
use crate::pool::Pool;
use crate::raw::cq::{CompletionBatch, Cq};
use crate::raw::srq::Srq;
use crate::status;
use crate::track::slots::Shared;

/// How much memory is registered at a time, at least.
const CHUNK: usize = 1 << 20;

/// Held by the queue pairs that use it, so it is gone after the last of them.
pub(crate) struct SharedQueue {
    pub(crate) sends: Lane,
    pub(crate) receives: Lane,
    pub(crate) srq: Srq,
    pub(crate) memory: Arc<HubMemory>,
    pub(crate) config: SharedConfig,
    pub(crate) max_message: usize,
    pub(crate) send_slots: usize,
    pub(crate) token: u64,
    slot_size: usize,
    state: Mutex<State>,
    stock: Arc<Stock>,
    recv_pool: Arc<Pool>,
    control: Weak<Control>,
    /// Keeps the device open; last.
    pub(crate) device: Arc<Device>,
}

struct State {
    /// By the number of the queue pair, from before it can receive until all that came to it was sorted.
    routes: HashMap<u32, Route>,
    receives: Receives,
    backing: Backing,
    seats: Seats,
}

struct Route {
    member: Arc<Member>,
    peer: SocketAddr,
    /// By which the driver knows the connection.
    token: u64,
}

/// A member that is over: its route's token and why, where that is a failure.
type Over = (Arc<Member>, u64, Option<VerbsError>);

impl SharedQueue {
    pub(crate) fn new(control: &Arc<Control>, token: u64, config: SharedConfig) -> Result<Self, VerbsError> {
        let (device, fabric) = (Arc::clone(&control.device), &control.config);
        config.check_with(fabric, &device)?;
        let (sends, receives) = (config.tracks * fabric.send_slots, config.tracks * config.quota);
        let cq = |depth, token| Cq::new(&device.context, &device.channel, cq_depth(depth), device.vector, token);
        let pool = |slots: usize| Pool::with_chunk(&device.pd, slots * fabric.slot_size(), CHUNK, fabric.pool_limit);
        let memory = HubMemory::new(config.tracks, config.quota, fabric.slot_size(), control, token);
        let state = State {
            routes: HashMap::with_capacity(config.tracks),
            receives: Receives::new(Arc::clone(&memory)),
            backing: Backing::new(config.tracks, config.quota),
            seats: Seats::new(config.tracks),
        };
        let send_pool = pool(fabric.send_slots)?;
        let more = move || send_pool.arena();
        Ok(Self {
            sends: Lane::new(cq(sends, token << 1)?, Side::Send),
            receives: Lane::new(cq(receives, (token << 1) | 1)?, Side::Recv),
            srq: Srq::new(&device.pd, receives as u32, token << 1)?,
            memory,
            max_message: fabric.max_message,
            send_slots: fabric.send_slots,
            slot_size: fabric.slot_size(),
            token,
            state: Mutex::new(state),
            stock: Stock::new(more, config.tracks, fabric.send_slots, fabric.slot_size())?,
            recv_pool: pool(config.quota)?,
            config,
            control: Arc::downgrade(control),
            device,
        })
    }

    /// Takes a seat for a track to come, with as many receives posted as that asks for.
    pub(crate) fn sit(&self, link: Link) -> Result<Arc<Member>, VerbsError> {
        let loan = Loan::new(&self.stock, self.send_slots);
        let shared = Arc::new(Shared::lent(loan, link, self.slot_size, self.send_slots));
        let mut state = self.lock();
        self.post(&mut state)?;
        let Some(seat) = state.seats.free() else {
            return Err(VerbsError::ResourceLimit {
                action: "make another track",
                why: format!("{} share these queues already (raise `tracks`)", state.seats.len()),
            });
        };
        state.backing.sit(seat);
        self.back(&mut state)?;
        Ok(state.seats.sit(seat, shared, self.config.quota))
    }

    /// What comes to queue pair `number` is for `member`. Before that can receive.
    pub(crate) fn route(
        &self,
        number: u32,
        member: &Arc<Member>,
        peer: SocketAddr,
        token: u64,
    ) -> Result<(), VerbsError> {
        let mut state = self.lock();
        if state.routes.contains_key(&number) {
            // Of a queue pair that is gone, and whose last messages were not sorted yet.
            let why = "the device gave a number that was in use just now; try again".into();
            return Err(VerbsError::ResourceLimit { action: "make another track", why });
        }
        state.routes.insert(number, Route { member: Arc::clone(member), peer, token });
        Ok(())
    }

    /// Queue pair `number` of `member` is destroyed: the driver will have it forgotten.
    pub(crate) fn gone(&self, number: u32, member: &Arc<Member>) {
        if let Some(control) = self.control.upgrade() {
            control.leave(Command::Forget(self.token, number, Arc::clone(member)));
        }
    }

    /// Queue pair `number` of `member` is gone: once all that came to it is sorted, so are its route and its claim to a seat.
    /// Not under a lock, and not from within a waker's call.
    pub(crate) fn forget(&self, number: u32, member: &Arc<Member>) {
        self.look_now();
        // Its sends too: whoever has the seat next has places of his own in the completion queue.
        let outcome = self.sends.look_now(|batch| self.sort_sends(batch));
        self.after_look_at_sends(outcome);
        let mut state = self.lock();
        if state.routes.get(&number).is_some_and(|route| Arc::ptr_eq(&route.member, member)) {
            state.routes.remove(&number);
        }
        drop(state);
        // Whoever sent is gone too: the queue pair was theirs.
        if let Some(loan) = &member.shared.loan {
            loan.reclaim();
        }
        self.sends.forget(member);
        member.leave(member.done());
    }

    #[inline]
    fn after_look(&self, outcome: std::io::Result<()>) {
        if let Err(error) = outcome {
            self.fail(VerbsError::os("poll the receive completion queue", &error));
        }
    }

    /// Posts what has come back, if that is due or `all` is asked for.
    pub(crate) fn refill(&self, all: bool) {
        let mut state = self.lock();
        let failed = if all || state.receives.is_due() { self.post(&mut state).err() } else { None };
        self.back_if_possible(&mut state);
        drop(state);
        if let Some(failure) = failed {
            self.fail(failure);
        }
    }

    fn sort(&self, batch: &mut CompletionBatch) {
        let (mut failure, mut unread, mut over) = (None, Vec::new(), Vec::new());
        let mut state = self.lock();
        while let Some(completion) = batch.next() {
            if let Err(error) = self.deliver(&mut state, completion, &mut unread, &mut over) {
                failure = failure.or(Some(error));
            }
        }
        if state.receives.is_due() {
            failure = failure.or(self.post(&mut state).err());
        }
        self.back_if_possible(&mut state);
        drop(state);
        drop(unread);
        self.end_members(over);
        if let Some(failure) = failure {
            self.fail(failure);
        }
    }

    /// One message to whom it is for.
    #[inline]
    fn deliver(
        &self,
        state: &mut State,
        completion: &ibv_wc,
        unread: &mut Vec<Received>,
        over: &mut Vec<Over>,
    ) -> Result<(), VerbsError> {
        let slot = completion.wr_id as u32;
        let Some(start) = self.memory.slot(slot).filter(|_| state.receives.completed(slot)) else {
            return Err(VerbsError::Device {
                action: "receive",
                why: "the device completed what it was not given".into(),
            });
        };
        let Some(route) = state.routes.get(&completion.qp_num) else {
            // Of a queue pair that is gone.
            state.receives.reject(slot);
            return Ok(());
        };
        let (member, peer, token) = (Arc::clone(&route.member), route.peer, route.token);
        if completion.status != ibv_wc_status::IBV_WC_SUCCESS {
            state.receives.reject(slot);
            // A flush says that the queue pair has failed, not why: the cause is with the sends, or is known already.
            if let Some(failure) = status::failure(completion) {
                over.push((member, token, Some(failure)));
            }
            return Ok(());
        }
        if !member.has_room() && self.memory.returned() > 0 {
            // Some of what came back may be its own.
            self.post(state)?;
        }
        if !member.has_room() {
            state.receives.reject(slot);
            let why = "it sent more than the receive buffers that it was told of";
            over.push((member, token, Some(VerbsError::Protocol { peer, why })));
            return Ok(());
        }
        state.receives.assign(slot, &member);
        let len = (completion.byte_len as usize).min(self.max_message) as u32;
        // SAFETY: the union holds immediate data where the flags say so, and is 4 bytes of anything otherwise.
        let word = unsafe { completion.imm_data_invalidated_rkey_union.imm_data };
        // SAFETY: the device completed this slot, which `completed` took from it, and wrote `len` bytes into it; `assign`
        // keeps it from being posted before it is given back.
        let message = unsafe {
            let source = Source::NONE;
            Received::new(&self.memory, (slot, start), 0, len, source, (completion.wc_flags, word))
        };
        match member.inbox.push(message) {
            None => self.receives.got(&member),
            // Nobody reads any more. Given back when the lock is not held.
            Some(message) => unread.push(message),
        }
        Ok(())
    }

    fn post(&self, state: &mut State) -> Result<(), VerbsError> {
        let post = |first: *mut ibv_recv_wr| {
            // SAFETY: `first` heads a list of requests of `Receives`, each pointing to its element, all boxed and alive.
            // Their slots were given back (or never out), so no reference to the memory exists; `Receives` keeps them
            // from being handed out before their completion, and the memory outlives this queue, and with it the queue
            // pairs that use it.
            unsafe { self.srq.post(first) }
        };
        state.receives.post(post).map_err(|error| VerbsError::os("post receives", &error))
    }

    /// Adds receives until the device has as many as it has to, and has it say when it runs low.
    fn back(&self, state: &mut State) -> Result<(), VerbsError> {
        // What has come back already is the first to serve.
        self.post(state)?;
        loop {
            while state.backing.lacks(self.memory.outstanding(), state.receives.held()) {
                state.receives.grow(self.recv_pool.arena()?, self.max_message)?;
                self.post(state)?;
            }
            let (outstanding, held) = (self.memory.outstanding(), state.receives.held());
            let Some(least) = state.backing.watch(outstanding, held) else { return Ok(()) };
            if self.srq.watch(least).is_ok() {
                break;
            }
            // A device that does not say so has all that may be needed, always.
            state.backing.is_not_watched();
        }
        // It says nothing where the last receive was taken before it was asked: the driver looks once.
        if let Some(control) = self.control.upgrade() {
            control.leave(Command::Refill(self.token));
        }
        Ok(())
    }

    /// The same, where there is memory for that: if not, peers wait for buffers to come back.
    #[inline]
    fn back_if_possible(&self, state: &mut State) {
        let (outstanding, held) = (self.memory.outstanding(), state.receives.held());
        if state.backing.is_due(outstanding, held) && self.back(state).is_err() {
            state.backing.is_at_its_limit(self.memory.outstanding());
        }
    }

    /// The device says that it runs low on receives: it gets more, from now on.
    #[cold]
    pub(crate) fn ran_low(&self) {
        self.lock().backing.ran_low();
        self.look_surely();
        self.refill(true);
    }

    /// Takes the sends that have completed, for all, unless somebody else is at it.
    #[inline]
    pub(crate) fn look_at_sends(&self) {
        let outcome = self.sends.look(|batch| self.sort_sends(batch));
        self.after_look_at_sends(outcome);
    }

    /// The same, or has whoever is at it do so.
    pub(crate) fn look_at_sends_surely(&self) {
        let outcome = self.sends.look_surely(|batch| self.sort_sends(batch));
        self.after_look_at_sends(outcome);
    }

    #[inline]
    fn after_look_at_sends(&self, outcome: std::io::Result<()>) {
        if let Err(error) = outcome {
            self.fail(VerbsError::os("poll the send completion queue", &error));
        }
    }

    fn sort_sends(&self, batch: &mut CompletionBatch) {
        let mut over = Vec::new();
        let state = self.lock();
        while let Some(completion) = batch.next() {
            // None where whoever posted it has gone, and somebody else has the seat.
            let Some(member) = state.seats.owner(completion.wr_id) else { continue };
            if completion.status != ibv_wc_status::IBV_WC_SUCCESS {
                // Its slots do not come back: what did not complete stays with the queue pair until that is gone.
                let token = state.routes.get(&completion.qp_num).map(|route| route.token);
                over.extend(token.map(|token| (Arc::clone(member), token, status::failure(completion))));
                continue;
            }
            member.complete(completion.wr_id);
            self.sends.got(member);
            if !member.is_sending() {
                self.sends.forget_unless(member, || member.is_sending());
            }
        }
        drop(state);
        self.end_members(over);
    }

    /// Ends tracks: their halves are woken and told at once, and the driver does the rest.
    fn end_members(&self, over: Vec<Over>) {
        for (member, token, failure) in over {
            if member.shared.has_ended() {
                continue;
            }
            member.shared.end(failure);
            if let Some(control) = self.control.upgrade() {
                control.leave(Command::CutOff(token));
            }
        }
    }

    /// An event of one of the completion queues came: what it is about is sorted, and it is asked for again while anybody
    /// sleeps.
    pub(crate) fn on_event(&self, side: Side) {
        let (lane, look): (_, fn(&Self)) = match side {
            Side::Send => (&self.sends, Self::look_at_sends_surely),
            Side::Recv => (&self.receives, Self::look_surely),
        };
        match lane.on_event(|| look(self)) {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => self.fail(VerbsError::os("arm a completion queue", &error)),
        }
        if side == Side::Recv {
            self.mind_shortage();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supply for SharedQueue {
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

    fn mind_sends(&self, member: &Member) {
        if member.is_sending() {
            self.sends.mind(member);
            if let Err(error) = self.sends.arm() {
                self.fail(VerbsError::os("arm the send completion queue", &error));
            }
            self.look_at_sends_surely();
        }
    }

    /// The queues have failed: ends all tracks that share them.
    #[cold]
    fn fail(&self, failure: VerbsError) {
        let state = self.lock();
        let over: Vec<_> = state
            .routes
            .values()
            .map(|route| (Arc::clone(&route.member), route.token, Some(failure.clone())))
            .collect();
        drop(state);
        self.end_members(over);
    }
}
