//! What a server hands out, and how it is told to stop.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use trespass_core::WakerSlot;

use super::shared::{Identity, Phase, Place, Shared};
use super::stats::ServerStats;

/// A peer whose handshake is done.
#[derive(Debug)]
#[must_use = "dropping it cuts the peer off"]
pub struct Accepted<C, A> {
    /// What to talk through.
    pub carrier: C,
    /// Its place with the server: keep it for as long as the carrier.
    pub peer: Peer<A>,
}

/// A peer's place with its server. Dropping it says that the peer has gone, and gives its place to the next.
///
/// ```
/// use trespass_carriers::{Accepted, CarrierError, MessageCarrier};
/// use trespass_core::{Address, InOrder, Lossless, Track};
///
/// /// Echoes until either end has had enough.
/// async fn echo<T, A>(Accepted { mut carrier, peer }: Accepted<MessageCarrier<T>, A>) -> Result<(), CarrierError<T::Error>>
/// where
///     T: Track<Delivery: Lossless + InOrder>,
///     A: Address,
/// {
///     let echoing = async {
///         // The server drains, or the next message comes.
///         while let Some(received) = peer.until_draining(carrier.recv()).await {
///             let Some(message) = received? else { break };
///             carrier.send(&message).await?;
///         }
///         carrier.close().await
///     };
///     // Past the deadline of a drain nobody waits any more.
///     peer.until_cut_off(echoing).await.unwrap_or(Ok(()))
/// }
/// ```
pub struct Peer<A> {
    place: Place<A>,
}

impl<A> Peer<A> {
    pub(super) fn new(place: Place<A>) -> Self {
        Self { place }
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity<A> {
        &self.place.identity
    }
}

impl<A: Clone> Peer<A> {
    /// Whether the server drains: finish what you are at, and say goodbye. One atomic load.
    pub fn is_draining(&self) -> bool {
        self.place.shared.phase() >= Phase::Draining
    }

    /// Ready once the server drains. One waker: the latest wins. Costs a lock that nobody else wants.
    pub fn poll_draining(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.place.signals.draining.register(cx.waker());
        ready_if(self.is_draining())
    }

    /// Waits until the server drains. Dropping the future loses nothing.
    pub fn draining(&self) -> impl Future<Output = ()> + use<'_, A> {
        poll_fn(|cx| self.poll_draining(cx))
    }

    /// Ready once the server has given this peer up: its drain has come to its deadline. One waker: the latest wins.
    pub fn poll_cut_off(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.place.signals.cut_off.register(cx.waker());
        ready_if(self.place.shared.phase() >= Phase::CutOff)
    }

    /// Waits until the server has given this peer up. Dropping the future loses nothing.
    pub fn cut_off(&self) -> impl Future<Output = ()> + use<'_, A> {
        poll_fn(|cx| self.poll_cut_off(cx))
    }

    /// Runs `future` to its end, or drops it, with `None`, once the server drains: for waits that lose nothing by that, such as
    /// the receive of a carrier. After the drain has begun it is not polled any more, so that no peer goes on without end.
    pub async fn until_draining<F: Future>(&self, future: F) -> Option<F::Output> {
        self.until(Phase::Draining, &self.place.signals.draining, future).await
    }

    /// Runs `future` to its end, or drops it, with `None`, once the server has given this peer up: so that a task or a thread of
    /// its own ends with the server.
    pub async fn until_cut_off<F: Future>(&self, future: F) -> Option<F::Output> {
        self.until(Phase::CutOff, &self.place.signals.cut_off, future).await
    }

    async fn until<F: Future>(&self, phase: Phase, signal: &WakerSlot, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if self.place.shared.phase() >= phase {
                return Poll::Ready(None);
            }
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            signal.register(cx.waker());
            ready_if(self.place.shared.phase() >= phase).map(|()| None)
        })
        .await
    }
}

fn ready_if(condition: bool) -> Poll<()> {
    match condition {
        true => Poll::Ready(()),
        false => Poll::Pending,
    }
}

impl<A: fmt::Debug> fmt::Debug for Peer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("identity", &self.place.identity).finish_non_exhaustive()
    }
}

/// Ends a [`Server`](crate::Server) from elsewhere, and looks at it. Cheap to clone; may outlive the server.
pub struct ServerHandle<A> {
    shared: Arc<Shared<A>>,
}

impl<A: Clone> ServerHandle<A> {
    pub(super) fn new(shared: Arc<Shared<A>>) -> Self {
        Self { shared }
    }

    /// Asks all peers to go, and gives up those that have not after `limit`, by the clock of the server; zero gives them up at
    /// once. Nobody is let in from now on: the server closes its listener as soon as it is polled, and connects fail with kind
    /// `Refused`. Asked for twice the shorter limit counts, from the first time that the server saw it.
    ///
    /// Returns at once. The server's [`serve`](crate::Server::serve) or [`drained`](crate::Server::drained) tells how it went.
    pub fn drain(&self, limit: Duration) {
        self.shared.drain(limit);
    }

    /// What was done so far, and who is there now.
    pub fn stats(&self) -> ServerStats {
        self.shared.stats()
    }
}

impl<A> Clone for ServerHandle<A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<A> fmt::Debug for ServerHandle<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").finish_non_exhaustive()
    }
}
