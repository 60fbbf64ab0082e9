//! A carrier in two halves, for two tasks or threads.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::task::{Context, Poll, ready};

use trespass_core::{InOrder, Lossless, MemoryFabric, Track, TryError, Unsent};

use super::send::{Outlet, Parcel, SendingRegion};
use super::{RendezvousCarrier, RendezvousMessage, TryRegionError};
use crate::carrier::shared::{self, Halved, Passing, RecvHalf, SendHalf};
use crate::carrier::{MessageCarrier, Unmatched};
use crate::error::CarrierError;
use crate::message::MessageBuf;
use crate::stats::Stats;
use crate::sync::MutexGuard;

impl<F> RendezvousCarrier<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    /// Two halves, each of which may go to a task or a thread of its own: as [`MessageCarrier::split`], with the same costs.
    /// [`RendezvousReceiver::reunite`] undoes it.
    ///
    /// ```
    /// use trespass_carriers::{CarrierError, RendezvousCarrier};
    /// use trespass_core::{InOrder, Lossless, ThreadMemoryFabric, Track, wait};
    ///
    /// /// Lends the same memory `rounds` times, and counts the bytes that come back meanwhile.
    /// fn talk<F>(carrier: RendezvousCarrier<F>, rounds: usize) -> Result<usize, CarrierError<F::Error>>
    /// where
    ///     F: ThreadMemoryFabric<Track: Track<Delivery: Lossless + InOrder>> + Clone,
    ///     RendezvousCarrier<F>: Send,
    /// {
    ///     let (mut sender, mut receiver) = carrier.split();
    ///     std::thread::scope(|scope| {
    ///         scope.spawn(move || {
    ///             wait(async {
    ///                 let mut region = sender.alloc(1 << 20)?;
    ///                 for _ in 0..rounds {
    ///                     sender.send_region(region, 0..1 << 20).await?;
    ///                     region = sender.returned().await.expect("it was sent");
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
    pub fn split(self) -> (RendezvousSender<F>, RendezvousReceiver<F>)
    where
        F: Clone,
    {
        let terms = Terms { eager_limit: self.eager_limit(), max_message: self.max_message(), lends: self.lends() };
        let fabric = self.fabric.clone();
        let (sender, receiver) = shared::split(self);
        (RendezvousSender { half: sender, kept: VecDeque::new(), fabric, terms }, RendezvousReceiver { half: receiver })
    }

    /// Reads to its end what was being read when its reader left, and then says that the peer may have its memory back.
    fn read_out(&mut self) {
        if self.unread && self.poll_unread().is_ready() {
            self.unread = false;
            self.messages.discard_lent();
        }
    }
}

impl<F> Halved for RendezvousCarrier<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    type Track = F::Track;

    fn messages(&mut self) -> &mut MessageCarrier<F::Track> {
        &mut self.messages
    }

    fn discard(&mut self) {
        self.messages.discard();
        self.unread = true;
        self.read_out();
    }
}

/// What was agreed, for those that take no lock for it.
#[derive(Debug, Clone, Copy)]
struct Terms {
    eager_limit: usize,
    max_message: usize,
    lends: bool,
}

/// The half that sends and lends: see [`RendezvousCarrier::split`]. Its calls are those of the whole carrier, with the same errors,
/// costs and cancel safety.
///
/// # Dropping it
/// As with [`MessageSender`](crate::MessageSender). What is lent stays lent while the receiver lives, and is freed with it;
/// [`reunite`](RendezvousReceiver::reunite) the halves to have the memory back.
pub struct RendezvousSender<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    half: SendHalf<RendezvousCarrier<F>>,
    /// Memory of messages that were given up. Here, since a future that is dropped waits for no lock.
    kept: VecDeque<F::Region>,
    fabric: F,
    terms: Terms,
}

/// The half that receives: see [`RendezvousCarrier::split`]. Its calls are those of the whole carrier, with the same errors, costs
/// and cancel safety. While the sender closes, there is nothing to receive; after it, kind `Closed`, or what kept the end
/// from being clean.
///
/// # Dropping it
/// As with [`MessageReceiver`](crate::MessageReceiver). What the peer lends goes back to it unread, as the sender's calls come across
/// it; what is being read, once it is.
pub struct RendezvousReceiver<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    half: RecvHalf<RendezvousCarrier<F>>,
}

impl<F> RendezvousSender<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    /// See [`RendezvousCarrier::alloc`]. Takes no lock.
    ///
    /// # Errors
    /// As there.
    pub fn alloc(&self, len: usize) -> Result<F::Region, CarrierError<F::Error>> {
        self.fabric.alloc(len).map_err(CarrierError::Track)
    }

    /// See [`RendezvousCarrier::lends`]. Takes no lock.
    pub fn lends(&self) -> bool {
        self.terms.lends
    }

    /// See [`RendezvousCarrier::eager_limit`]. Takes no lock.
    pub fn eager_limit(&self) -> usize {
        self.terms.eager_limit
    }

    /// See [`RendezvousCarrier::max_message`]. Takes no lock.
    pub fn max_message(&self) -> usize {
        self.terms.max_message
    }

    /// What both halves did so far.
    pub fn stats(&self) -> Stats {
        self.half.carrier().stats()
    }

    /// See [`RendezvousCarrier::send_region`]. Dropping the future withdraws the message, and its memory comes back by
    /// [`returned`](Self::returned); one that went in segments is withdrawn at once where the receiver is not inside a call,
    /// else before the next thing that this half sends.
    ///
    /// # Errors
    /// As [`RendezvousCarrier::send_region`].
    pub fn send_region(
        &mut self,
        region: F::Region,
        range: Range<usize>,
    ) -> impl Future<Output = Result<(), CarrierError<F::Error>>> + use<'_, F> {
        let parcel = self.half.carrier().parcel(region, range);
        SendingRegion { outlet: self, parcel, outcome: None }
    }

    /// See [`RendezvousCarrier::try_send_region`].
    ///
    /// # Errors
    /// As [`RendezvousCarrier::try_send_region`].
    pub fn try_send_region(
        &mut self,
        region: F::Region,
        range: Range<usize>,
    ) -> Result<(), TryRegionError<F::Region, CarrierError<F::Error>>> {
        self.carrier().try_send_region(region, range)
    }

    /// See [`RendezvousCarrier::returned`]. Dropping the future loses nothing.
    pub fn returned(&mut self) -> impl Future<Output = Option<F::Region>> + use<'_, F> {
        poll_fn(|cx| self.poll_returned(cx))
    }

    /// See [`RendezvousCarrier::poll_returned`]. One waker for this half: the latest wins.
    pub fn poll_returned(&mut self, cx: &mut Context<'_>) -> Poll<Option<F::Region>> {
        match self.kept.pop_front() {
            Some(region) => Poll::Ready(Some(region)),
            None => self.poll(|carrier| carrier.poll_returned(cx)),
        }
    }

    /// See [`RendezvousCarrier::try_returned`].
    pub fn try_returned(&mut self) -> Option<F::Region> {
        match self.kept.pop_front() {
            Some(region) => Some(region),
            None => self.carrier().try_returned(),
        }
    }

    /// See [`RendezvousCarrier::poll_lend_ready`]. One waker for this half: the latest wins.
    pub fn poll_lend_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(|carrier| carrier.poll_lend_ready(cx))
    }

    /// Sends `data` as one message, copied: see [`MessageSender::send`](crate::MessageSender::send).
    ///
    /// # Errors
    /// As there.
    pub fn send<'a>(
        &'a mut self,
        data: &'a [u8],
    ) -> impl Future<Output = Result<(), CarrierError<F::Error>>> + use<'a, F> {
        Passing::new(&self.half, data)
    }

    /// See [`RendezvousCarrier::try_send`].
    ///
    /// # Errors
    /// As there.
    pub fn try_send(&mut self, data: &[u8]) -> Result<(), TryError<CarrierError<F::Error>>> {
        self.carrier().try_send(data)
    }

    /// See [`RendezvousCarrier::try_reserve`].
    ///
    /// # Errors
    /// As there.
    pub fn try_reserve(&mut self, len: usize) -> Result<MessageBuf<F::Track>, TryError<CarrierError<F::Error>>> {
        self.carrier().try_reserve(len)
    }

    /// See [`RendezvousCarrier::send_buf`].
    ///
    /// # Errors
    /// As there.
    pub fn send_buf(
        &mut self,
        buf: MessageBuf<F::Track>,
    ) -> Result<(), Unsent<MessageBuf<F::Track>, CarrierError<F::Error>>> {
        self.carrier().send_buf(buf)
    }

    /// See [`RendezvousCarrier::flush`].
    ///
    /// # Errors
    /// As there.
    pub fn flush(&mut self) -> Result<(), CarrierError<F::Error>> {
        self.carrier().flush()
    }

    /// See [`RendezvousCarrier::poll_send_ready`]. One waker for this half: the latest wins.
    pub fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(|carrier| carrier.poll_send_ready(cx))
    }

    /// See [`RendezvousCarrier::finish`]. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As there.
    pub fn finish(&mut self) -> impl Future<Output = Result<(), CarrierError<F::Error>>> + use<'_, F> {
        poll_fn(|cx| self.poll_finish(cx))
    }

    /// [`finish`](Self::finish), in the form of a poll.
    ///
    /// # Errors
    /// As `finish`.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<F::Error>>> {
        self.poll(|carrier| carrier.messages.poll_finish(cx))
    }

    /// See [`RendezvousCarrier::close`]: ends both directions, and so the receiver too, which is woken. Dropping the future loses
    /// nothing: call again to go on. Until then the receiver waits.
    ///
    /// # Errors
    /// As there.
    pub fn close(&mut self) -> impl Future<Output = Result<(), CarrierError<F::Error>>> + use<'_, F> {
        poll_fn(|cx| self.poll_close(cx))
    }

    /// [`close`](Self::close), in the form of a poll.
    ///
    /// # Errors
    /// As `close`.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<F::Error>>> {
        self.poll(|carrier| carrier.poll_end(cx))
    }

    fn carrier(&self) -> MutexGuard<'_, RendezvousCarrier<F>> {
        let mut carrier = self.half.carrier();
        carrier.read_out();
        carrier
    }

    fn poll<R>(&self, act: impl FnOnce(&mut RendezvousCarrier<F>) -> Poll<R>) -> Poll<R> {
        self.half.poll(|carrier| {
            carrier.read_out();
            act(carrier)
        })
    }
}

impl<F> Outlet<F::Region> for RendezvousSender<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    type Error = CarrierError<F::Error>;

    fn poll_parcel(&mut self, cx: &mut Context<'_>, parcel: &mut Parcel<F::Region>) -> Poll<Result<(), Self::Error>> {
        self.poll(|carrier| carrier.poll_parcel(cx, parcel))
    }

    fn keep(&mut self, parcel: &mut Parcel<F::Region>) {
        let (region, begun) = parcel.unpack();
        self.kept.extend(region);
        if let Some(mut carrier) = self.half.try_carrier().filter(|_| begun) {
            carrier.messages.withdraw();
        }
    }
}

impl<F> RendezvousReceiver<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    /// What both halves did so far.
    pub fn stats(&self) -> Stats {
        self.half.carrier().stats()
    }

    /// See [`RendezvousCarrier::try_recv`].
    ///
    /// # Errors
    /// As there.
    pub fn try_recv(&mut self) -> Result<Option<RendezvousMessage<F>>, TryError<CarrierError<F::Error>>> {
        let mut carrier = self.half.carrier();
        match carrier.is_closing() {
            true => Err(TryError::WouldBlock),
            false => carrier.try_recv(),
        }
    }

    /// See [`RendezvousCarrier::poll_recv`]. One waker for this half: the latest wins.
    ///
    /// # Errors
    /// As [`RendezvousCarrier::recv`].
    pub fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<RendezvousMessage<F>>, CarrierError<F::Error>>> {
        let mut carrier = self.half.carrier();
        ready!(carrier.poll_not_closing(cx));
        carrier.poll_recv(cx)
    }

    /// Waits for the next message: see [`RendezvousCarrier::recv`]. Dropping the future at any point loses nothing.
    ///
    /// # Errors
    /// As there.
    pub fn recv(
        &mut self,
    ) -> impl Future<Output = Result<Option<RendezvousMessage<F>>, CarrierError<F::Error>>> + use<'_, F> {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// The whole carrier again, as it was.
    ///
    /// # Errors
    /// Both halves come back where they are not of one carrier.
    pub fn reunite(
        self,
        sender: RendezvousSender<F>,
    ) -> Result<RendezvousCarrier<F>, Unmatched<RendezvousSender<F>, Self>> {
        let RendezvousSender { half, kept, fabric, terms } = sender;
        match shared::reunite(half, self.half) {
            Ok(mut carrier) => {
                carrier.back.extend(kept);
                Ok(carrier)
            }
            Err((sender, receiver)) => Err(Unmatched {
                sender: RendezvousSender { half: sender, kept, fabric, terms },
                receiver: Self { half: receiver },
            }),
        }
    }
}

impl<F> RendezvousCarrier<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    /// As [`MessageCarrier::poll_not_closing`].
    fn poll_not_closing(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_closing() {
            return Poll::Ready(());
        }
        // The end of the close wakes it.
        self.messages.fan_out.reader().register(cx.waker());
        Poll::Pending
    }
}

impl<F> fmt::Debug for RendezvousSender<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RendezvousSender").field("terms", &self.terms).finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for RendezvousReceiver<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RendezvousReceiver").finish_non_exhaustive()
    }
}
