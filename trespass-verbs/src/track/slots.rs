//! What a track, its buffers and the driver share: slots that come back from any thread, wakers, and how it ended.

use std::ptr::NonNull;
use std::sync::PoisonError;

use rdma_mummy_sys::ibv_wc;
use trespass_core::WakerSlot;

use super::ending::Ending;
use super::returns::Returns;
use crate::error::VerbsError;
use crate::hub::Loan;
use crate::link::Link;
use crate::pool::Arena;
use crate::sync::{AtomicBool, AtomicU32, Mutex, Ordering};

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
    ending: Ending,
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
            ending: Ending::new(),
            taken: Mutex::default(),
            link,
        }
    }

    /// The same, of a track whose sends have memory on `loan`, and whose receives are elsewhere.
    pub(crate) fn lent(loan: Loan, link: Link, slot_size: usize, send_slots: usize) -> Self {
        Self { loan: Some(loan), ..Self::new(Arena::none(), link, slot_size, send_slots, 0) }
    }

    /// One without memory, for a model.
    #[cfg(all(test, loom))]
    pub(crate) fn of_no_device(recv_slots: usize) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self::new(Arena::none(), Link::of_no_device(), 0, 1, recv_slots))
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

    /// Ends the track, with a cause where it is a failure; the first one stays. Wakes both sides. A failure that is found
    /// after the end counts as long as nobody was told of another: the peer's goodbye may overtake the completion that
    /// says why.
    pub(crate) fn end(&self, failure: Option<VerbsError>) {
        self.ending.end(failure.map(|failure| self.link.explain(failure)));
        self.send_waker.wake();
        self.done_waker.wake();
        self.recv_waker.wake();
    }

    /// Sets how many reads and atomic operations there may be at once; before the track is given to anybody.
    pub(crate) fn allow_fetches(&self, slots: u32) {
        self.fetch_slots.store(slots, Ordering::SeqCst);
        self.fetches_left.store(slots, Ordering::SeqCst);
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
        self.ending.has_ended()
    }

    /// Why it ended, to tell the user: once and for all.
    pub(crate) fn cause(&self) -> VerbsError {
        self.ending.tell()
    }

    /// The same as far as it is known, for whoever does not tell it: another may be found yet.
    pub(crate) fn cause_so_far(&self) -> VerbsError {
        self.ending.cause()
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
        self.ending.has_failed()
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
        // SeqCst, as are putting it back, the receiver's store, and its look at what came back once more: in the one order
        // of these four, one of the two sees the other.
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
        // Written by this side, but for those who count it down to that: most often it is so already.
        if self.wake_after.load(Ordering::Relaxed) != AWAKE {
            self.wake_after.store(AWAKE, Ordering::SeqCst);
        }
    }
}
