//! Wakers that get lost on purpose.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use crate::fault::Fault;

thread_local! {
    static DEAF: Cell<Deaf> = const { Cell::new(Deaf::Nobody) };
}

/// Whose wake-ups get lost on this thread just now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deaf {
    Nobody,
    Senders,
    Everybody,
}

/// Does something that wakes, and lets no wake-up through to `whom`.
pub(crate) fn unheard<T>(whom: Deaf, work: impl FnOnce() -> T) -> T {
    let before = DEAF.replace(whom);
    let result = work();
    DEAF.set(before);
    result
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Send,
    Receive,
}

/// Stands between the toy and whoever waits: the toy knows only this waker.
#[derive(Debug)]
pub(crate) struct Tap {
    fault: Fault,
    side: Side,
    waiting: Arc<Mutex<Option<Waker>>>,
    wakes: AtomicU64,
}

impl Tap {
    /// The taps of the two sides of one track.
    pub(crate) fn pair(fault: Fault) -> (Arc<Self>, Arc<Self>) {
        let waiting = Arc::<Mutex<Option<Waker>>>::default();
        let shared = fault == Fault::HasOneWakerForBoth;
        let tap = |side, waiting| Arc::new(Self { fault, side, waiting, wakes: AtomicU64::new(0) });
        let other = if shared { Arc::clone(&waiting) } else { Arc::default() };
        (tap(Side::Send, waiting), tap(Side::Receive, other))
    }

    /// Registers `waker`; what the toy is to wake instead.
    pub(crate) fn waker(self: &Arc<Self>, waker: &Waker) -> Waker {
        assert!(self.fault != Fault::HatesNoopWakers || !waker.will_wake(Waker::noop()), "a no-op waker");
        let mut waiting = self.waiting.lock().expect("no panic under this lock");
        match self.fault {
            Fault::KeepsTheFirstWaker | Fault::KeepsTheFirstWakerForGood if waiting.is_some() => {}
            _ => *waiting = Some(waker.clone()),
        }
        Waker::from(Arc::clone(self))
    }
}

impl Tap {
    /// Nobody waits any more.
    pub(crate) fn forget(&self) {
        self.waiting.lock().expect("no panic under this lock").take();
    }
}

impl Wake for Tap {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match DEAF.get() {
            Deaf::Everybody => return,
            Deaf::Senders if self.side == Side::Send => return,
            _ => {}
        }
        let count = self.wakes.fetch_add(1, Ordering::Relaxed);
        match (self.fault, self.side) {
            (Fault::LosesReceiveWakeUps, Side::Receive) | (Fault::LosesSendWakeUps, Side::Send) if count % 5 == 4 => {
                return;
            }
            _ => {}
        }
        let mut waiting = self.waiting.lock().expect("no panic under this lock");
        let waker = if self.fault == Fault::KeepsTheFirstWakerForGood { waiting.clone() } else { waiting.take() };
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
