//! The sending side of a member: slots, what is queued, what is in flight, and the close.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::ptr::null_mut;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rdma_mummy_sys::{ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wr_opcode};
use trespass_core::{Timer, TryError, Unsent};

use super::lane::Lane;
use super::member::Member;
use crate::error::VerbsError;
use crate::raw::qp::Qp;
use crate::sync::Ordering;
use crate::timer::{VerbsSleep, VerbsTimer};
use crate::track::VerbsSendBuf;

/// Through what a member sends.
pub(crate) trait Gate {
    fn qp(&self) -> &Qp;
    /// Where its completions come.
    fn sends(&self) -> &Lane;
    /// How many send slots each member has, and up to how many bytes go inline.
    fn shape(&self) -> (usize, usize);
    /// Takes the sends that have completed, for all, unless somebody else is at it.
    fn look_at_sends(&self);
    /// The same, or has whoever is at it do so.
    fn look_at_sends_surely(&self);
    /// Whether a receiving half that sleeps has to be woken when sends fail, since nothing else tells it.
    fn minds_failures(&self) -> bool {
        false
    }
    /// Ends all that uses the queue pair.
    fn fail(&self, failure: VerbsError);
    /// `member`, which posted `sends` in all, has drained its sends or was dropped, and ends.
    fn leave(&self, member: &Arc<Member>, sends: u64);
}

/// The sends of one member. Work requests are made once, one for each slot.
pub(crate) struct Sends<G: Gate> {
    gate: Arc<G>,
    member: Arc<Member>,
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
    posted_seq: u64,
    done_seq: u64,
    doorbells: u64,
    closing: Closing,
    left: bool,
}

// SAFETY: the pointers in the work requests point to each other's boxes, to slots of the arena and to address handles, which
// move with the value or stay where they are; none is bound to a thread.
unsafe impl<G: Gate + Send + Sync> Send for Sends<G> {}

enum Closing {
    No,
    Draining(VerbsSleep),
    Done(Result<(), VerbsError>),
}

impl<G: Gate> Sends<G> {
    pub(crate) fn new(gate: Arc<G>, member: Arc<Member>, max_message: usize) -> Self {
        let (slots, inline) = gate.shape();
        let slots = slots as u32;
        let shared = &member.shared;
        let element = |slot| match &shared.loan {
            None => ibv_sge { addr: shared.send_memory(slot).as_ptr() as u64, length: 0, lkey: shared.lkey() },
            // Filled in when the slot is reserved.
            Some(_) => ibv_sge { addr: 0, length: 0, lkey: 0 },
        };
        let mut elements: Box<[ibv_sge]> = (0..slots).map(element).collect();
        let requests = elements.iter_mut().map(blank_request).collect();
        Self {
            gate,
            member,
            max_message,
            inline,
            free: (0..slots).rev().collect(),
            requests,
            elements,
            queued: None,
            order: vec![0; slots as usize].into_boxed_slice(),
            next_seq: 0,
            posted_seq: 0,
            done_seq: 0,
            doorbells: 0,
            closing: Closing::No,
            left: false,
        }
    }

    pub(crate) fn doorbells(&self) -> u64 {
        self.doorbells
    }

    pub(crate) fn gate(&self) -> &Arc<G> {
        &self.gate
    }

    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// How many sends were queued.
    pub(crate) fn queued(&self) -> u64 {
        self.next_seq
    }

    /// How many of them are known to be over.
    pub(crate) fn done(&self) -> u64 {
        self.done_seq
    }

    #[inline]
    pub(crate) fn still_open(&self) -> Result<(), VerbsError> {
        if !matches!(self.closing, Closing::No) {
            return Err(VerbsError::Closed);
        }
        if self.member.shared.has_ended() { Err(self.member.shared.cause()) } else { Ok(()) }
    }

    #[inline]
    pub(crate) fn try_reserve(&mut self, len: usize) -> Result<VerbsSendBuf, TryError<VerbsError>> {
        self.still_open().map_err(TryError::Failed)?;
        if len > self.max_message {
            return Err(TryError::Failed(VerbsError::Oversize { len, max: self.max_message }));
        }
        if self.free.is_empty() {
            // The mark of one that waits stays: who waits is to be woken, though somebody else looks.
            self.gate.look_at_sends();
            self.refill();
        }
        let slot = self.free.pop().ok_or(TryError::WouldBlock)?;
        let shared = &self.member.shared;
        let Some(loan) = &shared.loan else { return Ok(VerbsSendBuf::new(shared, slot, len)) };
        let reserved = loan.reserve(slot, len).or_else(|_| {
            // Sends of others may have completed, and nobody has looked.
            self.gate.look_at_sends();
            loan.reserve(slot, len)
        });
        match reserved {
            Ok(place) => {
                let element = &mut self.elements[slot as usize];
                (element.addr, element.lkey) = (place.start.as_ptr() as u64, place.lkey);
                Ok(VerbsSendBuf::lent(shared, place.start, slot, len))
            }
            Err(error) => {
                self.free.push(slot);
                Err(TryError::Failed(error))
            }
        }
    }

    /// Whether `buf` may be queued now.
    #[inline]
    pub(crate) fn check(&self, buf: VerbsSendBuf) -> Result<VerbsSendBuf, Unsent<VerbsSendBuf, VerbsError>> {
        if !buf.is_of(&self.member.shared) {
            return Err(Unsent { buf, error: VerbsError::ForeignBuffer });
        }
        match self.still_open() {
            Ok(()) => Ok(buf),
            Err(error) => Err(Unsent { buf, error }),
        }
    }

    /// Queues a buffer that was [checked](Sends::check), with `word` beside it; the caller adds to the work request what
    /// is missing.
    #[inline]
    pub(crate) fn queue(&mut self, buf: VerbsSendBuf, word: Option<u32>) -> &mut ibv_send_wr {
        let (slot, len) = buf.into_parts();
        self.elements[slot as usize].length = len as u32;
        let request = &mut self.requests[slot as usize];
        request.next = null_mut();
        request.send_flags = if len <= self.inline { ibv_send_flags::IBV_SEND_INLINE.0 } else { 0 };
        request.opcode = ibv_wr_opcode::IBV_WR_SEND;
        if let Some(word) = word {
            request.opcode = ibv_wr_opcode::IBV_WR_SEND_WITH_IMM;
            request.imm_data_invalidated_rkey_union.imm_data = word.to_be();
        }
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
        if let Some(loan) = &self.member.shared.loan {
            loan.queue(slot, self.next_seq);
        }
        self.next_seq += 1;
        &mut self.requests[slot as usize]
    }

    /// Posts what is queued; the last of it asks for a completion, which stands for all before it.
    #[inline]
    pub(crate) fn flush(&mut self) -> Result<(), VerbsError> {
        let shared = &self.member.shared;
        let Some((first, last)) = self.queued.take() else {
            return if shared.has_failed() { Err(shared.cause()) } else { Ok(()) };
        };
        if shared.has_ended() {
            // The seat may be somebody else's soon: nothing is posted any more.
            return Err(shared.cause());
        }
        let signalled = &mut self.requests[last as usize];
        signalled.wr_id = self.member.request(self.next_seq);
        signalled.send_flags |= ibv_send_flags::IBV_SEND_SIGNALED.0;
        self.doorbells += 1;
        // SAFETY: `first` heads a list of requests in `self.requests`, each pointing to its element in `self.elements`, both
        // boxed and alive. Their slots left the hands of the user in `queue` and come back to `free` only by their
        // completion, or never. The member, and so the memory, and the address handles are kept until they are over or
        // the queue pair is gone: a port keeps them by the seat, a connection holds its member.
        match unsafe { self.gate.qp().post_send(&mut self.requests[first as usize]) } {
            Ok(()) => {
                self.posted_seq = self.next_seq;
                self.member.post(self.posted_seq);
                if self.gate.minds_failures() && self.member.recv_asleep.load(Ordering::SeqCst) {
                    self.mind_failures();
                }
                Ok(())
            }
            Err(error) => {
                self.gate.fail(VerbsError::os("post sends", &error));
                Err(self.member.shared.cause())
            }
        }
    }

    /// The receiving half sleeps, and was not told of these sends.
    fn mind_failures(&self) {
        self.gate.sends().mind(&self.member);
        if let Err(error) = self.gate.sends().arm() {
            self.gate.fail(VerbsError::os("arm the send completion queue", &error));
        }
        self.gate.look_at_sends_surely();
    }

    /// Takes back what was dropped unsent, and what is known to have completed.
    #[inline]
    fn refill(&mut self) {
        self.free.extend(self.member.shared.unsent.take());
        let slots = self.order.len() as u64;
        let upto = self.member.done().min(self.posted_seq);
        while self.done_seq < upto {
            self.free.push(self.order[(self.done_seq % slots) as usize]);
            self.done_seq += 1;
        }
    }

    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.still_open().is_err() {
            return Poll::Ready(());
        }
        // A failure shows in the state of the track, which is looked at below.
        let _ = self.flush();
        self.wait_until(cx, |sends| !sends.free.is_empty())
    }

    /// Ready when `ready` or ended.
    fn wait_until(&mut self, cx: &mut Context<'_>, ready: impl Fn(&Self) -> bool) -> Poll<()> {
        if ready(self) {
            return Poll::Ready(());
        }
        self.member.shared.send_waker.register(cx.waker());
        self.gate.sends().sleep(&self.member);
        let mut over = self.look(&ready);
        if !over {
            if let Err(error) = self.gate.sends().arm() {
                self.gate.fail(VerbsError::os("arm the send completion queue", &error));
            }
            over = self.look(&ready);
        }
        if !over {
            return Poll::Pending;
        }
        self.gate.sends().awake(&self.member);
        Poll::Ready(())
    }

    fn look(&mut self, ready: &impl Fn(&Self) -> bool) -> bool {
        self.gate.look_at_sends_surely();
        self.refill();
        ready(self) || self.member.shared.has_ended()
    }

    /// Flushes, waits until the own device has sent everything, and ends this member.
    pub(crate) fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        timer: &VerbsTimer,
        timeout: Duration,
    ) -> Poll<Result<(), VerbsError>> {
        if let Closing::Done(outcome) = &self.closing {
            return Poll::Ready(outcome.clone());
        }
        if matches!(self.closing, Closing::No) {
            let _ = self.flush();
            self.closing = Closing::Draining(timer.sleep(timeout));
        }
        let drained = self.wait_until(cx, |sends| sends.done_seq == sends.posted_seq);
        let shared = Arc::clone(&self.member.shared);
        let outcome = match drained {
            Poll::Ready(()) if shared.has_failed() => Err(shared.cause()),
            Poll::Ready(()) if self.done_seq == self.next_seq => Ok(()),
            Poll::Ready(()) => Err(shared.cause()),
            Poll::Pending => {
                if let Closing::Draining(deadline) = &mut self.closing {
                    ready!(Pin::new(deadline).poll(cx));
                }
                Err(VerbsError::TimedOut { what: "closing the track", limit: timeout })
            }
        };
        self.closing = Closing::Done(outcome.clone());
        self.leave();
        Poll::Ready(outcome)
    }

    /// Ends this member, without waiting for anything.
    fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            self.gate.leave(&self.member, self.posted_seq);
        }
    }
}

impl<G: Gate> Drop for Sends<G> {
    fn drop(&mut self) {
        self.leave();
        self.gate.sends().awake(&self.member);
    }
}

fn blank_request(element: &mut ibv_sge) -> ibv_send_wr {
    let request = MaybeUninit::<ibv_send_wr>::zeroed();
    // SAFETY: plain integers, unions of them, and pointers that may be null: all zero is a valid value.
    let mut request = unsafe { request.assume_init() };
    request.sg_list = element;
    request.num_sge = 1;
    request
}
