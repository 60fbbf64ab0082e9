//! A result that one thread gives and a future takes.

use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use trespass_core::WakerSlot;

use crate::error::VerbsError;
use crate::sync::{Mutex, MutexGuard};

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

    fn lock(&self) -> MutexGuard<'_, Outcome<T>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waking before the outcome is there fails the model, and so does registering after the look.
#[cfg(all(test, loom))]
mod loom_tests {
    use std::future::poll_fn;

    use loom::sync::Arc as Watched;
    use loom::thread;

    use super::*;
    use crate::sync::{block_on, explore};

    /// Loom says so where the value is lost, or given twice: each is dropped once, which it counts.
    #[test]
    fn it_gives_its_value_once_and_wakes() {
        explore(None, || {
            let (promise, value) = (Promise::new(), Watched::new(7));
            let giving = {
                let (promise, value) = (Arc::clone(&promise), Watched::clone(&value));
                thread::spawn(move || promise.resolve(Ok(value)))
            };
            let given = block_on(poll_fn(|cx| promise.poll(cx)));
            assert!(given.is_ok_and(|given| Watched::ptr_eq(&given, &value)));
            assert!(block_on(poll_fn(|cx| promise.poll(cx))).is_err_and(|error| error == VerbsError::Closed));
            giving.join().unwrap();
            assert_eq!(Watched::strong_count(&value), 1);
        });
    }
}
