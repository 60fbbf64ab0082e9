//! Waiting on a plain thread: it parks until it is woken.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::sync::{AtomicBool, Ordering, Thread, current, park};

/// Runs `future` to its end on this thread, which sleeps whenever the future waits: what a program without an executor
/// waits with.
///
/// It waits as long as the future does: one that nothing bounds in time belongs into [`wait_within`]. It serves any future
/// that is woken from other threads, as those of a fabric are that has a driver of its own; where the caller's thread is the
/// driver, [`block_on`](crate::block_on) is what runs both. May be called from within a future that is waited for.
///
/// # Costs
/// One allocation for each thread, the first time it waits; none for a wait or a wake-up. A system call for each sleep.
///
/// ```
/// assert_eq!(trespass_core::wait(async { 7 }), 7);
/// ```
pub fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let parker = Parker::take();
    loop {
        if let Poll::Ready(output) = parker.poll_while_woken(future.as_mut()) {
            parker.put_back();
            return output;
        }
        park();
    }
}

/// The same for `limit` at most: `None` if the future had not ended by then, and was dropped.
///
/// It is polled at least once, so a limit of zero is a look. A future of tracks and carriers may be waited for again,
/// since dropping it loses nothing; any other that is to go on is given by reference: `wait_within(limit, &mut future)`, of one
/// that is pinned.
///
/// # Costs
/// As [`wait`], and a look at the clock before each sleep.
///
/// ```
/// use std::{future, pin::pin, time::Duration};
/// use trespass_core::wait_within;
///
/// let mut never = pin!(future::pending::<()>());
/// assert_eq!(wait_within(Duration::from_millis(1), never.as_mut()), None);
/// assert_eq!(wait_within(Duration::ZERO, async { 7 }), Some(7));
/// ```
pub fn wait_within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let start = Instant::now();
    let mut future = pin!(future);
    let parker = Parker::take();
    loop {
        if let Poll::Ready(output) = parker.poll_while_woken(future.as_mut()) {
            parker.put_back();
            return Some(output);
        }
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            parker.put_back();
            return None;
        }
        std::thread::park_timeout(left);
    }
}

thread_local! {
    /// What this thread sleeps by, while it does not. A wait within another finds none, and makes its own: a wake-up of the
    /// outer one is not to end in the inner.
    static IDLE: Cell<Option<Parker>> = const { Cell::new(None) };
}

/// The signal of one waiting thread, and the waker that gives it.
struct Parker {
    signal: Arc<Signal>,
    waker: Waker,
}

impl Parker {
    fn new() -> Self {
        let signal = Arc::new(Signal { woken: AtomicBool::new(true), thread: current() });
        Self { waker: Waker::from(Arc::clone(&signal)), signal }
    }

    /// That of this thread, if it is idle, or another.
    fn take() -> Self {
        let parker = IDLE.try_with(Cell::take).ok().flatten().unwrap_or_else(Self::new);
        // The first poll needs no wake-up.
        parker.signal.woken.store(true, Ordering::Release);
        parker
    }

    /// Keeps it for the next wait of this thread.
    fn put_back(self) {
        let _ = IDLE.try_with(|idle| idle.set(Some(self)));
    }

    /// Polls for as long as there were wake-ups since the poll before.
    fn poll_while_woken<F: Future>(&self, mut future: Pin<&mut F>) -> Poll<F::Output> {
        while self.signal.woken.swap(false, Ordering::AcqRel) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&self.waker)) {
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    }
}

struct Signal {
    woken: AtomicBool,
    thread: Thread,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;
    use crate::WakerSlot;

    /// As `wait` does it, but with a parker of its own: loom's threads share what is local to the one that runs them.
    #[test]
    fn loom_a_thread_that_waits_is_woken() {
        loom::model(|| {
            let event = Arc::new((AtomicUsize::new(0), WakerSlot::new()));
            let other = Arc::clone(&event);
            // Not joined: loom lets a late wake-up end that wait too.
            thread::spawn(move || {
                for _ in 0..2 {
                    other.0.fetch_add(1, Ordering::Relaxed);
                    other.1.wake();
                }
            });
            let mut future = pin!(poll_fn(|cx| {
                event.1.register(cx.waker());
                match event.0.load(Ordering::Relaxed) {
                    2 => Poll::Ready(()),
                    _ => Poll::Pending,
                }
            }));
            let parker = Parker::new();
            while parker.poll_while_woken(future.as_mut()).is_pending() {
                park();
            }
        });
    }
}
