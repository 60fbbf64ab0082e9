//! A server for any carrier on any listener: who comes in, how many, and how it ends.

mod config;
mod error;
mod handshake;
mod peer;
mod serve;
mod shared;
mod stats;
mod tasks;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use trespass_core::{Carrier, Endpoint, Incoming, Listener, Timer, TransportError};

use handshake::{Done, Handshake};
use shared::{Phase, Room, Shared};
use tasks::Tasks;

pub use config::{Excess, ServerConfig, ServerFault};
pub use error::HandshakeError;
pub use peer::{Accepted, Peer, ServerHandle};
pub use shared::Identity;
pub use stats::ServerStats;

/// The clock of a listener's tracks.
type TimerOf<L> = <<L as Listener>::Track as Endpoint>::Timer;

/// Takes peers in for a carrier of any kind, on a listener of any fabric: handshakes side by side, within limits, until it is
/// drained.
///
/// It runs where it is polled: it needs no runtime, starts no thread and spawns nothing. There are three ways to use it:
/// - [`serve`](Self::serve) gives each peer to a closure, and polls the futures that this makes in place; or it returns at
///   once where the closure spawns a task of its own.
/// - [`accept`](Self::accept) in a loop, for peers in tasks or threads of their own.
/// - [`event`](Self::event), to hear of failed handshakes and of those that were turned away, too.
///
/// ```
/// use std::time::Duration;
/// use trespass_carriers::{Accepted, MessageCarrier, MessageConfig, Server, ServerConfig};
/// use trespass_core::{Fabric, InOrder, Lossless, Role, ThreadFabric, Track, wait};
/// use trespass_mock::MockFabric;
///
/// /// Answers each peer's first message. Names neither a fabric nor an executor.
/// async fn answer<T: Track<Delivery: Lossless + InOrder>>(mut carrier: MessageCarrier<T>) {
///     if let Ok(Some(question)) = carrier.recv().await {
///         let _ = carrier.send(&[&question[..], b" indeed"].concat()).await;
///     }
///     let _ = carrier.close().await;
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let fabric = MockFabric::new();
///     let listener = fabric.listen(&"server".parse()?)?;
///     let config = ServerConfig::default().with_max_peers(100);
///     let mut server = Server::new(listener, fabric.timer(), config, MessageConfig::default())?;
///     let handle = server.handle();
///     let serving = std::thread::spawn(move || {
///         wait(server.serve(|Accepted { carrier, peer }| async move {
///             answer(carrier).await;
///             drop(peer);
///         }))
///     });
///     wait(async {
///         let track = fabric.connect(&"server".parse()?).await?;
///         let mut carrier = MessageCarrier::open(track, Role::Connector, MessageConfig::default()).await?;
///         carrier.send(b"fine").await?;
///         assert_eq!(&carrier.recv().await?.expect("an answer")[..], b"fine indeed");
///         Ok::<_, Box<dyn std::error::Error>>(())
///     })?;
///     handle.drain(Duration::from_secs(10));
///     let drained = serving.join().expect("no panic")?;
///     assert!(drained.cut_off.is_empty());
///     Ok(())
/// }
/// ```
///
/// # Handshakes
/// Up to [`max_handshakes`](ServerConfig::max_handshakes) go on at once, and none waits for another. Each has the deadlines of its
/// fabric and of its carrier (`open_timeout`), so one that goes nowhere ends. One that fails is counted by kind
/// ([`ServerStats::failed_with`]) and told as an [`Event`]; it never ends the server. Only the listener's own end does that.
///
/// # Limits
/// [`ServerConfig`] says what there are, and what becomes of the excess. A place is free again when its [`Peer`] is dropped.
///
/// # Draining
/// [`ServerHandle::drain`], or [`drain`](Self::drain): nobody comes in any more; the listener is closed, so connects fail with
/// kind `Refused`; a handshake that is done meanwhile gets a goodbye. Peers are told ([`Peer::draining`]), and
/// have until the deadline to go. Whoever is there still is given up then ([`Peer::cut_off`]), and reported.
///
/// # Costs
/// For each handshake an allocation for its place, and one each for the futures of the fabric and of the carrier; a lock when a peer
/// comes, and when it goes. Nothing for a message, where peers have tasks of their own; with `serve` in place, a
/// wake-up of a peer's future is two atomic operations more, and a poll looks through a bit for each place.
pub struct Server<L: Listener, C: Carrier<Track = L::Track>> {
    listener: L,
    timer: TimerOf<L>,
    config: ServerConfig,
    carrier: C::Config,
    handshakes: Tasks<Handshake<L, C>>,
    shared: Arc<Shared<L::Addr>>,
    /// What ended the listener.
    ended: Option<L::Error>,
    closed: bool,
    drain: Option<Deadline<TimerOf<L>>>,
}

/// When a drain began, how long it may take, and the alarm.
struct Deadline<T: Timer> {
    began: Duration,
    limit: Duration,
    sleep: T::Sleep,
}

/// What a server has to tell.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "dropping an accepted peer cuts it off"]
pub enum Event<L: Listener, C: Carrier<Track = L::Track>> {
    /// A peer is there.
    Accepted(Accepted<C, L::Addr>),
    /// A handshake came to nothing.
    Failed {
        /// Whose.
        peer: Identity<L::Addr>,
        /// Why.
        error: HandshakeError<L::Error, C::Error>,
    },
    /// There was no room for one more: it was told that the server is busy.
    TurnedAway {
        /// Where it is.
        addr: L::Addr,
    },
}

/// How a drain went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained<A> {
    /// Who was still there at the deadline, and was given up: peers, and handshakes under way.
    pub cut_off: Vec<Identity<A>>,
}

/// How many requests are looked at in one poll, so that a storm of them leaves others of the same task their turn.
const BATCH: usize = 32;

impl<L: Listener, C: Carrier<Track = L::Track>> Server<L, C> {
    /// A server on `listener`, whose fabric's clock is `timer` ([`Fabric::timer`](trespass_core::Fabric::timer)), with
    /// carriers that are set up as `carrier` says. Nothing is accepted before it is polled.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn new(listener: L, timer: TimerOf<L>, config: ServerConfig, carrier: C::Config) -> Result<Self, ServerFault> {
        let config = config.checked(C::most_memory(&carrier))?;
        let handshakes = Tasks::new(config.max_handshakes);
        let shared = Shared::new();
        Ok(Self { listener, timer, config, carrier, handshakes, shared, ended: None, closed: false, drain: None })
    }

    /// Where it listens.
    pub fn local(&self) -> L::Addr {
        self.listener.local()
    }

    /// What ends it from elsewhere.
    pub fn handle(&self) -> ServerHandle<L::Addr> {
        ServerHandle::new(Arc::clone(&self.shared))
    }

    /// What was done so far, and who is there now.
    pub fn stats(&self) -> ServerStats {
        self.shared.stats()
    }

    /// Waits for the next peer; `None` once the server drains: then [`drained`](Self::drained) says when all are gone. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// As [`poll_event`](Self::poll_event).
    pub fn accept(&mut self) -> impl Future<Output = Result<Option<Accepted<C, L::Addr>>, L::Error>> + use<'_, L, C> {
        poll_fn(|cx| self.poll_accept(cx))
    }

    /// [`accept`](Self::accept), in the form of a poll. One waker, which all polls of the server share: the latest wins.
    ///
    /// # Errors
    /// As [`poll_event`](Self::poll_event).
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Accepted<C, L::Addr>>, L::Error>> {
        self.poll_accept_beside(cx, 0)
    }

    /// The same, of a server that has so many handlers of its own.
    fn poll_accept_beside(
        &mut self,
        cx: &mut Context<'_>,
        handlers: usize,
    ) -> Poll<Result<Option<Accepted<C, L::Addr>>, L::Error>> {
        for _ in 0..BATCH {
            match ready!(self.poll_event_beside(cx, handlers))? {
                Some(Event::Accepted(accepted)) => return Poll::Ready(Ok(Some(accepted))),
                Some(_) => {}
                None => return Poll::Ready(Ok(None)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Waits for the next that happens; `None` once the server drains. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`poll_event`](Self::poll_event).
    pub fn event(&mut self) -> impl Future<Output = Result<Option<Event<L, C>>, L::Error>> + use<'_, L, C> {
        poll_fn(|cx| self.poll_event(cx))
    }

    /// [`event`](Self::event), in the form of a poll. One waker, which all polls of the server share: the latest wins.
    ///
    /// # Errors
    /// What ended the listener, once the handshakes that were under way are done; then that again and again.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event<L, C>>, L::Error>> {
        self.poll_event_beside(cx, 0)
    }

    /// The same, of a server that has so many handlers of its own.
    fn poll_event_beside(
        &mut self,
        cx: &mut Context<'_>,
        handlers: usize,
    ) -> Poll<Result<Option<Event<L, C>>, L::Error>> {
        // Registered first, looked at then: a peer that leaves in between wakes.
        self.shared.changed.register(cx.waker());
        for _ in 0..BATCH {
            if self.shared.phase() != Phase::Serving {
                return Poll::Ready(Ok(None));
            }
            if let Poll::Ready(done) = self.handshakes.poll_next(cx) {
                match self.conclude(done) {
                    Some(event) => return Poll::Ready(Ok(Some(event))),
                    None => continue,
                }
            }
            if let Some(error) = &self.ended {
                return match self.handshakes.is_empty() {
                    true => Poll::Ready(Err(error.clone())),
                    false => Poll::Pending,
                };
            }
            if let Some(event) = ready!(self.poll_request(cx, handlers)) {
                return Poll::Ready(Ok(Some(event)));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes one request from the listener, if it may. Ready where something has changed by it.
    fn poll_request(&mut self, cx: &mut Context<'_>, handlers: usize) -> Poll<Option<Event<L, C>>> {
        let need = C::most_memory(&self.carrier);
        let room = self.shared.room(&self.config, need, self.handshakes.len(), handlers);
        match (room, self.config.excess) {
            (Room::Soon, _) | (Room::Full, Excess::Wait) => return Poll::Pending,
            (Room::Free, _) | (Room::Full, Excess::Busy) => {}
        }
        let incoming = match ready!(self.listener.poll_incoming(cx)) {
            Ok(incoming) => incoming,
            Err(error) => {
                self.ended = Some(error);
                return Poll::Ready(None);
            }
        };
        let addr = incoming.peer();
        if room == Room::Full {
            // Counted before the peer knows.
            self.shared.count_turned_away();
            incoming.busy();
            return Poll::Ready(Some(Event::TurnedAway { addr }));
        }
        let place = self.shared.admit(addr, need);
        let handshake = Handshake::new(incoming, place, self.carrier.clone(), self.config.max_memory);
        // There is room: it was just looked at. Where there were not, this would take the request back.
        drop(self.handshakes.insert(handshake));
        Poll::Ready(None)
    }

    fn conclude(&mut self, done: Done<L, C>) -> Option<Event<L, C>> {
        match done {
            Done::Open(carrier, mut place) => {
                place.open(carrier.incarnation());
                Some(Event::Accepted(Accepted { carrier, peer: Peer::new(place) }))
            }
            Done::Failed(error, place) => {
                self.shared.count_failure(error.kind());
                Some(Event::Failed { peer: place.identity.clone(), error })
            }
            Done::Left => None,
        }
    }

    /// Begins to drain, and waits until all are gone, or given up after `limit`: [`ServerHandle::drain`] and
    /// [`drained`](Self::drained) in one. Dropping the future does not stop the drain.
    pub fn drain(&mut self, limit: Duration) -> impl Future<Output = Drained<L::Addr>> + use<'_, L, C> {
        self.shared.drain(limit);
        self.drained()
    }

    /// Waits until the drain that was begun, or will be, is over: how it went, again and again. It makes the drain's deadline good, so
    /// it is to be polled once [`accept`](Self::accept) has said `None`. Dropping the future loses nothing.
    pub fn drained(&mut self) -> impl Future<Output = Drained<L::Addr>> + use<'_, L, C> {
        poll_fn(|cx| self.poll_drained(cx))
    }

    /// [`drained`](Self::drained), in the form of a poll. One waker, which all polls of the server share: the latest wins.
    pub fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<Drained<L::Addr>> {
        self.poll_drained_with(cx, true)
    }

    /// The same, of a server whose own handlers are `idle`, or not yet.
    fn poll_drained_with(&mut self, cx: &mut Context<'_>, idle: bool) -> Poll<Drained<L::Addr>> {
        self.shared.changed.register(cx.waker());
        if self.shared.phase() == Phase::Serving {
            return Poll::Pending;
        }
        if !std::mem::replace(&mut self.closed, true) {
            self.listener.close();
        }
        while self.shared.phase() < Phase::CutOff {
            if let Poll::Ready(done) = self.handshakes.poll_next(cx) {
                // Of those that fail now nobody is told: they are counted.
                drop(self.conclude(done));
            } else if idle && self.shared.is_empty() {
                return Poll::Ready(Drained { cut_off: Vec::new() });
            } else if self.poll_deadline(cx).is_ready() {
                self.shared.advance(Phase::CutOff);
            } else {
                return Poll::Pending;
            }
        }
        self.handshakes.clear();
        Poll::Ready(Drained { cut_off: self.shared.cut_off() })
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (timer, limit) = (&self.timer, self.shared.limit());
        let deadline = match &mut self.drain {
            Some(deadline) if deadline.limit == limit => deadline,
            earlier => {
                let now = timer.now();
                let began = earlier.as_ref().map_or(now, |deadline| deadline.began);
                let left = began.saturating_add(limit).saturating_sub(now);
                earlier.insert(Deadline { began, limit, sleep: timer.sleep(left) })
            }
        };
        Pin::new(&mut deadline.sleep).poll(cx)
    }
}

impl<L: Listener, C: Carrier<Track = L::Track>> Drop for Server<L, C> {
    /// Peers live on, as the tracks of a listener do; but those that were asked to go are given up, since nobody counts their time
    /// any more.
    fn drop(&mut self) {
        self.shared.orphan();
    }
}

impl<L: Listener, C: Carrier<Track = L::Track>> fmt::Debug for Server<L, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("local", &self.listener.local())
            .field("config", &self.config)
            .field("stats", &self.shared.stats())
            .finish_non_exhaustive()
    }
}
