//! A fabric over TCP, as a user might write it: with the public traits, [`mio`], and no RDMA anywhere.
//!
//! - `wire`: the bytes, as checked types;
//! - `outbound`, `inbound`: the two queues that a NIC would hold, without IO;
//! - `link`: the two, joined to a socket;
//! - `track`: what the traits want to see of that;
//! - `handshake`, `connect`, `listen`: how a track comes to be, on either end;
//! - `reactor`: the one thread that waits for all sockets.
//!
//! The README beside this folder goes through it step by step.

mod connect;
mod handshake;
mod inbound;
mod link;
mod listen;
mod outbound;
mod reactor;
pub(crate) mod track;
pub(crate) mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use trespass::core::{ErrorKind, Fabric, Limits, SystemTimer, TransportError};

use connect::TcpConnecting;
use listen::TcpListener;
use reactor::Reactor;
use track::TcpTrack;
use wire::{Refusal, Terms, Violation};

/// How a TCP fabric is set up.
#[derive(Debug, Clone)]
pub(crate) struct TcpConfig {
    /// The longest message, in bytes. Two ends that differ agree on the smaller one.
    pub(crate) max_message: u32,
    /// Messages that may be reserved or under way at once, per track.
    pub(crate) send_slots: u32,
    /// Receives that are posted when nobody holds a buffer, per track.
    pub(crate) recv_slots: u32,
    /// How long a handshake may take, on either end.
    pub(crate) handshake: Duration,
    /// How long a close may take.
    pub(crate) close: Duration,
    /// How long a peer may leave a message unconfirmed for which it had posted a receive. Past it the link is taken for cut:
    /// a peer confirms at once, whatever its application does.
    pub(crate) silence: Duration,
    /// Requests that a listener holds at once, those included whose peer has not said yet what it wants.
    pub(crate) backlog: usize,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            max_message: 16 << 10,
            send_slots: 64,
            recv_slots: 64,
            handshake: Duration::from_secs(10),
            close: Duration::from_secs(10),
            silence: Duration::from_secs(10),
            backlog: 256,
        }
    }
}

impl TcpConfig {
    fn check(&self) -> Result<(), TcpError> {
        let times = [self.handshake, self.close, self.silence];
        match () {
            () if !(1..=16 << 20).contains(&self.max_message) => {
                Err(TcpError::Config("max_message has to be from 1 byte to 16 MiB"))
            }
            () if !(1..=1 << 16).contains(&self.send_slots) || !(1..=1 << 16).contains(&self.recv_slots) => {
                Err(TcpError::Config("send_slots and recv_slots have to be from 1 to 65536"))
            }
            () if times.iter().any(|time| *time < Duration::from_millis(10)) => {
                Err(TcpError::Config("handshake, close and silence have to be 10 ms at least"))
            }
            () if self.backlog == 0 => Err(TcpError::Config("backlog has to be 1 at least")),
            () => Ok(()),
        }
    }

    fn terms(&self) -> Terms {
        Terms { max_message: self.max_message, recv_slots: self.recv_slots }
    }

    fn limits(&self, peer: Terms) -> Limits {
        let max_message = self.max_message.min(peer.max_message);
        Limits::new(max_message as usize, self.send_slots as usize, self.recv_slots as usize)
    }
}

/// What goes wrong here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TcpError {
    #[error("a bad setting: {0}")]
    Config(&'static str),
    #[error("{0}")]
    Refused(Refusal),
    #[error("the connection was closed before anybody accepted it: nobody listens there, or not any more")]
    Unanswered,
    #[error("the {0} took too long")]
    TimedOut(&'static str),
    #[error("the track or listener is closed")]
    Closed,
    #[error("the peer has not confirmed for {0:?} what it had room for: the link is down, or the peer's machine is")]
    Silent(Duration),
    #[error("the operating system has given up on the link: {0}")]
    Down(String),
    #[error("the peer broke the protocol: {0}")]
    Protocol(Violation),
    #[error("a message of {len} bytes, where at most {max} will go")]
    Oversize { len: usize, max: usize },
    #[error("the buffer was reserved from another track")]
    ForeignBuffer,
    /// What the operating system said. (An `io::Error` cannot be cloned.)
    #[error("{what}: {text}")]
    Io { what: &'static str, kind: io::ErrorKind, text: String },
}

impl TcpError {
    fn io(what: &'static str, error: &io::Error) -> Self {
        Self::Io { what, kind: error.kind(), text: error.to_string() }
    }
}

impl TransportError for TcpError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) => ErrorKind::Config,
            Self::Refused(Refusal::Busy) => ErrorKind::Busy,
            Self::Refused(Refusal::Refused) | Self::Unanswered => ErrorKind::Refused,
            Self::Refused(Refusal::Version) | Self::Protocol(_) => ErrorKind::Protocol,
            Self::Refused(Refusal::Late) | Self::TimedOut(_) => ErrorKind::TimedOut,
            Self::Closed => ErrorKind::Closed,
            Self::Silent(_) | Self::Down(_) => ErrorKind::Disconnected,
            Self::Oversize { .. } => ErrorKind::Oversize,
            Self::ForeignBuffer => ErrorKind::ForeignBuffer,
            Self::Io { kind, .. } => match kind {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => ErrorKind::Refused,
                io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::InvalidInput => ErrorKind::Unreachable,
                io::ErrorKind::TimedOut => ErrorKind::TimedOut,
                io::ErrorKind::AddrInUse => ErrorKind::Busy,
                io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock => ErrorKind::ResourceLimit,
                _ => ErrorKind::Device,
            },
        }
    }
}

/// A fabric of TCP connections. Clones are handles of the same one: one reactor thread, one clock.
#[derive(Debug, Clone)]
pub(crate) struct TcpFabric {
    config: Arc<TcpConfig>,
    timer: SystemTimer,
    reactor: Reactor,
}

impl TcpFabric {
    /// Starts the reactor. It ends when the last handle, listener and track are gone.
    ///
    /// # Errors
    /// Kind `Config` where a setting is out of range; `ResourceLimit` or `Device` where there is no thread or no descriptor.
    pub(crate) fn open(config: TcpConfig) -> Result<Self, TcpError> {
        config.check()?;
        // Deadlines are looked at in turns, so they may pass by an eighth.
        let turn = config.handshake.min(config.silence) / 8;
        let reactor = Reactor::start(turn).map_err(|error| TcpError::io("cannot start the reactor", &error))?;
        Ok(Self { config: Arc::new(config), timer: SystemTimer::new(), reactor })
    }
}

impl Fabric for TcpFabric {
    type Addr = SocketAddr;
    type Error = TcpError;
    type Timer = SystemTimer;
    type Track = TcpTrack;
    type Listener = TcpListener;
    type Connecting = TcpConnecting;

    fn listen(&self, addr: &SocketAddr) -> Result<TcpListener, TcpError> {
        TcpListener::bind(self, *addr)
    }

    fn connect(&self, addr: &SocketAddr) -> TcpConnecting {
        TcpConnecting::start(self, *addr)
    }

    fn timer(&self) -> SystemTimer {
        self.timer.clone()
    }
}

/// Locks, also after a panic elsewhere: what these locks guard is valid at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
