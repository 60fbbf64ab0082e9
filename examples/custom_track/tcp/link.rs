//! One end of a track: the two queues, joined to a socket. The sender writes to the socket by itself; the reactor reads, and
//! writes what had no room.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use trespass::core::{Limits, SystemTimer, WakerSlot};

use super::inbound::Inbound;
use super::outbound::Outbound;
use super::reactor::{Entry, Membership};
use super::wire::Terms;
use super::{TcpError, TcpFabric, lock};

/// How often a socket is read in one turn, so that one busy peer does not keep the others waiting.
const READS: usize = 4;

/// What a track, its halves, its buffers and the reactor share. Nobody is woken under its lock.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) limits: Limits,
    pub(super) close: Duration,
    pub(super) timer: SystemTimer,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) send_ready: WakerSlot,
    pub(super) recv_ready: WakerSlot,
    silence: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) outbound: Outbound,
    pub(super) inbound: Inbound,
    /// Until the track ends.
    wire: Option<Wire>,
    pub(super) ended: Option<TcpError>,
    /// Whether something was under way when it ended.
    pub(super) lost: bool,
    pub(super) doorbells: u64,
    pub(super) arms: u64,
    /// Whom to wake when the lock is let go.
    wake_sender: bool,
    wake_receiver: bool,
}

#[derive(Debug)]
struct Wire {
    socket: TcpStream,
    membership: Membership,
    /// Writing has failed. Why, reading will say, once all that had come is read.
    broken: bool,
    /// See [`Link::unplug`].
    unplugged: bool,
}

impl Link {
    /// A track on a socket on which both ends have agreed.
    pub(super) fn start(fabric: &TcpFabric, socket: TcpStream, peer_terms: Terms) -> Result<Arc<Self>, TcpError> {
        let addresses = socket.local_addr().and_then(|local| Ok((local, socket.peer_addr()?)));
        // A peer that is gone already has no address any more.
        let (local, peer) = addresses.map_err(|_| TcpError::Closed)?;
        let limits = fabric.config.limits(peer_terms);
        let link = Arc::new(Self {
            limits,
            close: fabric.config.close,
            timer: fabric.timer.clone(),
            local,
            peer,
            send_ready: WakerSlot::new(),
            recv_ready: WakerSlot::new(),
            silence: fabric.config.silence,
            state: Mutex::new(State {
                outbound: Outbound::new(limits.max_message, limits.send_slots, peer_terms),
                inbound: Inbound::new(limits.max_message, limits.recv_slots),
                wire: None,
                ended: None,
                lost: false,
                doorbells: 0,
                arms: 0,
                wake_sender: false,
                wake_receiver: false,
            }),
        });
        // Under the lock, so that the first event finds the socket in its place.
        let mut state = lock(&link.state);
        let membership = fabric.reactor.join(Entry::Link(Arc::clone(&link)));
        let wire = state.wire.insert(Wire { socket, membership, broken: false, unplugged: false });
        let registered = wire.membership.register(&mut wire.socket);
        drop(state);
        match registered {
            Ok(()) => Ok(link),
            Err(error) => {
                let error = TcpError::io("cannot watch a socket", &error);
                link.end(error.clone());
                Err(error)
            }
        }
    }

    /// Looks at or changes the state; then wakes whoever that concerns.
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = lock(&self.state);
        let result = change(&mut state);
        let wake_sender = std::mem::take(&mut state.wake_sender);
        let wake_receiver = std::mem::take(&mut state.wake_receiver);
        drop(state);
        if wake_sender {
            self.send_ready.wake();
        }
        if wake_receiver {
            self.recv_ready.wake();
        }
        result
    }

    /// Ends the track, if it has not ended. The peer sees the end too.
    pub(super) fn end(&self, why: TcpError) {
        self.with(|state| state.end(why));
    }

    /// The socket has something, or has room. Whether it may have more.
    pub(super) fn on_ready(&self, staging: &mut [u8]) -> bool {
        self.with(|state| {
            state.pump();
            let more = (0..READS).all(|_| state.read(staging));
            // What came may have made room, and is to be confirmed.
            state.pump();
            more
        })
    }

    /// Looks whether the peer still answers.
    pub(super) fn on_turn(&self, now: Instant) {
        self.with(|state| {
            if state.outbound.is_unanswered(self.silence, now) {
                state.end(TcpError::Silent(self.silence));
            }
        });
    }

    /// Makes the link behave as if its cable were pulled, for tests: nothing goes out or comes in any more, and nobody is told.
    pub(super) fn unplug(&self) {
        self.with(|state| {
            if let Some(wire) = &mut state.wire {
                wire.unplugged = true;
            }
        });
    }
}

impl State {
    pub(super) fn alive(&self) -> Result<(), TcpError> {
        self.ended.clone().map_or(Ok(()), Err)
    }

    /// Lets go what is queued.
    pub(super) fn flush(&mut self) -> Result<(), TcpError> {
        self.alive()?;
        if self.outbound.flush() {
            self.doorbells += 1;
            self.pump();
        }
        Ok(())
    }

    /// A received buffer comes back: it is posted again, at once.
    pub(super) fn repost(&mut self, memory: Box<[u8]>) {
        if self.ended.is_none() {
            self.inbound.post(memory);
            if self.inbound.is_news_due() {
                self.pump();
            }
        }
    }

    /// Whether the peer has all that was sent.
    pub(super) fn is_settled(&self) -> bool {
        self.outbound.is_settled() && !self.lost
    }

    /// Writes until there is nothing to write or no room for it. In the latter case the reactor comes here again.
    fn pump(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        let now = Instant::now();
        while !wire.broken {
            let news = self.inbound.news();
            if self.outbound.compose(news, self.inbound.is_news_due(), now) {
                self.inbound.told(news);
            }
            let bytes = self.outbound.unwritten();
            if bytes.is_empty() {
                return;
            }
            let written = match wire.unplugged {
                false => wire.socket.write(bytes),
                // As into a cable that ends nowhere.
                true => Ok(bytes.len()),
            };
            match written {
                Ok(count) if count > 0 => self.outbound.wrote(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => wire.broken = true,
            }
        }
    }

    /// Reads once. Whether there may be more.
    fn read(&mut self, staging: &mut [u8]) -> bool {
        let Some(wire) = self.wire.as_mut().filter(|wire| !wire.unplugged) else { return false };
        match wire.socket.read(staging) {
            Ok(0) => self.end(TcpError::Closed),
            Ok(count) => return self.take_in(&staging[..count]),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {}
                io::ErrorKind::Interrupted => return true,
                // A peer that was killed, with something of ours unread.
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                    self.end(TcpError::Closed);
                }
                io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    self.end(TcpError::Down(error.to_string()));
                }
                _ => self.end(TcpError::io("cannot read from a socket", &error)),
            },
        }
        false
    }

    fn take_in(&mut self, bytes: &[u8]) -> bool {
        let now = Instant::now();
        let (had, mut freed) = (self.inbound.news().arrived, false);
        let fed = self.inbound.feed(bytes, |news| {
            freed |= self.outbound.heard(news, now)?;
            Ok(())
        });
        self.wake_sender |= freed;
        self.wake_receiver |= self.inbound.news().arrived > had;
        if let Err(violation) = fed {
            self.end(TcpError::Protocol(violation));
        }
        self.ended.is_none()
    }

    pub(super) fn end(&mut self, why: TcpError) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(why);
        self.lost = !self.outbound.is_settled();
        self.outbound.abandon();
        // The peer is to know what had arrived. Only one that reads nothing leaves no room for that.
        self.pump();
        if let Some(wire) = self.wire.take() {
            // Fails where the peer was first.
            let _ = wire.socket.shutdown(Shutdown::Both);
        }
        self.wake_sender = true;
        self.wake_receiver = true;
    }
}
