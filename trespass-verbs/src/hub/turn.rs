//! Turns: a state that one thread at a time works on, and that nobody waits for.

use crate::sync::{AtomicU8, Ordering, UnsafeCell, yield_now};

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
            yield_now();
        }
        self.take(work);
    }

    #[inline]
    fn take(&self, mut work: impl FnMut(&mut T)) {
        let release = Release(&self.word);
        loop {
            // SAFETY: this thread changed the word from FREE to TAKEN, and nobody else does so before it is FREE again,
            // which only `Release` or the exchange below make it, after the last use of this reference.
            self.state.with_mut(|state| work(unsafe { &mut *state }));
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

/// Besides what a test of its own shows to fail, each of these fails a model: a turn that is taken or given back by a relaxed
/// exchange, and one that is given back although somebody asked for another look.
#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::thread;

    use super::*;
    use crate::sync::{AtomicU32, explore};

    /// What is left to be taken, and what was taken under the turn: loom says so where two have that at a time.
    struct Work {
        left: AtomicU32,
        turn: Turn<u32>,
    }

    impl Work {
        fn new() -> Arc<Self> {
            Arc::new(Self { left: AtomicU32::new(0), turn: Turn::new(0) })
        }

        /// Of a load and a store, since an exchange would find the latest whether or not turns see to it.
        fn take(&self, taken: &mut u32) {
            let left = self.left.load(Ordering::SeqCst);
            self.left.fetch_sub(left, Ordering::SeqCst);
            *taken += left;
        }

        fn leave(&self) {
            self.left.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn all_is_taken_of_what_two_leave(look: fn(&Work)) {
        let work = Work::new();
        let others: Vec<_> = (0..2)
            .map(|_| {
                let work = Arc::clone(&work);
                thread::spawn(move || {
                    work.leave();
                    look(&work);
                })
            })
            .collect();
        // A spinning thread, with nothing of its own, has the turn meanwhile.
        work.turn.look(|taken| work.take(taken));
        others.into_iter().for_each(|thread| thread.join().unwrap());
        let mut total = 0;
        work.turn.look(|taken| total = *taken);
        assert_eq!(total, 2, "nobody looked again");
    }

    #[test]
    fn whoever_looks_surely_is_looked_for() {
        explore(Some(4), || all_is_taken_of_what_two_leave(|work| work.turn.look_surely(|taken| work.take(taken))));
    }

    #[test]
    #[should_panic(expected = "nobody looked again")]
    fn whoever_only_looks_is_not() {
        explore(Some(4), || all_is_taken_of_what_two_leave(|work| work.turn.look(|taken| work.take(taken))));
    }

    #[test]
    fn whoever_waits_has_had_it_done_by_itself() {
        explore(Some(3), || {
            let work = Work::new();
            let other = {
                let work = Arc::clone(&work);
                thread::spawn(move || work.turn.look_surely(|taken| work.take(taken)))
            };
            work.leave();
            let mut total = 0;
            work.turn.wait(|taken| {
                work.take(taken);
                total = *taken;
            });
            assert_eq!(total, 1);
            other.join().unwrap();
        });
    }
}
