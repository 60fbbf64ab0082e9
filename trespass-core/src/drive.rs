//! Background work on the caller's own thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::sync::{AtomicBool, Ordering, ThisThread, this_thread};

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
/// # Implemented by
/// `VerbsDriver`, of a fabric that was opened with `open_manual`, and `MockDriver`, whose time is virtual.
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
    thread: ThisThread,
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

/// Each of these fails a model: a wake-up that interrupts before it says so; one that never interrupts, or not where
/// another thread gives it; a poll that forgets the wake-ups that came while it went on, or before the driver was asked; a
/// driver that is asked though the future has woken itself.
#[cfg(all(test, loom))]
mod loom_tests {
    use std::future::poll_fn;

    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;
    use crate::WakerSlot;
    use crate::sync::{Condvar, Mutex};

    /// A driver that sleeps until it is interrupted or an event has come, which it hands on.
    struct Background {
        state: Mutex<State>,
        changed: Condvar,
        happened: AtomicUsize,
        waker: WakerSlot,
    }

    #[derive(Default)]
    struct State {
        interrupted: bool,
        event: bool,
    }

    impl Background {
        fn new() -> Arc<Self> {
            let (state, changed) = (Mutex::new(State::default()), Condvar::new());
            Arc::new(Self { state, changed, happened: AtomicUsize::new(0), waker: WakerSlot::new() })
        }

        fn change(&self, change: impl FnOnce(&mut State)) {
            change(&mut self.state.lock().unwrap());
            self.changed.notify_one();
        }

        /// One of the things that are waited for has happened.
        fn happen(&self) {
            self.happened.fetch_add(1, Ordering::Relaxed);
            self.waker.wake();
        }
    }

    struct Driver(Arc<Background>);

    struct Interrupter(Arc<Background>);

    impl Wake for Interrupter {
        fn wake(self: Arc<Self>) {
            self.0.change(|state| state.interrupted = true);
        }
    }

    impl Drive for Driver {
        fn drive(&mut self, _: Option<Duration>) {
            let mut state = self.0.state.lock().unwrap();
            while !state.event && !state.interrupted {
                state = self.0.changed.wait(state).unwrap();
            }
            let event = std::mem::take(&mut *state).event;
            drop(state);
            if event {
                self.0.happen();
            }
        }

        fn interrupter(&self) -> Waker {
            Arc::new(Interrupter(Arc::clone(&self.0))).into()
        }
    }

    fn wait_for(background: &Arc<Background>, count: usize) {
        let all = poll_fn(|cx| {
            background.waker.register(cx.waker());
            if background.happened.load(Ordering::Relaxed) == count { Poll::Ready(()) } else { Poll::Pending }
        });
        block_on(&mut Driver(Arc::clone(background)), all);
    }

    fn beside(background: &Arc<Background>, work: impl FnOnce(&Background) + 'static) -> thread::JoinHandle<()> {
        let background = Arc::clone(background);
        thread::spawn(move || work(&background))
    }

    #[test]
    fn loom_another_thread_interrupts_the_driver() {
        loom::model(|| {
            let background = Background::new();
            let other = beside(&background, |background| (0..2).for_each(|_| background.happen()));
            wait_for(&background, 2);
            other.join().unwrap();
        });
    }

    #[test]
    fn loom_what_the_driver_itself_finds_needs_no_interruption() {
        loom::model(|| {
            let background = Background::new();
            let device = beside(&background, |background| background.change(|state| state.event = true));
            wait_for(&background, 1);
            device.join().unwrap();
        });
    }

    #[test]
    fn loom_a_future_that_wakes_itself_goes_on() {
        loom::model(|| {
            let mut polls = 0;
            let twice = poll_fn(|cx| {
                polls += 1;
                cx.waker().wake_by_ref();
                if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
            });
            block_on(&mut Driver(Background::new()), twice);
        });
    }

    #[test]
    fn loom_an_event_and_a_wake_up_at_once_are_both_seen() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = model.preemption_bound.or(Some(3));
        model.check(|| {
            let background = Background::new();
            let device = beside(&background, |background| background.change(|state| state.event = true));
            let other = beside(&background, |background| background.happen());
            wait_for(&background, 2);
            device.join().unwrap();
            other.join().unwrap();
        });
    }
}
