//! Wakers: a slot for one, and a fan-out for two.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// Holds the waker of whoever waits for one thing. The latest to register wins; a wake takes it out.
///
/// [`wake`](WakerSlot::wake) on an empty slot is a fence and one atomic load: a fast path may call it for every message.
///
/// The order that loses no wake-up: the waiter registers and then looks again at what it waits for; the other side
/// changes that and then wakes.
#[derive(Debug, Default)]
pub struct WakerSlot {
    occupied: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl WakerSlot {
    /// An empty slot.
    pub const fn new() -> Self {
        Self { occupied: AtomicBool::new(false), waker: Mutex::new(None) }
    }

    /// Registers `waker`, in place of any other. No clone where it is the same one.
    #[inline]
    pub fn register(&self, waker: &Waker) {
        let mut slot = lock(&self.waker);
        let replaced = match &*slot {
            Some(old) if old.will_wake(waker) => None,
            _ => slot.replace(waker.clone()),
        };
        // SeqCst, with the load in `wake`: either the waker sees the slot occupied, or the waiter's second look,
        // which comes after this store, sees what the waker changed before its load.
        self.occupied.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
        // A waker may be the last owner of a task, and dropping that may lead back here: not under the lock.
        drop(slot);
        drop(replaced);
    }

    /// Wakes whoever is registered, once.
    #[inline]
    pub fn wake(&self) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.occupied.load(Ordering::SeqCst) {
            self.wake_occupied();
        }
    }

    fn wake_occupied(&self) {
        let waker = {
            let mut slot = lock(&self.waker);
            self.occupied.store(false, Ordering::SeqCst);
            slot.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// One waker that wakes two: the reader and the writer of a carrier.
///
/// A writer that waits for credits waits for the *receive* side of the track, where the reader waits already, and a
/// track keeps one waker per interest. A carrier therefore registers only the waker of its fan-out with the track.
///
/// ```
/// use std::task::Waker;
/// use trespass_core::FanOut;
///
/// let fan_out = FanOut::new();
/// fan_out.reader().register(Waker::noop());
/// fan_out.writer().register(Waker::noop());
/// fan_out.waker().wake_by_ref(); // wakes both
/// ```
#[derive(Debug)]
pub struct FanOut {
    slots: Arc<Slots>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Slots {
    reader: WakerSlot,
    writer: WakerSlot,
}

impl Wake for Slots {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

impl FanOut {
    /// A fan-out with nobody registered. Allocates once.
    pub fn new() -> Self {
        let slots = Arc::new(Slots::default());
        let waker = Waker::from(Arc::clone(&slots));
        Self { slots, waker }
    }

    /// The slot of the side that receives.
    pub fn reader(&self) -> &WakerSlot {
        &self.slots.reader
    }

    /// The slot of the side that sends.
    pub fn writer(&self) -> &WakerSlot {
        &self.slots.writer
    }

    /// The waker to register below: it wakes both slots.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl Default for FanOut {
    fn default() -> Self {
        Self::new()
    }
}

/// Locks, also after a panic elsewhere: what these locks guard is valid at every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
