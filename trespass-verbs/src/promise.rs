//! A result that one thread gives and a future takes.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use trespass_core::WakerSlot;

use crate::error::VerbsError;
use crate::track::ReliableTrack;

/// The outcome of a handshake.
pub(crate) struct Promise {
    outcome: Mutex<Outcome>,
    waker: WakerSlot,
}

enum Outcome {
    Pending,
    Ready(Box<Result<ReliableTrack, VerbsError>>),
    Taken,
}

impl Promise {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { outcome: Mutex::new(Outcome::Pending), waker: WakerSlot::new() })
    }

    /// Gives the outcome. Not under a lock: a waker may run anything.
    pub(crate) fn resolve(&self, outcome: Result<ReliableTrack, VerbsError>) {
        *self.lock() = Outcome::Ready(Box::new(outcome));
        self.waker.wake();
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<ReliableTrack, VerbsError>> {
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
