//! Wakers: a slot for one, and a fan-out for two.

use std::sync::{Arc, PoisonError};
use std::task::{Wake, Waker};

use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, fence};

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
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { occupied: AtomicBool::new(false), waker: Mutex::new(None) }
    }

    /// An empty slot. (Loom's is not const.)
    #[cfg(loom)]
    pub fn new() -> Self {
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
        fence(Ordering::SeqCst);
        // A waker may be the last owner of a task, and dropping that may lead back here: not under the lock.
        drop(slot);
        drop(replaced);
    }

    /// Wakes whoever is registered, once.
    #[inline]
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
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

#[cfg(all(test, loom))]
mod loom_tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use loom::future::block_on;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    use super::*;

    /// Every order of two threads; of three, those in which a thread is interrupted at most twice: more take hours.
    fn model(threads: usize, run: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = (threads > 2).then_some(2);
        builder.check(run);
    }

    /// Something that is counted up, and whoever waits for it. The count is relaxed: the slot alone keeps the order.
    struct Event {
        count: AtomicUsize,
        slot: WakerSlot,
    }

    impl Event {
        fn new() -> Arc<Self> {
            Arc::new(Self { count: AtomicUsize::new(0), slot: WakerSlot::new() })
        }

        fn happen(&self) {
            self.count.fetch_add(1, Ordering::Relaxed);
            self.slot.wake();
        }

        /// As every wait here does: register, then look again. Loom says so where it waits for ever.
        fn wait_for(&self, count: usize) {
            block_on(poll_fn(|cx| {
                self.slot.register(cx.waker());
                match self.count.load(Ordering::Relaxed) >= count {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            }));
        }
    }

    #[test]
    fn loom_a_slot_loses_no_wake_up() {
        model(2, || {
            let event = Event::new();
            let other = Arc::clone(&event);
            let waking = thread::spawn(move || other.happen());
            event.wait_for(1);
            waking.join().unwrap();
        });
    }

    #[test]
    fn loom_a_slot_loses_no_wake_up_of_two_that_wake() {
        model(3, || {
            let event = Event::new();
            let waking: Vec<_> = (0..2)
                .map(|_| {
                    let other = Arc::clone(&event);
                    thread::spawn(move || other.happen())
                })
                .collect();
            event.wait_for(2);
            waking.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    #[test]
    fn loom_a_fan_out_wakes_both_sides() {
        struct Both {
            arrived: AtomicUsize,
            fan_out: FanOut,
        }
        fn wait_at(both: &Both, slot: &WakerSlot) {
            block_on(poll_fn(|cx| {
                slot.register(cx.waker());
                match both.arrived.load(Ordering::Relaxed) {
                    0 => Poll::Pending,
                    _ => Poll::Ready(()),
                }
            }));
        }
        model(3, || {
            let both = Arc::new(Both { arrived: AtomicUsize::new(0), fan_out: FanOut::new() });
            let (waker, reader) = (Arc::clone(&both), Arc::clone(&both));
            let waking = thread::spawn(move || {
                waker.arrived.store(1, Ordering::Relaxed);
                waker.fan_out.waker().wake_by_ref();
            });
            let reading = thread::spawn(move || wait_at(&reader, reader.fan_out.reader()));
            wait_at(&both, both.fan_out.writer());
            waking.join().unwrap();
            reading.join().unwrap();
        });
    }
}
