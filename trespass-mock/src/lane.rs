//! One direction of a track: the sender's memory and queue, the receives that its peer has posted, and the "device" that
//! moves messages from one to the other.
//!
//! All of it is set up once. Memory then goes around: free → reserved → queued → posted → free for the sender, posted →
//! arrived → held by the user → returned → posted for the receiver. Every list has room for all that can be in it, so
//! nothing is allocated for a message.
//!
//! One lock guards it, held for a few list operations and the copy itself; no lock is taken, and no waker called or
//! dropped, under it.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::Waker;

use trespass_core::Limits;

use crate::counters::LaneCounts;
use crate::sync::{Waiter, Wakes, lock};

/// One direction of a track.
#[derive(Debug)]
pub(crate) struct Lane {
    state: Mutex<State>,
    /// Whether it is time to post receives again. A hint, so that the receiver can look without the lock.
    repost_due: AtomicBool,
    pub(crate) counts: LaneCounts,
}

/// A message, or a piece of memory with room for one: the first `len` bytes of `mem`.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) mem: Box<[u8]>,
    pub(crate) len: usize,
}

/// What became of work that was given to the device.
#[derive(Debug, Default)]
#[must_use = "wakers are to be fired, and an overrun ends the track"]
pub(crate) struct Progress {
    pub(crate) wakes: Wakes,
    pub(crate) overrun: Option<Overrun>,
}

/// A message that is longer than the receive that it met.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overrun {
    pub(crate) len: usize,
    pub(crate) room: usize,
}

/// The track has ended: the device takes nothing.
#[derive(Debug)]
pub(crate) struct Dead;

/// What a look at the receiving side found.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// How many receives were posted again.
    pub(crate) reposted: usize,
    /// Nothing will arrive any more.
    pub(crate) dead: bool,
    pub(crate) progress: Progress,
}

#[derive(Debug)]
struct State {
    /// The sender's memory that came back: its messages were placed, or it was dropped unsent.
    free: Vec<Box<[u8]>>,
    /// Messages that wait for a receive.
    posted: VecDeque<Message>,
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
    /// The direction from an end with the sizes `sender` to one with the sizes `receiver`: all memory, all receives posted.
    pub(crate) fn new(sender: Limits, receiver: Limits) -> Self {
        let pool = |slots: usize, len: usize| (0..slots).map(|_| vec![0; len].into_boxed_slice()).collect::<Vec<_>>();
        Self {
            state: Mutex::new(State {
                free: pool(sender.send_slots, sender.max_message),
                posted: VecDeque::with_capacity(sender.send_slots),
                stalled: false,
                receives: pool(receiver.recv_slots, receiver.max_message),
                arrived: VecDeque::with_capacity(receiver.recv_slots),
                returned: Vec::with_capacity(receiver.recv_slots),
                batch: (receiver.recv_slots / 4).max(1),
                dead: false,
                receiver_gone: false,
                sender: Waiter::default(),
                receiver: Waiter::default(),
            }),
            repost_due: AtomicBool::new(false),
            counts: LaneCounts::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// The sending side.
impl Lane {
    /// Moves the memory that came back into `free`, which is empty.
    pub(crate) fn refill(&self, free: &mut Vec<Box<[u8]>>) {
        mem::swap(free, &mut self.state().free);
    }

    /// Gives memory back that was not sent.
    pub(crate) fn give_back(&self, mem: Box<[u8]>) {
        let mut state = self.state();
        if state.dead {
            drop(state);
            return;
        }
        state.free.push(mem);
        let waker = state.sender.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// One doorbell: gives all of `queue` to the device, in order. The memory of what is placed at once goes to `free`.
    pub(crate) fn post(&self, queue: &mut Vec<Message>, free: &mut Vec<Box<[u8]>>) -> Result<Progress, Dead> {
        let mut progress = Progress::default();
        let mut state = self.state();
        if state.dead {
            return Err(Dead);
        }
        self.counts.doorbells.add(1);
        self.counts.sends.add(queue.len() as u64);
        let mut placed = false;
        for message in queue.drain(..) {
            if !state.posted.is_empty() {
                state.posted.push_back(message);
                continue;
            }
            match state.place(&message, &self.counts) {
                Placed::Yes => {
                    placed = true;
                    free.push(message.mem);
                }
                Placed::NoReceive => state.posted.push_back(message),
                Placed::TooLong(overrun) => {
                    progress.overrun = Some(overrun);
                    break;
                }
            }
        }
        if placed {
            progress.wakes = Wakes { sender: state.sender.take(), receiver: state.receiver.take() };
        }
        self.hint(&state);
        Ok(progress)
    }

    /// Whether memory came back (it is in `free` then) or the track has ended; if not, `waker` is told when it does.
    pub(crate) fn poll_free(&self, free: &mut Vec<Box<[u8]>>, waker: &Waker) -> bool {
        let mut state = self.state();
        if state.dead {
            return true;
        }
        if !state.free.is_empty() {
            mem::swap(free, &mut state.free);
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
            return Err(Dead);
        }
        let waiting = state.posted.len();
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
    /// Whether it is time to post receives again.
    pub(crate) fn repost_due(&self) -> bool {
        self.repost_due.load(Ordering::Relaxed)
    }

    /// Posts receives again where that is due, and moves what has arrived into `ready`, if that is empty.
    pub(crate) fn take(&self, ready: &mut VecDeque<Message>) -> Taken {
        let mut taken = Taken::default();
        let mut state = self.state();
        if state.repost_due() {
            (taken.reposted, taken.progress) = self.repost(&mut state);
        }
        if ready.is_empty() {
            mem::swap(ready, &mut state.arrived);
        }
        taken.dead = state.dead;
        taken
    }

    /// Posts all receives that came back; then, unless there is something to take or the track has ended, `waker` is told
    /// when there is. The flag says whether there is.
    pub(crate) fn poll_take(&self, ready: &mut VecDeque<Message>, waker: &Waker) -> (bool, Taken) {
        let mut taken = Taken::default();
        let mut state = self.state();
        (taken.reposted, taken.progress) = self.repost(&mut state);
        if ready.is_empty() {
            mem::swap(ready, &mut state.arrived);
        }
        taken.dead = state.dead;
        // Whoever waited before is superseded by this call, which answers now or registers anew.
        let superseded = taken.progress.wakes.receiver.take();
        let found = !ready.is_empty() || state.dead || taken.progress.overrun.is_some();
        let mut old = None;
        if !found {
            self.counts.recv_arms.add(1);
            old = state.receiver.register(waker);
        }
        drop(state);
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
        self.hint(&state);
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
        let gone = (mem::take(&mut state.arrived), mem::take(&mut state.returned), state.receiver.take());
        self.hint(&state);
        drop(state);
        drop(gone);
    }

    /// Posts all that came back, and moves what has waited for it.
    fn repost(&self, state: &mut State) -> (usize, Progress) {
        let reposted = if state.dead { 0 } else { state.returned.len() };
        if reposted == 0 {
            return (0, Progress::default());
        }
        self.counts.reposts.add(1);
        let State { receives, returned, .. } = state;
        receives.append(returned);
        let progress = state.pump(&self.counts);
        self.hint(state);
        (reposted, progress)
    }

    fn hint(&self, state: &State) {
        self.repost_due.store(state.repost_due(), Ordering::Relaxed);
    }
}

impl Lane {
    /// Nothing moves any more. What has arrived stays to be taken; what waits for a receive is lost.
    pub(crate) fn end(&self) -> Wakes {
        let mut state = self.state();
        state.dead = true;
        let lost = (
            mem::take(&mut state.posted),
            mem::take(&mut state.receives),
            mem::take(&mut state.returned),
            mem::take(&mut state.free),
        );
        self.hint(&state);
        let wakes = Wakes { sender: state.sender.take(), receiver: state.receiver.take() };
        drop(state);
        drop(lost);
        wakes
    }
}

impl State {
    /// Moves messages that wait, as far as there are receives.
    fn pump(&mut self, counts: &LaneCounts) -> Progress {
        let mut progress = Progress::default();
        let mut placed = false;
        while let Some(message) = self.posted.pop_front() {
            match self.place(&message, counts) {
                Placed::Yes => {
                    placed = true;
                    self.free.push(message.mem);
                }
                Placed::NoReceive => {
                    self.posted.push_front(message);
                    break;
                }
                Placed::TooLong(overrun) => {
                    progress.overrun = Some(overrun);
                    break;
                }
            }
        }
        if placed {
            progress.wakes = Wakes { sender: self.sender.take(), receiver: self.receiver.take() };
        }
        progress
    }

    /// Copies `message` into a receive: the device's DMA.
    fn place(&mut self, message: &Message, counts: &LaneCounts) -> Placed {
        let Some(mut mem) = self.receives.pop() else {
            if !mem::replace(&mut self.stalled, true) {
                counts.rnr_stalls.add(1);
            }
            return Placed::NoReceive;
        };
        let len = message.len;
        let Some(room) = mem.get_mut(..len) else {
            return Placed::TooLong(Overrun { len, room: mem.len() });
        };
        room.copy_from_slice(&message.mem[..len]);
        counts.dma_copies.add(1);
        counts.dma_bytes.add(len as u64);
        self.stalled = false;
        self.arrived.push_back(Message { mem, len });
        Placed::Yes
    }

    /// A batch came back, or anything at all while the device has less than a batch.
    fn repost_due(&self) -> bool {
        !self.returned.is_empty() && (self.returned.len() >= self.batch || self.receives.len() < self.batch)
    }
}
