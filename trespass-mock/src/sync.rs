//! Two habits around locks: they survive a panic elsewhere, and no foreign code runs under them.
//!
//! Locks and hints are the standard library's, or under `--cfg loom` those of loom, which tries every order.

use std::sync::PoisonError;
use std::task::Waker;

#[cfg(loom)]
pub(crate) use loom::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

/// Locks, also after a panic elsewhere: what these locks guard is valid at every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who waits for one thing: at most one, the latest. Lives under the lock that guards what is waited for, which is why no
/// wake-up gets lost: to look and to register are one step.
///
/// Wakers are foreign code, also when they are dropped (the last one of a task may drop the task, and with it a track). So
/// each one comes out, to be woken or dropped when the lock is let go.
#[derive(Debug, Default)]
pub(crate) struct Waiter(Option<Waker>);

impl Waiter {
    /// Registers `waker`, and gives out the one that it replaces.
    #[must_use = "dropped without the lock"]
    pub(crate) fn register(&mut self, waker: &Waker) -> Option<Waker> {
        match &self.0 {
            Some(old) if old.will_wake(waker) => None,
            _ => self.0.replace(waker.clone()),
        }
    }

    /// Whether anybody waits.
    pub(crate) fn waits(&self) -> bool {
        self.0.is_some()
    }

    /// Takes out who waits.
    #[must_use = "woken without the lock"]
    pub(crate) fn take(&mut self) -> Option<Waker> {
        self.0.take()
    }
}

/// Those to wake once the lock is let go.
#[derive(Debug, Default)]
#[must_use = "woken without the lock"]
pub(crate) struct Wakes {
    pub(crate) sender: Option<Waker>,
    pub(crate) receiver: Option<Waker>,
}

impl Wakes {
    /// Wakes them. No lock may be held.
    #[inline]
    pub(crate) fn fire(self) {
        if let Some(waker) = self.sender {
            waker.wake();
        }
        if let Some(waker) = self.receiver {
            waker.wake();
        }
    }
}
