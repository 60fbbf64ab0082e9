//! Fabrics: the type that a user changes to change the backend.

use std::future::Future;
use std::task::{Context, Poll};

use crate::error::TransportError;
use crate::time::Timer;
use crate::track::{Address, ThreadTrack, Track};

/// One device, one protection domain (which is one trust domain), one pool of registered memory, one timer, one driver.
///
/// # For implementers
/// - Cheap to clone: a handle. Tracks, listeners and buffers outlive the last handle.
/// - The driver owns connection events, timers and the teardown of what was dropped. It is a thread of its own, or the
///   caller's through [`Drive`](crate::Drive).
/// - Set-up is a transaction: a `Connecting` or `Accepting` that fails, or is dropped after any number of polls, leaves
///   nothing behind, on either side.
/// - Every handshake has its own deadline, stated in the fabric's configuration. One slow handshake blocks nobody.
/// - `examples/custom_track` is a complete one, over TCP, with a tutorial.
///
/// # For users
/// An application is generic over `F: Fabric` (or [`ThreadFabric`]) and never names a backend; only `main` does.
///
/// # Implemented by
/// On NICs `VerbsFabric`, `VerbsShared` (tracks that share their queues) and `VerbsDatagrams`; in process `MockFabric`
/// and `MockDatagrams`; over any of them, of the layers, `Layered` (as `Checked`, `Metered`, `Lossy` and `Spun`) and
/// `Either`.
///
/// # A toy
/// Only connects to itself, and listens to nobody.
/// ```
/// use std::future::{Ready, ready};
/// use std::task::{Context, Poll};
/// use trespass_core::*;
/// # use toy_track::*;
/// # mod toy_track {
/// #     use std::collections::VecDeque;
/// #     use std::ops::{Deref, DerefMut};
/// #     use std::task::{Context, Poll};
/// #     use trespass_core::*;
/// #     #[derive(Debug, Clone, thiserror::Error)]
/// #     #[error("the toy refuses")]
/// #     pub struct ToyError;
/// #     impl TransportError for ToyError { fn kind(&self) -> ErrorKind { ErrorKind::Refused } }
/// #     pub struct ToyTrack;
/// #     pub struct ToyBuf(Vec<u8>);
/// #     impl Deref for ToyBuf { type Target = [u8]; fn deref(&self) -> &[u8] { &self.0 } }
/// #     impl DerefMut for ToyBuf { fn deref_mut(&mut self) -> &mut [u8] { &mut self.0 } }
/// #     impl SendBuf for ToyBuf { fn truncate(&mut self, len: usize) { self.0.truncate(len) } }
/// #     impl Endpoint for ToyTrack {
/// #         type Error = ToyError; type Addr = String; type Timer = SystemTimer;
/// #         fn limits(&self) -> Limits { Limits::new(1, 1, 1) }
/// #         fn local(&self) -> String { "toy".into() }
/// #         fn peer(&self) -> String { "toy".into() }
/// #         fn timer(&self) -> SystemTimer { SystemTimer::new() }
/// #     }
/// #     impl SendSide for ToyTrack {
/// #         type SendBuf = ToyBuf;
/// #         fn try_reserve(&mut self, _: usize) -> Result<ToyBuf, TryError<ToyError>> { Err(TryError::WouldBlock) }
/// #         fn send(&mut self, buf: ToyBuf) -> Result<(), Unsent<ToyBuf, ToyError>> { Err(Unsent { buf, error: ToyError }) }
/// #         fn flush(&mut self) -> Result<(), ToyError> { Ok(()) }
/// #         fn poll_send_ready(&mut self, _: &mut Context<'_>) -> Poll<()> { Poll::Pending }
/// #         fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ToyError>> { Poll::Ready(Ok(())) }
/// #     }
/// #     impl RecvSide for ToyTrack {
/// #         type RecvBuf = Vec<u8>;
/// #         fn posted(&self) -> u64 { 0 }
/// #         fn try_recv(&mut self) -> Result<Vec<u8>, TryError<ToyError>> { Err(TryError::WouldBlock) }
/// #         fn poll_recv_ready(&mut self, _: &mut Context<'_>) -> Poll<()> { Poll::Pending }
/// #     }
/// #     impl Track for ToyTrack {
/// #         type Delivery = Reliable; type Sender = ToyTrack; type Receiver = ToyTrack;
/// #         fn split(self) -> (ToyTrack, ToyTrack) { (ToyTrack, ToyTrack) }
/// #     }
/// # }
///
/// #[derive(Clone)]
/// struct ToyFabric;
/// struct ToyListener;
/// struct ToyIncoming;
///
/// impl Fabric for ToyFabric {
///     type Addr = String;
///     type Error = ToyError;
///     type Timer = SystemTimer;
///     type Track = ToyTrack;
///     type Listener = ToyListener;
///     type Connecting = Ready<Result<ToyTrack, ToyError>>;
///     fn listen(&self, _: &String) -> Result<ToyListener, ToyError> {
///         Ok(ToyListener)
///     }
///     fn connect(&self, _: &String) -> Self::Connecting {
///         ready(Ok(ToyTrack))
///     }
///     fn timer(&self) -> SystemTimer {
///         SystemTimer::new()
///     }
/// }
/// impl Listener for ToyListener {
///     type Addr = String;
///     type Error = ToyError;
///     type Track = ToyTrack;
///     type Incoming = ToyIncoming;
///     fn local(&self) -> String {
///         "toy".into()
///     }
///     fn poll_incoming(&mut self, _: &mut Context<'_>) -> Poll<Result<ToyIncoming, ToyError>> {
///         Poll::Pending
///     }
///     fn close(&mut self) {}
/// }
/// impl Incoming for ToyIncoming {
///     type Addr = String;
///     type Error = ToyError;
///     type Track = ToyTrack;
///     type Accepting = Ready<Result<ToyTrack, ToyError>>;
///     fn peer(&self) -> String {
///         "toy".into()
///     }
///     fn accept(self) -> Self::Accepting {
///         ready(Ok(ToyTrack))
///     }
///     fn refuse(self) {}
/// }
///
/// let track = futures_executor::block_on(ToyFabric.connect(&"toy".to_string())).unwrap();
/// assert_eq!(track.limits().max_message, 1);
/// ```
pub trait Fabric: Clone {
    /// How places to listen at and connect to are named.
    type Addr: Address;
    /// What can go wrong.
    type Error: TransportError;
    /// The fabric's time.
    type Timer: Timer;
    /// What a connection is.
    type Track: Track<Error = Self::Error, Addr = Self::Addr, Timer = Self::Timer>;
    /// What waits for connections.
    type Listener: Listener<Track = Self::Track, Error = Self::Error, Addr = Self::Addr>;
    /// A connection in the making. Dropping it takes everything back.
    type Connecting: Future<Output = Result<Self::Track, Self::Error>>;

    /// Listens at `addr`.
    ///
    /// # Errors
    /// Kind `Busy` where somebody listens there already, `Unreachable` where the address is not this machine's.
    fn listen(&self, addr: &Self::Addr) -> Result<Self::Listener, Self::Error>;

    /// Connects to `addr`. The work goes on whether or not the future is polled; dropping it takes everything back.
    ///
    /// # Errors
    /// Kind `Refused`, `Unreachable`, `TimedOut`, `Busy` or `ResourceLimit`.
    fn connect(&self, addr: &Self::Addr) -> Self::Connecting;

    /// The fabric's clock.
    fn timer(&self) -> Self::Timer;
}

/// Waits for connection requests. Dropping it closes it: requests not yet taken are refused.
///
/// # For implementers
/// - The queue of requests is bounded; what does not fit is refused with kind `Busy`, and a request that waits past the
///   handshake deadline goes away: for its connector that is kind `TimedOut`, not `Refused`, whichever end counts faster.
/// - A request whose connector has given up need not be handed out. Where it is, accepting it fails, or gives a track that ends.
/// - A request that fails ends alone: `poll_incoming` reports only what ends the listener.
///
/// # For users
/// Accept in a task of its own: an accept waits for the peer. See [`Fabric`] for a toy that implements it.
///
/// # Implemented by
/// `TrackListener`, `SharedListener` and `DatagramListener` on NICs, `MockListener` in process, and `LayeredListener`
/// and `Either` of the layers.
pub trait Listener {
    /// How ends are named.
    type Addr: Address;
    /// What can go wrong.
    type Error: TransportError;
    /// What a connection is.
    type Track: Track<Error = Self::Error, Addr = Self::Addr>;
    /// A request for one.
    type Incoming: Incoming<Track = Self::Track, Error = Self::Error, Addr = Self::Addr>;

    /// Where this listens, with what the fabric chose (a port) filled in.
    fn local(&self) -> Self::Addr;

    /// The next request. One waker: the latest wins. Dropping a future made of this loses nothing.
    ///
    /// # Errors
    /// Kind `Closed` after a close; else what ended the listener. Errors stick.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::Incoming, Self::Error>>;

    /// Stops listening, and refuses the requests not yet taken. Idempotent.
    fn close(&mut self);
}

/// A connection request. Dropping it refuses it. See [`Fabric`] for a toy that implements it.
///
/// # Implemented by
/// `VerbsIncoming`, `SharedIncoming` and `DatagramIncoming` on NICs, `MockIncoming` in process, and `LayeredIncoming`
/// and `Either` of the layers.
pub trait Incoming {
    /// How ends are named.
    type Addr: Address;
    /// What can go wrong.
    type Error: TransportError;
    /// What a connection is.
    type Track: Track<Error = Self::Error, Addr = Self::Addr>;
    /// A connection in the making. Dropping it takes everything back.
    type Accepting: Future<Output = Result<Self::Track, Self::Error>>;

    /// Who asks.
    fn peer(&self) -> Self::Addr;
    /// Says yes. The work goes on whether or not the future is polled.
    fn accept(self) -> Self::Accepting;
    /// Says no: the peer's connect fails with kind `Refused`.
    fn refuse(self);
    /// Says not now: the peer's connect fails with kind `Busy`, at once, or after it came again until its own handshake
    /// deadline. A fabric that has no word for it says no, as here by default.
    fn busy(self)
    where
        Self: Sized,
    {
        self.refuse();
    }
}

/// A fabric that may be used from any thread, with all that belongs to it: a bound to state once. Implemented for
/// everything that fits, as are all fabrics on NICs and in process, and the layers over them.
///
/// ```
/// use trespass_core::{Incoming, Listener, ThreadFabric, wait};
///
/// /// A thread for each track.
/// fn serve<F: ThreadFabric>(listener: &mut F::Listener, work: fn(F::Track)) -> Result<(), F::Error> {
///     loop {
///         let accepting = wait(std::future::poll_fn(|cx| listener.poll_incoming(cx)))?.accept();
///         std::thread::spawn(move || wait(accepting).map(work));
///     }
/// }
/// ```
pub trait ThreadFabric:
    Fabric<
        Track: ThreadTrack,
        Timer: Send + Sync,
        Connecting: Send + 'static,
        Listener: Listener<Incoming: Incoming<Accepting: Send + 'static> + Send + 'static> + Send + 'static,
    > + Send
    + Sync
    + 'static
{
}

impl<F> ThreadFabric for F where
    F: Fabric<
            Track: ThreadTrack,
            Timer: Send + Sync,
            Connecting: Send + 'static,
            Listener: Listener<Incoming: Incoming<Accepting: Send + 'static> + Send + 'static> + Send + 'static,
        > + Send
        + Sync
        + 'static
{
}
