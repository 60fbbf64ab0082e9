//! Datagrams: a lane that leads from its own sends to nowhere, and takes from anybody.
//!
//! Whoever sends datagrams has the memory of its sends, and that of its receives, in one lane of its own. What it sends is
//! placed in the lane of the one who receives it, and its own device is done with it then.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use super::{Lane, Message, room};
use crate::counters::LaneCounts;
use crate::memory::Domain;

/// Before each datagram in the memory of a receive: the number of the port that sent it.
const HEADER: usize = size_of::<u64>();

impl Lane {
    /// The lane of a sender and receiver of datagrams of up to `mtu` bytes.
    pub(crate) fn for_datagrams(send_slots: usize, recv_slots: usize, mtu: usize, domain: &Arc<Domain>) -> Self {
        Self::with_slots(0, (send_slots, mtu), (recv_slots, HEADER + mtu), 0, domain)
    }

    /// Places a datagram that port `from` sent. Without a receive for it, or a receiver, it is gone. The copy counts in `counts`, the sender's. No lock may
    /// be held: this wakes the receiver.
    pub(crate) fn deliver(&self, from: u64, bytes: &[u8], word: Option<u32>, counts: &LaneCounts) {
        let mut state = self.state();
        if state.dead || state.receiver_gone {
            return;
        }
        // Too long for a receive, it is lost as if there were none.
        if state.receives.last().is_none_or(|mem| room(mem) < HEADER + bytes.len()) {
            self.counts.dropped.add(1);
            return;
        }
        // There is a receive, and it is long enough.
        let _ = state.place(&from.to_le_bytes(), bytes, word, counts);
        let waker = state.receiver.take();
        self.hints.update(&state);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Moves what has arrived into `ready`, which is empty. Whether nothing will arrive any more.
    pub(crate) fn take_datagrams(&self, ready: &mut VecDeque<Message>) -> bool {
        if !self.hints.arrived.load(Ordering::Relaxed) {
            return false;
        }
        let mut state = self.state();
        mem::swap(ready, &mut state.arrived);
        self.hints.update(&state);
        state.dead
    }

    /// Whether something has arrived, which is in `ready` then, or nothing will; if not, `waker` is told when that changes.
    pub(crate) fn poll_datagrams(&self, ready: &mut VecDeque<Message>, waker: &Waker) -> bool {
        let mut state = self.state();
        if ready.is_empty() {
            mem::swap(ready, &mut state.arrived);
            self.hints.update(&state);
        }
        if !ready.is_empty() || state.dead {
            return true;
        }
        self.counts.recv_arms.add(1);
        let old = state.receiver.register(waker);
        drop(state);
        drop(old);
        false
    }

    /// Posts the receive of a datagram again, at once. Wakes a receiver that waits while the device runs short: it may have
    /// missed something.
    pub(crate) fn post_again(&self, mem: Box<[u8]>) {
        let mut state = self.state();
        if state.dead || state.receiver_gone {
            drop(state);
            return;
        }
        let waker = if state.receives.len() < state.batch { state.receiver.take() } else { None };
        state.receives.push(mem);
        self.counts.reposts.add(1);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes who waits for a slot: there are some with its owner. No lock may be held.
    pub(crate) fn wake_sender(&self) {
        let waker = self.state().sender.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Message {
    /// The port that sent this datagram.
    pub(crate) fn source(&self) -> u64 {
        // Each has a header: `deliver` put it there.
        self.bytes().first_chunk().map_or(0, |number| u64::from_le_bytes(*number))
    }

    /// The datagram, without its header.
    pub(crate) fn datagram(&self) -> &[u8] {
        self.bytes().get(HEADER..).unwrap_or_default()
    }
}
