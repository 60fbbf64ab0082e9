//! Tracks: one path for messages in registered memory, in both directions.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::str::FromStr;
use std::task::{Context, Poll};

use crate::buffer::{RecvBuf, SendBuf};
use crate::delivery::Delivery;
use crate::error::{TransportError, TryError, Unsent};
use crate::time::Timer;

/// What every address can do. Implemented for everything that fits: there is nothing to write.
///
/// # Implemented by
/// On NICs `SocketAddr`, in process `MockAddr`; a `String` will do for a toy.
///
/// ```
/// fn takes_any(_: impl trespass_core::Address) {}
/// takes_any(std::net::SocketAddr::from(([192, 0, 2, 1], 7471)));
/// ```
pub trait Address: Clone + Debug + Display + FromStr + Eq + Hash + Send + Sync + 'static {}

impl<T: Clone + Debug + Display + FromStr + Eq + Hash + Send + Sync + 'static> Address for T {}

/// The sizes of a track. Fixed while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest message, in bytes.
    pub max_message: usize,
    /// Up to this many bytes, the device takes a message with its work request and need not read memory for it.
    pub inline: usize,
    /// How many messages may be reserved or under way at once.
    pub send_slots: usize,
    /// How many receives are kept posted when the receiver holds none of the buffers.
    pub recv_slots: usize,
    /// The receive buffers are a share of those of several tracks. Then a receiver that holds all of its own does not stall
    /// its peer, as it does elsewhere, but ends when one more message comes: the peer may not have more messages under way
    /// than [`posted`](RecvSide::posted) allows. Carriers keep to that by their credits. What `posted` allows is then promised,
    /// and backed as it is needed: the device may be without a receive for a moment, and the peer's comes again by itself.
    pub recv_shared: bool,
}

impl Limits {
    /// The limits of a track without inline sends.
    pub const fn new(max_message: usize, send_slots: usize, recv_slots: usize) -> Self {
        Self { max_message, inline: 0, send_slots, recv_slots, recv_shared: false }
    }

    /// The same, with receive buffers that are a share of those of several tracks.
    pub const fn with_recv_shared(self) -> Self {
        Self { recv_shared: true, ..self }
    }

    /// The same, with inline sends up to `inline` bytes.
    pub const fn with_inline(self, inline: usize) -> Self {
        Self { inline, ..self }
    }
}

/// What a track and each of its halves have in common. See [`Track`] for a toy that implements it.
///
/// # Implemented by
/// Every track, and each half of one: [`SendSide`] and [`RecvSide`] name them.
pub trait Endpoint {
    /// What can go wrong.
    type Error: TransportError;
    /// How ends are named.
    type Addr: Address;
    /// The time of the fabric that made this.
    type Timer: Timer;

    /// The sizes of this track.
    fn limits(&self) -> Limits;
    /// The address of this end.
    fn local(&self) -> Self::Addr;
    /// The address of the other end.
    fn peer(&self) -> Self::Addr;
    /// The clock of the fabric that made this.
    fn timer(&self) -> Self::Timer;
}

/// The sending side of a track: reserve, fill, send, flush.
///
/// # For implementers
/// - [`try_reserve`](SendSide::try_reserve) is where back-pressure is, and the only place: a full send queue is
///   `WouldBlock`, never an error. It never arms the device for a notification.
/// - [`send`](SendSide::send) never blocks and never fails for want of room. It rings no doorbell.
/// - [`flush`](SendSide::flush) rings one doorbell for all that was queued.
/// - A slot comes back when its message is in a receive that the peer had posted. A transport that says nothing of that, such as
///   a byte stream, needs a confirmation of its own: that a write was taken, by a kernel say, is not an arrival.
/// - That sending fails is not yet the end: what the peer sent before it went is still to be received, its last confirmation
///   among it. Let the receiving side find the end, and its cause.
/// - Whoever ends a track, by a close or a drop, confirms first what has arrived: else the peer, whose close comes a moment later,
///   takes for lost what was not.
/// - A buffer of another track comes back untouched with kind `ForeignBuffer`.
/// - Errors stick: after the first failure every call returns it.
///
/// # For users
/// A message that was sent and not flushed may wait without end. `poll_send_ready` and `poll_close` flush first; so
/// does `poll_recv_ready` of a whole track, but the receiving half of a split one cannot: flush before you wait there.
///
/// See [`Track`] for a toy that implements it.
///
/// # Implemented by
/// Whole tracks and their sending halves: on NICs `ReliableTrack` and `VerbsSender`, `SharedTrack` and `SharedSender`,
/// `UnreliableTrack` and `DatagramSender`; in process `MockTrack` and `MockSender`, `MockDatagramTrack` and
/// `MockDatagramSender`. Over any of them: [`Spinning`](crate::Spinning) and
/// [`SpinningSender`](crate::SpinningSender), and of the layers `Checking`, `LossyTrack` and
/// `LossySender`, `Metering`, `Either`.
pub trait SendSide: Endpoint {
    /// Owned registered memory, with its slot.
    type SendBuf: SendBuf;

    /// Claims `len` bytes and a send slot.
    ///
    /// # Errors
    /// `WouldBlock` while all slots are taken. Kind `Oversize` above [`Limits::max_message`] (the track lives on);
    /// `Closed` after a close or the end of the track; else what ended the track.
    fn try_reserve(&mut self, len: usize) -> Result<Self::SendBuf, TryError<Self::Error>>;

    /// Queues `buf`. The slot is paid for: this never blocks. Nothing goes out before a flush, unless the device is
    /// idle and the implementation says so.
    ///
    /// # Errors
    /// The buffer comes back: kind `ForeignBuffer` for one of another track; or what ended the track.
    fn send(&mut self, buf: Self::SendBuf) -> Result<(), Unsent<Self::SendBuf, Self::Error>>;

    /// Whether a word of immediate data may go beside a message: [`send_immediate`](SendSide::send_immediate) sends it, and
    /// [`RecvSide::immediate`] of the same tracks gives it. Who wraps a track forwards all three, or none: so that is the default.
    ///
    /// Fixed while the track lives. NICs have it on InfiniBand and RoCE, not on iWARP.
    #[inline]
    fn carries_immediate(&self) -> bool {
        false
    }

    /// As [`send`](SendSide::send), with `word` beside the message, of whose bytes it takes none. It arrives with its message or
    /// not at all, and costs no slot of its own. A message that was sent without one has none, whatever its slot carried before.
    ///
    /// ```
    /// use trespass_core::{RecvSide, RecvSideExt, SendSide, SendSideExt};
    ///
    /// /// A number beside an empty message; whether this track has such.
    /// async fn ring<S: SendSide>(sender: &mut S, number: u32) -> Result<bool, S::Error> {
    ///     let empty = sender.reserve(0).await?;
    ///     match sender.send_immediate(empty, number).map_err(|unsent| unsent.error) {
    ///         Ok(()) => sender.flush().map(|()| true),
    ///         Err(Some(error)) => Err(error),
    ///         Err(None) => Ok(false),
    ///     }
    /// }
    ///
    /// async fn hear<R: RecvSide>(receiver: &mut R) -> Result<Option<u32>, R::Error> {
    ///     let message = receiver.recv().await?;
    ///     Ok(R::immediate(&message))
    /// }
    /// ```
    ///
    /// # Errors
    /// As `send`; with no error where this track [carries](SendSide::carries_immediate) none: nothing was sent.
    #[inline]
    fn send_immediate(
        &mut self,
        buf: Self::SendBuf,
        word: u32,
    ) -> Result<(), Unsent<Self::SendBuf, Option<Self::Error>>> {
        let _ = word;
        Err(Unsent { buf, error: None })
    }

    /// Rings the doorbell once for everything queued; nothing where nothing is.
    ///
    /// # Errors
    /// What ended the track.
    fn flush(&mut self) -> Result<(), Self::Error>;

    /// Ready when [`try_reserve`](SendSide::try_reserve) would not say `WouldBlock`: there is a slot, or the track has
    /// ended. Flushes first; then arms notification and looks again, so that no edge is lost. One waker: the latest wins.
    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Flushes, waits until all that was flushed has arrived at the peer's device (on a lossless track), and ends the
    /// track. The fabric bounds the wait with its close deadline. Idempotent: once it was ready it stays ready.
    /// Both sides are closed after it: what the peer sent and was received may still be read, then `Closed` follows.
    ///
    /// Dropping a future made of this loses nothing: call again to go on. Dropping the track instead cuts it off:
    /// what was flushed may or may not arrive.
    ///
    /// A peer that ended the track first is no failure where all that was flushed had arrived by then.
    ///
    /// # Errors
    /// Kind `TimedOut` past the deadline, or what ended the track before it could be closed cleanly.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;
}

/// The receiving side of a track: take a message, read it where it lies, drop it.
///
/// # For implementers
/// - All that arrived is delivered before the end is reported. A flush error is not the end of anything.
/// - A track cannot tell a clean close from a death: both are kind `Closed`; a failure of the device or the link has
///   its own kind.
/// - [`posted`](RecvSide::posted) counts only what the device really has, or had: a peer sends by it. Buffers below, of a kernel
///   say, are no receives: with all of its own in the user's hands a side takes nothing, while its sender keeps the slots of what
///   waits, and confirmations for the other direction pass all the same.
/// - A buffer that is given back may be posted by its drop, without a call of the receiving side: then there is nobody to wake.
/// - [`poll_recv_ready`](RecvSide::poll_recv_ready) reposts what was given back before it returns, but for fewer than a quarter
///   of the slots where the device has half of them; buffers given back while it waits wake it when the device would
///   otherwise run short.
///
/// # For users
/// `posted` is what credits are made of: a peer that has sent no more messages than it was told were posted never
/// meets a receiver that is not ready.
///
/// See [`Track`] for a toy that implements it.
///
/// # Implemented by
/// Whole tracks and their receiving halves: on NICs `ReliableTrack` and `VerbsReceiver`, `SharedTrack` and
/// `SharedReceiver`, `UnreliableTrack` and `DatagramReceiver`; in process `MockTrack` and `MockReceiver`,
/// `MockDatagramTrack` and `MockDatagramReceiver`. Over any of them: [`Spinning`](crate::Spinning) and
/// [`SpinningReceiver`](crate::SpinningReceiver), and of the layers `Checking`, `LossyTrack`
/// and `LossyReceiver`, `Metering`, `Either`.
pub trait RecvSide: Endpoint {
    /// An owned received message.
    type RecvBuf: RecvBuf;

    /// Receives posted since the start; never falls.
    fn posted(&self) -> u64;

    /// The next message. Reposts, in batches, the buffers that were given back.
    ///
    /// # Errors
    /// `WouldBlock` while there is none. When all that had arrived is delivered: kind `Closed` at the end of the track,
    /// or what ended it.
    fn try_recv(&mut self) -> Result<Self::RecvBuf, TryError<Self::Error>>;

    /// The word that came beside a message, if there is one: see [`SendSide::send_immediate`].
    #[inline]
    fn immediate(buf: &Self::RecvBuf) -> Option<u32> {
        let _ = buf;
        None
    }

    /// Ready when [`try_recv`](RecvSide::try_recv) would not say `WouldBlock`. Reposts, then arms notification and looks
    /// again, so that no edge is lost. One waker: the latest wins.
    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// A path for messages, both ways: the two sides in one, to be split in two halves where two tasks or threads use it.
///
/// # For implementers
/// - `docs/CONTRACT.md` numbers what is owed; run `trespass-conformance` against your fabric. `examples/custom_track` goes through
///   one step by step: tracks over TCP.
/// - The two sides share no waker, and after [`split`](Track::split) may be used from two tasks and two threads.
/// - Dropping a track, or both its halves, ends it: the peer sees the end in the time that the fabric states.
///   Dropping the sender alone ends it too, without waiting; dropping the receiver alone leaves the sender be.
///
/// # For users
/// A busy-polling thread uses `try_reserve`, `send`, `flush` and `try_recv` alone and never pays for a notification.
/// A task uses the `async` forms of [`SendSideExt`](crate::SendSideExt) and [`RecvSideExt`](crate::RecvSideExt), which
/// try first and arm only when they are about to sleep. They hold no data: dropping one loses nothing.
///
/// # Implemented by
/// On NICs `ReliableTrack`, `SharedTrack` and `UnreliableTrack` (of datagrams); in process `MockTrack` and
/// `MockDatagramTrack`; over any of them [`Spinning`](crate::Spinning), and of the layers `CheckedTrack`,
/// `LossyTrack`, `Metering`, `Either`.
///
/// # A toy
/// A track to oneself: what is sent comes back. (It has unlimited slots and never closes: it keeps no contract but shows
/// every part.)
/// ```
/// use std::collections::VecDeque;
/// use std::ops::{Deref, DerefMut};
/// use std::sync::{Arc, Mutex};
/// use std::task::{Context, Poll};
/// use trespass_core::*;
///
/// #[derive(Debug, Clone, thiserror::Error)]
/// #[error("the echo has ended")]
/// struct EchoError;
/// impl TransportError for EchoError {
///     fn kind(&self) -> ErrorKind {
///         ErrorKind::Closed
///     }
/// }
///
/// struct EchoBuf(Vec<u8>);
/// impl Deref for EchoBuf {
///     type Target = [u8];
///     fn deref(&self) -> &[u8] {
///         &self.0
///     }
/// }
/// impl DerefMut for EchoBuf {
///     fn deref_mut(&mut self) -> &mut [u8] {
///         &mut self.0
///     }
/// }
/// impl SendBuf for EchoBuf {
///     fn truncate(&mut self, len: usize) {
///         self.0.truncate(len);
///     }
/// }
///
/// #[derive(Clone)]
/// struct Echo {
///     queue: Arc<Mutex<VecDeque<Vec<u8>>>>,
///     waiting: Arc<WakerSlot>,
///     timer: SystemTimer,
/// }
/// impl Endpoint for Echo {
///     type Error = EchoError;
///     type Addr = String;
///     type Timer = SystemTimer;
///     fn limits(&self) -> Limits {
///         Limits::new(4096, 64, 64)
///     }
///     fn local(&self) -> String {
///         "here".into()
///     }
///     fn peer(&self) -> String {
///         "here".into()
///     }
///     fn timer(&self) -> SystemTimer {
///         self.timer.clone()
///     }
/// }
/// impl SendSide for Echo {
///     type SendBuf = EchoBuf;
///     fn try_reserve(&mut self, len: usize) -> Result<EchoBuf, TryError<EchoError>> {
///         Ok(EchoBuf(vec![0; len]))
///     }
///     fn send(&mut self, buf: EchoBuf) -> Result<(), Unsent<EchoBuf, EchoError>> {
///         self.queue.lock().unwrap().push_back(buf.0);
///         self.waiting.wake();
///         Ok(())
///     }
///     fn flush(&mut self) -> Result<(), EchoError> {
///         Ok(())
///     }
///     fn poll_send_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
///         Poll::Ready(())
///     }
///     fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), EchoError>> {
///         Poll::Ready(Ok(()))
///     }
/// }
/// impl RecvSide for Echo {
///     type RecvBuf = Vec<u8>;
///     fn posted(&self) -> u64 {
///         u64::MAX
///     }
///     fn try_recv(&mut self) -> Result<Vec<u8>, TryError<EchoError>> {
///         self.queue.lock().unwrap().pop_front().ok_or(TryError::WouldBlock)
///     }
///     fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
///         self.waiting.register(cx.waker());
///         match self.queue.lock().unwrap().is_empty() {
///             true => Poll::Pending,
///             false => Poll::Ready(()),
///         }
///     }
/// }
/// impl Track for Echo {
///     type Delivery = Reliable;
///     type Sender = Echo;
///     type Receiver = Echo;
///     fn split(self) -> (Echo, Echo) {
///         (self.clone(), self)
///     }
/// }
///
/// let mut echo =
///     Echo { queue: Arc::default(), waiting: Arc::default(), timer: SystemTimer::new() };
/// futures_executor::block_on(async {
///     let mut buf = echo.reserve(5).await.unwrap();
///     buf.copy_from_slice(b"hello");
///     echo.send(buf).unwrap();
///     assert_eq!(&*echo.recv().await.unwrap(), b"hello");
/// });
/// ```
pub trait Track: SendSide + RecvSide {
    /// What this track promises.
    type Delivery: Delivery;
    /// The sending half.
    type Sender: SendSide<SendBuf = Self::SendBuf, Error = Self::Error, Addr = Self::Addr, Timer = Self::Timer>;
    /// The receiving half.
    type Receiver: RecvSide<RecvBuf = Self::RecvBuf, Error = Self::Error, Addr = Self::Addr, Timer = Self::Timer>;

    /// Two halves for two tasks: two wakers, and no lock between them where the backend can do without.
    fn split(self) -> (Self::Sender, Self::Receiver);
}

/// A track that may be used from any thread, with all that belongs to it: a bound to state once. Implemented for everything
/// that fits, as are all tracks on NICs and in process. [`ThreadFabric`](crate::ThreadFabric) has an example.
pub trait ThreadTrack:
    Track<
        SendBuf: Send,
        RecvBuf: Send + Sync,
        Sender: Send + 'static,
        Receiver: Send + 'static,
        Timer: Send + Sync + Timer<Sleep: Send>,
    > + Send
    + 'static
{
}

impl<T> ThreadTrack for T where
    T: Track<
            SendBuf: Send,
            RecvBuf: Send + Sync,
            Sender: Send + 'static,
            Receiver: Send + 'static,
            Timer: Send + Sync + Timer<Sleep: Send>,
        > + Send
        + 'static
{
}
