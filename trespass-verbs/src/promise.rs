//! A result that one thread gives and a future takes.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use trespass_core::WakerSlot;

use crate::error::VerbsError;

/// The outcome of a handshake.
pub(crate) struct Promise<T> {
    outcome: Mutex<Outcome<T>>,
    waker: WakerSlot,
}

enum Outcome<T> {
    Pending,
    Ready(Box<Result<T, VerbsError>>),
    Taken,
}

impl<T> Promise<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { outcome: Mutex::new(Outcome::Pending), waker: WakerSlot::new() })
    }

    /// Gives the outcome. Not under a lock: a waker may run anything.
    pub(crate) fn resolve(&self, outcome: Result<T, VerbsError>) {
        *self.lock() = Outcome::Ready(Box::new(outcome));
        self.waker.wake();
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<T, VerbsError>> {
        self.waker.register(cx.waker());
        let mut outcome = self.lock();
        if matches!(*outcome, Outcome::Pending) {
            return Poll::Pending;
        }
        match std::mem::replace(&mut *outcome, Outcome::Taken) {
            Outcome::Ready(result) => Poll::Ready(*result),
            // Polled again after it was ready.
            Outcome::Pending | Outcome::Taken => Poll::Ready(Err(VerbsError::Closed)),
        }
    }

    /// Whether nothing came of it yet.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(*self.lock(), Outcome::Pending)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Outcome<T>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
