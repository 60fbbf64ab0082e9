//! What the halves of a carrier share: the carrier itself, behind a lock that is held inside a call, never across an await.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, TryLockError, Weak};
use std::task::{Context, Poll, ready};

use trespass_core::{InOrder, Lossless, Track};

use crate::carrier::MessageCarrier;
use crate::error::CarrierError;
use crate::segment::Cut;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, fence};

/// A carrier that comes apart into halves.
pub(super) trait Halved {
    type Track: Track<Delivery: Lossless + InOrder>;

    /// The carrier of messages that it is, or that is in it.
    fn messages(&mut self) -> &mut MessageCarrier<Self::Track>;

    /// Nobody receives any more: what has arrived is discarded, and so is what will arrive. Wakes whoever sends, since that may
    /// have been in the way.
    fn discard(&mut self);
}

struct Shared<C> {
    carrier: Mutex<C>,
    /// The receiver was dropped while the other half was inside a call, and what arrives is to be discarded.
    unread: AtomicBool,
}

/// What a sender has.
pub(super) struct SendHalf<C>(Arc<Shared<C>>);

/// What a receiver has.
pub(super) struct RecvHalf<C: Halved> {
    // Goes first: it needs the carrier.
    leaving: Leaving<C>,
    shared: Arc<Shared<C>>,
}

/// Notes that nobody receives any more when it is dropped, if there is still a carrier.
struct Leaving<C: Halved>(Weak<Shared<C>>);

/// Two halves of `carrier`.
pub(super) fn split<C: Halved>(carrier: C) -> (SendHalf<C>, RecvHalf<C>) {
    let shared = Arc::new(Shared { carrier: Mutex::new(carrier), unread: AtomicBool::new(false) });
    let receiver = RecvHalf { leaving: Leaving(Arc::downgrade(&shared)), shared: Arc::clone(&shared) };
    (SendHalf(shared), receiver)
}

/// The whole again; or the halves, where they are not of one.
pub(super) fn reunite<C: Halved>(sender: SendHalf<C>, receiver: RecvHalf<C>) -> Result<C, (SendHalf<C>, RecvHalf<C>)> {
    if !Arc::ptr_eq(&sender.0, &receiver.shared) {
        return Err((sender, receiver));
    }
    let RecvHalf { leaving, shared } = receiver;
    drop(sender);
    match Arc::try_unwrap(shared) {
        // Nothing is left for `leaving` to discard.
        Ok(shared) => Ok(shared.carrier.into_inner().unwrap_or_else(PoisonError::into_inner)),
        // There are two owners, and both were here.
        Err(shared) => Err((SendHalf(Arc::clone(&shared)), RecvHalf { leaving, shared })),
    }
}

impl<C: Halved> Shared<C> {
    /// A call that panicked was in the track or a waker: the carrier's own state is whole between its steps.
    fn lock(&self) -> MutexGuard<'_, C> {
        self.carrier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, where nobody has it. What is dropped may be dropped by a waker that the other half calls: to wait there
    /// would be to wait for oneself.
    fn try_lock(&self) -> Option<MutexGuard<'_, C>> {
        match self.carrier.try_lock() {
            Ok(carrier) => Some(carrier),
            Err(TryLockError::Poisoned(carrier)) => Some(carrier.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Does what a receiver that was dropped left to do.
    fn heed(&self, carrier: &mut C) {
        if self.unread.load(Ordering::Relaxed) && self.unread.swap(false, Ordering::AcqRel) {
            carrier.discard();
        }
    }
}

impl<C: Halved> SendHalf<C> {
    /// The carrier, for one call.
    pub(super) fn carrier(&self) -> MutexGuard<'_, C> {
        let mut carrier = self.0.lock();
        self.0.heed(&mut carrier);
        carrier
    }

    /// The carrier, for something that need not be done now.
    pub(super) fn try_carrier(&self) -> Option<MutexGuard<'_, C>> {
        self.0.try_lock()
    }

    /// One poll of it. A receiver that is dropped meanwhile is heeded before this half sleeps.
    pub(super) fn poll<R>(&self, act: impl FnOnce(&mut C) -> Poll<R>) -> Poll<R> {
        let polled = act(&mut self.carrier());
        if polled.is_pending() {
            // With the fence in the receiver's drop: either its mark is seen here, or it finds the lock free.
            fence(Ordering::SeqCst);
            if self.0.unread.load(Ordering::Relaxed) {
                drop(self.carrier());
            }
        }
        polled
    }
}

impl<C: Halved> RecvHalf<C> {
    /// The carrier, for one call.
    pub(super) fn carrier(&self) -> MutexGuard<'_, C> {
        self.shared.lock()
    }
}

impl<C: Halved> Drop for Leaving<C> {
    fn drop(&mut self) {
        let Some(shared) = self.0.upgrade() else { return };
        shared.unread.store(true, Ordering::Release);
        // With the fence of a poll that is about to sleep.
        fence(Ordering::SeqCst);
        if let Some(mut carrier) = shared.try_lock() {
            shared.heed(&mut carrier);
        }
    }
}

/// A message on its way through one half.
pub(super) struct Passing<'a, C: Halved> {
    half: &'a SendHalf<C>,
    data: &'a [u8],
    cut: Cut,
    outcome: Option<Result<(), CarrierError<<C::Track as trespass_core::Endpoint>::Error>>>,
}

impl<'a, C: Halved> Passing<'a, C> {
    pub(super) fn new(half: &'a SendHalf<C>, data: &'a [u8]) -> Self {
        let cut = half.carrier().messages().cut(data.len());
        Self { half, data, cut, outcome: None }
    }
}

// Nothing in it is pinned.
impl<C: Halved> Unpin for Passing<'_, C> {}

impl<C: Halved> Future for Passing<'_, C> {
    type Output = Result<(), CarrierError<<C::Track as trespass_core::Endpoint>::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { half, data, cut, outcome } = self.get_mut();
        if let Some(outcome) = outcome {
            return Poll::Ready(outcome.clone());
        }
        let sent = ready!(half.poll(|carrier| carrier.messages().poll_message(cx, cut, data)));
        Poll::Ready(outcome.insert(sent).clone())
    }
}

impl<C: Halved> Drop for Passing<'_, C> {
    fn drop(&mut self) {
        if self.outcome.is_some() || !self.cut.begun() {
            return;
        }
        // Else it is withdrawn before this half sends anything else.
        if let Some(mut carrier) = self.half.try_carrier() {
            carrier.messages().withdraw();
        }
    }
}
