//! The sending side: slots, the list of what is queued, and what is in flight.

use std::io;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use rdma_mummy_sys::{ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wc, ibv_wc_status, ibv_wr_opcode};
use trespass_core::{SendBuf, TryError, Unsent};

use crate::error::VerbsError;
use crate::raw::cq::CompletionBatch;
use crate::status;
use crate::track::conn::Conn;
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
    conn: Arc<Conn>,
    max_message: usize,
    inline: usize,
    /// Slots that nobody has.
    free: Vec<u32>,
    requests: Box<[ibv_send_wr]>,
    elements: Box<[ibv_sge]>,
    /// Queued and not flushed: the first and last slot of the linked list.
    queued: Option<(u32, u32)>,
    /// Slots in the order in which they were queued, by sequence number: a completion frees all up to its own.
    order: Box<[u32]>,
    next_seq: u64,
    done_seq: u64,
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
        let mut elements: Box<[ibv_sge]> =
            (0..slots).map(|slot| ibv_sge { addr: memory(slot), length: 0, lkey }).collect();
        let requests = elements.iter_mut().map(blank_request).collect();
        Self {
            max_message,
            inline: conn.device.depths.inline as usize,
            conn,
            free: (0..slots).rev().collect(),
            requests,
            elements,
            queued: None,
            order: vec![0; slots as usize].into_boxed_slice(),
            next_seq: 0,
            done_seq: 0,
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
        if self.conn.shared.has_ended() {
            return Err(TryError::Failed(self.conn.shared.cause()));
        }
        let Some(slot) = self.free.pop() else { return self.refill_and_reserve(len) };
        let shared = Arc::clone(&self.conn.shared);
        Ok(VerbsSendBuf { start: shared.send_memory(slot), len, slot, shared })
    }

    #[cold]
    fn refill_and_reserve(&mut self, len: usize) -> Result<VerbsSendBuf, TryError<VerbsError>> {
        self.refill();
        if self.free.is_empty() && !self.conn.shared.has_ended() {
            return Err(TryError::WouldBlock);
        }
        self.try_reserve(len)
    }

    #[inline]
    pub(crate) fn send(&mut self, buf: VerbsSendBuf) -> Result<(), Unsent<VerbsSendBuf, VerbsError>> {
        let slot = self.queue(buf)?;
        self.requests[slot as usize].opcode = ibv_wr_opcode::IBV_WR_SEND;
        Ok(())
    }

    #[inline]
    pub(crate) fn send_immediate(
        &mut self,
        buf: VerbsSendBuf,
        word: u32,
    ) -> Result<(), Unsent<VerbsSendBuf, VerbsError>> {
        let slot = self.queue(buf)?;
        let request = &mut self.requests[slot as usize];
        request.opcode = ibv_wr_opcode::IBV_WR_SEND_WITH_IMM;
        request.imm_data_invalidated_rkey_union.imm_data = word.to_be();
        Ok(())
    }

    /// Queues a buffer and says its slot; the caller says what sort of send it is.
    #[inline]
    fn queue(&mut self, buf: VerbsSendBuf) -> Result<u32, Unsent<VerbsSendBuf, VerbsError>> {
        let shared = &self.conn.shared;
        if !Arc::ptr_eq(&buf.shared, shared) {
            return Err(Unsent { buf, error: VerbsError::ForeignBuffer });
        }
        if shared.has_ended() {
            let error = shared.cause();
            return Err(Unsent { buf, error });
        }
        let (slot, len) = buf.into_parts();
        self.elements[slot as usize].length = len as u32;
        let request = &mut self.requests[slot as usize];
        request.next = null_mut();
        request.send_flags = if len <= self.inline { ibv_send_flags::IBV_SEND_INLINE.0 } else { 0 };
        let link: *mut ibv_send_wr = request;
        self.queued = Some(match self.queued {
            None => (slot, slot),
            Some((first, last)) => {
                self.requests[last as usize].next = link;
                (first, slot)
            }
        });
        let slots = self.order.len() as u64;
        self.order[(self.next_seq % slots) as usize] = slot;
        self.next_seq += 1;
        Ok(slot)
    }

    /// Posts what is queued; the last of it asks for a completion, which stands for all before it. So whatever was
    /// flushed has a completion to come, and a sleep or a close that waits for it needs nothing more.
    #[inline]
    pub(crate) fn flush(&mut self) -> Result<(), VerbsError> {
        let Some((first, last)) = self.queued.take() else {
            return if self.conn.shared.has_failed() { Err(self.conn.shared.cause()) } else { Ok(()) };
        };
        let signalled = &mut self.requests[last as usize];
        signalled.wr_id = self.next_seq;
        signalled.send_flags |= ibv_send_flags::IBV_SEND_SIGNALED.0;
        self.doorbells += 1;
        // SAFETY: `first` heads a list of requests in `self.requests`, each pointing to its element in `self.elements`,
        // both boxed and alive. Their slots left the hands of the user in `send` and come back to `free` only by
        // their completion (`complete`), or never: the memory outlives the queue pair (`Conn`).
        match unsafe { self.conn.qp.post_send(&mut self.requests[first as usize]) } {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail(VerbsError::os("post sends", &error))),
        }
    }

    /// Takes back what was dropped unsent and what has completed.
    #[inline]
    fn refill(&mut self) {
        self.free.extend(self.conn.shared.unsent.take());
        self.reap();
    }

    /// Takes the completions that are there.
    #[inline]
    fn reap(&mut self) {
        loop {
            match self.conn.send_cq.poll(&mut self.batch) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    self.fail(VerbsError::os("poll the send completion queue", &error));
                    return;
                }
            }
            while let Some(completion) = self.batch.next() {
                self.complete(&completion);
            }
        }
    }

    #[inline]
    fn complete(&mut self, completion: &ibv_wc) {
        if completion.status != ibv_wc_status::IBV_WC_SUCCESS {
            // Nothing comes back from here: what did not complete stays with the queue pair until that is gone.
            match status::failure(completion) {
                Some(failure) => self.fail(failure),
                None => self.fail(VerbsError::Closed),
            };
            return;
        }
        let slots = self.order.len() as u64;
        // A completion of ours names a sequence number that is in flight; what names another frees nothing.
        let upto = completion.wr_id.min(self.next_seq);
        while self.done_seq < upto {
            self.free.push(self.order[(self.done_seq % slots) as usize]);
            self.done_seq += 1;
        }
    }

    /// Ends the track, and returns the first cause.
    #[cold]
    fn fail(&self, failure: VerbsError) -> VerbsError {
        self.conn.qp.fail();
        self.conn.shared.end((failure != VerbsError::Closed).then_some(failure));
        self.conn.shared.cause()
    }

    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A failure shows in the state of the track, which is looked at below.
        let _ = self.flush();
        if !self.free.is_empty() {
            return Poll::Ready(());
        }
        self.conn.shared.send_waker.register(cx.waker());
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
    fn can_go_on(&self) -> bool {
        !self.free.is_empty() || self.conn.shared.has_ended()
    }

    fn arm(&mut self) -> io::Result<()> {
        if self.conn.shared.send_armed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.arms += 1;
        self.conn.send_cq.arm()
    }

    /// Ready when all that was flushed has arrived, or the track has ended: whether it has all arrived.
    pub(crate) fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let _ = self.flush();
        self.conn.shared.send_waker.register(cx.waker());
        self.reap();
        if self.done_seq < self.next_seq && !self.conn.shared.has_ended() {
            if let Err(error) = self.arm() {
                self.fail(VerbsError::os("arm the send completion queue", &error));
            }
            self.reap();
        }
        match self.done_seq == self.next_seq {
            true => Poll::Ready(true),
            false if self.conn.shared.has_ended() => Poll::Ready(false),
            false => Poll::Pending,
        }
    }
}

fn blank_request(element: &mut ibv_sge) -> ibv_send_wr {
    let request = MaybeUninit::<ibv_send_wr>::zeroed();
    // SAFETY: plain integers, unions of them, and pointers that may be null: all zero is a valid value.
    let mut request = unsafe { request.assume_init() };
    request.sg_list = element;
    request.num_sge = 1;
    request.opcode = ibv_wr_opcode::IBV_WR_SEND;
    request
}
