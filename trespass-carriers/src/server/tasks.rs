//! A bounded set of futures in one task, each polled only when it was woken itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

// Loom's try every order.
#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

use trespass_core::WakerSlot;

/// Up to a fixed number of futures.
///
/// A wake-up sets a bit, and wakes the task that has the set: no lock of the set, no allocation. A poll looks through the bits, 64
/// at a time. A place allocates its waker once, when it is first taken.
pub(super) struct Tasks<F> {
    places: Vec<Place<F>>,
    free: Vec<usize>,
    most: usize,
    /// Where the next look begins, so that nobody who is always ready keeps others from their turn.
    next: usize,
    woken: Arc<Woken>,
}

struct Place<F> {
    future: Option<F>,
    waker: Waker,
}

/// Who was woken, and the task to tell.
struct Woken {
    bits: Box<[AtomicU64]>,
    task: WakerSlot,
}

/// Wakes the future of one place.
struct Signal {
    index: usize,
    woken: Arc<Woken>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.set(self.index);
        self.woken.task.wake();
    }
}

impl Woken {
    fn set(&self, index: usize) {
        if let Some(bits) = self.bits.get(index / 64) {
            bits.fetch_or(1 << (index % 64), Ordering::AcqRel);
        }
    }

    /// Takes one mark: the first from `start` on, or else the first of all.
    fn take(&self, start: usize) -> Option<usize> {
        let (word, bit) = (start / 64, start % 64);
        let count = self.bits.len();
        (0..=count).find_map(|step| {
            // The first word is looked at twice: from the start on, and before it.
            let mask = match step {
                0 => u64::MAX << bit,
                _ if step == count => !(u64::MAX << bit),
                _ => u64::MAX,
            };
            let at = (word + step) % count;
            let bits = self.bits.get(at)?;
            let marked = bits.load(Ordering::Acquire) & mask;
            let first = marked.trailing_zeros();
            // Only the one task takes marks, so it is still there.
            (marked != 0).then(|| {
                bits.fetch_and(!(1 << first), Ordering::AcqRel);
                at * 64 + first as usize
            })
        })
    }

    fn any(&self) -> bool {
        self.bits.iter().any(|bits| bits.load(Ordering::Acquire) != 0)
    }
}

impl<F: Future + Unpin> Tasks<F> {
    /// An empty set with room for `most`, at least one. Allocates a bit for each.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        let bits = (0..most.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let woken = Arc::new(Woken { bits, task: WakerSlot::new() });
        Self { places: Vec::new(), free: Vec::new(), most, next: 0, woken }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.len() == self.free.len()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Takes `future` in; it is polled first by the next [`poll_next`](Self::poll_next). It comes back where there is no room.
    pub(super) fn insert(&mut self, future: F) -> Result<(), F> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.places.len() < self.most => {
                let index = self.places.len();
                let waker = Waker::from(Arc::new(Signal { index, woken: Arc::clone(&self.woken) }));
                self.places.push(Place { future: None, waker });
                index
            }
            None => return Err(future),
        };
        if let Some(place) = self.places.get_mut(index) {
            place.future = Some(future);
        }
        self.woken.set(index);
        Ok(())
    }

    /// What one of them gave, which is then gone from here. Polls those that were woken, each about once, and then lets others of
    /// the caller's task have their turn.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Registered first, looked at then: a wake-up in between sets a bit and wakes.
        self.woken.task.register(cx.waker());
        for _ in 0..self.places.len() {
            let Some(index) = self.woken.take(self.next) else { return Poll::Pending };
            self.next = (index + 1) % self.most;
            // A late wake-up of one that is gone wakes nobody, or whoever has its place.
            let Some(Place { future: Some(future), waker }) = self.places.get_mut(index) else { continue };
            if let Poll::Ready(output) = Pin::new(future).poll(&mut Context::from_waker(waker)) {
                self.vacate(index);
                return Poll::Ready(output);
            }
        }
        if self.woken.any() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn vacate(&mut self, index: usize) {
        let future = self.places.get_mut(index).and_then(|place| place.future.take());
        self.free.push(index);
        // Last: dropping it runs others' code.
        drop(future);
    }

    /// Drops all of them.
    pub(super) fn clear(&mut self) {
        self.free.clear();
        for place in std::mem::take(&mut self.places) {
            drop(place.future);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests {
    use std::future::poll_fn;

    use loom::future::block_on;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;

    /// Whichever way threads that wake and the task that polls are interleaved, each future is polled after its wake-up: else loom says
    /// that this waits for ever.
    fn all_end(threads: usize) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let mut tasks = Tasks::new(threads);
            let mut waking = Vec::new();
            for number in 0..threads {
                let event = Arc::new((AtomicUsize::new(0), WakerSlot::new()));
                let other = Arc::clone(&event);
                waking.push(thread::spawn(move || {
                    other.0.store(1, Ordering::Relaxed);
                    other.1.wake();
                }));
                let future = poll_fn(move |cx| {
                    event.1.register(cx.waker());
                    match event.0.load(Ordering::Relaxed) {
                        0 => Poll::Pending,
                        _ => Poll::Ready(number),
                    }
                });
                assert!(tasks.insert(Box::pin(future)).is_ok());
            }
            block_on(async {
                for _ in 0..threads {
                    poll_fn(|cx| tasks.poll_next(cx)).await;
                }
            });
            assert!(tasks.is_empty());
            waking.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    #[test]
    fn loom_one_of_a_set_is_polled_after_its_wake_up() {
        all_end(1);
    }

    #[test]
    fn loom_two_of_a_set_are_polled_after_their_wake_ups() {
        all_end(2);
    }
}
