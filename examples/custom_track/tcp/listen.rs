//! The accepting end: the listener, the requests that wait at it, and what becomes of them.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

use mio::net::TcpStream;
use trespass::core::{Incoming, Listener, WakerSlot};

use super::handshake::{Handshake, Part, say};
use super::link::Link;
use super::reactor::{Entry, Membership};
use super::track::TcpTrack;
use super::wire::{Greeting, Refusal, Terms};
use super::{TcpError, TcpFabric, lock};

/// How many connections are taken in one turn, so that a storm of them does not hold up those that are established.
const ACCEPTS: usize = 64;

/// What a listener and the reactor share.
#[derive(Debug)]
pub(super) struct Listening {
    fabric: TcpFabric,
    local: SocketAddr,
    state: Mutex<State>,
    changed: WakerSlot,
    /// Places in the backlog that are taken.
    places: AtomicUsize,
}

#[derive(Debug)]
struct State {
    /// Until it ends.
    socket: Option<mio::net::TcpListener>,
    waiting: VecDeque<Waiting>,
    ended: Option<TcpError>,
}

/// A place in the backlog of a listener.
#[derive(Debug)]
pub(super) struct Place(pub(super) Arc<Listening>);

impl Place {
    fn take(listening: &Arc<Listening>) -> Option<Self> {
        let place = Self(Arc::clone(listening));
        let taken = listening.places.fetch_add(1, Ordering::Relaxed);
        (taken < listening.fabric.config.backlog).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) socket: TcpStream,
    pub(super) terms: Terms,
    pub(super) deadline: Instant,
    pub(super) _place: Place,
}

impl Waiting {
    /// Whether the peer still waits for an answer.
    fn is_wanted(&self) -> bool {
        matches!(self.socket.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether there is still time for one. Where there is not the peer is told, which may count by another clock.
    fn is_in_time(&self, now: Instant) -> bool {
        let in_time = now < self.deadline;
        if !in_time {
            say(&self.socket, Greeting::No(Refusal::Late));
        }
        in_time
    }
}

impl Listening {
    /// Takes in who has come. Whether there may be more.
    pub(super) fn accept(self: &Arc<Self>) -> bool {
        for _ in 0..ACCEPTS {
            let accepted = match &lock(&self.state).socket {
                Some(socket) => socket.accept(),
                None => return false,
            };
            match accepted {
                Ok((socket, _)) => self.greet(socket),
                // One that went before it was looked at.
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                // There is none; or no descriptor for it, and the next turn looks again.
                Err(_) => return false,
            }
        }
        true
    }

    fn greet(self: &Arc<Self>, socket: TcpStream) {
        let Some(place) = Place::take(self) else {
            say(&socket, Greeting::No(Refusal::Busy));
            return;
        };
        if let Ok(membership) = self.fabric.reactor.begin(Handshake::new(&self.fabric, socket, Part::Asked(place))) {
            // By its deadline at the latest it is over.
            membership.detach();
        }
    }

    /// A request is complete.
    pub(super) fn push(&self, waiting: Waiting) {
        let mut state = lock(&self.state);
        if state.ended.is_none() {
            state.waiting.push_back(waiting);
            drop(state);
            self.changed.wake();
        } else {
            drop(state);
            say(&waiting.socket, Greeting::No(Refusal::Refused));
        }
    }

    /// Forgets requests whose time is up, and looks whether there is a descriptor for those who had none.
    pub(super) fn on_turn(self: &Arc<Self>, now: Instant) {
        lock(&self.state).waiting.retain(|waiting| waiting.is_in_time(now));
        self.accept();
    }

    /// Stops listening, frees the address, and refuses those who wait.
    pub(super) fn end(&self, why: TcpError) {
        let (socket, waiting) = {
            let mut state = lock(&self.state);
            state.ended.get_or_insert(why);
            (state.socket.take(), std::mem::take(&mut state.waiting))
        };
        drop(socket);
        waiting.iter().for_each(|waiting| _ = say(&waiting.socket, Greeting::No(Refusal::Refused)));
        self.changed.wake();
    }
}

/// Waits for requests.
#[derive(Debug)]
pub(crate) struct TcpListener {
    listening: Arc<Listening>,
    _membership: Membership,
}

impl TcpListener {
    pub(super) fn bind(fabric: &TcpFabric, addr: SocketAddr) -> Result<Self, TcpError> {
        let io = |error: io::Error| TcpError::io("cannot listen", &error);
        let socket = mio::net::TcpListener::bind(addr).map_err(io)?;
        let local = socket.local_addr().map_err(io)?;
        let state = State { socket: None, waiting: VecDeque::new(), ended: None };
        let listening = Arc::new(Listening {
            fabric: fabric.clone(),
            local,
            state: Mutex::new(state),
            changed: WakerSlot::new(),
            places: AtomicUsize::new(0),
        });
        let membership = fabric.reactor.join(Entry::Listening(Arc::clone(&listening)));
        {
            let mut state = lock(&listening.state);
            membership.register(state.socket.insert(socket)).map_err(io)?;
        }
        Ok(Self { listening, _membership: membership })
    }
}

impl Listener for TcpListener {
    type Addr = SocketAddr;
    type Error = TcpError;
    type Track = TcpTrack;
    type Incoming = TcpIncoming;

    fn local(&self) -> SocketAddr {
        self.listening.local
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<TcpIncoming, TcpError>> {
        self.listening.changed.register(cx.waker());
        let mut state = lock(&self.listening.state);
        if let Some(ended) = &state.ended {
            return Poll::Ready(Err(ended.clone()));
        }
        let now = Instant::now();
        while let Some(waiting) = state.waiting.pop_front() {
            let peer = waiting.socket.peer_addr();
            if let (Ok(peer), true, true) = (peer, waiting.is_wanted(), waiting.is_in_time(now)) {
                let Waiting { socket, terms, .. } = waiting;
                let fabric = self.listening.fabric.clone();
                return Poll::Ready(Ok(TcpIncoming { fabric, peer, terms, socket: Some(socket) }));
            }
        }
        Poll::Pending
    }

    fn close(&mut self) {
        self.listening.end(TcpError::Closed);
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.close();
    }
}

/// A request that was taken. Dropping it refuses it.
#[derive(Debug)]
pub(crate) struct TcpIncoming {
    fabric: TcpFabric,
    peer: SocketAddr,
    terms: Terms,
    /// Until it is answered.
    socket: Option<TcpStream>,
}

impl Incoming for TcpIncoming {
    type Addr = SocketAddr;
    type Error = TcpError;
    type Track = TcpTrack;
    type Accepting = Ready<Result<TcpTrack, TcpError>>;

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The peer waits for nothing but this word, so there is nothing to wait for here.
    fn accept(mut self) -> Self::Accepting {
        let socket = self.socket.take().filter(|socket| say(socket, Greeting::Yes(self.fabric.config.terms())));
        ready(match socket {
            Some(socket) => Link::start(&self.fabric, socket, self.terms).map(TcpTrack::new),
            None => Err(TcpError::Closed),
        })
    }

    fn refuse(self) {}

    fn busy(mut self) {
        if let Some(socket) = self.socket.take() {
            say(&socket, Greeting::No(Refusal::Busy));
        }
    }
}

impl Drop for TcpIncoming {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            say(socket, Greeting::No(Refusal::Refused));
        }
    }
}
