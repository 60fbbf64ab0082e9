//! Background work on the caller's own thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// The background work of a fabric, when the caller rather than a thread of the fabric's own does it.
///
/// # For implementers
/// - [`drive`](Drive::drive) does what is there to be done, waits if there is nothing, and returns after it did
///   something, was interrupted, or `timeout` has passed. It may return early.
/// - Waking [`interrupter`](Drive::interrupter), from any thread, makes a `drive` in progress, or else the next one, return
///   soon.
/// - A driver with virtual time moves its clock to the next alarm when there is nothing else to do.
///
/// # For users
/// [`block_on`] runs one future with it. That is the cheapest way to wait: no second thread is involved in a wake-up.
///
/// # A toy
/// ```
/// use std::{task::Waker, time::Duration};
///
/// /// Nothing ever happens in the background of this one.
/// struct Idle;
/// impl trespass_core::Drive for Idle {
///     fn drive(&mut self, timeout: Option<Duration>) {
///         std::thread::park_timeout(timeout.unwrap_or(Duration::from_millis(1)));
///     }
///     fn interrupter(&self) -> Waker {
///         Waker::noop().clone()
///     }
/// }
/// assert_eq!(trespass_core::block_on(&mut Idle, async { 7 }), 7);
/// ```
pub trait Drive {
    /// One turn of background work on this thread; `None` waits as long as it takes.
    fn drive(&mut self, timeout: Option<Duration>);

    /// Interrupts a [`drive`](Drive::drive).
    fn interrupter(&self) -> Waker;
}

/// Runs `future` to its end on this thread, and drives `driver` whenever the future waits.
///
/// One allocation per call, none per wake-up.
pub fn block_on<D: Drive + ?Sized, F: Future>(driver: &mut D, future: F) -> F::Output {
    let signal =
        Arc::new(Signal { woken: AtomicBool::new(true), interrupter: driver.interrupter(), thread: this_thread() });
    let waker = Waker::from(Arc::clone(&signal));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        while signal.woken.swap(false, Ordering::AcqRel) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
        }
        driver.drive(None);
    }
}

struct Signal {
    woken: AtomicBool,
    interrupter: Waker,
    thread: usize,
}

/// A number that no other running thread has: the address of something of its own. (`thread::current` counts references.)
fn this_thread() -> usize {
    thread_local!(static OWN: u8 = const { 0 });
    OWN.with(|own| std::ptr::from_ref(own).addr())
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let already = self.woken.swap(true, Ordering::AcqRel);
        // The driver's own thread is not asleep while it wakes somebody; `drive` returns after it did something.
        if !already && this_thread() != self.thread {
            self.interrupter.wake_by_ref();
        }
    }
}
