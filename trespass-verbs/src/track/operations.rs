//! One-sided operations and gathered sends: queued among the sends, with a table of what they hold until the device is done.

use std::collections::VecDeque;
use std::ops::Range;
use std::task::{Context, Poll};

use rdma_mummy_sys::{ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wr_opcode};
use trespass_core::{Access, Completed, RemoteSlice, RemoteWord, TryError, Unsent};

use crate::error::VerbsError;
use crate::memory::VerbsRegion;
use crate::track::permit::{Permit, VerbsFetchPermit, VerbsWritePermit};
use crate::track::send::{SendQueue, VerbsSendBuf};

/// The longest operation: what every device takes (`max_msg_sz` of a port is 2^31 on most).
const LONGEST: usize = 1 << 30;

type Done = Completed<VerbsRegion, VerbsError>;

/// What is in flight and holds something, and what is over and was not taken, both in the order of queueing.
#[derive(Default)]
pub(super) struct Operations {
    under_way: VecDeque<(u64, Operation)>,
    /// The first of those under way, by its place in the order of all; [`NEVER`] where there is none.
    pub(super) next: u64,
    over: VecDeque<Over>,
}

pub(super) const NEVER: u64 = u64::MAX;

enum Operation {
    Memory {
        tag: u64,
        region: VerbsRegion,
        fetches: bool,
    },
    Word {
        tag: u64,
    },
    /// A write of a buffer: nobody waits for it.
    Buffer,
}

/// The slot comes back when the completion is taken, so that completions are bounded.
struct Over {
    done: Done,
    slot: u32,
    fetches: bool,
}

impl Operations {
    /// Room for one operation in each slot, so that none allocates.
    pub(super) fn new(slots: usize) -> Self {
        Self { under_way: VecDeque::with_capacity(slots), next: NEVER, over: VecDeque::with_capacity(slots) }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    fn push(&mut self, seq: u64, operation: Operation) {
        if self.under_way.is_empty() {
            self.next = seq;
        }
        self.under_way.push_back((seq, operation));
    }

    fn pop(&mut self) -> Option<Operation> {
        let (_, operation) = self.under_way.pop_front()?;
        self.next = self.under_way.front().map_or(NEVER, |(seq, _)| *seq);
        Some(operation)
    }

    /// The memory that the device may still have.
    pub(super) fn into_memory(self) -> impl Iterator<Item = VerbsRegion> {
        self.under_way.into_iter().filter_map(|(_, operation)| match operation {
            Operation::Memory { region, .. } => Some(region),
            Operation::Word { .. } | Operation::Buffer => None,
        })
    }
}

/// What an operation asks of the device.
struct Work {
    opcode: ibv_wr_opcode::Type,
    flags: u32,
    elements: [ibv_sge; 2],
    count: usize,
}

impl SendQueue {
    pub(super) fn try_write_permit(&mut self) -> Result<VerbsWritePermit, TryError<VerbsError>> {
        let slot = self.try_slot()?;
        Ok(VerbsWritePermit(Permit::new(slot, false, &self.shared)))
    }

    pub(super) fn try_fetch_permit(&mut self) -> Result<VerbsFetchPermit, TryError<VerbsError>> {
        if self.shared.fetch_slots() == 0 && !self.shared.has_ended() {
            let why =
                "is 0 on this connection: the peer's device, or ours, takes no reads and atomic operations".into();
            return Err(TryError::Failed(VerbsError::Config { setting: "the number of fetch slots", why }));
        }
        let slot = self.try_slot()?;
        if !self.shared.begin_fetch() {
            self.free.push(slot);
            return Err(TryError::WouldBlock);
        }
        Ok(VerbsFetchPermit(Permit::new(slot, true, &self.shared)))
    }

    pub(super) fn read(
        &mut self,
        permit: VerbsFetchPermit,
        into: VerbsRegion,
        at: usize,
        from: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(VerbsFetchPermit, VerbsRegion), VerbsError>> {
        let checked = self.check_permit(&permit.0).and_then(|()| self.part(&into, at, from.len()));
        let element = match checked {
            Ok(element) => element,
            Err(error) => return Err(Unsent { buf: (permit, into), error }),
        };
        let slot = permit.0.redeem();
        let work = Work::of(ibv_wr_opcode::IBV_WR_RDMA_READ, element);
        self.queue_operation(slot, work, Operation::Memory { tag, region: into, fetches: true }, |request| {
            request.wr.rdma.remote_addr = from.address();
            request.wr.rdma.rkey = from.key();
        });
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        permit: VerbsWritePermit,
        from: VerbsRegion,
        at: usize,
        to: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(VerbsWritePermit, VerbsRegion), VerbsError>> {
        let checked = self
            .check_permit(&permit.0)
            .and_then(|()| writable(to.access()))
            .and_then(|()| self.part(&from, at, to.len()));
        let element = match checked {
            Ok(element) => element,
            Err(error) => return Err(Unsent { buf: (permit, from), error }),
        };
        let slot = permit.0.redeem();
        let work = Work::of(ibv_wr_opcode::IBV_WR_RDMA_WRITE, element);
        self.queue_operation(slot, work, Operation::Memory { tag, region: from, fetches: false }, |request| {
            request.wr.rdma.remote_addr = to.address();
            request.wr.rdma.rkey = to.key();
        });
        Ok(())
    }

    pub(super) fn write_buf(
        &mut self,
        buf: VerbsSendBuf,
        to: RemoteSlice,
    ) -> Result<(), Unsent<VerbsSendBuf, VerbsError>> {
        let checked =
            self.check_buf(&buf).and_then(|()| writable(to.access())).and_then(|()| match buf.len() == to.len() {
                true => Ok(()),
                false => Err(VerbsError::OutOfRange { offset: 0, len: buf.len(), size: to.len() }),
            });
        if let Err(error) = checked {
            return Err(Unsent { buf, error });
        }
        let (slot, len) = buf.into_parts();
        let mut work = Work::of(ibv_wr_opcode::IBV_WR_RDMA_WRITE, self.slot_element(slot, len));
        if len <= self.inline {
            work.flags = ibv_send_flags::IBV_SEND_INLINE.0;
        }
        self.queue_operation(slot, work, Operation::Buffer, |request| {
            request.wr.rdma.remote_addr = to.address();
            request.wr.rdma.rkey = to.key();
        });
        Ok(())
    }

    pub(super) fn compare_swap(
        &mut self,
        permit: VerbsFetchPermit,
        word: RemoteWord,
        expected: u64,
        new: u64,
        tag: u64,
    ) -> Result<(), Unsent<VerbsFetchPermit, VerbsError>> {
        self.atomic(permit, ibv_wr_opcode::IBV_WR_ATOMIC_CMP_AND_SWP, word, expected, new, tag)
    }

    pub(super) fn fetch_add(
        &mut self,
        permit: VerbsFetchPermit,
        word: RemoteWord,
        add: u64,
        tag: u64,
    ) -> Result<(), Unsent<VerbsFetchPermit, VerbsError>> {
        self.atomic(permit, ibv_wr_opcode::IBV_WR_ATOMIC_FETCH_AND_ADD, word, add, 0, tag)
    }

    /// What the word was comes into the memory of the slot.
    fn atomic(
        &mut self,
        permit: VerbsFetchPermit,
        opcode: ibv_wr_opcode::Type,
        word: RemoteWord,
        compare_add: u64,
        swap: u64,
        tag: u64,
    ) -> Result<(), Unsent<VerbsFetchPermit, VerbsError>> {
        let checked = self.check_permit(&permit.0).and_then(|()| writable(word.access())).and_then(|()| {
            match self.conn.device.atomics {
                true => Ok(()),
                false => Err(VerbsError::Config {
                    setting: "an atomic operation",
                    why: format!("is asked for, and {} has none", self.conn.device.name),
                }),
            }
        });
        if let Err(error) = checked {
            return Err(Unsent { buf: permit, error });
        }
        let slot = permit.0.redeem();
        let work = Work::of(opcode, self.slot_element(slot, size_of::<u64>()));
        self.queue_operation(slot, work, Operation::Word { tag }, |request| {
            request.wr.atomic =
                rdma_mummy_sys::atomic_t { remote_addr: word.address(), compare_add, swap, rkey: word.key() };
        });
        Ok(())
    }

    pub(super) fn send_gathered(
        &mut self,
        head: VerbsSendBuf,
        body: VerbsRegion,
        range: Range<usize>,
        tag: u64,
    ) -> Result<(), Unsent<(VerbsSendBuf, VerbsRegion), VerbsError>> {
        let checked = self.check_buf(&head).and_then(|()| self.body(head.len(), &body, &range));
        let element = match checked {
            Ok(element) => element,
            Err(error) => return Err(Unsent { buf: (head, body), error }),
        };
        let (slot, head_len) = head.into_parts();
        let mut work = Work::of(ibv_wr_opcode::IBV_WR_SEND, self.slot_element(slot, head_len));
        work.add(element);
        self.queue_operation(slot, work, Operation::Memory { tag, region: body, fetches: false }, |_| {});
        Ok(())
    }

    pub(super) fn try_complete(&mut self) -> Result<Done, TryError<VerbsError>> {
        if self.operations.over.is_empty() {
            self.look_for_completed();
        }
        if let Some(Over { done, slot, fetches }) = self.operations.over.pop_front() {
            self.free.push(slot);
            if fetches {
                self.shared.end_fetch();
            }
            self.shared.send_waker.wake();
            return Ok(done);
        }
        match self.shared.has_ended() && self.operations.is_idle() {
            true => Err(TryError::Failed(self.cause())),
            false => Err(TryError::WouldBlock),
        }
    }

    /// Takes what is over, and after the end also what was never posted.
    fn look_for_completed(&mut self) {
        if self.operations.is_idle() {
            return;
        }
        // Looked at before the poll: what was done before the end is there by then.
        let ended = self.shared.has_ended();
        self.reap();
        if ended && self.operations.next > self.flushed_seq {
            self.fail_operations(NEVER - 1, &self.shared.cause_so_far());
        }
    }

    /// Gives up the operations that the device does not let go of: their memory goes when the queue pair is gone.
    pub(super) fn give_up_operations(&mut self) {
        let slots = self.order.len();
        let operations = std::mem::replace(&mut self.operations, Operations::new(slots));
        self.operations.over.extend(operations.over);
        let orphans = Operations { under_way: operations.under_way, ..Operations::default() }.into_memory();
        self.conn.keep_until_destroyed(orphans);
    }

    /// Whether the track has ended, and the device still has memory of operations.
    pub(super) fn is_lingering(&self) -> bool {
        self.shared.has_ended() && !self.operations.is_idle()
    }

    pub(super) fn poll_fetch_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ready = |queue: &mut Self| queue.shared.may_fetch() || queue.shared.has_ended();
        // The waker is registered by the look for a slot, which comes before the look for a place.
        let slot = self.poll_ready(cx);
        if slot.is_ready() && ready(self) {
            return Poll::Ready(());
        }
        self.shared.send_waker.register(cx.waker());
        if ready(self) && self.can_go_on() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether there is something to take, or the end to be told.
    pub(super) fn poll_complete_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A failure shows in the state of the track, which is looked at below.
        self.post_queued();
        self.shared.done_waker.register(cx.waker());
        for armed in [false, true] {
            self.look_for_completed();
            let over = !self.operations.over.is_empty();
            if over || (self.shared.has_ended() && self.operations.is_idle()) {
                return Poll::Ready(());
            }
            if !armed && !self.operations.is_idle() {
                if let Err(error) = self.arm() {
                    self.fail(VerbsError::os("arm the send completion queue", &error));
                }
            }
        }
        Poll::Pending
    }

    fn try_slot(&mut self) -> Result<u32, TryError<VerbsError>> {
        if self.shared.has_ended() {
            return Err(TryError::Failed(self.cause()));
        }
        if self.free.is_empty() {
            self.refill();
        }
        self.free.pop().ok_or(TryError::WouldBlock)
    }

    fn check_permit(&mut self, permit: &Permit) -> Result<(), VerbsError> {
        self.check_owner(permit.is_of(&self.shared))
    }

    fn check_buf(&mut self, buf: &VerbsSendBuf) -> Result<(), VerbsError> {
        self.check_owner(buf.is_of(&self.shared))
    }

    fn check_owner(&mut self, own: bool) -> Result<(), VerbsError> {
        match own {
            false => Err(VerbsError::ForeignBuffer),
            true if self.shared.has_ended() => Err(self.cause()),
            true => Ok(()),
        }
    }

    /// A part of a region, for the device.
    fn part(&self, region: &VerbsRegion, at: usize, len: usize) -> Result<ibv_sge, VerbsError> {
        if !region.is_of(&self.conn.device.pd) {
            return Err(VerbsError::ForeignBuffer);
        }
        let inside = at.checked_add(len).is_some_and(|end| end <= region.len());
        if !inside || len > LONGEST {
            return Err(VerbsError::OutOfRange { offset: at, len, size: region.len().min(LONGEST) });
        }
        let addr = region.start().as_ptr().addr() as u64 + at as u64;
        Ok(ibv_sge { addr, length: len as u32, lkey: region.lkey() })
    }

    /// The part of a region that is sent behind a head of so many bytes.
    fn body(&self, head: usize, body: &VerbsRegion, range: &Range<usize>) -> Result<ibv_sge, VerbsError> {
        let Some(len) = range.end.checked_sub(range.start) else {
            return Err(VerbsError::OutOfRange { offset: range.start, len: 0, size: range.end });
        };
        match head.saturating_add(len) {
            total if total > self.max_message => Err(VerbsError::Oversize { len: total, max: self.max_message }),
            _ => self.part(body, range.start, len),
        }
    }

    /// The first `len` bytes of a slot, for the device.
    fn slot_element(&self, slot: u32, len: usize) -> ibv_sge {
        let addr = self.shared.send_memory(slot).as_ptr().addr() as u64;
        ibv_sge { addr, length: len as u32, lkey: self.shared.lkey() }
    }

    fn queue_operation(&mut self, slot: u32, work: Work, operation: Operation, fill: impl FnOnce(&mut ibv_send_wr)) {
        self.elements[slot as usize] = work.elements;
        let request = &mut self.requests[slot as usize];
        request.opcode = work.opcode;
        request.num_sge = work.count as i32;
        fill(request);
        self.link(slot, work.flags);
        self.operations.push(self.next_seq, operation);
    }

    /// Operation number `self.operations.next` is over, in `slot`: the device has let go of what it holds.
    #[inline(never)]
    pub(super) fn finish(&mut self, slot: u32, result: Result<(), VerbsError>) {
        // A later send in this slot finds it as it was made.
        self.reset(slot);
        let Some(operation) = self.operations.pop() else { return };
        let (done, fetches) = match operation {
            Operation::Buffer => return self.free.push(slot),
            Operation::Memory { tag, region, fetches } => (Completed::Memory { tag, region, result }, fetches),
            Operation::Word { tag } => {
                let place = self.shared.send_memory(slot).cast::<u64>();
                // SAFETY: a slot has at least 64 bytes and begins at a multiple of that; it is initialised, and nobody else
                // has it: the device completed the operation, and the permit that owned the slot was redeemed for it.
                let word = result.map(|()| unsafe { place.read() });
                (Completed::Word { tag, result: word }, true)
            }
        };
        self.operations.over.push_back(Over { done, slot, fetches });
        self.shared.done_waker.wake();
    }

    /// All operations up to `upto` have failed.
    #[cold]
    pub(super) fn fail_operations(&mut self, upto: u64, cause: &VerbsError) {
        while self.operations.next <= upto {
            let slot = self.slot_of(self.operations.next);
            self.finish(slot, Err(cause.clone()));
        }
    }
}

impl Work {
    fn of(opcode: ibv_wr_opcode::Type, element: ibv_sge) -> Self {
        let blank = ibv_sge { addr: 0, length: 0, lkey: 0 };
        let mut work = Self { opcode, flags: 0, elements: [blank, blank], count: 0 };
        work.add(element);
        work
    }

    /// An element of no bytes is left out: some devices take a length of 0 for 2^31.
    fn add(&mut self, element: ibv_sge) {
        if element.length > 0 {
            self.elements[self.count] = element;
            self.count += 1;
        }
    }
}

fn writable(access: Access) -> Result<(), VerbsError> {
    match access {
        Access::ReadWrite => Ok(()),
        _ => Err(VerbsError::ReadOnly),
    }
}
