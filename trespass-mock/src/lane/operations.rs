//! One-sided operations in the queue of a lane: doing them, and what is over.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::Ordering;
use std::task::Waker;

use super::{Failed, Lane, Message, Placed, Progress, Refusal, State};
use crate::buffer::MockSendBuf;
use crate::memory::{Action, Done, Operation, Payload};

/// What there was to take of operations.
#[derive(Debug)]
pub(crate) enum TakenDone {
    Done(u64, Payload),
    None,
    /// Nothing, and nothing will be.
    Dead,
}

/// One-sided operations, on the sending side.
impl Lane {
    /// Puts `buf` at the end of what waits, with the operation whose place it is, and does what can be done. Whether anything
    /// went.
    #[inline(never)]
    pub(super) fn line_up(
        &self,
        state: &mut State,
        buf: MockSendBuf,
        operations: &mut VecDeque<Operation>,
        progress: &mut Progress,
    ) -> bool {
        let first = state.posted.is_empty();
        if buf.is_operation() {
            self.counts.operations.add(1);
            state.operations.extend(operations.pop_front());
        }
        state.posted.push_back(buf.into_message());
        state.depart(progress);
        first && state.pump(self, progress)
    }

    /// Claims a place among the fetches.
    pub(crate) fn claim_fetch(&self) -> bool {
        let mut state = self.state();
        let more = state.fetches.checked_sub(1);
        state.fetches = more.unwrap_or_default();
        more.is_some()
    }

    /// Gives a place among the fetches back that came to nothing. Wakes nobody: its slot is about to.
    pub(crate) fn give_fetch_back(&self) {
        self.state().fetches += 1;
    }

    /// Whether there is a place among the fetches, and a slot (`at_hand`, or it is in `spare` then), or the track has ended; if
    /// not, `waker` is told when that may be.
    pub(crate) fn poll_fetch(&self, at_hand: bool, spare: &mut Vec<Box<[u8]>>, waker: &Waker) -> bool {
        let mut state = self.state();
        if !at_hand && spare.is_empty() {
            mem::swap(spare, &mut state.free);
            self.hints.update(&state);
        }
        if state.dead || (state.fetches > 0 && (at_hand || !spare.is_empty())) {
            return true;
        }
        self.counts.send_arms.add(1);
        let old = state.sender.register(waker);
        drop(state);
        drop(old);
        false
    }

    /// The next operation that is over, without its slot, which is free now, as is its place among the fetches.
    pub(crate) fn take_done(&self) -> TakenDone {
        if !self.hints.completed.load(Ordering::Relaxed) {
            return TakenDone::None;
        }
        let mut state = self.state();
        let Some(Done { tag, payload, slot, fetch }) = state.done.pop_front() else {
            return if state.dead { TakenDone::Dead } else { TakenDone::None };
        };
        state.fetches += usize::from(fetch);
        self.hints.completed.store(!state.done.is_empty() || state.dead, Ordering::Relaxed);
        let mut unused = Some(slot);
        if !state.dead {
            state.free.extend(unused.take());
        }
        let waker = state.sender.take();
        self.hints.update(&state);
        drop(state);
        drop(unused);
        if let Some(waker) = waker {
            waker.wake();
        }
        TakenDone::Done(tag, payload)
    }

    /// Wakes who waits for an operation to be over, if one is. No lock may be held.
    #[inline]
    pub(super) fn wake_completer(&self) {
        if self.hints.completed.load(Ordering::Relaxed) {
            self.completer.wake();
        }
    }

    /// Whether an operation is over, or the track; if not, `waker` is told when one is.
    pub(crate) fn poll_done(&self, waker: &Waker) -> bool {
        let over = |state: &State| state.dead || !state.done.is_empty();
        if over(&self.state()) {
            return true;
        }
        // What is over from here on wakes it, or is seen by the second look.
        self.completer.register(waker);
        let state = self.state();
        self.counts.send_arms.add(1);
        over(&state)
    }
}

impl State {
    /// Does the first operation, whose place is `slot`. The place comes back where it has to wait.
    pub(super) fn operate(&mut self, slot: Message, lane: &Lane, progress: &mut Progress) -> Option<(Message, Placed)> {
        // There is one for each place.
        let Operation { tag, action } = self.operations.pop_front()?;
        if let Action::Gather { body, range } = &action {
            let part = body.get(range.clone()).unwrap_or_default();
            match self.place(slot.bytes(), part, None, &lane.counts) {
                Placed::Yes => {}
                waits => {
                    self.operations.push_front(Operation { tag, action });
                    return Some((slot, waits));
                }
            }
        }
        let (fetch, moved) = (action.is_fetch(), action.moved());
        let payload = action.run(slot.bytes(), &lane.target);
        if let Some(why) = payload.refused() {
            self.halted = true;
            self.long_way = true;
            lane.counts.refusals.add(1);
            progress.failed = Some(Failed::Refused(Refusal { requester: lane.sender, why }));
        } else if let Some(len) = moved {
            lane.counts.dma_copies.add(1);
            lane.counts.dma_bytes.add(len as u64);
        }
        self.complete(Done { tag, payload, slot: slot.mem, fetch });
        lane.hints.completed.store(true, Ordering::Relaxed);
        None
    }

    /// Puts an operation that is over where it is taken.
    fn complete(&mut self, done: Done) {
        match done.payload {
            Payload::Nothing(_) => self.free.push(done.slot),
            _ => self.done.push_back(done),
        }
    }

    /// Ends all that waits: operations are over, messages come out.
    pub(super) fn end_posted(&mut self) -> Vec<Message> {
        let mut lost = Vec::new();
        while let Some(message) = self.posted.pop_front() {
            match message.is_operation.then(|| self.operations.pop_front()).flatten() {
                Some(Operation { tag, action }) => {
                    let (fetch, payload) = (action.is_fetch(), action.ended());
                    self.complete(Done { tag, payload, slot: message.mem, fetch });
                }
                None => lost.push(message),
            }
        }
        lost
    }
}
