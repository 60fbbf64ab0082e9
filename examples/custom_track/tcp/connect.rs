//! The connecting end, as the user sees it.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use mio::net::TcpStream;
use trespass::core::WakerSlot;

use super::handshake::{Handshake, Part};
use super::reactor::Membership;
use super::track::TcpTrack;
use super::{TcpError, TcpFabric, lock};

/// What a connect comes to: the future takes it from here.
#[derive(Debug, Default)]
pub(super) struct Request {
    answer: Mutex<Answer>,
    changed: WakerSlot,
}

#[derive(Debug, Default)]
enum Answer {
    #[default]
    NotYet,
    Here(Result<TcpTrack, TcpError>),
    /// It was taken, or nobody wants it any more.
    Gone,
}

impl Request {
    pub(super) fn is_wanted(&self) -> bool {
        matches!(*lock(&self.answer), Answer::NotYet)
    }

    pub(super) fn answer(&self, result: Result<TcpTrack, TcpError>) {
        let unwanted = {
            let mut answer = lock(&self.answer);
            match *answer {
                Answer::NotYet => std::mem::replace(&mut *answer, Answer::Here(result)),
                _ => Answer::Here(result),
            }
        };
        // A track that nobody waits for ends, without the lock.
        drop(unwanted);
        self.changed.wake();
    }
}

/// A connection in the making. Dropping it closes the socket, whatever the handshake has come to.
#[derive(Debug)]
pub(crate) struct TcpConnecting {
    request: Arc<Request>,
    /// Dropped after the request is marked as unwanted: see `Thread::put_back`.
    _membership: Option<Membership>,
}

impl TcpConnecting {
    pub(super) fn start(fabric: &TcpFabric, addr: SocketAddr) -> Self {
        let request = Arc::new(Request::default());
        let _membership = match Self::begin(fabric, addr, &request) {
            Ok(membership) => Some(membership),
            Err(error) => {
                request.answer(Err(error));
                None
            }
        };
        Self { request, _membership }
    }

    fn begin(fabric: &TcpFabric, addr: SocketAddr, request: &Arc<Request>) -> Result<Membership, TcpError> {
        let socket = TcpStream::connect(addr).map_err(|error| TcpError::io("cannot connect", &error))?;
        let part = Part::Connecting(Arc::clone(request));
        fabric.reactor.begin(Handshake::new(fabric, socket, part))
    }
}

impl Future for TcpConnecting {
    type Output = Result<TcpTrack, TcpError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.request.changed.register(cx.waker());
        let mut answer = lock(&self.request.answer);
        match std::mem::replace(&mut *answer, Answer::Gone) {
            Answer::NotYet => {
                *answer = Answer::NotYet;
                Poll::Pending
            }
            Answer::Here(result) => Poll::Ready(result),
            Answer::Gone => Poll::Ready(Err(TcpError::Closed)),
        }
    }
}

impl Drop for TcpConnecting {
    fn drop(&mut self) {
        let answer = std::mem::replace(&mut *lock(&self.request.answer), Answer::Gone);
        drop(answer);
    }
}
