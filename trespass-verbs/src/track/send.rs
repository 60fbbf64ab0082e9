//! The sending side: slots, the list of what is queued, and what is in flight.

use std::io;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::task::{Context, Poll};

use rdma_mummy_sys::{ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wc_status, ibv_wr_opcode};
use trespass_core::{SendBuf, TryError, Unsent};

use crate::error::VerbsError;
use crate::raw::cq::CompletionBatch;
use crate::status;
use crate::sync::Ordering;
use crate::track::conn::Conn;
use crate::track::operations::Operations;
use crate::track::slots::Shared;

/// Owned registered memory with its slot in the send queue.
pub struct VerbsSendBuf {
    start: NonNull<u8>,
    len: usize,
    slot: u32,
    shared: Arc<Shared>,
}

// SAFETY: the slot, and so its memory, belongs to this value alone until it is dropped or sent.
unsafe impl Send for VerbsSendBuf {}
// SAFETY: shared references give shared slices only.
unsafe impl Sync for VerbsSendBuf {}

impl Deref for VerbsSendBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` lie in a slot that this value owns; the device only reads them, and only after
        // they were posted, which takes the value away. The memory was zeroed before it was first handed out, and
        // `shared` keeps it mapped.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for VerbsSendBuf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl VerbsSendBuf {
    /// A buffer of a slot of `shared` that nobody has.
    #[inline]
    pub(crate) fn new(shared: &Arc<Shared>, slot: u32, len: usize) -> Self {
        Self { start: shared.send_memory(slot), len, slot, shared: Arc::clone(shared) }
    }

    /// A buffer of a slot of `shared` that nobody has, whose memory is on loan, at `start` and of `len` bytes or more.
    #[inline]
    pub(crate) fn lent(shared: &Arc<Shared>, start: NonNull<u8>, slot: u32, len: usize) -> Self {
        Self { start, len, slot, shared: Arc::clone(shared) }
    }

    #[inline]
    pub(crate) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// The slot and length, without giving the slot back.
    #[inline]
    pub(crate) fn into_parts(self) -> (u32, usize) {
        let buf = std::mem::ManuallyDrop::new(self);
        // SAFETY: `buf` is not dropped and not used again, so this reference count is given back once, here.
        drop(unsafe { std::ptr::read(&buf.shared) });
        (buf.slot, buf.len)
    }
}

impl SendBuf for VerbsSendBuf {
    #[inline]
    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Drop for VerbsSendBuf {
    fn drop(&mut self) {
        if let Some(loan) = &self.shared.loan {
            loan.give_back(self.slot);
        }
        self.shared.unsent.push(self.slot);
        self.shared.send_waker.wake();
    }
}

impl std::fmt::Debug for VerbsSendBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerbsSendBuf").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The send queue of one queue pair. Work requests are made once, one for each slot; a send fills in length, flags and
/// link.
pub(crate) struct SendQueue {
    pub(super) conn: Arc<Conn>,
    /// As `conn` has it, one step nearer.
    pub(super) shared: Arc<Shared>,
    pub(super) max_message: usize,
    pub(super) inline: usize,
    /// Slots that nobody has.
    pub(super) free: Vec<u32>,
    pub(super) requests: Box<[ibv_send_wr]>,
    /// Two for each slot; a send needs the first alone.
    pub(super) elements: Box<[[ibv_sge; 2]]>,
    /// Queued and not flushed: the first and last slot of the linked list.
    queued: Option<(u32, u32)>,
    /// Slots in the order in which they were queued, a ring: a completion frees all up to its own.
    pub(super) order: Box<[u32]>,
    /// How many were queued since the start, and where in the ring the next one goes; the same for those completed. A
    /// request's number is how many were queued with it.
    pub(super) next_seq: u64,
    next_at: u32,
    done_seq: u64,
    done_at: u32,
    /// How many of them the device was given.
    pub(super) flushed_seq: u64,
    /// A completion has failed: those that follow stand for themselves alone.
    failed: bool,
    /// What among them holds more than its slot.
    pub(super) operations: Operations,
    batch: CompletionBatch,
    doorbells: u64,
    arms: u64,
}

// SAFETY: the pointers in the work requests point to each other's boxes and to slots of the arena, which move with the
// value or stay where they are; none is bound to a thread.
unsafe impl Send for SendQueue {}

impl SendQueue {
    pub(crate) fn new(conn: Arc<Conn>, max_message: usize) -> Self {
        let slots = conn.device.depths.send;
        let lkey = conn.shared.lkey();
        let memory = |slot| conn.shared.send_memory(slot).as_ptr() as u64;
        let element = |slot| ibv_sge { addr: memory(slot), length: 0, lkey };
        let mut elements: Box<[[ibv_sge; 2]]> = (0..slots).map(|slot| [element(slot); 2]).collect();
        let requests = elements.iter_mut().map(blank_request).collect();
        Self {
            max_message,
            inline: conn.device.depths.inline as usize,
            shared: Arc::clone(&conn.shared),
            conn,
            free: (0..slots).rev().collect(),
            requests,
            elements,
            queued: None,
            order: vec![0; slots as usize].into_boxed_slice(),
            next_seq: 0,
            next_at: 0,
            done_seq: 0,
            done_at: 0,
            flushed_seq: 0,
            failed: false,
            operations: Operations::new(slots as usize),
            batch: CompletionBatch::new(),
            doorbells: 0,
            arms: 0,
        }
    }

    pub(crate) fn doorbells(&self) -> u64 {
        self.doorbells
    }

    pub(crate) fn arms(&self) -> u64 {
        self.arms
    }

    pub(crate) fn conn(&self) -> &Arc<Conn> {
        &self.conn
    }

    #[inline]
    pub(crate) fn try_reserve(&mut self, len: usize) -> Result<VerbsSendBuf, TryError<VerbsError>> {
        if len > self.max_message {
            return Err(TryError::Failed(VerbsError::Oversize { len, max: self.max_message }));
        }
        if self.shared.has_ended() {
            return Err(TryError::Failed(self.cause()));
        }
        let Some(slot) = self.free.pop() else { return self.refill_and_reserve(len) };
        let shared = Arc::clone(&self.shared);
        Ok(VerbsSendBuf { start: shared.send_memory(slot), len, slot, shared })
    }

    #[cold]
    fn refill_and_reserve(&mut self, len: usize) -> Result<VerbsSendBuf, TryError<VerbsError>> {
        self.refill();
        if self.free.is_empty() && !self.shared.has_ended() {
            return Err(TryError::WouldBlock);
        }
        self.try_reserve(len)
    }

    #[inline]
    pub(crate) fn send(&mut self, buf: VerbsSendBuf) -> Result<(), Unsent<VerbsSendBuf, VerbsError>> {
        self.queue(buf, ibv_wr_opcode::IBV_WR_SEND, 0)
    }

    #[inline]
    pub(crate) fn send_immediate(
        &mut self,
        buf: VerbsSendBuf,
        word: u32,
    ) -> Result<(), Unsent<VerbsSendBuf, VerbsError>> {
        self.queue(buf, ibv_wr_opcode::IBV_WR_SEND_WITH_IMM, word.to_be())
    }

    #[inline]
    fn queue(
        &mut self,
        buf: VerbsSendBuf,
        opcode: ibv_wr_opcode::Type,
        word: u32,
    ) -> Result<(), Unsent<VerbsSendBuf, VerbsError>> {
        if !buf.is_of(&self.shared) {
            return Err(Unsent { buf, error: VerbsError::ForeignBuffer });
        }
        if self.shared.has_ended() {
            let error = self.cause();
            return Err(Unsent { buf, error });
        }
        let (slot, len) = buf.into_parts();
        self.elements[slot as usize][0].length = len as u32;
        let request = &mut self.requests[slot as usize];
        request.opcode = opcode;
        request.imm_data_invalidated_rkey_union.imm_data = word;
        self.link(slot, if len <= self.inline { ibv_send_flags::IBV_SEND_INLINE.0 } else { 0 });
        Ok(())
    }

    /// Queues the request of `slot`, which is filled in.
    #[inline]
    pub(super) fn link(&mut self, slot: u32, flags: u32) {
        self.next_seq += 1;
        let request = &mut self.requests[slot as usize];
        request.wr_id = self.next_seq;
        request.next = null_mut();
        request.send_flags = flags;
        let link: *mut ibv_send_wr = request;
        self.queued = Some(match self.queued {
            None => (slot, slot),
            Some((first, last)) => {
                self.requests[last as usize].next = link;
                (first, slot)
            }
        });
        self.order[self.next_at as usize] = slot;
        self.next_at = after(self.next_at, &self.order);
    }

    /// Posts what is queued. Tells why where it cannot.
    #[inline]
    pub(crate) fn flush(&mut self) -> Result<(), VerbsError> {
        if self.post_queued() { Ok(()) } else { Err(self.cause()) }
    }

    /// Posts what is queued; the last of it asks for a completion, which stands for all before it. So whatever was flushed
    /// has a completion to come, and a sleep or a close that waits for it needs nothing more. False where the track has
    /// failed, or has ended and something was queued: a user who is not told by this call will be by another.
    #[inline]
    pub(crate) fn post_queued(&mut self) -> bool {
        let Some((first, last)) = self.queued.take() else { return !self.shared.has_failed() };
        if self.shared.has_ended() {
            // What was not posted by now never is: what it holds may have been given back.
            return false;
        }
        self.requests[last as usize].send_flags |= ibv_send_flags::IBV_SEND_SIGNALED.0;
        self.flushed_seq = self.next_seq;
        self.doorbells += 1;
        // SAFETY: `first` heads a list of requests in `self.requests`, each pointing to its element in `self.elements`,
        // both boxed and alive. Their slots left the hands of the user in `send` and come back to `free` only by
        // their completion (`complete`), or never: the memory outlives the queue pair (`Conn`).
        match unsafe { self.conn.qp.post_send(&mut self.requests[first as usize]) } {
            Ok(()) => true,
            Err(error) => {
                self.fail(VerbsError::os("post sends", &error));
                false
            }
        }
    }

    /// Takes back what was dropped unsent and what has completed.
    #[inline]
    pub(super) fn refill(&mut self) {
        self.free.extend(self.shared.unsent.take());
        self.reap();
    }

    /// Takes the completions that are there.
    #[inline]
    pub(super) fn reap(&mut self) {
        if self.shared.has_ended() {
            self.take_from_receiver();
        }
        loop {
            match self.conn.send_cq.poll(&mut self.batch) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    self.fail(VerbsError::os("poll the send completion queue", &error));
                    return;
                }
            }
            while !self.batch.is_empty() {
                self.take_batch();
            }
        }
    }

    /// Takes completions up to the first that failed.
    #[inline]
    fn take_batch(&mut self) {
        let mut upto = self.done_seq;
        let mut failed = None;
        while let Some(completion) = self.batch.next() {
            match completion.status {
                ibv_wc_status::IBV_WC_SUCCESS => upto = completion.wr_id,
                _ => {
                    failed = Some((completion.wr_id, status::failure(completion)));
                    break;
                }
            }
        }
        self.complete(upto);
        if let Some((number, failure)) = failed {
            self.completed_badly(number, failure);
        }
    }

    #[cold]
    fn take_from_receiver(&mut self) {
        for completion in self.shared.taken() {
            match completion.status {
                ibv_wc_status::IBV_WC_SUCCESS => self.complete(completion.wr_id),
                _ => self.completed_badly(completion.wr_id, status::failure(&completion)),
            }
        }
    }

    /// Why the track has ended, now that this is to be told: what the completions say of it comes first.
    #[cold]
    pub(super) fn cause(&mut self) -> VerbsError {
        if !self.shared.has_failed() {
            self.reap();
        }
        self.shared.cause()
    }

    /// Request `number` has failed; those before it had not, unless another failed before. Its slot does not come back: the
    /// track is over. So is the look at the completions: what else they say is noise, but for operations.
    #[cold]
    fn completed_badly(&mut self, number: u64, failure: Option<VerbsError>) {
        if !std::mem::replace(&mut self.failed, true) {
            self.complete(number.saturating_sub(1));
        }
        self.fail(failure.clone().unwrap_or(VerbsError::Closed));
        // Its own cause may differ from that of the track, where the user was told of that before.
        let failure = failure.unwrap_or_else(|| self.shared.cause_so_far());
        self.fail_operations(number.min(self.flushed_seq), &failure);
    }

    /// All that was queued before `upto` has arrived.
    #[inline]
    fn complete(&mut self, upto: u64) {
        // A completion of ours names a number that is in flight; what names another frees nothing.
        let upto = upto.min(self.flushed_seq);
        while self.done_seq < upto {
            let slot = self.order[self.done_at as usize];
            self.done_at = after(self.done_at, &self.order);
            self.done_seq += 1;
            match self.done_seq == self.operations.next {
                false => self.free.push(slot),
                true => self.finish(slot, Ok(())),
            }
        }
    }

    /// The slot of request `number`, which is in flight.
    pub(super) fn slot_of(&self, number: u64) -> u32 {
        let slots = self.order.len() as u64;
        self.order[((u64::from(self.done_at) + number - self.done_seq - 1) % slots) as usize]
    }

    /// Makes the request of `slot` one for a send again.
    pub(super) fn reset(&mut self, slot: u32) {
        let (addr, lkey) = (self.shared.send_memory(slot).as_ptr() as u64, self.shared.lkey());
        self.elements[slot as usize][0] = ibv_sge { addr, length: 0, lkey };
        // What sort of send it is is filled in with each.
        self.requests[slot as usize].num_sge = 1;
    }

    #[cold]
    pub(super) fn fail(&self, failure: VerbsError) {
        self.conn.fail(failure);
    }

    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A failure shows in the state of the track, which is looked at below.
        self.post_queued();
        if !self.free.is_empty() {
            return Poll::Ready(());
        }
        self.shared.send_waker.register(cx.waker());
        self.refill();
        if self.can_go_on() {
            return Poll::Ready(());
        }
        if let Err(error) = self.arm() {
            self.fail(VerbsError::os("arm the send completion queue", &error));
        }
        self.refill();
        if self.can_go_on() { Poll::Ready(()) } else { Poll::Pending }
    }

    #[inline]
    pub(super) fn can_go_on(&self) -> bool {
        !self.free.is_empty() || self.shared.has_ended()
    }

    pub(super) fn arm(&mut self) -> io::Result<()> {
        if self.shared.send_armed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.arms += 1;
        self.conn.send_cq.arm()
    }

    /// Ready when all that was flushed has arrived, or the track has ended: whether it has all arrived.
    pub(crate) fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.post_queued();
        self.shared.send_waker.register(cx.waker());
        self.reap();
        if self.done_seq < self.next_seq && !self.shared.has_ended() {
            if let Err(error) = self.arm() {
                self.fail(VerbsError::os("arm the send completion queue", &error));
            }
            self.reap();
        }
        match self.done_seq == self.next_seq {
            true => Poll::Ready(true),
            false if self.shared.has_ended() => Poll::Ready(false),
            false => Poll::Pending,
        }
    }
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        let operations = std::mem::take(&mut self.operations);
        if !operations.is_idle() {
            // The device may still have it.
            self.conn.keep_until_destroyed(operations.into_memory());
        }
    }
}

/// The place after `at` in a ring.
#[inline]
fn after<T>(at: u32, ring: &[T]) -> u32 {
    if at as usize + 1 == ring.len() { 0 } else { at + 1 }
}

fn blank_request(elements: &mut [ibv_sge; 2]) -> ibv_send_wr {
    let request = MaybeUninit::<ibv_send_wr>::zeroed();
    // SAFETY: plain integers, unions of them, and pointers that may be null: all zero is a valid value.
    let mut request = unsafe { request.assume_init() };
    request.sg_list = elements.as_mut_ptr();
    request.num_sge = 1;
    request.opcode = ibv_wr_opcode::IBV_WR_SEND;
    request
}
