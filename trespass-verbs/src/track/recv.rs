//! The receiving side: which slots the device has, and which come back.

use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::task::{Context, Poll};

use rdma_mummy_sys::{ibv_recv_wr, ibv_sge, ibv_wc_flags, ibv_wc_status};
use trespass_core::TryError;

use crate::error::VerbsError;
use crate::raw::cq::CompletionBatch;
use crate::status;
use crate::sync::Ordering;
use crate::track::conn::Conn;
use crate::track::slots::Shared;

/// A received message, in the registered memory into which the device wrote it.
pub struct VerbsRecvBuf {
    start: NonNull<u8>,
    len: u32,
    slot: u32,
    /// The flags and the immediate data of the completion, as they came.
    flags: u32,
    word: u32,
    shared: Arc<Shared>,
}

// SAFETY: the slot, and so its memory, belongs to this value alone until it is dropped.
unsafe impl Send for VerbsRecvBuf {}
// SAFETY: shared references give shared slices only.
unsafe impl Sync for VerbsRecvBuf {}

impl Deref for VerbsRecvBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the device wrote `len` bytes from `start` and let go of the slot when it completed the receive; the
        // slot is posted again only after this value is dropped, and `shared` keeps the memory mapped.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

impl AsRef<[u8]> for VerbsRecvBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl VerbsRecvBuf {
    /// The word of immediate data that came beside it: [`RecvSide::immediate`](trespass_core::RecvSide::immediate), of this type.
    #[inline]
    pub fn immediate(&self) -> Option<u32> {
        let has_word = self.flags & ibv_wc_flags::IBV_WC_WITH_IMM.0 != 0;
        has_word.then(|| u32::from_be(self.word))
    }
}

impl Drop for VerbsRecvBuf {
    #[inline]
    fn drop(&mut self) {
        self.shared.give_back(self.slot);
    }
}

impl std::fmt::Debug for VerbsRecvBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerbsRecvBuf").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The receive queue of one queue pair. Work requests are made once, one for each slot, and linked when posted.
pub(crate) struct RecvQueue {
    conn: Arc<Conn>,
    /// As `conn` has it, one step nearer.
    shared: Arc<Shared>,
    slots: u32,
    slot_size: u32,
    requests: Box<[ibv_recv_wr]>,
    _elements: Box<[ibv_sge]>,
    /// Which slots the device has: a completion for another is not believed.
    with_device: Box<[bool]>,
    /// How many that are.
    outstanding: u32,
    /// Slots that came back and are not posted yet.
    idle: Vec<u32>,
    /// How many to post at once.
    repost_batch: u32,
    /// With so many the device is well supplied: fewer than a batch may wait until there is one, even while this side sleeps.
    ample: u32,
    posted: u64,
    batch: CompletionBatch,
    /// The last look at the completion queue found nothing, and it was the last thing that happened here.
    looked: bool,
    arms: u64,
    doorbells: u64,
}

// SAFETY: as for `SendQueue`.
unsafe impl Send for RecvQueue {}

impl RecvQueue {
    /// The queue, with every slot posted.
    pub(crate) fn new(conn: Arc<Conn>, max_message: usize) -> Result<Self, VerbsError> {
        let slots = conn.device.depths.recv;
        let lkey = conn.shared.lkey();
        let element =
            |slot| ibv_sge { addr: conn.shared.recv_memory(slot).as_ptr() as u64, length: max_message as u32, lkey };
        let mut elements: Box<[ibv_sge]> = (0..slots).map(element).collect();
        let requests =
            elements.iter_mut().enumerate().map(|(slot, element)| blank_request(slot as u64, element)).collect();
        let mut queue = Self {
            shared: Arc::clone(&conn.shared),
            conn,
            slots,
            slot_size: max_message as u32,
            requests,
            _elements: elements,
            with_device: vec![false; slots as usize].into_boxed_slice(),
            outstanding: 0,
            idle: (0..slots).collect(),
            repost_batch: (slots / 4).clamp(1, 32),
            ample: slots.div_ceil(2),
            posted: 0,
            batch: CompletionBatch::new(),
            looked: false,
            arms: 0,
            doorbells: 0,
        };
        queue.post_idle()?;
        Ok(queue)
    }

    #[inline]
    pub(crate) fn posted(&self) -> u64 {
        self.posted
    }

    pub(crate) fn arms(&self) -> u64 {
        self.arms
    }

    pub(crate) fn doorbells(&self) -> u64 {
        self.doorbells
    }

    #[inline]
    pub(crate) fn try_recv(&mut self) -> Result<VerbsRecvBuf, TryError<VerbsError>> {
        loop {
            if let Some(completion) = self.batch.next() {
                let (slot, len, failed) = match completion.status {
                    ibv_wc_status::IBV_WC_SUCCESS => (completion.wr_id as u32, completion.byte_len, None),
                    _ => (completion.wr_id as u32, 0, Some(status::failure(completion))),
                };
                // SAFETY: the union holds immediate data where the flags say so, and is 4 bytes of anything otherwise.
                let word = unsafe { completion.imm_data_invalidated_rkey_union.imm_data };
                let beside = (completion.wc_flags, word);
                match (self.complete(slot), failed) {
                    (true, None) => return Ok(self.buffer(slot, len, beside)),
                    (_, failed) => self.failed(failed.flatten()),
                }
                continue;
            }
            self.repost(self.repost_batch);
            // Looked at before the poll: what arrived before the end is there by then.
            let ended = self.shared.has_ended();
            match self.conn.recv_cq.poll(&mut self.batch) {
                Ok(0) if ended => return Err(TryError::Failed(self.cause())),
                Ok(0) => {
                    self.looked = true;
                    return Err(TryError::WouldBlock);
                }
                Ok(_) => {}
                Err(error) => {
                    self.fail(VerbsError::os("poll the receive completion queue", &error));
                    return Err(TryError::Failed(self.shared.cause()));
                }
            }
        }
    }

    /// Takes a slot back from the device, if that had it.
    #[inline]
    fn complete(&mut self, slot: u32) -> bool {
        match self.with_device.get_mut(slot as usize) {
            Some(with_device) if *with_device => *with_device = false,
            _ => {
                self.fail(VerbsError::Device {
                    action: "receive",
                    why: "the device completed what it was not given".into(),
                });
                return false;
            }
        }
        self.outstanding -= 1;
        true
    }

    #[inline]
    fn buffer(&self, slot: u32, len: u32, (flags, word): (u32, u32)) -> VerbsRecvBuf {
        let shared = Arc::clone(&self.shared);
        VerbsRecvBuf { start: shared.recv_memory(slot), len: len.min(self.slot_size), slot, flags, word, shared }
    }

    /// A flush says that the queue pair has failed, not why: the cause is with the sends, or is known already.
    #[cold]
    fn failed(&mut self, cause: Option<VerbsError>) {
        if !self.shared.has_ended() {
            let cause = cause.or_else(|| self.cause_among_sends());
            self.fail(cause.unwrap_or(VerbsError::Closed));
        }
    }

    /// Why the track has ended, now that this is to be told.
    #[cold]
    fn cause(&self) -> VerbsError {
        if !self.shared.has_failed() {
            if let Some(cause) = self.cause_among_sends() {
                self.fail(cause);
            }
        }
        self.shared.cause()
    }

    /// The queue pair has failed. What is taken from its send completions here is left to the sending side.
    fn cause_among_sends(&self) -> Option<VerbsError> {
        let mut cause = None;
        let mut batch = CompletionBatch::new();
        while self.conn.send_cq.poll(&mut batch).is_ok_and(|count| count > 0) {
            while let Some(completion) = batch.next() {
                cause = cause.or_else(|| status::failure(completion));
                self.shared.leave_taken(std::iter::once(*completion));
            }
        }
        cause
    }

    #[cold]
    fn fail(&self, failure: VerbsError) {
        self.conn.fail(failure);
    }

    /// Posts what came back, once it is worth a doorbell or the device has fewer than `plenty`.
    #[inline]
    fn repost(&mut self, plenty: u32) {
        if self.is_supplied(plenty) {
            return;
        }
        self.idle.extend(self.shared.given_back.take());
        let enough = self.idle.len() as u32 >= self.repost_batch;
        let short = self.outstanding < plenty && !self.idle.is_empty();
        if enough || short {
            // A failure has ended the track, which the next look at its state tells.
            let _ = self.post_idle();
        }
    }

    /// The device has plenty, and all that it has not would not make a batch: nobody need look how many came back.
    #[inline]
    fn is_supplied(&self, plenty: u32) -> bool {
        self.outstanding >= plenty && self.slots - self.outstanding < self.repost_batch
    }

    fn post_idle(&mut self) -> Result<(), VerbsError> {
        // A receive that is posted after the end is never flushed by some devices: nothing is posted then.
        if self.idle.is_empty() || self.shared.has_ended() {
            return Ok(());
        }
        let mut first: *mut ibv_recv_wr = null_mut();
        let count = self.idle.len() as u32;
        for slot in self.idle.drain(..) {
            self.with_device[slot as usize] = true;
            let request = &mut self.requests[slot as usize];
            request.next = first;
            first = request;
        }
        self.doorbells += 1;
        // SAFETY: `first` heads a list of requests in `self.requests`, each pointing to its element, both boxed and
        // alive. Their slots were given back (or never out), so no reference to the memory exists; `with_device`
        // keeps them from being handed out before their completion, and the memory outlives the queue pair (`Conn`).
        match unsafe { self.conn.qp.post_recv(first) } {
            Ok(()) => {
                self.outstanding += count;
                self.posted += u64::from(count);
                Ok(())
            }
            Err(error) => {
                let failure = VerbsError::os("post receives", &error);
                self.fail(failure.clone());
                Err(failure)
            }
        }
    }

    #[inline]
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.awake();
        if !self.batch.is_empty() {
            return Poll::Ready(());
        }
        self.shared.recv_waker.register(cx.waker());
        self.repost(self.ample);
        // Whoever has just tried need not have it tried again before the queue is armed, only afterwards.
        if !std::mem::take(&mut self.looked) && self.look() {
            return Poll::Ready(());
        }
        if !self.shared.recv_armed.swap(true, Ordering::AcqRel) {
            self.arms += 1;
            if let Err(error) = self.conn.recv_cq.arm() {
                self.fail(VerbsError::os("arm the receive completion queue", &error));
            }
        }
        if self.look() {
            return Poll::Ready(());
        }
        while !self.is_supplied(self.ample) {
            let short = self.outstanding < self.repost_batch;
            let wanted = if short { 1 } else { self.repost_batch.saturating_sub(self.idle.len() as u32) };
            self.shared.sleep_until_returned(wanted);
            if self.shared.given_back.is_empty() || self.shared.has_ended() {
                break;
            }
            self.repost(self.ample);
        }
        if self.shared.has_ended() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether there is something to take, or the end to be told.
    #[inline]
    fn look(&mut self) -> bool {
        let ended = self.shared.has_ended();
        match self.conn.recv_cq.poll(&mut self.batch) {
            Ok(0) => ended,
            Ok(_) => true,
            Err(error) => {
                self.fail(VerbsError::os("poll the receive completion queue", &error));
                true
            }
        }
    }
}

fn blank_request(slot: u64, element: &mut ibv_sge) -> ibv_recv_wr {
    let request = MaybeUninit::<ibv_recv_wr>::zeroed();
    // SAFETY: plain integers and pointers that may be null: all zero is a valid value.
    let mut request = unsafe { request.assume_init() };
    request.wr_id = slot;
    request.sg_list = element;
    request.num_sge = 1;
    request
}
