//! What can go wrong in a mock fabric.

use std::time::Duration;

use thiserror::Error;
use trespass_core::{ErrorKind, TransportError};

use crate::addr::MockAddr;

/// An error of the mock fabric. [`kind`](TransportError::kind) is the portable part; the text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MockError {
    /// A setting is out of its range. Kind `Config`.
    #[error("bad configuration: `{field}` is {value}, and must be {must}")]
    Config {
        /// Which setting of [`MockConfig`](crate::MockConfig).
        field: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        must: &'static str,
    },
    /// A text that is no address. Kind `Config`.
    #[error("not a mock address: the text {why}")]
    BadAddress {
        /// What is wrong with it.
        why: &'static str,
    },
    /// Somebody listens there already. Kind `Busy`.
    #[error("`{addr}` is taken: drop the listener that has it, or listen elsewhere")]
    AddressInUse {
        /// The address asked for.
        addr: MockAddr,
    },
    /// Nobody listens there. Kind `Refused`.
    #[error("nobody listens at `{addr}` in this net: listen first, and use fabrics of one `MockNet` on both sides")]
    NobodyListens {
        /// The address asked for.
        addr: MockAddr,
    },
    /// The listener or its user said no, or went away before it said anything. Kind `Refused`.
    #[error("`{addr}` refused the connection")]
    Refused {
        /// The address asked for.
        addr: MockAddr,
    },
    /// The queue of requests at the listener is full. Kind `Busy`.
    #[error("`{addr}` has {backlog} connection requests waiting and takes no more: try again later")]
    BacklogFull {
        /// The address asked for.
        addr: MockAddr,
        /// How many requests its queue holds.
        backlog: usize,
    },
    /// Nobody accepted or refused the connection in time. Kind `TimedOut`.
    #[error("the handshake with `{peer}` was not done within {after:?}")]
    HandshakeTimedOut {
        /// The other end.
        peer: MockAddr,
        /// The connector's handshake timeout.
        after: Duration,
    },
    /// The end that asked for the connection is gone. Kind `Disconnected`.
    #[error("`{peer}` withdrew its connection request")]
    Withdrawn {
        /// Who had asked.
        peer: MockAddr,
    },
    /// This end, or this listener, was closed. Kind `Closed`.
    #[error("closed by this end")]
    Closed,
    /// The peer closed its end, dropped it, or died: a track cannot tell which. Kind `Closed`.
    #[error("the peer ended the track")]
    PeerEnded,
    /// Not all that was flushed reached the peer before the close deadline: the track was cut off. Kind `TimedOut`.
    #[error("closing took longer than {after:?}: {waiting} messages wait for a peer that receives nothing")]
    CloseTimedOut {
        /// The close timeout.
        after: Duration,
        /// How many messages were lost.
        waiting: usize,
    },
    /// A message longer than the track takes; the track lives on. Kind `Oversize`.
    #[error("a message of {len} bytes was asked for, and this track takes up to {max}")]
    Oversize {
        /// What was asked for.
        len: usize,
        /// What there is room for.
        max: usize,
    },
    /// The buffer belongs to another track; this one lives on. Kind `ForeignBuffer`.
    #[error("the buffer belongs to another track: send it on the track that it was reserved on")]
    ForeignBuffer,
    /// A message was longer than the receives of the other end, which ends both. Kind `Protocol`.
    #[error("a message of {len} bytes met a receive of {room}: set the same `max_message` at both ends")]
    ReceiveTooShort {
        /// The length of the message.
        len: usize,
        /// The length of the receive.
        room: usize,
    },
    /// The link broke ([`MockFabric::break_link`](crate::MockFabric::break_link)). Kind `Disconnected`.
    #[error("the link to the peer broke")]
    LinkDown,
    /// This fabric was killed ([`MockFabric::kill`](crate::MockFabric::kill)). Kind `Device`.
    #[error("this fabric was killed: make another")]
    Killed,
}

impl TransportError for MockError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Config { .. } | Self::BadAddress { .. } => ErrorKind::Config,
            Self::AddressInUse { .. } | Self::BacklogFull { .. } => ErrorKind::Busy,
            Self::NobodyListens { .. } | Self::Refused { .. } => ErrorKind::Refused,
            Self::HandshakeTimedOut { .. } | Self::CloseTimedOut { .. } => ErrorKind::TimedOut,
            Self::Withdrawn { .. } | Self::LinkDown => ErrorKind::Disconnected,
            Self::Closed | Self::PeerEnded => ErrorKind::Closed,
            Self::Oversize { .. } => ErrorKind::Oversize,
            Self::ForeignBuffer => ErrorKind::ForeignBuffer,
            Self::ReceiveTooShort { .. } => ErrorKind::Protocol,
            Self::Killed => ErrorKind::Device,
        }
    }
}
