//! A carrier in two halves, for two tasks or threads.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use trespass_core::{Carrier, InOrder, Lossless, Track, TryError, Unsent};

use crate::carrier::shared::{self, Halved, Passing, RecvHalf, SendHalf};
use crate::carrier::{MessageCarrier, limited};
use crate::closing::Closing;
use crate::error::{CarrierError, Phase};
use crate::message::{Message, MessageBuf};
use crate::stats::Stats;
#[cfg(feature = "futures")]
use crate::sync::MutexGuard;

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
        let (sender, receiver) = shared::split(self);
        (MessageSender { half: sender, eager_limit, max_message }, MessageReceiver { half: receiver })
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Halved for MessageCarrier<T> {
    type Track = T;

    fn messages(&mut self) -> &mut MessageCarrier<T> {
        self
    }

    fn discard(&mut self) {
        self.inbox.discard();
        self.fan_out.writer().wake();
    }
}

/// The half that sends: see [`MessageCarrier::split`]. Its calls are those of the whole carrier, with the same errors, costs
/// and cancel safety.
///
/// # Dropping it
/// Says nothing: to the peer there is no end and no error while the receiver lives; once both are gone without a
/// [`close`](Self::close), it is `Disconnected`. To end well, [`finish`](Self::finish) first.
pub struct MessageSender<T: Track<Delivery: Lossless + InOrder>> {
    half: SendHalf<MessageCarrier<T>>,
    eager_limit: usize,
    max_message: usize,
}

/// The half that receives: see [`MessageCarrier::split`]. Its calls are those of the whole carrier, with the same errors,
/// costs and cancel safety. While the sender closes, there is nothing to receive; after it, kind `Closed`, or
/// what kept the end from being clean.
///
/// # Dropping it
/// What had arrived and was not received is discarded, and so is what arrives later, as the sender's calls come across it:
/// the peer is not told, and not kept waiting by a sender that goes on sending, or waits to.
pub struct MessageReceiver<T: Track<Delivery: Lossless + InOrder>> {
    half: RecvHalf<MessageCarrier<T>>,
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
        self.half.carrier().stats()
    }

    /// Sends `data` as one message: see [`MessageCarrier::send`]. Dropping the future withdraws the message: at once where
    /// the receiver is not inside a call, else before the next thing that this half sends.
    ///
    /// # Errors
    /// As [`MessageCarrier::send`].
    pub fn send<'a>(&'a mut self, data: &'a [u8]) -> HalfSending<'a, T> {
        HalfSending(Passing::new(&self.half, data))
    }

    /// See [`MessageCarrier::send_within`].
    ///
    /// # Errors
    /// As [`MessageCarrier::send_within`].
    pub fn send_within<'a>(
        &'a mut self,
        limit: Duration,
        data: &'a [u8],
    ) -> impl Future<Output = Result<(), CarrierError<T::Error>>> + use<'a, T> {
        let timer = self.half.carrier().timer();
        limited(timer, limit, Phase::Send, self.send(data))
    }

    /// See [`MessageCarrier::try_send`].
    ///
    /// # Errors
    /// As [`MessageCarrier::try_send`].
    pub fn try_send(&mut self, data: &[u8]) -> Result<(), TryError<CarrierError<T::Error>>> {
        self.half.carrier().try_send(data)
    }

    /// See [`MessageCarrier::try_reserve`].
    ///
    /// # Errors
    /// As [`MessageCarrier::try_reserve`].
    pub fn try_reserve(&mut self, len: usize) -> Result<MessageBuf<T>, TryError<CarrierError<T::Error>>> {
        self.half.carrier().try_reserve(len)
    }

    /// See [`MessageCarrier::send_buf`].
    ///
    /// # Errors
    /// As [`MessageCarrier::send_buf`].
    pub fn send_buf(&mut self, buf: MessageBuf<T>) -> Result<(), Unsent<MessageBuf<T>, CarrierError<T::Error>>> {
        self.half.carrier().send_buf(buf)
    }

    /// See [`MessageCarrier::flush`].
    ///
    /// # Errors
    /// As [`MessageCarrier::flush`].
    pub fn flush(&mut self) -> Result<(), CarrierError<T::Error>> {
        self.half.carrier().flush()
    }

    /// See [`MessageCarrier::poll_send_ready`]. One waker for this half: the latest wins.
    pub fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.half.poll(|carrier| carrier.poll_send_ready(cx))
    }

    /// See [`MessageCarrier::poll_finish`].
    ///
    /// # Errors
    /// As [`MessageCarrier::finish`].
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        self.half.poll(|carrier| carrier.poll_finish(cx))
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
        self.half.poll(|carrier| carrier.poll_close(cx))
    }

    /// [`poll_close`](Self::poll_close) as a future. Dropping it loses nothing: call again to go on. Until then the receiver
    /// waits.
    ///
    /// # Errors
    /// As [`MessageCarrier::close`].
    pub fn close(&mut self) -> impl Future<Output = Result<(), CarrierError<T::Error>>> + use<'_, T> {
        poll_fn(|cx| self.poll_close(cx))
    }

    /// The carrier, for one call.
    #[cfg(feature = "futures")]
    pub(super) fn carrier(&self) -> MutexGuard<'_, MessageCarrier<T>> {
        self.half.carrier()
    }

    /// One poll of it.
    #[cfg(feature = "futures")]
    pub(super) fn poll<R>(&self, act: impl FnOnce(&mut MessageCarrier<T>) -> Poll<R>) -> Poll<R> {
        self.half.poll(act)
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> MessageReceiver<T> {
    /// What both halves did so far.
    pub fn stats(&self) -> Stats {
        self.half.carrier().stats()
    }

    /// See [`MessageCarrier::try_recv`].
    ///
    /// # Errors
    /// As [`MessageCarrier::try_recv`].
    pub fn try_recv(&mut self) -> Result<Option<Message<T>>, TryError<CarrierError<T::Error>>> {
        let mut carrier = self.half.carrier();
        match carrier.is_closing() {
            true => Err(TryError::WouldBlock),
            false => carrier.try_recv(),
        }
    }

    /// See [`MessageCarrier::poll_recv`]. One waker for this half: the latest wins.
    ///
    /// # Errors
    /// As [`MessageCarrier::recv`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message<T>>, CarrierError<T::Error>>> {
        let mut carrier = self.half.carrier();
        ready!(carrier.poll_not_closing(cx));
        carrier.poll_recv(cx)
    }

    /// See [`MessageCarrier::poll_recv_ready`].
    pub fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut carrier = self.half.carrier();
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

    /// See [`MessageCarrier::recv_within`].
    ///
    /// # Errors
    /// As [`MessageCarrier::recv_within`].
    pub fn recv_within(
        &mut self,
        limit: Duration,
    ) -> impl Future<Output = Result<Option<Message<T>>, CarrierError<T::Error>>> + use<'_, T> {
        let timer = self.half.carrier().timer();
        limited(timer, limit, Phase::Receive, self.recv())
    }

    /// The whole carrier again, as it was.
    ///
    /// # Errors
    /// Both halves come back where they are not of one carrier.
    pub fn reunite(self, sender: MessageSender<T>) -> Result<MessageCarrier<T>, Unmatched<MessageSender<T>, Self>> {
        let MessageSender { half, eager_limit, max_message } = sender;
        shared::reunite(half, self.half).map_err(|(sender, receiver)| Unmatched {
            sender: MessageSender { half: sender, eager_limit, max_message },
            receiver: Self { half: receiver },
        })
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> MessageCarrier<T> {
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.closing, Some(Closing::Under { .. }))
    }

    /// While one half closes, the track is its alone: what the other would find there is no longer its to judge.
    pub(super) fn poll_not_closing(&self, cx: &mut Context<'_>) -> Poll<()> {
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
pub struct Unmatched<S, R> {
    /// As it was given.
    pub sender: S,
    /// As it was given.
    pub receiver: R,
}

/// A message on its way: see [`MessageSender::send`].
#[must_use = "nothing is sent before the first poll"]
pub struct HalfSending<'a, T: Track<Delivery: Lossless + InOrder>>(Passing<'a, MessageCarrier<T>>);

impl<T: Track<Delivery: Lossless + InOrder>> Future for HalfSending<'_, T> {
    type Output = Result<(), CarrierError<T::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.get_mut().0).poll(cx)
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
