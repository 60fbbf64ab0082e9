//! A carrier in two halves, for two tasks or threads.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use trespass_core::{Carrier, InOrder, Lossless, Track, TryError, Unsent};

use crate::carrier::MessageCarrier;
use crate::closing::Closing;
use crate::error::CarrierError;
use crate::message::{Message, MessageBuf};
use crate::segment::Cut;
use crate::stats::Stats;

impl<T: Track<Delivery: Lossless + InOrder>> MessageCarrier<T> {
    /// Two halves, each of which may go to a task or a thread of its own. [`MessageReceiver::reunite`] undoes it.
    ///
    /// Credits go both ways, so each half does what the other direction needs, as the whole carrier does: a receiver gives
    /// the peer its credits even where its sender is never called.
    ///
    /// # Costs
    /// One allocation here, none per message. The halves share the carrier behind a lock that is held inside a call, never
    /// across an await: one atomic exchange to take it and one to let go while the other half is not inside a call of its
    /// own, else a wait until that call returns. Measured in process, with nobody else at the lock (`scripts/bench-mock`, which
    /// counts instructions): a message of 64 bytes there and one back take 2,584 instructions by halves and 2,129 by the whole,
    /// which is 57 for each of the eight calls. What a wait for the other half costs was not measured.
    ///
    /// Wakers are called under that lock: one whose `wake` polls a task before it returns must not poll the other half.
    ///
    /// ```
    /// use trespass_carriers::{CarrierError, MessageCarrier};
    /// use trespass_core::{InOrder, Lossless, ThreadTrack, wait};
    ///
    /// /// Says what there is to say, and takes what the other side says meanwhile: returns how many bytes.
    /// fn talk<T>(carrier: MessageCarrier<T>, said: &[Vec<u8>]) -> Result<usize, CarrierError<T::Error>>
    /// where
    ///     T: ThreadTrack<Delivery: Lossless + InOrder>,
    ///     MessageCarrier<T>: Send,
    /// {
    ///     let (mut sender, mut receiver) = carrier.split();
    ///     std::thread::scope(|scope| {
    ///         scope.spawn(move || {
    ///             wait(async {
    ///                 for message in said {
    ///                     sender.send(message).await?;
    ///                 }
    ///                 sender.finish().await
    ///             })
    ///         });
    ///         wait(async {
    ///             let mut heard = 0;
    ///             while let Some(message) = receiver.recv().await? {
    ///                 heard += message.len();
    ///             }
    ///             Ok(heard)
    ///         })
    ///     })
    /// }
    /// ```
    pub fn split(self) -> (MessageSender<T>, MessageReceiver<T>) {
        let (eager_limit, max_message) = (self.eager_limit(), self.max_message());
        let shared = Arc::new(Shared { carrier: Mutex::new(self), unread: AtomicBool::new(false) });
        let receiver = MessageReceiver { shared: Some(Arc::clone(&shared)) };
        (MessageSender { shared, eager_limit, max_message }, receiver)
    }
}

struct Shared<T: Track<Delivery: Lossless + InOrder>> {
    carrier: Mutex<MessageCarrier<T>>,
    /// The receiver was dropped, and what arrives is to be discarded.
    unread: AtomicBool,
}

impl<T: Track<Delivery: Lossless + InOrder>> Shared<T> {
    /// A call that panicked was in the track or a waker: the carrier's own state is whole between its steps.
    fn lock(&self) -> MutexGuard<'_, MessageCarrier<T>> {
        self.carrier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, where nobody has it. What is dropped may be dropped by a waker that the other half calls: to wait there
    /// would be to wait for oneself.
    fn try_lock(&self) -> Option<MutexGuard<'_, MessageCarrier<T>>> {
        self.carrier.try_lock().ok()
    }
}

/// The half that sends: see [`MessageCarrier::split`]. Its calls are those of the whole carrier, with the same errors, costs
/// and cancel safety.
///
/// # Dropping it
/// Says nothing: to the peer there is no end and no error while the receiver lives; once both are gone without a
/// [`close`](Self::close), it is `Disconnected`. To end well, [`finish`](Self::finish) first.
pub struct MessageSender<T: Track<Delivery: Lossless + InOrder>> {
    shared: Arc<Shared<T>>,
    eager_limit: usize,
    max_message: usize,
}

/// The half that receives: see [`MessageCarrier::split`]. Its calls are those of the whole carrier, with the same errors,
/// costs and cancel safety. While the sender closes, there is nothing to receive; after it, kind `Closed`, or
/// what kept the end from being clean.
///
/// # Dropping it
/// What had arrived and was not received is discarded, and so is what arrives later, as the sender's calls come across it:
/// the peer is not told, and not kept waiting by a sender that goes on sending.
pub struct MessageReceiver<T: Track<Delivery: Lossless + InOrder>> {
    /// `None` once it is part of a whole again.
    shared: Option<Arc<Shared<T>>>,
}

impl<T: Track<Delivery: Lossless + InOrder>> MessageSender<T> {
    /// See [`MessageCarrier::eager_limit`]. Takes no lock.
    pub fn eager_limit(&self) -> usize {
        self.eager_limit
    }

    /// See [`MessageCarrier::max_message`]. Takes no lock.
    pub fn max_message(&self) -> usize {
        self.max_message
    }

    /// What both halves did so far.
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats()
    }

    /// Sends `data` as one message: see [`MessageCarrier::send`]. Dropping the future withdraws the message: at once where
    /// the receiver is not inside a call, else before the next thing that this half sends.
    ///
    /// # Errors
    /// As [`MessageCarrier::send`].
    pub fn send<'a>(&'a mut self, data: &'a [u8]) -> HalfSending<'a, T> {
        let cut = self.shared.lock().cut(data);
        HalfSending { sender: self, data, cut, outcome: None }
    }

    /// See [`MessageCarrier::try_send`].
    ///
    /// # Errors
    /// As [`MessageCarrier::try_send`].
    pub fn try_send(&mut self, data: &[u8]) -> Result<(), TryError<CarrierError<T::Error>>> {
        self.carrier().try_send(data)
    }

    /// See [`MessageCarrier::try_reserve`].
    ///
    /// # Errors
    /// As [`MessageCarrier::try_reserve`].
    pub fn try_reserve(&mut self, len: usize) -> Result<MessageBuf<T>, TryError<CarrierError<T::Error>>> {
        self.carrier().try_reserve(len)
    }

    /// See [`MessageCarrier::send_buf`].
    ///
    /// # Errors
    /// As [`MessageCarrier::send_buf`].
    pub fn send_buf(&mut self, buf: MessageBuf<T>) -> Result<(), Unsent<MessageBuf<T>, CarrierError<T::Error>>> {
        self.carrier().send_buf(buf)
    }

    /// See [`MessageCarrier::flush`].
    ///
    /// # Errors
    /// As [`MessageCarrier::flush`].
    pub fn flush(&mut self) -> Result<(), CarrierError<T::Error>> {
        self.carrier().flush()
    }

    /// See [`MessageCarrier::poll_send_ready`]. One waker for this half: the latest wins.
    pub fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.carrier().poll_send_ready(cx)
    }

    /// See [`MessageCarrier::poll_finish`].
    ///
    /// # Errors
    /// As [`MessageCarrier::finish`].
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        self.carrier().poll_finish(cx)
    }

    /// Says that no more messages come: see [`MessageCarrier::finish`]. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`MessageCarrier::finish`].
    pub fn finish(&mut self) -> impl Future<Output = Result<(), CarrierError<T::Error>>> + use<'_, T> {
        poll_fn(|cx| self.poll_finish(cx))
    }

    /// See [`MessageCarrier::close`]: ends both directions, and so the receiver too, which is woken.
    ///
    /// # Errors
    /// As [`MessageCarrier::close`].
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        self.carrier().poll_close(cx)
    }

    /// [`poll_close`](Self::poll_close) as a future. Dropping it loses nothing: call again to go on. Until then the receiver
    /// waits.
    ///
    /// # Errors
    /// As [`MessageCarrier::close`].
    pub fn close(&mut self) -> impl Future<Output = Result<(), CarrierError<T::Error>>> + use<'_, T> {
        poll_fn(|cx| self.poll_close(cx))
    }

    pub(super) fn carrier(&self) -> MutexGuard<'_, MessageCarrier<T>> {
        let mut carrier = self.shared.lock();
        if self.shared.unread.load(Ordering::Relaxed) && self.shared.unread.swap(false, Ordering::AcqRel) {
            carrier.inbox.discard();
        }
        carrier
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> MessageReceiver<T> {
    /// What both halves did so far.
    pub fn stats(&self) -> Stats {
        self.carrier().map(|carrier| carrier.stats()).unwrap_or_default()
    }

    /// See [`MessageCarrier::try_recv`].
    ///
    /// # Errors
    /// As [`MessageCarrier::try_recv`].
    pub fn try_recv(&mut self) -> Result<Option<Message<T>>, TryError<CarrierError<T::Error>>> {
        match self.carrier() {
            Some(carrier) if carrier.is_closing() => Err(TryError::WouldBlock),
            Some(mut carrier) => carrier.try_recv(),
            None => Err(TryError::Failed(CarrierError::Closed)),
        }
    }

    /// See [`MessageCarrier::poll_recv`]. One waker for this half: the latest wins.
    ///
    /// # Errors
    /// As [`MessageCarrier::recv`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message<T>>, CarrierError<T::Error>>> {
        let Some(mut carrier) = self.carrier() else { return Poll::Ready(Err(CarrierError::Closed)) };
        ready!(carrier.poll_not_closing(cx));
        carrier.poll_recv(cx)
    }

    /// See [`MessageCarrier::poll_recv_ready`].
    pub fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mut carrier) = self.carrier() else { return Poll::Ready(()) };
        ready!(carrier.poll_not_closing(cx));
        carrier.poll_recv_ready(cx)
    }

    /// Waits for the next message: see [`MessageCarrier::recv`]. Dropping the future at any point loses nothing.
    ///
    /// # Errors
    /// As [`MessageCarrier::recv`].
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message<T>>, CarrierError<T::Error>>> + use<'_, T> {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// The whole carrier again, as it was.
    ///
    /// # Errors
    /// Both halves come back where they are not of one carrier.
    pub fn reunite(mut self, sender: MessageSender<T>) -> Result<MessageCarrier<T>, Unmatched<T>> {
        let Some(shared) = self.shared.take_if(|shared| Arc::ptr_eq(shared, &sender.shared)) else {
            return Err(Unmatched { sender, receiver: self });
        };
        let MessageSender { shared: other, eager_limit, max_message } = sender;
        drop(other);
        match Arc::try_unwrap(shared) {
            Ok(shared) => Ok(shared.carrier.into_inner().unwrap_or_else(PoisonError::into_inner)),
            // There are two owners, and both were here.
            Err(shared) => {
                self.shared = Some(Arc::clone(&shared));
                Err(Unmatched { sender: MessageSender { shared, eager_limit, max_message }, receiver: self })
            }
        }
    }

    fn carrier(&self) -> Option<MutexGuard<'_, MessageCarrier<T>>> {
        self.shared.as_ref().map(|shared| shared.lock())
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Drop for MessageReceiver<T> {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else { return };
        match shared.try_lock() {
            Some(mut carrier) => carrier.inbox.discard(),
            None => shared.unread.store(true, Ordering::Release),
        }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> MessageCarrier<T> {
    fn is_closing(&self) -> bool {
        matches!(self.closing, Some(Closing::Under { .. }))
    }

    /// While one half closes, the track is its alone: what the other would find there is no longer its to judge.
    fn poll_not_closing(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_closing() {
            return Poll::Ready(());
        }
        // The end of the close wakes it.
        self.fan_out.reader().register(cx.waker());
        Poll::Pending
    }
}

/// Halves that are not of one carrier: see [`MessageReceiver::reunite`].
#[derive(Debug, thiserror::Error)]
#[error("the two halves are of different carriers")]
pub struct Unmatched<T: Track<Delivery: Lossless + InOrder>> {
    /// As it was given.
    pub sender: MessageSender<T>,
    /// As it was given.
    pub receiver: MessageReceiver<T>,
}

/// A message on its way: see [`MessageSender::send`].
#[must_use = "nothing is sent before the first poll"]
pub struct HalfSending<'a, T: Track<Delivery: Lossless + InOrder>> {
    sender: &'a mut MessageSender<T>,
    data: &'a [u8],
    cut: Cut,
    outcome: Option<Result<(), CarrierError<T::Error>>>,
}

// Nothing in it is pinned.
impl<T: Track<Delivery: Lossless + InOrder>> Unpin for HalfSending<'_, T> {}

impl<T: Track<Delivery: Lossless + InOrder>> Future for HalfSending<'_, T> {
    type Output = Result<(), CarrierError<T::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(outcome) = &this.outcome {
            return Poll::Ready(outcome.clone());
        }
        let outcome = ready!(this.sender.carrier().poll_message(cx, &mut this.cut, this.data));
        this.outcome = Some(outcome.clone());
        Poll::Ready(outcome)
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Drop for HalfSending<'_, T> {
    fn drop(&mut self) {
        if self.outcome.is_some() || !self.cut.begun() {
            return;
        }
        // Else it is withdrawn before this half sends anything else.
        if let Some(mut carrier) = self.sender.shared.try_lock() {
            carrier.withdraw();
        }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> fmt::Debug for MessageSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageSender").finish_non_exhaustive()
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> fmt::Debug for MessageReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageReceiver").finish_non_exhaustive()
    }
}
