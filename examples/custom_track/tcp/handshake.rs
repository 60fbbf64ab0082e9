//! How a track comes to be. Each end of it is a small state machine that the reactor takes further whenever its socket is
//! ready, so that a slow peer keeps nobody waiting but itself.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;

use super::connect::Request;
use super::link::Link;
use super::listen::{Place, Waiting};
use super::track::TcpTrack;
use super::wire::{GREETING, Greeting, Refusal, Violation};
use super::{TcpError, TcpFabric};

/// A handshake that waits for its peer.
#[derive(Debug)]
pub(super) struct Handshake {
    fabric: TcpFabric,
    pub(super) socket: TcpStream,
    deadline: Instant,
    greeting: [u8; GREETING],
    filled: usize,
    part: Part,
}

#[derive(Debug)]
pub(super) enum Part {
    /// The connecting end, until the connection is there.
    Connecting(Arc<Request>),
    /// The connecting end, which has asked.
    Asking(Arc<Request>),
    /// The accepting end, which does not know yet what the peer wants.
    Asked(Place),
}

impl Handshake {
    pub(super) fn new(fabric: &TcpFabric, socket: TcpStream, part: Part) -> Self {
        let deadline = Instant::now() + fabric.config.handshake;
        Self { fabric: fabric.clone(), socket, deadline, greeting: [0; GREETING], filled: 0, part }
    }

    /// As far as it goes without waiting. `None` where it is over.
    pub(super) fn go_on(mut self) -> Option<Self> {
        match self.advance() {
            Ok(None) => Some(self),
            Ok(Some(greeting)) => {
                self.conclude(greeting);
                None
            }
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    /// Whether anybody waits for it. (What an accepting end has begun it always ends.)
    pub(super) fn is_wanted(&self) -> bool {
        match &self.part {
            Part::Connecting(request) | Part::Asking(request) => request.is_wanted(),
            Part::Asked(_) => true,
        }
    }

    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline <= now
    }

    pub(super) fn fail(self, error: TcpError) {
        match self.part {
            Part::Connecting(request) | Part::Asking(request) => request.answer(Err(error)),
            // Whoever that was did not come as far as a request. One of another version can be told.
            Part::Asked(_) => {
                if let TcpError::Protocol(Violation::Version(_)) = error {
                    say(&self.socket, Greeting::No(Refusal::Version));
                }
            }
        }
    }

    /// The peer's greeting, once all of it is there.
    fn advance(&mut self) -> Result<Option<Greeting>, TcpError> {
        if let Part::Connecting(request) = &self.part {
            if !is_connected(&self.socket)? {
                return Ok(None);
            }
            // It fits: nothing was written to this socket before.
            if !say(&self.socket, Greeting::Ask(self.fabric.config.terms())) {
                return Err(TcpError::Unanswered);
            }
            self.part = Part::Asking(Arc::clone(request));
        }
        while self.filled < GREETING {
            match self.socket.read(&mut self.greeting[self.filled..]) {
                Ok(0) => return Err(TcpError::Unanswered),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(TcpError::Unanswered),
                Err(error) => return Err(TcpError::io("cannot shake hands", &error)),
            }
        }
        Greeting::parse(&self.greeting).map(Some).map_err(TcpError::Protocol)
    }

    fn conclude(mut self, greeting: Greeting) {
        // It is registered for this handshake. Where that fails, so does what follows.
        let _ = self.fabric.reactor.release(&mut self.socket);
        match (self.part, greeting) {
            (Part::Asking(request) | Part::Connecting(request), greeting) => request.answer(match greeting {
                Greeting::Yes(terms) => Link::start(&self.fabric, self.socket, terms).map(TcpTrack::new),
                Greeting::No(why) => Err(TcpError::Refused(why)),
                Greeting::Ask(_) => Err(TcpError::Protocol(Violation::Greeting)),
            }),
            (Part::Asked(place), Greeting::Ask(terms)) => {
                let listening = Arc::clone(&place.0);
                listening.push(Waiting { socket: self.socket, terms, deadline: self.deadline, _place: place });
            }
            (Part::Asked(_), Greeting::Yes(_) | Greeting::No(_)) => {}
        }
    }
}

/// Whether a connect is through.
fn is_connected(socket: &TcpStream) -> Result<bool, TcpError> {
    if let Some(error) = socket.take_error().unwrap_or_else(Some) {
        return Err(TcpError::io("cannot connect", &error));
    }
    let Ok(peer) = socket.peer_addr() else { return Ok(false) };
    // The system may choose, as one's own port, the one that one connects to.
    if socket.local_addr().is_ok_and(|local| local == peer) {
        return Err(TcpError::Unanswered);
    }
    Ok(true)
}

/// Says `greeting` on a socket that has room for it. Whether that worked.
pub(super) fn say(mut socket: &TcpStream, greeting: Greeting) -> bool {
    socket.write(&greeting.encode()).is_ok_and(|count| count == GREETING)
}
