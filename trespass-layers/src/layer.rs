//! What every layer over one fabric has in common: listeners, requests and handshakes that wrap the inner ones.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use trespass_core::{Fabric, Incoming, Listener, Role, Track, TransportError};

/// What a layer does to a fabric.
///
/// # For implementers
/// - [`track`](Layer::track) is all that is owed. The rest hears of connections, which is never per message.
/// - It is cloned into every listener, request and handshake: a handle, or nothing.
///
/// # A toy
/// Counts connections, and leaves tracks as they are.
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use trespass_core::{Fabric, Incoming, ListenerExt, Role};
/// use trespass_layers::{Layer, Layered};
/// use trespass_mock::MockFabric;
///
/// #[derive(Clone, Default)]
/// struct Count(Arc<AtomicUsize>);
///
/// impl<F: Fabric> Layer<F> for Count {
///     type Error = F::Error;
///     type Track = F::Track;
///     type Listening = ();
///     fn track(&self, track: F::Track, _: Role, _: &F::Addr) -> F::Track {
///         self.0.fetch_add(1, Ordering::Relaxed);
///         track
///     }
/// }
///
/// let fabric = Layered::new(MockFabric::new(), Count::default());
/// futures_executor::block_on(async {
///     let mut listener = fabric.listen(&"there".parse()?)?;
///     let connecting = fabric.connect(&"there".parse()?);
///     let _server = listener.incoming().await?.accept().await?;
///     let _client = connecting.await?;
///     Ok::<_, trespass_mock::MockError>(())
/// })?;
/// assert_eq!(fabric.layer().0.load(Ordering::Relaxed), 2);
/// # Ok::<_, trespass_mock::MockError>(())
/// ```
pub trait Layer<F: Fabric>: Clone {
    /// What can go wrong above the layer: that of the fabric below, if the layer adds nothing.
    type Error: TransportError + From<F::Error>;
    /// A track above the layer.
    type Track: Track<Error = Self::Error, Addr = F::Addr, Timer = F::Timer>;
    /// What it keeps for each listener.
    type Listening: Default;

    /// Wraps a track that has just come to be. `peer` is where the connector connected to, or who asked the acceptor.
    fn track(&self, track: F::Track, role: Role, peer: &F::Addr) -> Self::Track;

    /// Something happened to a connection, a request or a listener. New tracks are heard of by [`track`](Layer::track).
    fn note(&self, event: Event<'_, F::Addr, F::Error>) {
        let _ = event;
    }

    /// A listener was polled, and gave this.
    fn polled(&self, listening: &mut Self::Listening, polled: Poll<Result<(), &F::Error>>) {
        let _ = (listening, polled);
    }

    /// A listener is about to be closed by its user.
    fn closing(&self, listening: &mut Self::Listening) {
        let _ = listening;
    }
}

/// What a [`Layer`] hears of.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a, A, E> {
    /// Somebody listens at this address now.
    Listening(&'a A),
    /// Nobody does: it cannot be listened at.
    NotListening(&'a A, &'a E),
    /// A listener has ended by itself: not because it was closed. Heard once.
    ListenerEnded(&'a A, &'a E),
    /// A connection to this address has begun.
    Connecting(&'a A),
    /// A request of this peer was taken from a listener.
    Requested(&'a A),
    /// A request of this peer was refused, or dropped unanswered.
    Refused(&'a A),
    /// A handshake with this peer has failed, on this side of it.
    Failed(Role, &'a A, &'a E),
}

/// A fabric with a layer over it. Cheap to clone where both are.
#[derive(Debug, Clone)]
pub struct Layered<L, F> {
    inner: F,
    layer: L,
}

impl<L: Layer<F>, F: Fabric> Layered<L, F> {
    /// Puts `layer` over `inner`.
    pub fn new(inner: F, layer: L) -> Self {
        Self { inner, layer }
    }

    /// The fabric below, for what it alone can tell. What is made from it directly has no layer.
    pub fn inner(&self) -> &F {
        &self.inner
    }

    /// The layer.
    pub fn layer(&self) -> &L {
        &self.layer
    }
}

impl<L: Layer<F>, F: Fabric> Fabric for Layered<L, F> {
    type Addr = F::Addr;
    type Error = L::Error;
    type Timer = F::Timer;
    type Track = L::Track;
    type Listener = LayeredListener<L, F>;
    type Connecting = Handshake<L, F, F::Connecting>;

    fn listen(&self, addr: &F::Addr) -> Result<Self::Listener, L::Error> {
        match self.inner.listen(addr) {
            Ok(inner) => {
                self.layer.note(Event::Listening(&inner.local()));
                Ok(LayeredListener {
                    inner,
                    layer: self.layer.clone(),
                    listening: L::Listening::default(),
                    over: false,
                })
            }
            Err(error) => {
                self.layer.note(Event::NotListening(addr, &error));
                Err(error.into())
            }
        }
    }

    fn connect(&self, addr: &F::Addr) -> Self::Connecting {
        self.layer.note(Event::Connecting(addr));
        Handshake::new(self.inner.connect(addr), &self.layer, Role::Connector, addr.clone())
    }

    fn timer(&self) -> F::Timer {
        self.inner.timer()
    }
}

/// A handshake under a layer, of either side. It costs an allocation, and a clone of the layer.
#[derive(Debug)]
pub struct Handshake<L, F: Fabric, C> {
    inner: Pin<Box<C>>,
    layer: L,
    role: Role,
    peer: F::Addr,
}

// Nothing in here is pinned in place: the handshake below has a box of its own.
impl<L, F: Fabric, C> Unpin for Handshake<L, F, C> {}

impl<L: Clone, F: Fabric, C> Handshake<L, F, C> {
    fn new(inner: C, layer: &L, role: Role, peer: F::Addr) -> Self {
        Self { inner: Box::pin(inner), layer: layer.clone(), role, peer }
    }
}

impl<L: Layer<F>, F: Fabric, C: Future<Output = Result<F::Track, F::Error>>> Future for Handshake<L, F, C> {
    type Output = Result<L::Track, L::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        Poll::Ready(match ready!(this.inner.as_mut().poll(cx)) {
            Ok(track) => Ok(this.layer.track(track, this.role, &this.peer)),
            Err(error) => {
                this.layer.note(Event::Failed(this.role, &this.peer, &error));
                Err(error.into())
            }
        })
    }
}

/// A listener under a layer.
#[derive(Debug)]
pub struct LayeredListener<L: Layer<F>, F: Fabric> {
    inner: F::Listener,
    layer: L,
    listening: L::Listening,
    /// The user has closed it, or the layer has heard of its end.
    over: bool,
}

impl<L: Layer<F>, F: Fabric> LayeredListener<L, F> {
    /// The listener below.
    pub fn inner(&self) -> &F::Listener {
        &self.inner
    }
}

impl<L: Layer<F>, F: Fabric> Listener for LayeredListener<L, F> {
    type Addr = F::Addr;
    type Error = L::Error;
    type Track = L::Track;
    type Incoming = LayeredIncoming<L, F>;

    fn local(&self) -> F::Addr {
        self.inner.local()
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::Incoming, L::Error>> {
        let polled = self.inner.poll_incoming(cx);
        let seen = match &polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        };
        self.layer.polled(&mut self.listening, seen);
        Poll::Ready(match ready!(polled) {
            Ok(inner) => {
                let peer = inner.peer();
                self.layer.note(Event::Requested(&peer));
                Ok(LayeredIncoming { inner, answer: Answer { layer: self.layer.clone(), unanswered: Some(peer) } })
            }
            Err(error) => {
                if !std::mem::replace(&mut self.over, true) {
                    self.layer.note(Event::ListenerEnded(&self.inner.local(), &error));
                }
                Err(error.into())
            }
        })
    }

    fn close(&mut self) {
        self.over = true;
        self.layer.closing(&mut self.listening);
        self.inner.close();
    }
}

/// A request under a layer.
pub struct LayeredIncoming<L: Layer<F>, F: Fabric> {
    inner: <F::Listener as Listener>::Incoming,
    answer: Answer<L, F>,
}

/// Tells the layer of a request that is dropped unanswered.
struct Answer<L: Layer<F>, F: Fabric> {
    layer: L,
    unanswered: Option<F::Addr>,
}

impl<L: Layer<F>, F: Fabric> fmt::Debug for LayeredIncoming<L, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayeredIncoming").field("peer", &self.answer.unanswered).finish_non_exhaustive()
    }
}

impl<L: Layer<F>, F: Fabric> Drop for Answer<L, F> {
    fn drop(&mut self) {
        if let Some(peer) = self.unanswered.take() {
            self.layer.note(Event::Refused(&peer));
        }
    }
}

impl<L: Layer<F>, F: Fabric> Incoming for LayeredIncoming<L, F> {
    type Addr = F::Addr;
    type Error = L::Error;
    type Track = L::Track;
    type Accepting = Handshake<L, F, <<F::Listener as Listener>::Incoming as Incoming>::Accepting>;

    fn peer(&self) -> F::Addr {
        self.inner.peer()
    }

    fn accept(self) -> Self::Accepting {
        let Self { inner, mut answer } = self;
        let peer = answer.unanswered.take().unwrap_or_else(|| inner.peer());
        Handshake::new(inner.accept(), &answer.layer, Role::Acceptor, peer)
    }

    fn refuse(self) {
        // The answer is dropped after it, and tells the layer.
        self.inner.refuse();
    }

    fn busy(self) {
        self.inner.busy();
    }
}
