//! `TrackListener`: connection requests through rdma_cm, and the futures of a handshake.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use trespass_core::{Incoming, Listener};

use crate::driver::{Command, Control, Handle, ListenerShared, Request, Taker};
use crate::error::VerbsError;
use crate::promise::Promise;
use crate::track::ReliableTrack;

/// Waits for connection requests at one address of the fabric's device.
pub struct TrackListener {
    handle: Handle,
    token: u64,
    local: SocketAddr,
    shared: Arc<ListenerShared>,
    open: bool,
}

impl TrackListener {
    pub(crate) fn new(handle: Handle, addr: SocketAddr) -> Result<Self, VerbsError> {
        let (token, local, shared) = handle.control().listen(addr)?;
        Ok(Self { handle, token, local, shared, open: true })
    }
}

impl Listener for TrackListener {
    type Addr = SocketAddr;
    type Error = VerbsError;
    type Track = ReliableTrack;
    type Incoming = VerbsIncoming;

    fn local(&self) -> SocketAddr {
        self.local
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<VerbsIncoming, VerbsError>> {
        self.shared.waker.register(cx.waker());
        match self.shared.pop() {
            Ok(None) => Poll::Pending,
            Ok(Some(request)) => Poll::Ready(Ok(VerbsIncoming { handle: self.handle.clone(), request, open: true })),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.open, false) {
            for request in self.shared.close() {
                self.handle.leave(Command::Refuse(request.token));
            }
            self.handle.control().unlisten(self.token);
        }
    }
}

impl Drop for TrackListener {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for TrackListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrackListener").field("local", &self.local).finish_non_exhaustive()
    }
}

/// A connection request. Dropping it refuses it.
pub struct VerbsIncoming {
    handle: Handle,
    request: Request,
    open: bool,
}

impl Incoming for VerbsIncoming {
    type Addr = SocketAddr;
    type Error = VerbsError;
    type Track = ReliableTrack;
    type Accepting = VerbsHandshake;

    fn peer(&self) -> SocketAddr {
        self.request.peer
    }

    fn accept(self) -> VerbsHandshake {
        self.accept_by(|token, promise| Command::Accept(token, Taker::Own(promise)))
    }

    fn refuse(self) {}

    fn busy(mut self) {
        self.open = false;
        self.handle.leave(Command::PutOff(self.request.token));
    }
}

impl VerbsIncoming {
    pub(crate) fn accept_by<T>(mut self, command: impl FnOnce(u64, Arc<Promise<T>>) -> Command) -> VerbsHandshake<T> {
        self.open = false;
        VerbsHandshake::accept(self.handle.clone(), self.request.token, command)
    }
}

impl Drop for VerbsIncoming {
    fn drop(&mut self) {
        if self.open {
            self.handle.leave(Command::Refuse(self.request.token));
        }
    }
}

impl std::fmt::Debug for VerbsIncoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerbsIncoming").field("peer", &self.request.peer).finish_non_exhaustive()
    }
}

/// A connection in the making, on either side. The driver works on it whether or not it is polled; dropping it takes
/// everything back.
pub struct VerbsHandshake<T = ReliableTrack> {
    handle: Handle,
    /// None where it failed before it began.
    token: Option<u64>,
    promise: Arc<Promise<T>>,
}

impl VerbsHandshake {
    pub(crate) fn connect(handle: Handle, peer: SocketAddr) -> Self {
        Self::begin(handle, |control, promise| control.connect(peer, Taker::Own(Arc::clone(promise))))
    }
}

impl<T> VerbsHandshake<T> {
    /// Begins what says by which token the driver knows it.
    pub(crate) fn begin(
        handle: Handle,
        begin: impl FnOnce(&Arc<Control>, &Arc<Promise<T>>) -> Result<u64, VerbsError>,
    ) -> Self {
        let promise = Promise::new();
        let begun = if handle.is_driven() { begin(handle.control(), &promise) } else { Err(VerbsError::Closed) };
        let token = match begun {
            Ok(token) => Some(token),
            Err(error) => {
                promise.resolve(Err(error));
                None
            }
        };
        // A driver that waits learns of the new deadline.
        handle.deadlines_changed();
        handle.nudge();
        Self { handle, token, promise }
    }

    /// Leaves it to the driver to accept the request by `command`.
    pub(crate) fn accept(handle: Handle, token: u64, command: impl FnOnce(u64, Arc<Promise<T>>) -> Command) -> Self {
        let promise = Promise::new();
        if handle.is_driven() {
            handle.leave(command(token, Arc::clone(&promise)));
        } else {
            promise.resolve(Err(VerbsError::Closed));
        }
        Self { handle, token: Some(token), promise }
    }
}

impl<T> Future for VerbsHandshake<T> {
    type Output = Result<T, VerbsError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.promise.poll(cx)
    }
}

impl<T> Drop for VerbsHandshake<T> {
    fn drop(&mut self) {
        // A track that nobody took is torn down with the promise.
        if let (Some(token), true) = (self.token, self.promise.is_pending()) {
            self.handle.leave(Command::Cancel(token));
        }
    }
}

impl<T> std::fmt::Debug for VerbsHandshake<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerbsHandshake").finish_non_exhaustive()
    }
}
