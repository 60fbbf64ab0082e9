//! What a track, its buffers and the driver share: slots that come back from any thread, wakers, and how it ended.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rdma_mummy_sys::ibv_wc;
use trespass_core::WakerSlot;

use crate::error::VerbsError;
use crate::hub::Loan;
use crate::link::Link;
use crate::pool::Arena;

/// Outlives the queue pair and the fabric for as long as a buffer is out.
pub(crate) struct Shared {
    arena: Arena,
    slot_size: usize,
    send_slots: u32,
    /// Where the memory of sends is lent for each, in place of a part of the arena.
    pub(crate) loan: Option<Loan>,
    /// Send slots that were reserved and dropped.
    pub(crate) unsent: Returns,
    pub(crate) send_waker: WakerSlot,
    pub(crate) send_armed: AtomicBool,
    /// Of whoever waits for operations to be over.
    pub(crate) done_waker: WakerSlot,
    /// How many reads and atomic operations the connection allows at once, and how many of them nobody has.
    fetch_slots: AtomicU32,
    fetches_left: AtomicU32,
    /// Receive slots that the user has finished with.
    pub(crate) given_back: Returns,
    pub(crate) recv_waker: WakerSlot,
    pub(crate) recv_armed: AtomicBool,
    /// While the receive side sleeps: how many more buffers have to come back before it is woken to post them.
    wake_after: AtomicU32,
    /// Set once the connection is over, after the queue pair went to ERROR.
    ended: AtomicBool,
    /// Why, where it was a failure: the first cause.
    failure: OnceLock<VerbsError>,
    /// Somebody was told that there was none.
    told: AtomicBool,
    /// Completions of sends that the receive side took, after the end, to look for the cause. In their order.
    taken: Mutex<Vec<ibv_wc>>,
    link: Link,
}

/// `wake_after` while nobody sleeps.
const AWAKE: u32 = 0;

impl Shared {
    pub(crate) fn new(arena: Arena, link: Link, slot_size: usize, send_slots: usize, recv_slots: usize) -> Self {
        Self {
            arena,
            slot_size,
            send_slots: send_slots as u32,
            loan: None,
            unsent: Returns::new(send_slots),
            send_waker: WakerSlot::new(),
            send_armed: AtomicBool::new(false),
            done_waker: WakerSlot::new(),
            fetch_slots: AtomicU32::new(0),
            fetches_left: AtomicU32::new(0),
            given_back: Returns::new(recv_slots),
            recv_waker: WakerSlot::new(),
            recv_armed: AtomicBool::new(false),
            wake_after: AtomicU32::new(AWAKE),
            ended: AtomicBool::new(false),
            failure: OnceLock::new(),
            told: AtomicBool::new(false),
            taken: Mutex::default(),
            link,
        }
    }

    /// The same, of a track whose sends have memory on `loan`, and whose receives are elsewhere.
    pub(crate) fn lent(loan: Loan, link: Link, slot_size: usize, send_slots: usize) -> Self {
        Self { loan: Some(loan), ..Self::new(Arena::none(), link, slot_size, send_slots, 0) }
    }

    /// The memory of send slot `slot`, which is not on loan.
    #[inline]
    pub(crate) fn send_memory(&self, slot: u32) -> NonNull<u8> {
        self.memory(slot as usize)
    }

    /// The memory of receive slot `slot`.
    #[inline]
    pub(crate) fn recv_memory(&self, slot: u32) -> NonNull<u8> {
        self.memory((self.send_slots + slot) as usize)
    }

    #[inline]
    fn memory(&self, index: usize) -> NonNull<u8> {
        // SAFETY: the arena has `slot_size` bytes for each send and receive slot, in this order, by `VerbsConfig`.
        unsafe { self.arena.start().add(index * self.slot_size) }
    }

    pub(crate) fn lkey(&self) -> u32 {
        self.arena.lkey()
    }

    /// Ends the track, with a cause where it is a failure; the first one stays. Wakes both sides. A failure that is found after
    /// the end counts as long as nobody was told of another: the peer's goodbye may overtake the completion that says why.
    pub(crate) fn end(&self, failure: Option<VerbsError>) {
        if let (Some(failure), false) = (failure, self.told.load(Ordering::SeqCst)) {
            let _ = self.failure.set(self.link.explain(failure));
        }
        self.ended.store(true, Ordering::SeqCst);
        self.send_waker.wake();
        self.done_waker.wake();
        self.recv_waker.wake();
    }

    /// Sets how many reads and atomic operations there may be at once; before the track is given to anybody.
    pub(crate) fn allow_fetches(&self, slots: u32) {
        self.fetch_slots.store(slots, Ordering::Release);
        self.fetches_left.store(slots, Ordering::Release);
    }

    pub(crate) fn fetch_slots(&self) -> u32 {
        self.fetch_slots.load(Ordering::Acquire)
    }

    /// Claims one of them, if one is left.
    pub(crate) fn begin_fetch(&self) -> bool {
        self.fetches_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    /// Gives one back. Wake the sender afterwards.
    pub(crate) fn end_fetch(&self) {
        self.fetches_left.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn may_fetch(&self) -> bool {
        self.fetches_left.load(Ordering::SeqCst) > 0
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Why it ended, once and for all.
    pub(crate) fn cause(&self) -> VerbsError {
        if !self.has_failed() {
            self.told.store(true, Ordering::SeqCst);
        }
        self.failure.get().cloned().unwrap_or(VerbsError::Closed)
    }

    /// Leaves completions of sends to the sending side.
    pub(crate) fn leave_taken(&self, completions: impl Iterator<Item = ibv_wc>) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).extend(completions);
    }

    pub(crate) fn taken(&self) -> Vec<ibv_wc> {
        std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[inline]
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// A receive slot comes back, on any thread.
    #[inline]
    pub(crate) fn give_back(&self, slot: u32) {
        self.given_back.push(slot);
        self.returned();
    }

    /// A receive buffer has come back.
    #[inline]
    pub(crate) fn returned(&self) {
        // Putting it back was a full fence, as is the receiver's store before it looks at what came back once more: one
        // of the two sees the other.
        if self.wake_after.load(Ordering::SeqCst) != AWAKE {
            let left = self.wake_after.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if left == Ok(1) {
                self.recv_waker.wake();
            }
        }
    }

    /// The receive side goes to sleep, to be woken when `count` more buffers have come back. Look at the list again
    /// after this.
    #[inline]
    pub(crate) fn sleep_until_returned(&self, count: u32) {
        self.wake_after.store(count.max(1), Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn awake(&self) {
        self.wake_after.store(AWAKE, Ordering::Relaxed);
    }
}

/// A stack of slot numbers: any thread pushes, one takes all. Without a lock, and nothing is ever allocated: each slot
/// has its link. Pushing and taking everything are all there is, so a head that went and came back is as good as one
/// that stayed.
pub(crate) struct Returns {
    head: AtomicU32,
    links: Box<[AtomicU32]>,
}

const NONE: u32 = u32::MAX;

impl Returns {
    pub(crate) fn new(slots: usize) -> Self {
        Self { head: AtomicU32::new(NONE), links: (0..slots).map(|_| AtomicU32::new(NONE)).collect() }
    }

    /// Puts back a slot that is not in the list. A slot number that does not exist is ignored.
    #[inline]
    pub(crate) fn push(&self, slot: u32) {
        let Some(link) = self.links.get(slot as usize) else { return };
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link.store(head, Ordering::Relaxed);
            match self.head.compare_exchange_weak(head, slot, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::SeqCst) == NONE
    }

    /// Takes everything, the latest first.
    #[inline]
    pub(crate) fn take(&self) -> impl Iterator<Item = u32> {
        let mut next = if self.is_empty() { NONE } else { self.head.swap(NONE, Ordering::Acquire) };
        std::iter::from_fn(move || {
            let slot = next;
            next = self.links.get(slot as usize)?.load(Ordering::Relaxed);
            Some(slot)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_comes_back_once_from_many_threads() {
        const SLOTS: u32 = 64;
        let returns = Returns::new(SLOTS as usize);
        let (give, take) = std::sync::mpsc::channel::<u32>();
        let take = std::sync::Mutex::new(take);
        for slot in 0..SLOTS {
            give.send(slot).unwrap();
        }
        let rounds = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Ok(slot) = { take.lock().unwrap().recv() } {
                        returns.push(slot);
                    }
                });
            }
            scope.spawn(|| {
                let give = give;
                let mut out = [true; SLOTS as usize];
                while rounds.load(Ordering::Relaxed) < 100_000 {
                    for slot in returns.take() {
                        assert!(std::mem::replace(&mut out[slot as usize], false), "slot {slot} came back twice");
                        rounds.fetch_add(1, Ordering::Relaxed);
                        out[slot as usize] = true;
                        give.send(slot).unwrap();
                    }
                }
            });
        });
    }
}
