//! Rendezvous: long messages stay where they are until the peer reads them.

mod halves;
mod message;
mod recv;
mod send;

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use trespass_core::{
    Carrier, Endpoint, Fabric, InOrder, Lossless, MemoryFabric, Region, Role, SharedRegion, Timer, Track, Window,
};

use super::open::MessageOpening;
use super::{Finishing, MessageCarrier, Sending};
use crate::closing::Closing;
use crate::config::MessageConfig;
use crate::error::{CarrierError, Phase};
use crate::message::MessageBuf;
use crate::planted::{self, Bug};
use crate::side::Side;
use crate::stats::Stats;
use crate::wire::RENDEZVOUS;

pub use halves::{RendezvousReceiver, RendezvousSender};
pub use message::RendezvousMessage;
use recv::Fetching;
pub use send::TryRegionError;

/// A [`MessageCarrier`] over tracks with [`RemoteMemory`](trespass_core::RemoteMemory), whose long messages nobody copies.
///
/// A message that is written in registered memory ([`alloc`](Self::alloc)) and sent by [`send_region`](Self::send_region) is
/// not sent at all: it is lent to the peer, whose device reads it into registered memory of its own, from where the
/// application has it as it is. The memory comes back to its sender when the peer has read it
/// ([`returned`](Self::returned)). All else is as with `MessageCarrier`, and so is the peer where it does not know of this: then
/// the bytes go in segments.
///
/// ```
/// use trespass_carriers::{CarrierError, RendezvousCarrier, RendezvousConfig};
/// use trespass_core::{Fabric, InOrder, Lossless, MemoryFabric, Role, Track};
///
/// /// Has what `fill` writes read by the peer, and lends the same memory again and again.
/// async fn publish<F>(fabric: F, track: F::Track, mut fill: impl FnMut(&mut [u8])) -> Result<(), CarrierError<F::Error>>
/// where
///     F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>> + Clone,
/// {
///     let config = RendezvousConfig::new(fabric);
///     let mut carrier = RendezvousCarrier::open(track, Role::Connector, config).await?;
///     let mut region = carrier.alloc(1 << 20)?;
///     for _ in 0..10 {
///         fill(&mut region);
///         carrier.send_region(region, 0..1 << 20).await?;
///         region = carrier.returned().await.expect("it was lent");
///     }
///     carrier.close().await
/// }
/// ```
///
/// # Two ways to use it
/// A task: [`send_region`](Self::send_region), [`returned`](Self::returned), [`recv`](Self::recv). A thread that polls:
/// [`try_send_region`](Self::try_send_region), then [`flush`](Self::flush); [`try_returned`](Self::try_returned);
/// [`try_recv`](Self::try_recv). Two tasks or threads: [`split`](Self::split).
///
/// # Limits
/// Up to 64 messages are lent at a time, either way; a further one waits until the oldest is read. They are read
/// in their order, when the application receives, two at a time (one, over a track with fewer than eight send slots): so two ends that each lend 64 before they receive get through,
/// and of what is lent the receiver holds two messages besides those that its application has.
///
/// A message that is being read takes a send slot of the track until it is received: whoever reserves slots, and then waits
/// to send, leaves two more free than with `MessageCarrier`.
///
/// # Costs
/// Of a message that is lent: one registration of its memory as a window with the device and its end (two system calls, see
/// [`SharedRegion::export`]), a frame of 32 bytes, an RDMA READ, and a frame of 8 bytes back. No byte is copied by a
/// processor. Memory to receive comes from the fabric's cache of registrations. The carrier allocates nothing for it; what a fabric
/// allocates for a window and for memory is its own (on verbs one small allocation, all told). Messages below
/// [`lend_from`](RendezvousConfig::lend_from) are copied instead.
///
/// # Cancel safety
/// Any future of it may be dropped at any point. A send that is dropped is withdrawn, and its memory comes back by
/// [`returned`](Self::returned); all others lose nothing: call again to go on.
///
/// # Ends
/// A [`close`](Self::close) waits until all that was lent is read. A carrier that is dropped takes its memory away from the peer,
/// which sees it gone. What a peer reads after memory was taken away fails with kind `RemoteAccess`, and ends its track.
pub struct RendezvousCarrier<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    messages: MessageCarrier<F::Track>,
    /// What the peer is told of and has not read, the oldest first. After the track: a peer sees that go first.
    lent: VecDeque<Lent<F>>,
    /// What it has read.
    back: VecDeque<F::Region>,
    /// What is being read, in order.
    fetching: VecDeque<Fetching<F::Region>>,
    /// How many at a time.
    reads: usize,
    /// Nobody will receive any more, but one is being read still.
    unread: bool,
    /// How long a close waits for what is lent.
    patience: Option<<F::Timer as Timer>::Sleep>,
    /// A close has waited for that long.
    late: bool,
    fabric: F,
    lend_from: usize,
}

type SharedOf<F> = <<F as MemoryFabric>::Region as Region>::Shared;

/// Memory that is lent. Dropping it takes it back.
struct Lent<F: MemoryFabric> {
    window: <SharedOf<F> as SharedRegion>::Window,
    memory: SharedOf<F>,
}

impl<F: MemoryFabric> Lent<F> {
    /// The memory, taken back. `None` where the device cannot: then it is never used again (see [`Window::revoke`]).
    fn take_back(self) -> Option<F::Region> {
        self.window.revoke().ok()?;
        self.memory.reclaim().ok()
    }
}

/// How a [`RendezvousCarrier`] is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RendezvousConfig<F> {
    /// Where memory comes from: the fabric of the track.
    pub fabric: F,
    /// Everything else.
    pub messages: MessageConfig,
    /// Messages from this many bytes on are lent; shorter ones are copied. Default 64 KiB: on soft-RoCE lending was ahead of segments
    /// of 16 KiB from 32 KiB on, and behind below (`scripts/bench-verbs --only large`).
    pub lend_from: usize,
}

impl<F> RendezvousConfig<F> {
    /// The defaults, with memory of `fabric`.
    pub fn new(fabric: F) -> Self {
        Self { fabric, messages: MessageConfig::default(), lend_from: 64 << 10 }
    }

    /// The same, with these settings of messages.
    #[must_use]
    pub fn with_messages(self, messages: MessageConfig) -> Self {
        Self { messages, ..self }
    }

    /// The same, with messages from `bytes` on lent: at least those of one byte.
    #[must_use]
    pub fn with_lend_from(self, bytes: usize) -> Self {
        Self { lend_from: bytes.max(1), ..self }
    }
}

impl<F> RendezvousCarrier<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    /// Takes `track` over and shakes hands: see [`MessageCarrier::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(track: F::Track, role: Role, config: RendezvousConfig<F>) -> RendezvousOpening<F> {
        let RendezvousConfig { fabric, messages, lend_from } = config;
        let opening = MessageOpening::knowing(track, role, messages, RENDEZVOUS);
        RendezvousOpening { opening, rest: Some((fabric, lend_from)) }
    }

    /// Zeroed registered memory of `len` bytes, to write a message in: see [`MemoryFabric::alloc`]. Memory of the same size that
    /// came back is as good, and costs nothing.
    ///
    /// # Errors
    /// Kind `ResourceLimit`, or `Config` for a length of 0; the carrier lives on.
    pub fn alloc(&self, len: usize) -> Result<F::Region, CarrierError<F::Error>> {
        self.fabric.alloc(len).map_err(CarrierError::Track)
    }

    /// Whether the peer knows of rendezvous: where it does not, all messages are copied.
    pub fn lends(&self) -> bool {
        self.messages.lends.are_agreed()
    }

    /// As [`MessageCarrier::eager_limit`].
    pub fn eager_limit(&self) -> usize {
        self.messages.eager_limit()
    }

    /// As [`MessageCarrier::max_message`]: for messages that are lent, too.
    pub fn max_message(&self) -> usize {
        self.messages.max_message()
    }

    /// As [`MessageCarrier::stats`]. What is lent is counted when it is lent, and when the application may have it.
    pub fn stats(&self) -> Stats {
        self.messages.stats()
    }

    /// As [`MessageCarrier::track`].
    pub fn track(&self) -> Option<&F::Track> {
        self.messages.track()
    }

    /// As [`MessageCarrier::send`]: copied, whatever its length.
    pub fn send<'a>(&'a mut self, data: &'a [u8]) -> Sending<'a, F::Track> {
        self.messages.send(data)
    }

    /// As [`MessageCarrier::try_send`]: copied.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn try_send(&mut self, data: &[u8]) -> Result<(), trespass_core::TryError<CarrierError<F::Error>>> {
        self.messages.try_send(data)
    }

    /// As [`MessageCarrier::try_reserve`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn try_reserve(
        &mut self,
        len: usize,
    ) -> Result<MessageBuf<F::Track>, trespass_core::TryError<CarrierError<F::Error>>> {
        self.messages.try_reserve(len)
    }

    /// As [`MessageCarrier::send_buf`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn send_buf(
        &mut self,
        buf: MessageBuf<F::Track>,
    ) -> Result<(), trespass_core::Unsent<MessageBuf<F::Track>, CarrierError<F::Error>>> {
        self.messages.send_buf(buf)
    }

    /// As [`MessageCarrier::flush`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn flush(&mut self) -> Result<(), CarrierError<F::Error>> {
        self.messages.flush()
    }

    /// As [`MessageCarrier::poll_send_ready`].
    pub fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.messages.poll_send_ready(cx)
    }

    /// As [`MessageCarrier::finish`]. What is lent is still to be read: the memory comes back as ever.
    pub fn finish(&mut self) -> Finishing<'_, F::Track> {
        self.messages.finish()
    }

    /// Waits until the peer has read all that was lent, says goodbye, and ends the track: see [`MessageCarrier::close`]. What the
    /// peer still sends and lends is discarded, and what was lent comes back by [`returned`](Self::returned).
    ///
    /// # Errors
    /// As there. `close_timeout` is how long it waits for what is lent, and how long for the rest.
    pub fn close(&mut self) -> impl Future<Output = Result<(), CarrierError<F::Error>>> + use<'_, F> {
        poll_fn(|cx| self.poll_end(cx))
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<F::Error>>> {
        ready!(self.poll_read(cx));
        let outcome = ready!(self.messages.poll_goodbye(cx));
        self.collect();
        Poll::Ready(match outcome {
            Ok(()) if self.late => Err(CarrierError::TimedOut(Phase::Close)),
            outcome => outcome,
        })
    }

    /// Ready when nothing is lent any more, or when that takes too long.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.messages.closing.is_some() {
            // The goodbye is said, and the track takes nothing any more: what is to be given back goes back with its end.
            self.collect();
            return Poll::Ready(());
        }
        self.messages.inbox.discard();
        self.messages.fan_out.writer().register(cx.waker());
        loop {
            // What the own device still reads the peer may not have back: to take it away then would fail the read.
            let reading = self.poll_unread().is_pending();
            self.messages.take_in();
            if !reading {
                self.messages.discard_lent();
            }
            self.collect();
            if !reading && self.lent.is_empty() {
                return Poll::Ready(());
            }
            let (timer, timeout) = (self.fabric.timer(), self.messages.config.close_timeout);
            let patience = self.patience.get_or_insert_with(|| timer.sleep(timeout));
            if Pin::new(patience).poll(cx).is_ready() {
                self.late = true;
                return Poll::Ready(());
            }
            ready!(self.messages.poll_arrival(Side::Writer));
        }
    }

    /// Whether a close is under way.
    fn is_closing(&self) -> bool {
        match &self.messages.closing {
            None => self.patience.is_some(),
            Some(Closing::Under { .. }) => true,
            Some(Closing::Over(_)) => false,
        }
    }

    /// Takes back what the peer has read, or never will.
    fn collect(&mut self) {
        let over = self.messages.track.is_none() || self.messages.peer_left;
        let read = self.messages.lends.take_back();
        let read = if planted::is(Bug::Rendezvous) { read * 2 } else { read };
        let count = if over { self.lent.len() } else { read };
        for lent in self.lent.drain(..count.min(self.lent.len())) {
            self.back.extend(lent.take_back());
        }
    }
}

impl<F> Carrier for RendezvousCarrier<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>> + Clone,
{
    type Track = F::Track;
    type Config = RendezvousConfig<F>;
    type Error = CarrierError<F::Error>;
    type Opening = RendezvousOpening<F>;

    fn open(track: F::Track, role: Role, config: RendezvousConfig<F>) -> RendezvousOpening<F> {
        Self::open(track, role, config)
    }

    /// The two messages that are read ahead are in memory of the fabric's.
    fn most_memory(config: &RendezvousConfig<F>) -> usize {
        config.messages.most_memory().saturating_add(config.messages.max_message.saturating_mul(2))
    }

    fn incarnation(&self) -> Option<u64> {
        self.messages.incarnation()
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<F::Error>>> {
        self.poll_end(cx)
    }
}

/// A handshake in progress: see [`RendezvousCarrier::open`]. Dropping it drops the track.
#[must_use = "nothing is said before the first poll"]
pub struct RendezvousOpening<F: Fabric<Track: Track<Delivery: Lossless + InOrder>>> {
    opening: MessageOpening<F::Track>,
    rest: Option<(F, usize)>,
}

// Nothing in it is pinned.
impl<F: Fabric<Track: Track<Delivery: Lossless + InOrder>>> Unpin for RendezvousOpening<F> {}

impl<F> Future for RendezvousOpening<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    type Output = Result<RendezvousCarrier<F>, CarrierError<F::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let messages = ready!(Pin::new(&mut this.opening).poll(cx))?;
        let Some((fabric, lend_from)) = this.rest.take() else { return Poll::Ready(Err(CarrierError::Closed)) };
        let reads = messages.track().map_or(1, |track| recv::reads_at_a_time(track.limits().send_slots));
        Poll::Ready(Ok(RendezvousCarrier {
            messages,
            lent: VecDeque::new(),
            back: VecDeque::new(),
            fetching: VecDeque::new(),
            reads,
            unread: false,
            patience: None,
            late: false,
            fabric,
            lend_from,
        }))
    }
}

impl<F> fmt::Debug for RendezvousCarrier<F>
where
    F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RendezvousCarrier")
            .field("messages", &self.messages)
            .field("lent", &self.lent.len())
            .field("fetching", &self.fetching.len())
            .finish_non_exhaustive()
    }
}

impl<F: Fabric<Track: Track<Delivery: Lossless + InOrder>>> fmt::Debug for RendezvousOpening<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RendezvousOpening").finish_non_exhaustive()
    }
}
