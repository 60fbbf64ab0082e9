//! `VerbsShared`: reliable tracks of one device that share their queues.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use trespass_core::{Fabric, Incoming, Listener};

use super::config::SharedConfig;
use super::queue::SharedQueue;
use super::track::SharedTrack;
use crate::driver::{Command, Handle, Taker, Ticket};
use crate::error::VerbsError;
use crate::listener::{TrackListener, VerbsHandshake, VerbsIncoming};
use crate::timer::VerbsTimer;

/// Keeps the shared queues. The last one to be dropped has the driver take them down.
pub(crate) struct Claim {
    queue: Arc<SharedQueue>,
    /// After the queues, so that the driver holds the last reference to them.
    _ticket: Ticket,
}

impl Claim {
    pub(crate) fn new(queue: Arc<SharedQueue>, ticket: Ticket) -> Self {
        Self { queue, _ticket: ticket }
    }

    pub(crate) fn queue(&self) -> &Arc<SharedQueue> {
        &self.queue
    }
}

/// Reliable tracks on the device of a [`VerbsFabric`](crate::VerbsFabric), with its driver and protection domain, that share
/// two completion queues and one receive queue: for processes with many connections, most of which are idle. See
/// [`SharedTrack`] for what that asks of the peer. The peer may be any reliable track.
///
/// # Examples
/// ```no_run
/// use trespass_core::{Fabric, RecvSideExt, SendSide, SendSideExt};
/// use trespass_verbs::{SharedConfig, VerbsConfig, VerbsFabric};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let fabric = VerbsFabric::open(VerbsConfig::default())?;
/// let shared = fabric.shared(SharedConfig::default().with_tracks(256, 16))?;
/// futures_executor::block_on(async {
///     let mut track = shared.connect(&"10.9.0.2:7471".parse()?).await?;
///     let mut buf = track.reserve(5).await?;
///     buf.copy_from_slice(b"hello");
///     track.send(buf)?;
///     println!("{:?}", track.recv().await?);
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct VerbsShared {
    handle: Handle,
    claim: Arc<Claim>,
}

impl VerbsShared {
    pub(crate) fn new(handle: Handle, config: SharedConfig) -> Result<Self, VerbsError> {
        let claim = Arc::new(handle.control().share(config)?);
        Ok(Self { handle, claim })
    }
}

impl Fabric for VerbsShared {
    type Addr = SocketAddr;
    type Error = VerbsError;
    type Timer = VerbsTimer;
    type Track = SharedTrack;
    type Listener = SharedListener;
    type Connecting = VerbsHandshake<SharedTrack>;

    fn listen(&self, addr: &SocketAddr) -> Result<SharedListener, VerbsError> {
        let listener = TrackListener::new(self.handle.clone(), *addr)?;
        Ok(SharedListener { listener, claim: Arc::clone(&self.claim) })
    }

    fn connect(&self, addr: &SocketAddr) -> VerbsHandshake<SharedTrack> {
        VerbsHandshake::begin(self.handle.clone(), |control, promise| {
            control.connect(*addr, Taker::Shared(Arc::clone(promise), Arc::clone(&self.claim)))
        })
    }

    fn timer(&self) -> VerbsTimer {
        VerbsTimer::new(self.handle.clone())
    }
}

impl std::fmt::Debug for VerbsShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let config = &self.claim.queue.config;
        f.debug_struct("VerbsShared").field("handle", &self.handle).field("config", config).finish_non_exhaustive()
    }
}

/// Waits for connection requests, for tracks that share their queues.
#[derive(Debug)]
pub struct SharedListener {
    listener: TrackListener,
    claim: Arc<Claim>,
}

impl Listener for SharedListener {
    type Addr = SocketAddr;
    type Error = VerbsError;
    type Track = SharedTrack;
    type Incoming = SharedIncoming;

    fn local(&self) -> SocketAddr {
        self.listener.local()
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<SharedIncoming, VerbsError>> {
        let claim = &self.claim;
        self.listener
            .poll_incoming(cx)
            .map(|incoming| incoming.map(|incoming| SharedIncoming { incoming, claim: Arc::clone(claim) }))
    }

    fn close(&mut self) {
        self.listener.close();
    }
}

/// A connection request. Dropping it refuses it.
#[derive(Debug)]
pub struct SharedIncoming {
    incoming: VerbsIncoming,
    claim: Arc<Claim>,
}

impl Incoming for SharedIncoming {
    type Addr = SocketAddr;
    type Error = VerbsError;
    type Track = SharedTrack;
    type Accepting = VerbsHandshake<SharedTrack>;

    fn peer(&self) -> SocketAddr {
        self.incoming.peer()
    }

    fn accept(self) -> VerbsHandshake<SharedTrack> {
        let claim = self.claim;
        self.incoming.accept_by(|token, promise| Command::Accept(token, Taker::Shared(promise, claim)))
    }

    fn refuse(self) {}

    fn busy(self) {
        self.incoming.busy();
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").field("config", &self.queue.config).finish_non_exhaustive()
    }
}
