//! Messages over datagrams: whole or not at all.

mod assembly;
mod config;
mod handshake;
mod inbound;
mod open;
mod recv;
mod send;
mod stats;
mod window;
mod wire;

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Duration;

use trespass_core::{Carrier, Datagram, Endpoint, Limits, Role, Track, TryError, Unsent, WakerSlot};

use crate::error::CarrierError;
use crate::message::{Message, MessageBuf};

pub use config::DatagramConfig;
pub use open::DatagramOpening;
pub use recv::DatagramRecvHalf;
pub use send::{DatagramSendHalf, DatagramSending};
pub use stats::DatagramStats;

/// Messages of any size up to a limit, over any datagram track: each arrives whole, once, or not at all.
///
/// ```
/// use trespass_carriers::{CarrierError, DatagramCarrier, DatagramConfig};
/// use trespass_core::{Datagram, Role, Track};
///
/// /// Says something three times, since it may be lost, and waits for an answer, which may be lost too.
/// async fn tell<T: Track<Delivery = Datagram>>(track: T) -> Result<Option<Vec<u8>>, CarrierError<T::Error>> {
///     let mut carrier = DatagramCarrier::open(track, Role::Connector, DatagramConfig::default()).await?;
///     for _ in 0..3 {
///         carrier.send(&[7; 20_000]).await?;
///     }
///     let answer = carrier.recv().await?.map(|answer| answer.to_vec());
///     carrier.close().await?;
///     Ok(answer)
/// }
///
/// use trespass_core::{Fabric, Incoming, ListenerExt};
/// use trespass_mock::{MockDatagramConfig, MockFabric};
///
/// let fabric = MockFabric::new().datagrams(MockDatagramConfig::default()).unwrap();
/// let mut listener = fabric.listen(&"there".parse().unwrap()).unwrap();
/// let connecting = fabric.connect(&"there".parse().unwrap());
/// let server = std::thread::spawn(move || {
///     futures_executor::block_on(async {
///         let track = listener.incoming().await.unwrap().accept().await.unwrap();
///         let mut carrier = DatagramCarrier::open(track, Role::Acceptor, DatagramConfig::default()).await.unwrap();
///         let message = carrier.recv().await.unwrap().expect("a message");
///         carrier.send(&message[..5]).await.unwrap();
///         while carrier.recv().await.unwrap().is_some() {}
///     });
/// });
/// let answer = futures_executor::block_on(async { tell(connecting.await.unwrap()).await.unwrap() });
/// assert_eq!(answer.as_deref(), Some(&[7; 5][..]));
/// server.join().unwrap();
/// ```
///
/// # What is promised
/// - A message arrives whole, as it was sent, or not at all; at most once, whatever the network duplicates. The newest 1024
///   are told apart one by one, and what is older is dropped: so a message that 1024 newer ones overtake is lost.
/// - Nothing is promised of order, or that anything arrives. There are no credits on datagrams: what is sent faster than
///   the receiver takes is lost there, and the sender is neither stalled nor told. [`DatagramStats::missed`] of the
///   receiver counts it. A message of many datagrams needs the receiver to keep up for as long as it comes: one with fewer
///   receive slots than a message has datagrams loses it unless it takes them meanwhile.
/// - A message that is incomplete is given up after `assembly_timeout`, or when more than `assemblies` others were begun
///   since.
/// - Bytes that make no sense are dropped and counted, and end nothing: on a network that loses anyway a bad datagram is one
///   that was lost, and a session that any such could end would be easier to break than the network is. The track sees to it
///   that the bytes of a datagram are those that were sent (clause D1 of `docs/CONTRACT.md`); there is no checksum on top.
///
/// # Costs
/// A message that fits a datagram takes 8 bytes more and one slot: copied once by `send` (not at all by `send_buf`), and
/// never on receipt. A longer one has 16 bytes more in each datagram, and is copied once on receipt, into pooled memory,
/// but for gaps, which are written twice when segments come out of order. After the handshake, and once the pool is warm,
/// no message allocates; an alarm does, set at most once in each `assembly_timeout`, `idle_timeout` and `keepalive`.
///
/// # Ends
/// [`close`](Self::close) says goodbye three times, since it may be lost, and ends the track: the peer receives `None` when
/// one of them comes. Where none does, nothing tells but its `idle_timeout`. What a goodbye overtakes is lost.
///
/// # Two tasks, two threads
/// [`split`](Self::split) gives two halves, with no lock between them. Progress is made inside calls: a carrier has no
/// background work.
pub struct DatagramCarrier<T: Track<Delivery = Datagram>> {
    sender: DatagramSendHalf<T>,
    receiver: DatagramRecvHalf<T>,
    peer_incarnation: u64,
}

/// What a sender has to know.
#[derive(Debug, Clone, Copy)]
struct Session {
    /// Which carrier this is, among all of the process.
    id: u64,
    /// The session of the peer.
    peer: u32,
    eager_limit: usize,
    max_message: usize,
    /// How long a segment is, but for the last of a message.
    segment: usize,
    keepalive: Option<Duration>,
    close_timeout: Duration,
}

/// What the halves tell each other.
#[derive(Debug, Default)]
struct Shared {
    /// The peer has said goodbye.
    left: AtomicBool,
    /// This end has.
    closed: AtomicBool,
    /// The peer has not heard that its Welcome came.
    owes_ready: AtomicBool,
    /// The sender, if it waits.
    sender: WakerSlot,
}

impl<T: Track<Delivery = Datagram>> DatagramCarrier<T> {
    /// Takes `track` over and shakes hands: see [`Carrier::open`]. What is lost of that is said again every `open_retry`.
    ///
    /// The connector is open when the acceptor has answered, the acceptor when it has heard that the answer came. If that
    /// is lost, the connector's next message does as well, and so does its waiting for one; but a connector that is split
    /// at once, and whose sending half is not used, leaves the acceptor to wait: call
    /// [`keepalive`](DatagramSendHalf::keepalive) there.
    ///
    /// Dropping the future drops the track. It allocates what the carrier always needs; its pool grows when it is first used.
    ///
    /// # Errors
    /// Kind `Config` where a setting or the track will not do; `Refused`, on both ends, where they do not suit each other,
    /// with the reason (a peer that does not hear it is told by its own deadline); `TimedOut` past `open_timeout`;
    /// `Disconnected`.
    pub fn open(track: T, role: Role, config: DatagramConfig) -> DatagramOpening<T> {
        DatagramOpening::new(track, role, config)
    }

    /// Two halves for two tasks or threads. No cost. The halves beat only by
    /// [`keepalive`](DatagramSendHalf::keepalive).
    pub fn split(self) -> (DatagramSendHalf<T>, DatagramRecvHalf<T>) {
        (self.sender, self.receiver)
    }

    /// See [`DatagramSendHalf::eager_limit`].
    pub fn eager_limit(&self) -> usize {
        self.sender.eager_limit()
    }

    /// See [`DatagramSendHalf::max_message`].
    pub fn max_message(&self) -> usize {
        self.sender.max_message()
    }

    /// What was done so far.
    pub fn stats(&self) -> DatagramStats {
        DatagramStats::joined(self.sender.stats(), self.receiver.stats())
    }

    /// Which process the peer is: a number that it chose when it started. Another one at the same address means that the
    /// peer was started again, and knows nothing of what was said before.
    pub fn peer_incarnation(&self) -> u64 {
        self.peer_incarnation
    }

    /// The sizes of the track below.
    pub fn limits(&self) -> Limits {
        self.receiver.track.limits()
    }

    /// The address of the other end.
    pub fn peer(&self) -> T::Addr {
        self.sender.track.peer()
    }

    /// See [`DatagramSendHalf::try_send`].
    ///
    /// # Errors
    /// The same.
    pub fn try_send(&mut self, data: &[u8]) -> Result<(), TryError<CarrierError<T::Error>>> {
        self.sender.try_send(data)
    }

    /// See [`DatagramSendHalf::try_reserve`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<MessageBuf<T>, TryError<CarrierError<T::Error>>> {
        self.sender.try_reserve(len)
    }

    /// See [`DatagramSendHalf::send_buf`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn send_buf(&mut self, buf: MessageBuf<T>) -> Result<(), Unsent<MessageBuf<T>, CarrierError<T::Error>>> {
        self.sender.send_buf(buf)
    }

    /// See [`DatagramSendHalf::flush`].
    ///
    /// # Errors
    /// The same.
    pub fn flush(&mut self) -> Result<(), CarrierError<T::Error>> {
        self.sender.flush()
    }

    /// See [`DatagramSendHalf::poll_send_ready`].
    pub fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_send_ready(cx)
    }

    /// See [`DatagramSendHalf::send`].
    ///
    /// # Errors
    /// The same.
    pub fn send<'a>(&'a mut self, data: &'a [u8]) -> DatagramSending<'a, T> {
        self.sender.send(data)
    }

    /// See [`DatagramRecvHalf::try_recv`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<T>>, TryError<CarrierError<T::Error>>> {
        let received = self.receiver.try_recv();
        self.sender.settle();
        received
    }

    /// Waits for the next message; `None` once the peer has said goodbye. Flushes, and beats while it waits. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// As [`DatagramRecvHalf::try_recv`], never `WouldBlock`.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message<T>>, CarrierError<T::Error>>> + use<'_, T> {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// [`recv`](Self::recv), in the form of a poll. One waker: the latest wins.
    ///
    /// # Errors
    /// As `recv`.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message<T>>, CarrierError<T::Error>>> {
        let received = self.receiver.poll_recv(cx);
        if received.is_pending() {
            self.sender.poll_beat(cx);
            // The end of the track shows where messages come.
            let _ = self.sender.flush();
        }
        received
    }

    /// Says goodbye, and ends the track: see [`poll_close`](Carrier::poll_close). What has arrived by then may still be
    /// received, and then `Closed` follows. Dropping the future loses nothing: call again to go on.
    ///
    /// # Errors
    /// Kind `TimedOut` past `close_timeout`; else what ended the track.
    pub fn close(&mut self) -> impl Future<Output = Result<(), CarrierError<T::Error>>> + use<'_, T> {
        poll_fn(|cx| self.poll_close(cx))
    }
}

impl<T: Track<Delivery = Datagram>> Carrier for DatagramCarrier<T> {
    type Track = T;
    type Config = DatagramConfig;
    type Error = CarrierError<T::Error>;
    type Opening = DatagramOpening<T>;

    fn open(track: T, role: Role, config: DatagramConfig) -> DatagramOpening<T> {
        DatagramOpening::new(track, role, config)
    }

    fn most_memory(config: &DatagramConfig) -> usize {
        config.most_memory()
    }

    fn incarnation(&self) -> Option<u64> {
        Some(self.peer_incarnation())
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        self.sender.poll_close(cx)
    }
}

impl<T: Track<Delivery = Datagram>> fmt::Debug for DatagramCarrier<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramCarrier").field("sender", &self.sender).field("receiver", &self.receiver).finish()
    }
}
