//! `DatagramListener`: requests for tracks of datagrams, all on one queue pair.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use trespass_core::{Incoming, Listener};

use super::fabric::Datagrams;
use super::track::UnreliableTrack;
use crate::driver::{Command, Handle, ListenerShared, Request, Ticket};
use crate::error::VerbsError;
use crate::listener::VerbsHandshake;

/// Waits for requests for datagrams at one address of the fabric's device. The tracks that it gives share its queue pair,
/// which lives as long as the listener or one of them does.
pub struct DatagramListener {
    handle: Handle,
    local: SocketAddr,
    shared: Arc<ListenerShared>,
    ticket: Arc<Ticket>,
    open: bool,
}

impl DatagramListener {
    pub(crate) fn new(handle: Handle, datagrams: &Arc<Datagrams>, addr: SocketAddr) -> Result<Self, VerbsError> {
        let (local, shared, ticket) = handle.control().listen_for_datagrams(datagrams, addr)?;
        Ok(Self { handle, local, shared, ticket, open: true })
    }
}

impl Listener for DatagramListener {
    type Addr = SocketAddr;
    type Error = VerbsError;
    type Track = UnreliableTrack;
    type Incoming = DatagramIncoming;

    fn local(&self) -> SocketAddr {
        self.local
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<DatagramIncoming, VerbsError>> {
        self.shared.waker.register(cx.waker());
        match self.shared.pop() {
            Ok(None) => Poll::Pending,
            Ok(Some(request)) => {
                let (handle, ticket) = (self.handle.clone(), Arc::clone(&self.ticket));
                Poll::Ready(Ok(DatagramIncoming { handle, request, ticket, open: true }))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.open, false) {
            for request in self.shared.close() {
                self.handle.leave(Command::Refuse(request.token));
            }
            self.handle.control().unlisten_for_datagrams(self.ticket.token());
        }
    }
}

impl Drop for DatagramListener {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for DatagramListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatagramListener").field("local", &self.local).finish_non_exhaustive()
    }
}

/// A request for datagrams. Dropping it refuses it.
pub struct DatagramIncoming {
    handle: Handle,
    request: Request,
    open: bool,
    /// Keeps the listener's queue pair for the track to come.
    ticket: Arc<Ticket>,
}

impl Incoming for DatagramIncoming {
    type Addr = SocketAddr;
    type Error = VerbsError;
    type Track = UnreliableTrack;
    type Accepting = VerbsHandshake<UnreliableTrack>;

    fn peer(&self) -> SocketAddr {
        self.request.peer
    }

    fn accept(mut self) -> VerbsHandshake<UnreliableTrack> {
        self.open = false;
        let ticket = Arc::clone(&self.ticket);
        let command = |token, promise| Command::AcceptDatagrams(token, promise, ticket);
        VerbsHandshake::accept(self.handle.clone(), self.request.token, command)
    }

    fn refuse(self) {}

    fn busy(mut self) {
        self.open = false;
        self.handle.leave(Command::PutOff(self.request.token));
    }
}

impl Drop for DatagramIncoming {
    fn drop(&mut self) {
        if self.open {
            self.handle.leave(Command::Refuse(self.request.token));
        }
    }
}

impl std::fmt::Debug for DatagramIncoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatagramIncoming").field("peer", &self.request.peer).finish_non_exhaustive()
    }
}
