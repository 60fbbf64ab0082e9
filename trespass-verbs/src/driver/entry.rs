//! What the driver keeps for each token.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use trespass_core::WakerSlot;

use super::asking::Asking;
use super::datagrams::{PortEntry, Seeking};
use crate::error::VerbsError;
use crate::hub::Member;
use crate::promise::Promise;
use crate::raw::cm::CmId;
use crate::shared::{Claim, SharedQueue, SharedTrack};
use crate::sync::{Mutex, MutexGuard};
use crate::track::conn::Conn;
use crate::track::{RecvQueue, ReliableTrack, SendQueue};

/// A connection or a listener, in one of the states of its life.
pub(crate) enum Entry {
    Listening(Listening),
    /// Looking for the way to the peer.
    Resolving(Resolving),
    /// The peer was too busy: waiting to try again.
    Pausing(Pausing),
    /// Waiting for the peer, with everything built: after a connect or an accept.
    Waiting(Box<Waiting>),
    /// A request that the user has not answered.
    Requested(Requested),
    Established(Established),
    /// A queue pair for datagrams, with all who share it.
    Port(PortEntry),
    /// Queues that tracks share.
    Shared(Arc<SharedQueue>),
    /// Looking for a port of a peer.
    Seeking(Box<Seeking>),
    /// A request for datagrams that the user has not answered.
    Asking(Asking),
}

pub(crate) struct Listening {
    pub(crate) shared: Arc<ListenerShared>,
    /// Destroyed with the entry.
    pub(crate) _id: CmId,
}

pub(crate) struct Resolving {
    pub(crate) id: CmId,
    pub(crate) peer: SocketAddr,
    pub(crate) taker: Taker,
    pub(crate) deadline: Duration,
    /// How often it was tried before.
    pub(crate) tries: u32,
}

pub(crate) struct Pausing {
    pub(crate) peer: SocketAddr,
    pub(crate) taker: Taker,
    pub(crate) deadline: Duration,
    /// When the pause is over, before the deadline.
    pub(crate) again: Duration,
    pub(crate) tries: u32,
}

pub(crate) struct Waiting {
    pub(crate) queues: Queues,
    pub(crate) peer: SocketAddr,
    pub(crate) taker: Taker,
    pub(crate) deadline: Duration,
    /// How often it was tried before; none on the accepting end, which tries once.
    pub(crate) tries: Option<u32>,
}

pub(crate) struct Requested {
    pub(crate) id: CmId,
    pub(crate) peer: SocketAddr,
    pub(crate) listener: Arc<ListenerShared>,
    pub(crate) responder_resources: u8,
    pub(crate) initiator_depth: u8,
    pub(crate) deadline: Duration,
}

/// The two sides of a track to come, receives posted.
pub(crate) enum Queues {
    Own(Box<(SendQueue, RecvQueue)>),
    Shared(Arc<Conn>, Arc<Member>),
}

impl Queues {
    pub(crate) fn conn(&self) -> &Arc<Conn> {
        match self {
            Self::Own(queues) => queues.0.conn(),
            Self::Shared(conn, _) => conn,
        }
    }
}

/// Who gets what comes of a handshake, and on which queues that is to be.
pub(crate) enum Taker {
    Own(Arc<Promise<ReliableTrack>>),
    Shared(Arc<Promise<SharedTrack>>, Arc<Claim>),
}

impl Taker {
    /// Nothing came of it. Not under a lock.
    pub(crate) fn fail(&self, error: VerbsError) {
        match self {
            Self::Own(promise) => promise.resolve(Err(error)),
            Self::Shared(promise, _) => promise.resolve(Err(error)),
        }
    }
}

pub(crate) struct Established {
    pub(crate) conn: Arc<Conn>,
    /// Events taken and not acknowledged, of the send and the receive completion queue.
    unacked: [u32; 2],
}

impl Established {
    pub(crate) fn new(conn: Arc<Conn>) -> Self {
        Self { conn, unacked: [0; 2] }
    }

    /// Counts an event, and acknowledges once there are `batch` of them.
    pub(crate) fn count_event(&mut self, receive: bool, batch: u32) {
        let unacked = &mut self.unacked[usize::from(receive)];
        *unacked += 1;
        if *unacked >= batch {
            let cq = if receive { &self.conn.recv_cq } else { &self.conn.send_cq };
            cq.ack(std::mem::take(unacked));
        }
    }

    /// Acknowledges everything: a completion queue with unacknowledged events is never destroyed (ibv_destroy_cq(3)).
    pub(crate) fn ack_all(&mut self) {
        self.conn.send_cq.ack(std::mem::take(&mut self.unacked[0]));
        self.conn.recv_cq.ack(std::mem::take(&mut self.unacked[1]));
    }
}

impl Entry {
    /// When something has to have happened, where there is such a time.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self {
            Self::Resolving(resolving) => Some(resolving.deadline),
            Self::Pausing(pausing) => Some(pausing.again),
            Self::Waiting(waiting) => Some(waiting.deadline),
            Self::Requested(requested) => Some(requested.deadline),
            Self::Seeking(seeking) => Some(seeking.step),
            Self::Asking(asking) => Some(asking.deadline),
            Self::Listening(_) | Self::Established(_) | Self::Port(_) | Self::Shared(_) => None,
        }
    }

    /// Ends it, whatever it is, because the driver ends.
    pub(crate) fn shut(self) {
        match self {
            Self::Listening(listening) => drop(listening.shared.close()),
            Self::Resolving(resolving) => resolving.taker.fail(VerbsError::Closed),
            Self::Pausing(pausing) => pausing.taker.fail(VerbsError::Closed),
            Self::Waiting(waiting) => {
                waiting.queues.conn().end(None);
                waiting.taker.fail(VerbsError::Closed);
            }
            Self::Requested(requested) => {
                let _ = requested.id.reject(super::handshake::REFUSED);
            }
            Self::Established(mut established) => {
                established.conn.end(None);
                // Events that nobody took are taken back by the kernel; those that were taken are acknowledged here.
                established.ack_all();
            }
            Self::Port(port) => port.shut(),
            // Its tracks have entries of their own.
            Self::Shared(queue) => drop(queue),
            Self::Seeking(seeking) => seeking.want.resolve(Err(VerbsError::Closed)),
            Self::Asking(asking) => {
                let _ = asking.id.reject(super::handshake::REFUSED);
            }
        }
    }
}

/// What a listener and the driver share.
pub(crate) struct ListenerShared {
    queue: Mutex<Queue>,
    pub(crate) waker: WakerSlot,
    backlog: usize,
}

struct Queue {
    requests: VecDeque<Request>,
    /// Why there will be no more, once there will not.
    over: Option<VerbsError>,
}

/// A request, as the user is told of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) token: u64,
    pub(crate) peer: SocketAddr,
}

impl ListenerShared {
    pub(crate) fn new(backlog: usize) -> Arc<Self> {
        let queue = Queue { requests: VecDeque::new(), over: None };
        Arc::new(Self { queue: Mutex::new(queue), waker: WakerSlot::new(), backlog })
    }

    /// Whether there was room for it. Wake the waker afterwards.
    pub(crate) fn push(&self, request: Request) -> bool {
        let mut queue = self.lock();
        let room = queue.over.is_none() && queue.requests.len() < self.backlog;
        if room {
            queue.requests.push_back(request);
        }
        room
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().over.is_none()
    }

    /// The next request; `None` where there is none; an error once closed, or of what it failed with.
    pub(crate) fn pop(&self) -> Result<Option<Request>, VerbsError> {
        let mut queue = self.lock();
        match &queue.over {
            None => Ok(queue.requests.pop_front()),
            Some(error) => Err(error.clone()),
        }
    }

    /// Forgets a request that has gone away.
    pub(crate) fn forget(&self, token: u64) {
        self.lock().requests.retain(|request| request.token != token);
    }

    /// Takes no more.
    pub(crate) fn close(&self) -> VecDeque<Request> {
        self.end(VerbsError::Closed)
    }

    /// The same, because of `error`, which whoever waits is told unless it was closed before.
    pub(crate) fn end(&self, error: VerbsError) -> VecDeque<Request> {
        let requests = {
            let mut queue = self.lock();
            queue.over.get_or_insert(error);
            std::mem::take(&mut queue.requests)
        };
        self.waker.wake();
        requests
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(token: u64) -> Request {
        Request { token, peer: SocketAddr::from(([192, 0, 2, 1], 7471)) }
    }

    #[test]
    fn a_listener_says_what_it_failed_with_ever_after() {
        let failure = VerbsError::Device { action: "listen", why: "the device was removed".into() };
        let listener = ListenerShared::new(2);
        assert!(listener.push(request(1)) && listener.is_open());
        assert_eq!(listener.end(failure.clone()).len(), 1, "what nobody took");
        assert!(!listener.push(request(2)) && !listener.is_open());
        // A close after that has nothing to add.
        assert!(listener.close().is_empty());
        for _ in 0..2 {
            assert_eq!(listener.pop().err(), Some(failure.clone()));
        }
    }

    #[test]
    fn one_that_was_closed_stays_closed() {
        let listener = ListenerShared::new(1);
        drop(listener.close());
        drop(listener.end(VerbsError::Device { action: "listen", why: "later".into() }));
        assert_eq!(listener.pop().err(), Some(VerbsError::Closed));
    }
}
