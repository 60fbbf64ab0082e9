//! The fabric's clock: alarms that its driver rings.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use trespass_core::{Timer, TimerQueue};

use crate::driver::Handle;

/// The clock of a verbs fabric: monotonic real time. Alarms are rung by the fabric's driver.
#[derive(Debug, Clone)]
pub struct VerbsTimer {
    handle: Handle,
}

/// The alarms of one fabric.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    queue: Mutex<TimerQueue>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), queue: Mutex::default() }
    }

    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.lock().next_deadline()
    }

    /// Rings what is due.
    pub(crate) fn ring(&self, now: Duration) {
        loop {
            let due = self.lock().pop_due(now);
            match due {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, TimerQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VerbsTimer {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle }
    }
}

impl Timer for VerbsTimer {
    type Sleep = VerbsSleep;

    fn now(&self) -> Duration {
        self.handle.clock().now()
    }

    fn sleep(&self, after: Duration) -> VerbsSleep {
        let clock = self.handle.clock();
        // Without a driver nobody would ring: then every alarm is over at once.
        let deadline = if self.handle.is_driven() { clock.now().saturating_add(after) } else { Duration::ZERO };
        let mut queue = clock.lock();
        let earliest = queue.next_deadline().is_none_or(|next| deadline < next);
        let id = queue.insert(deadline);
        drop(queue);
        if earliest {
            self.handle.deadlines_changed();
            self.handle.nudge();
        }
        VerbsSleep { handle: self.handle.clone(), id, waker: Waker::noop().clone() }
    }
}

/// An alarm of a [`VerbsTimer`].
#[derive(Debug)]
pub struct VerbsSleep {
    handle: Handle,
    id: u64,
    /// The one that the queue has a copy of: so the copy that it drops, under its lock, is never the last, whose drop may
    /// drop a task, and with it another alarm of this clock.
    waker: Waker,
}

impl Future for VerbsSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.handle.clock();
        let now = if self.handle.is_driven() { clock.now() } else { Duration::MAX };
        let result = clock.lock().poll(self.id, now, cx.waker());
        self.waker.clone_from(cx.waker());
        result
    }
}

impl Drop for VerbsSleep {
    fn drop(&mut self) {
        self.handle.clock().lock().cancel(self.id);
        self.handle.deadlines_changed();
    }
}
