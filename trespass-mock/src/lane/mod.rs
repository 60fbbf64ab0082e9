//! One direction of a track: the sender's memory and queue, the receives that its peer has posted, and the "device" that
//! moves messages from one to the other.
//!
//! All of it is set up once. Memory then goes around: free → reserved → queued → posted → free for the sender, posted →
//! arrived → held by the user → returned → posted for the receiver. Every list has room for all that can be in it, so
//! nothing is allocated for a message.
//!
//! One-sided operations line up with the messages and are done in their turn, in the memory of the receiver's fabric.
//!
//! One lock guards it, held for a few list operations and the copy itself; no lock is taken, but those of a fabric's memory,
//! and no waker called or dropped, under it.

mod datagrams;
mod message;
mod operations;
mod wire;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use trespass_core::WakerSlot;

use crate::buffer::MockSendBuf;
use crate::counters::LaneCounts;
use crate::fabric::FabricShared;
use crate::memory::{Domain, Done, Operation, Refused};
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, Waiter, Wakes, lock};

pub(crate) use message::Message;
use message::{TAIL, room};
pub(crate) use operations::TakenDone;

/// One direction of a track.
#[derive(Debug)]
pub(crate) struct Lane {
    state: Mutex<State>,
    hints: Hints,
    /// Who waits for an operation to be over. Not under the lock: those that have none pay nothing for it.
    completer: WakerSlot,
    /// The end that sends, by its index.
    sender: usize,
    /// The memory that operations reach.
    target: Arc<Domain>,
    pub(crate) counts: LaneCounts,
}

/// What there is to see in the state, for those who only want to know whether a look is worth the lock: a thread that
/// polls in a loop must not keep the lock from those who work. Written under the lock; whoever is about to wait looks at
/// the state itself.
#[derive(Debug, Default)]
struct Hints {
    /// Memory came back to the sender.
    freed: AtomicBool,
    /// A message has arrived, or none will any more.
    arrived: AtomicBool,
    /// It is time to post receives again.
    repost_due: AtomicBool,
    /// An operation is over, or none will be any more.
    completed: AtomicBool,
}

impl Hints {
    fn update(&self, state: &State) {
        self.freed.store(!state.free.is_empty(), Ordering::Relaxed);
        self.arrived.store(!state.arrived.is_empty() || state.is_over(), Ordering::Relaxed);
        self.repost_due.store(state.repost_due(), Ordering::Relaxed);
    }
}

/// What became of work that was given to the device.
#[derive(Debug, Default)]
#[must_use = "wakers are to be fired, and a failure ends the track"]
pub(crate) struct Progress {
    pub(crate) wakes: Wakes,
    pub(crate) failed: Option<Failed>,
}

/// Why the device takes nothing more.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failed {
    Overrun(Overrun),
    Refused(Refusal),
    /// The plan of a simulation says so.
    QueuePair,
    /// Nothing came through for as long as the device tries.
    Unreachable,
}

/// An access that the receiver's memory refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    /// The end that asked, by its index.
    pub(crate) requester: usize,
    pub(crate) why: Refused,
}

/// A message that is longer than the receive that it met.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overrun {
    pub(crate) len: usize,
    pub(crate) room: usize,
}

/// The track has ended: the device takes nothing.
#[derive(Debug)]
pub(crate) struct Dead {
    /// How many messages were posted and not placed.
    pub(crate) lost: usize,
}

/// What a look at the receiving side found.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Nothing will arrive any more.
    pub(crate) dead: bool,
    /// How many receives were posted again, and what came of it.
    pub(crate) reposted: Option<(usize, Progress)>,
}

#[derive(Debug)]
struct State {
    /// The sender's memory that came back: its messages were placed, or it was dropped unsent.
    free: Vec<Box<[u8]>>,
    /// Messages that wait for a receive, and operations in their places.
    posted: VecDeque<Message>,
    /// What the operations among them are.
    operations: VecDeque<Operation>,
    /// Operations that are over and wait to be taken; each has its slot still.
    done: VecDeque<Done>,
    /// How many more reads and atomic operations there may be.
    fetches: usize,
    /// An access was refused, or the like, which is about to end the track.
    halted: bool,
    /// Messages are not placed at once, but line up: it is halted, or there is a wire.
    long_way: bool,
    /// What the plan of a simulation does.
    wire: Option<Box<wire::Wire>>,
    /// Whether the first of them was counted as stalled.
    stalled: bool,
    /// Receives that wait for a message.
    receives: Vec<Box<[u8]>>,
    /// Messages that wait for the receiver to take them.
    arrived: VecDeque<Message>,
    /// The receiver's memory that users have dropped, to be posted again.
    returned: Vec<Box<[u8]>>,
    /// How many receives are posted at once, while the device does not run short.
    batch: usize,
    /// Nothing moves any more.
    dead: bool,
    /// How many messages waited for a receive when that came.
    lost: usize,
    /// Nobody will take what arrives.
    receiver_gone: bool,
    /// Waits for a slot, or for all that was posted to be placed.
    sender: Waiter,
    /// Waits for a message.
    receiver: Waiter,
}

enum Placed {
    Yes,
    NoReceive,
    TooLong(Overrun),
}

impl Lane {
    /// The direction from end `index`, which is of the fabric `from`, to one of the fabric `to`: all memory, all receives
    /// posted.
    pub(crate) fn new(index: usize, from: &FabricShared, to: &FabricShared) -> Self {
        let (sender, receiver) = (from.limits(), to.limits());
        let fetches = from.config().fetch_slots.min(sender.send_slots);
        Self::with_slots(
            index,
            (sender.send_slots, sender.max_message),
            (receiver.recv_slots, receiver.max_message),
            fetches,
            to.domain(),
        )
    }

    /// One with sends and receives of so many slots of so many bytes.
    fn with_slots(
        index: usize,
        sends: (usize, usize),
        receives: (usize, usize),
        fetches: usize,
        target: &Arc<Domain>,
    ) -> Self {
        let pool =
            |slots: usize, len: usize| (0..slots).map(|_| vec![0; len + TAIL].into_boxed_slice()).collect::<Vec<_>>();
        Self {
            state: Mutex::new(State {
                free: pool(sends.0, sends.1),
                posted: VecDeque::with_capacity(sends.0),
                // Nothing, for a track that has no operations.
                operations: VecDeque::new(),
                done: VecDeque::new(),
                fetches,
                halted: false,
                long_way: false,
                wire: None,
                stalled: false,
                receives: pool(receives.0, receives.1),
                arrived: VecDeque::with_capacity(receives.0),
                returned: Vec::with_capacity(receives.0),
                batch: (receives.0 / 4).max(1),
                dead: false,
                lost: 0,
                receiver_gone: false,
                sender: Waiter::default(),
                receiver: Waiter::default(),
            }),
            hints: Hints { freed: AtomicBool::new(true), ..Hints::default() },
            completer: WakerSlot::new(),
            sender: index,
            target: Arc::clone(target),
            counts: LaneCounts::default(),
        }
    }

    /// The end that sends, by its index.
    #[inline]
    pub(crate) fn sender(&self) -> usize {
        self.sender
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// The sending side.
impl Lane {
    /// Moves the memory that came back into `spare`, which is empty.
    pub(crate) fn refill(&self, spare: &mut Vec<Box<[u8]>>) {
        if self.hints.freed.load(Ordering::Relaxed) {
            let mut state = self.state();
            mem::swap(spare, &mut state.free);
            self.hints.update(&state);
        }
    }

    /// Gives memory back that was not sent.
    pub(crate) fn give_back(&self, mem: Box<[u8]>) {
        let mut state = self.state();
        if state.dead {
            drop(state);
            return;
        }
        state.free.push(mem);
        self.hints.update(&state);
        let waker = state.sender.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// One doorbell: gives all of `queue` to the device, in order, and the `operations` that have places in it. The buffers of
    /// messages that are placed at once go to `free`.
    pub(crate) fn post(
        &self,
        queue: &mut Vec<MockSendBuf>,
        operations: &mut VecDeque<Operation>,
        free: &mut Vec<MockSendBuf>,
    ) -> Result<Progress, Dead> {
        let mut progress = Progress::default();
        let mut state = self.state();
        if state.dead {
            return Err(Dead { lost: state.lost });
        }
        self.counts.doorbells.add(1);
        self.counts.sends.add((queue.len() - operations.len()) as u64);
        let mut placed = false;
        let mut lined_up = false;
        // No buffer may be dropped in here: it would ask for the lock.
        for mut buf in queue.drain(..) {
            if buf.is_operation() || !state.posted.is_empty() || state.long_way {
                lined_up = true;
                placed |= self.line_up(&mut state, buf, operations, &mut progress);
                continue;
            }
            match state.place(&buf, &[], buf.word(), &self.counts) {
                Placed::Yes => {
                    placed = true;
                    // No later message has it.
                    buf.set_word(None);
                    free.push(buf);
                }
                Placed::NoReceive => state.posted.push_back(buf.into_message()),
                Placed::TooLong(overrun) => {
                    progress.failed = Some(Failed::Overrun(overrun));
                    // The rest lines up behind it, until the track ends.
                    state.posted.push_back(buf.into_message());
                }
            }
        }
        if placed {
            progress.wakes = state.wakes();
        }
        self.hints.update(&state);
        drop(state);
        if lined_up {
            self.completer.wake();
        }
        Ok(progress)
    }

    /// Whether memory came back (it is in `spare` then) or the track has ended; if not, `waker` is told when it does.
    pub(crate) fn poll_free(&self, spare: &mut Vec<Box<[u8]>>, waker: &Waker) -> bool {
        let mut state = self.state();
        if state.dead {
            return true;
        }
        if !state.free.is_empty() {
            mem::swap(spare, &mut state.free);
            self.hints.update(&state);
            return true;
        }
        self.counts.send_arms.add(1);
        let old = state.sender.register(waker);
        drop(state);
        drop(old);
        false
    }

    /// How many posted messages wait to be placed; while some do, `waker` is told when that changes.
    pub(crate) fn poll_placed(&self, waker: &Waker) -> Result<usize, Dead> {
        let mut state = self.state();
        if state.dead {
            return Err(Dead { lost: state.lost });
        }
        // Where it is halted the end is about to come, and to wake this.
        let waiting = state.posted.len() + state.unconfirmed() + usize::from(state.halted);
        if waiting == 0 {
            return Ok(0);
        }
        self.counts.send_arms.add(1);
        let old = state.sender.register(waker);
        drop(state);
        drop(old);
        Ok(waiting)
    }
}

/// The receiving side.
impl Lane {
    /// Posts receives again where that is due, and moves what has arrived into `ready`, if that is empty.
    pub(crate) fn take(&self, ready: &mut VecDeque<Message>) -> Taken {
        let mut taken = Taken::default();
        let wanted = ready.is_empty() && self.hints.arrived.load(Ordering::Relaxed);
        if !wanted && !self.hints.repost_due.load(Ordering::Relaxed) {
            return taken;
        }
        let mut state = self.state();
        if state.repost_due() {
            taken.reposted = self.repost(&mut state);
        }
        if ready.is_empty() {
            mem::swap(ready, &mut state.arrived);
        }
        taken.dead = state.is_over();
        self.hints.update(&state);
        drop(state);
        self.wake_completer();
        taken
    }

    /// Posts all receives that came back; then, unless there is something to take or the track has ended, `waker` is told
    /// when there is. The flag says whether there is.
    pub(crate) fn poll_take(&self, ready: &mut VecDeque<Message>, waker: &Waker) -> (bool, Taken) {
        let mut taken = Taken::default();
        let mut state = self.state();
        taken.reposted = self.repost(&mut state);
        if ready.is_empty() {
            mem::swap(ready, &mut state.arrived);
        }
        taken.dead = state.is_over();
        // Whoever waited before is superseded by this call, which answers now or registers anew.
        let (superseded, failed) = match &mut taken.reposted {
            Some((_, progress)) => (progress.wakes.receiver.take(), progress.failed.is_some()),
            None => (None, false),
        };
        let found = !ready.is_empty() || taken.dead || failed;
        let mut old = None;
        if !found {
            self.counts.recv_arms.add(1);
            old = state.receiver.register(waker);
        }
        self.hints.update(&state);
        drop(state);
        self.wake_completer();
        drop((superseded, old));
        (found, taken)
    }

    /// Takes back the memory of a received message. Wakes a receiver that waits while the device runs short.
    pub(crate) fn hand_back(&self, mem: Box<[u8]>) {
        let mut state = self.state();
        if state.dead || state.receiver_gone {
            drop(state);
            return;
        }
        state.returned.push(mem);
        self.hints.update(&state);
        let waker = if state.receiver.waits() && state.repost_due() { state.receiver.take() } else { None };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nobody will take what arrives. The receives that are posted stay so: the sender sees no difference until they run out.
    pub(crate) fn receiver_gone(&self) {
        let mut state = self.state();
        state.receiver_gone = true;
        let arriving = state.forget_arriving();
        let gone = (arriving, mem::take(&mut state.arrived), mem::take(&mut state.returned), state.receiver.take());
        self.hints.update(&state);
        drop(state);
        drop(gone);
    }

    /// Posts all that came back, if anything did, and moves what has waited for it.
    fn repost(&self, state: &mut State) -> Option<(usize, Progress)> {
        let count = state.returned.len();
        if count == 0 || state.dead {
            return None;
        }
        self.counts.reposts.add(1);
        let State { receives, returned, .. } = state;
        receives.append(returned);
        let mut progress = Progress::default();
        if !state.posted.is_empty() && state.pump(self, &mut progress) {
            progress.wakes = state.wakes();
        }
        Some((count, progress))
    }
}

impl Lane {
    /// Nothing moves any more. What has arrived stays to be taken; what waits for a receive is lost.
    pub(crate) fn end(&self) -> Wakes {
        let mut state = self.state();
        state.dead = true;
        state.lost = state.posted.len();
        let lost = (
            state.end_posted(),
            state.cut_wire(),
            mem::take(&mut state.receives),
            mem::take(&mut state.returned),
            mem::take(&mut state.free),
        );
        self.hints.update(&state);
        self.hints.completed.store(true, Ordering::Relaxed);
        let wakes = state.wakes();
        drop(state);
        self.completer.wake();
        drop(lost);
        wakes
    }
}

impl State {
    /// Moves messages and does operations that wait, as far as they may go. Whether there is anything new to see.
    fn pump(&mut self, lane: &Lane, progress: &mut Progress) -> bool {
        let mut went = false;
        loop {
            self.tick();
            went |= self.move_on(lane, progress);
            let (shown, again) = self.show();
            went |= shown;
            if !again {
                return went;
            }
        }
    }

    /// The same, as far as there are receives.
    fn move_on(&mut self, lane: &Lane, progress: &mut Progress) -> bool {
        let mut went = false;
        while !self.halted && self.arrives(progress) {
            let Some(message) = self.posted.pop_front() else { break };
            let before = (self.arrived.len(), self.free.len());
            let is_operation = message.is_operation;
            let placed = match is_operation {
                false => match self.place(message.bytes(), &[], message.word(), &lane.counts) {
                    Placed::Yes => {
                        self.free.push(message.mem);
                        None
                    }
                    waits => Some((message, waits)),
                },
                true => self.operate(message, lane, progress),
            };
            match placed {
                None => went |= self.hide(before, is_operation),
                Some((message, waits)) => {
                    self.posted.push_front(message);
                    if let Placed::TooLong(overrun) = waits {
                        progress.failed = Some(Failed::Overrun(overrun));
                    }
                    break;
                }
            }
        }
        went
    }

    /// Who waits for a slot or a message.
    fn wakes(&mut self) -> Wakes {
        Wakes { sender: self.sender.take(), receiver: self.receiver.take() }
    }

    /// Copies a message, `head` and then a `body` where there is one, into a receive, with `word` beside it: the device's DMA.
    // Always: a call of it would cost every message of a reliable track.
    #[inline(always)]
    fn place(&mut self, head: &[u8], body: &[u8], word: Option<u32>, counts: &LaneCounts) -> Placed {
        let Some(mut mem) = self.receives.pop() else {
            if !mem::replace(&mut self.stalled, true) {
                counts.rnr_stalls.add(1);
            }
            return Placed::NoReceive;
        };
        let len = head.len() + body.len();
        let Some(room) = mem.get_mut(..len + TAIL) else {
            return Placed::TooLong(Overrun { len, room: room(&mem) });
        };
        let room = &mut room[..len];
        match body.is_empty() {
            true => room.copy_from_slice(head),
            false => {
                let (first, second) = room.split_at_mut(head.len());
                first.copy_from_slice(head);
                second.copy_from_slice(body);
            }
        }
        counts.dma_copies.add(1);
        counts.dma_bytes.add(len as u64);
        self.stalled = false;
        let mut message = Message::with_len(mem, len);
        message.set_word(word);
        self.arrived.push_back(message);
        Placed::Yes
    }

    /// A batch came back, or anything at all while the device has less than a batch.
    fn repost_due(&self) -> bool {
        !self.returned.is_empty() && (self.returned.len() >= self.batch || self.receives.len() < self.batch)
    }
}
