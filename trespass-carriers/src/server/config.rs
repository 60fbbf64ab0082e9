//! How a server is set up.

use thiserror::Error;
use trespass_core::{ErrorKind, TransportError};

/// What bounds a [`Server`](crate::Server). Checked when it is made.
///
/// ```
/// use trespass_carriers::{Excess, ServerConfig};
///
/// let config = ServerConfig::default().with_max_peers(1000).with_max_memory(8 << 30).with_excess(Excess::Wait);
/// assert_eq!(config.max_handshakes, 32);
/// ```
///
/// # What becomes of the excess
/// - Of **handshakes**: it waits in the listener's queue. A handshake ends within deadlines of its own, so room comes soon, and a
///   storm of honest peers gets in one after another. The queue is the fabric's, and bounded there (`backlog`): past that
///   the fabric itself says "busy".
/// - Of **peers** and of **memory**: a peer may stay for days, so whoever comes is told at once, with kind `Busy`
///   ([`Excess::Busy`], the default), and may go elsewhere. With [`Excess::Wait`] it waits in the listener's queue instead: for
///   peers that are short visits. One that waits longer than its own handshake deadline fails with kind `TimedOut`.
///
/// A handshake takes the place and the memory of a peer from its beginning: whoever is let in is not turned away later. So peers that
/// never end their handshakes keep others out, `max_handshakes` of them at most, each until its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Peers at once, handshakes included: 1 to 65,536. Default 256.
    pub max_peers: usize,
    /// Handshakes at once, at least 1. Default 32.
    pub max_handshakes: usize,
    /// How many bytes all peers together may take at most, handshakes included: for each the slots of its track, as
    /// [`Limits`](trespass_core::Limits) say, and [`Carrier::most_memory`](trespass_core::Carrier::most_memory). That is what peers
    /// could make this end take, not what it takes: set the carrier's limits first (a `MessageCarrier` counts with twice its
    /// `max_message`, so as it is by default with more than 2 GiB). Default: no bound but the one by `max_peers`.
    pub max_memory: usize,
    /// What becomes of a peer too many.
    pub excess: Excess,
}

/// What becomes of a request for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Excess {
    /// It is turned away: [`Incoming::busy`](trespass_core::Incoming::busy).
    Busy,
    /// It waits in the listener's queue until there is room, or its peer gives up.
    Wait,
}

/// A setting of a server that will not do. Kind `Config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ServerFault {
    /// `max_peers` is out of range.
    #[error("max_peers is {0}: 1 to 65,536")]
    MaxPeers(usize),
    /// `max_handshakes` is zero.
    #[error("max_handshakes is 0: nobody could ever come in")]
    MaxHandshakes,
    /// `max_memory` is less than what the carrier of one peer may take.
    #[error(
        "max_memory is {have} bytes, and one carrier may take {need} as it is set up: raise the one or lower the other"
    )]
    MaxMemory {
        /// The setting.
        have: usize,
        /// What one carrier may take.
        need: usize,
    },
}

impl TransportError for ServerFault {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Config
    }
}

/// Wakers of so many peers are told apart by bits that are looked through at each poll.
const MOST_PEERS: usize = 1 << 16;

impl Default for ServerConfig {
    fn default() -> Self {
        Self { max_peers: 256, max_handshakes: 32, max_memory: usize::MAX, excess: Excess::Busy }
    }
}

impl ServerConfig {
    /// The same, with up to `peers` at once.
    #[must_use]
    pub fn with_max_peers(self, peers: usize) -> Self {
        Self { max_peers: peers, ..self }
    }

    /// The same, with up to `handshakes` at once.
    #[must_use]
    pub fn with_max_handshakes(self, handshakes: usize) -> Self {
        Self { max_handshakes: handshakes, ..self }
    }

    /// The same, with up to `bytes` for all peers together.
    #[must_use]
    pub fn with_max_memory(self, bytes: usize) -> Self {
        Self { max_memory: bytes, ..self }
    }

    /// The same, with this done about peers too many.
    #[must_use]
    pub fn with_excess(self, excess: Excess) -> Self {
        Self { excess, ..self }
    }

    /// Checks the settings, for carriers that take up to `carrier` bytes each.
    pub(super) fn checked(self, carrier: usize) -> Result<Self, ServerFault> {
        if !(1..=MOST_PEERS).contains(&self.max_peers) {
            return Err(ServerFault::MaxPeers(self.max_peers));
        }
        if self.max_handshakes == 0 {
            return Err(ServerFault::MaxHandshakes);
        }
        if self.max_memory < carrier {
            return Err(ServerFault::MaxMemory { have: self.max_memory, need: carrier });
        }
        Ok(Self { max_handshakes: self.max_handshakes.min(self.max_peers), ..self })
    }
}
