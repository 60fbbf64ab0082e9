//! The message carrier: the state machines of this crate, joined to a track.

mod close;
mod halves;
#[cfg(all(test, loom))]
mod loom_tests;
mod open;
mod outbox;
mod recv;
mod rendezvous;
mod send;
mod shared;
#[cfg(feature = "futures")]
mod sink;

use std::fmt;
use std::future::{Future, poll_fn};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use trespass_core::{
    Carrier, Endpoint, ErrorKind, FanOut, InOrder, Lossless, Role, Timer, Track, TransportError, within,
};

use crate::closing::Closing;
use crate::config::MessageConfig;
use crate::credit::Credits;
use crate::error::{CarrierError, Phase};
use crate::inbox::Inbox;
use crate::lends::Lends;
use crate::planted::{self, Bug};
use crate::pulse::Pulse;
use crate::side::Side;
use crate::stats::Stats;

pub use close::Finishing;
pub use halves::{HalfSending, MessageReceiver, MessageSender, Unmatched};
pub use open::MessageOpening;
pub use rendezvous::{
    RendezvousCarrier, RendezvousConfig, RendezvousMessage, RendezvousOpening, RendezvousReceiver, RendezvousSender,
    TryRegionError,
};
pub use send::Sending;
#[cfg(feature = "futures")]
pub use sink::{MessageSink, MessageStream};

/// Messages of any size up to a limit, whole and in order, over any track that loses nothing and keeps order.
///
/// ```
/// use trespass_carriers::{CarrierError, MessageCarrier, MessageConfig};
/// use trespass_core::{InOrder, Lossless, Role, Track};
///
/// /// Asks one question over a track that was connected.
/// async fn ask<T>(track: T, question: &[u8]) -> Result<Option<Vec<u8>>, CarrierError<T::Error>>
/// where
///     T: Track<Delivery: Lossless + InOrder>,
/// {
///     let mut carrier = MessageCarrier::open(track, Role::Connector, MessageConfig::default()).await?;
///     carrier.send(question).await?;
///     let answer = carrier.recv().await?.map(|answer| answer.to_vec());
///     carrier.close().await?;
///     Ok(answer)
/// }
/// ```
///
/// # Two ways to use it
/// - A task: [`send`](Self::send), [`recv`](Self::recv), [`finish`](Self::finish), [`close`](Self::close).
/// - A thread that polls: [`try_send`](Self::try_send) or [`try_reserve`](Self::try_reserve) with
///   [`send_buf`](Self::send_buf), then [`flush`](Self::flush); [`try_recv`](Self::try_recv).
///
/// Progress is made inside calls: a carrier has no background work. Sending takes in what arrives, receiving sends what is
/// queued and gives the peer its credits; a carrier that nobody calls stands still, and so, in time, does its peer.
///
/// # Costs
/// A message that fits a frame of the track is one frame: 8 bytes of header, or none where the track
/// [carries immediate data](trespass_core::SendSide::carries_immediate); copied once by `send` (not at all by `send_buf`), and never
/// on receipt. A longer one goes in segments, and is copied once on receipt into pooled memory. After
/// the handshake, and once the pool is warm, no message allocates. [`Message`](crate::Message) says what holding one costs.
///
/// # Both ends send, nobody receives
/// A send that waits for credits takes in what the peer sends, and when the peer runs low copies it out of the track's
/// buffers: up to `spill_limit` bytes, as that counts them. Two ends that each send less than that before they receive
/// always get through; beyond it a send waits until the peer's application receives.
///
/// # A peer that is gone
/// While this end waits it beats, as `keepalive` says, so that the track notices a machine or link that is gone; with an
/// `idle_timeout` it ends where the peer says nothing for too long, whatever the reason: see [`MessageConfig`].
/// [`send_within`](Self::send_within) and [`recv_within`](Self::recv_within) bound a single call.
///
/// # Ends
/// [`finish`](Self::finish) says that no more messages come, and leaves the other direction alone. [`close`](Self::close)
/// says that nothing will be read any more either, and ends the track. A carrier that is dropped without either is, to its
/// peer, gone: kind `Disconnected`.
pub struct MessageCarrier<T: Track<Delivery: Lossless + InOrder>> {
    /// `None` once it has ended, and all that it had is taken.
    track: Option<T>,
    credits: Credits,
    out: outbox::Outbox<T>,
    inbox: Inbox<T::RecvBuf>,
    /// What receiving ends with, after all messages.
    recv_error: Option<CarrierError<T::Error>>,
    /// The peer said that it reads no more.
    peer_left: bool,
    closing: Option<Closing<T>>,
    fan_out: FanOut,
    sizes: Sizes,
    lends: Lends,
    pulse: Pulse<T::Timer>,
    stats: Stats,
    config: MessageConfig,
}

/// What was agreed.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    frame: usize,
    /// Of the header of a whole message: none where frames are bare.
    head: usize,
    eager_limit: usize,
    max_message: usize,
    peer_incarnation: u64,
}

impl<T: Track<Delivery: Lossless + InOrder>> MessageCarrier<T> {
    /// Takes `track` over and shakes hands: see [`Carrier::open`].
    ///
    /// Dropping the future drops the track. It allocates what the carrier always needs; its queues and its pool grow when
    /// they are first used, and stay.
    ///
    /// # Errors
    /// Kind `Config` where a setting or the track will not do; `Refused`, on both ends, where they do not suit each other,
    /// with the reason; `TimedOut` past `open_timeout`; `Protocol` where the peer spoke nonsense; `Disconnected`.
    pub fn open(track: T, role: Role, config: MessageConfig) -> MessageOpening<T> {
        MessageOpening::new(track, role, config)
    }

    /// The longest message that goes as one frame, in bytes: what [`try_send`](Self::try_send) and
    /// [`try_reserve`](Self::try_reserve) take.
    pub fn eager_limit(&self) -> usize {
        self.sizes.eager_limit
    }

    /// The longest message that [`send`](Self::send) takes, in bytes: the smaller of what both ends were configured for.
    pub fn max_message(&self) -> usize {
        self.sizes.max_message
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Which process the peer is: a number that it chose when it started. Another one at the same address means that the
    /// peer was started again, and knows nothing of what was said before.
    pub fn peer_incarnation(&self) -> u64 {
        self.sizes.peer_incarnation
    }

    /// The clock of the track; `None` once that has ended.
    pub(crate) fn timer(&self) -> Option<T::Timer> {
        self.track.as_ref().map(Endpoint::timer)
    }

    /// The track below, for its limits and addresses; `None` once it has ended, or is closing.
    pub fn track(&self) -> Option<&T> {
        self.track.as_ref()
    }

    /// Ends both directions with `error`, and closes the track. The first cause of each stays.
    #[cold]
    fn fail(&mut self, error: CarrierError<T::Error>) -> CarrierError<T::Error> {
        self.track = None;
        self.out.fail(error.clone());
        let first = self.recv_error.get_or_insert(error).clone();
        self.fan_out.waker().wake_by_ref();
        first
    }

    /// What the end of the track means to a sender: the peer is gone, or had said that it would go.
    fn ended(&self, error: T::Error) -> CarrierError<T::Error> {
        match error.kind() {
            ErrorKind::Closed | ErrorKind::Disconnected if self.peer_left => CarrierError::Closed,
            ErrorKind::Closed => CarrierError::Disconnected,
            _ => CarrierError::Track(error),
        }
    }

    /// Waits for the track to have something, with everything said that may keep the peer from sending it. Registers the
    /// fan-out alone, where `side` has its waker already. Ready where a second look is worth it.
    fn poll_arrival(&mut self, side: Side) -> Poll<()> {
        let Some(track) = &mut self.track else { return Poll::Ready(()) };
        let mut cx = Context::from_waker(self.fan_out.waker());
        if track.poll_recv_ready(&mut cx).is_ready() {
            self.share(side);
            return Poll::Ready(());
        }
        // The track has posted again what was given back: there may be more to report than before.
        self.settle();
        match self.track {
            Some(_) if !self.out.wants_slot() || planted::is(Bug::WakeUp) => Poll::Pending,
            _ => self.poll_slot(side),
        }
    }

    /// Waits for a send slot for the stash.
    #[cold]
    fn poll_slot(&mut self, side: Side) -> Poll<()> {
        self.fill_stash();
        match self.out.wants_slot() {
            true => self.poll_send_slot(side),
            // Full, or gone: what waited for the stash may go now, so a second look is worth it.
            false => Poll::Ready(()),
        }
    }

    /// Waits for a send slot of the track, or its end.
    fn poll_send_slot(&mut self, side: Side) -> Poll<()> {
        let Some(track) = &mut self.track else { return Poll::Ready(()) };
        ready!(track.poll_send_ready(&mut Context::from_waker(self.fan_out.waker())));
        self.share(side);
        Poll::Ready(())
    }

    /// The track was ready for `side`: who is ready is not woken any more, and the other side may count on it.
    #[inline]
    fn share(&self, side: Side) {
        side.other().of(&self.fan_out).wake();
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Carrier for MessageCarrier<T> {
    type Track = T;
    type Config = MessageConfig;
    type Error = CarrierError<T::Error>;
    type Opening = MessageOpening<T>;

    fn open(track: T, role: Role, config: MessageConfig) -> MessageOpening<T> {
        MessageOpening::new(track, role, config)
    }

    fn most_memory(config: &MessageConfig) -> usize {
        config.most_memory()
    }

    fn incarnation(&self) -> Option<u64> {
        Some(self.peer_incarnation())
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        self.poll_goodbye(cx)
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> MessageCarrier<T> {
    /// Sends what is queued, says goodbye, and ends the track: see [`poll_close`](Carrier::poll_close). What the peer still
    /// sends, and what was not received yet, is discarded. Dropping the future loses nothing: call again to go on.
    ///
    /// # Errors
    /// Kind `TimedOut` past `close_timeout`; else what kept the end from being clean.
    pub fn close(&mut self) -> impl Future<Output = Result<(), CarrierError<T::Error>>> + use<'_, T> {
        poll_fn(|cx| self.poll_close(cx))
    }
}

/// What `future` comes to, with a limit in time. Without a clock there is no track either, and nothing that would wait.
async fn limited<T: Timer, R, E>(
    timer: Option<T>,
    limit: Duration,
    phase: Phase,
    future: impl Future<Output = Result<R, CarrierError<E>>>,
) -> Result<R, CarrierError<E>> {
    match timer {
        Some(timer) => within(&timer, limit, future).await.unwrap_or(Err(CarrierError::TimedOut(phase))),
        None => future.await,
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> fmt::Debug for MessageCarrier<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageCarrier")
            .field("credits", &self.credits)
            .field("sizes", &self.sizes)
            .field("recv_error", &self.recv_error)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
