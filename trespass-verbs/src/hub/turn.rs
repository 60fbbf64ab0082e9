//! Turns: a state that one thread at a time works on, and that nobody waits for.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU8, Ordering};

/// A state that whoever comes first works on. Those that come meanwhile leave, or have it worked on once more.
pub(crate) struct Turn<T> {
    word: AtomicU8,
    state: UnsafeCell<T>,
}

const FREE: u8 = 0;
const TAKEN: u8 = 1;
/// Taken, and somebody who came meanwhile needs another look.
const AGAIN: u8 = 2;

// SAFETY: the state is reached by the holder of the turn alone (`take`), one thread at a time, so sharing a turn moves
// the state between threads and no more.
unsafe impl<T: Send> Sync for Turn<T> {}

impl<T> Turn<T> {
    pub(crate) fn new(state: T) -> Self {
        Self { word: AtomicU8::new(FREE), state: UnsafeCell::new(state) }
    }

    /// Works on the state if nobody else does.
    #[inline]
    pub(crate) fn look(&self, work: impl FnMut(&mut T)) {
        if self.word.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            self.take(work);
        }
    }

    /// Works on the state, or has whoever does that begin once more after this call. For those about to sleep: a spinning
    /// thread that called it would keep the other one at work for ever.
    #[inline]
    pub(crate) fn look_surely(&self, work: impl FnMut(&mut T)) {
        loop {
            if self.word.compare_exchange(FREE, TAKEN, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return self.take(work);
            }
            match self.word.compare_exchange(TAKEN, AGAIN, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) | Err(AGAIN) => return,
                // It has just become free.
                Err(_) => {}
            }
        }
    }

    /// Works on the state, once nobody else does. Not from within the work.
    pub(crate) fn wait(&self, work: impl FnMut(&mut T)) {
        while self.word.compare_exchange(FREE, TAKEN, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            std::thread::yield_now();
        }
        self.take(work);
    }

    #[inline]
    fn take(&self, mut work: impl FnMut(&mut T)) {
        let release = Release(&self.word);
        loop {
            // SAFETY: this thread changed the word from FREE to TAKEN, and nobody else does so before it is FREE again,
            // which only `Release` or the exchange below make it, after the last use of this reference.
            work(unsafe { &mut *self.state.get() });
            if self.word.compare_exchange(TAKEN, FREE, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                std::mem::forget(release);
                return;
            }
            self.word.store(TAKEN, Ordering::SeqCst);
        }
    }
}

/// Gives the turn back when the work panics.
struct Release<'a>(&'a AtomicU8);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.store(FREE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn whoever_looks_surely_is_looked_for() {
        // Each thread leaves something and looks surely; whoever has the turn takes all that is there.
        let (left, turn) = (AtomicU32::new(0), Turn::new(0u32));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        left.fetch_add(1, Ordering::SeqCst);
                        turn.look_surely(|taken| *taken += left.swap(0, Ordering::SeqCst));
                        if left.load(Ordering::SeqCst) > 3 {
                            turn.wait(|taken| *taken += left.swap(0, Ordering::SeqCst));
                        }
                    }
                });
            }
        });
        let mut total = 0;
        turn.look(|taken| total = *taken);
        assert_eq!((total, left.into_inner()), (200_000, 0));
    }

    #[test]
    fn a_look_from_within_is_left_to_the_one_outside() {
        let turn = Turn::new(0);
        let mut again = true;
        turn.look(|count| {
            *count += 1;
            turn.look(|_| unreachable!("two at a time"));
            if std::mem::take(&mut again) {
                turn.look_surely(|_| unreachable!("two at a time"));
            }
        });
        turn.look(|count| assert_eq!(*count, 2));
    }

    #[test]
    fn a_panic_gives_the_turn_back() {
        let turn = Turn::new(());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| turn.look(|()| panic!("on purpose"))));
        let mut looked = false;
        turn.look(|()| looked = true);
        assert!(panicked.is_err() && looked);
    }
}
