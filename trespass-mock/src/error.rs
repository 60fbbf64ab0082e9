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
        /// Which setting of [`MockConfig`](crate::MockConfig) or [`MockDatagramConfig`](crate::MockDatagramConfig).
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
    /// Somebody listens there already, or has a port there. Kind `Busy`.
    #[error("`{addr}` is taken: drop the listener or port that has it, or go elsewhere")]
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
    /// The listener's user said: not now. Kind `Busy`.
    #[error("`{addr}` has too much to do just now: try again later")]
    Busy {
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
    /// The listener has given as many tracks of datagrams as it may at once. Kind `Busy`.
    #[error("`{addr}` has {tracks} tracks and gives no more at once: try again later, or raise `tracks` there")]
    TracksFull {
        /// The address asked for.
        addr: MockAddr,
        /// How many tracks it may give at once.
        tracks: usize,
    },
    /// A peer of another net; the port lives on. Kind `Unreachable`.
    #[error("the peer is of another net: there is no way to it from here")]
    ForeignPeer,
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
    /// The buffer or permit belongs to another track, or the region to another fabric; this one lives on. Kind `ForeignBuffer`.
    #[error("the buffer, permit or region belongs to another track or fabric: use it on the one that it is of")]
    ForeignBuffer,
    /// A message was longer than the receives of the other end, which ends both. Kind `Protocol`.
    #[error("a message of {len} bytes met a receive of {room}: set the same `max_message` at both ends")]
    ReceiveTooShort {
        /// The length of the message.
        len: usize,
        /// The length of the receive.
        room: usize,
    },
    /// An operation was longer than the memory that it was to read into or write from; the track lives on. Kind `Oversize`.
    #[error("{len} bytes from {at} do not lie in a region of {size}")]
    RegionTooShort {
        /// How many bytes it is about.
        len: usize,
        /// Where in the region they begin.
        at: usize,
        /// How long the region is.
        size: usize,
    },
    /// A write and a window of different lengths; the track lives on. Kind `Oversize`.
    #[error("a buffer of {len} bytes is to be written to {window}: truncate it, or take another slice")]
    LengthsDiffer {
        /// The length of the buffer.
        len: usize,
        /// The length of the slice.
        window: usize,
    },
    /// A write or an atomic operation in a window that allows reading only; the track lives on. Kind `RemoteAccess`.
    #[error("the window is read-only: ask the peer for one that may be written")]
    ReadOnlyWindow,
    /// The peer's memory refused an access, which ended the track. Kind `RemoteAccess`.
    #[error("the peer's memory refused an access: {why}")]
    AccessRefused {
        /// Why. A device would not say.
        why: &'static str,
    },
    /// There may not be so much memory. Kind `ResourceLimit`.
    #[error("{len} bytes of memory were asked for, with {used} of {limit} in use: drop some, or raise `memory_limit`")]
    MemoryLimit {
        /// What was asked for.
        len: usize,
        /// What there is.
        used: usize,
        /// What there may be.
        limit: usize,
    },
    /// There is not so much memory. Kind `ResourceLimit`.
    #[error("{len} bytes of memory were asked for, and this machine has no room for them")]
    NoMemory {
        /// What was asked for.
        len: usize,
    },
    /// Memory without a byte was asked for. Kind `Config`.
    #[error("a region has one byte at least")]
    NoLength,
    /// A part of memory that is empty or does not lie inside cannot be lent. Kind `Config`.
    #[error("bytes {start} to {end} of {size} cannot be lent: a window has one byte at least, and lies inside")]
    BadRange {
        /// Where it would begin.
        start: usize,
        /// Where it would end.
        end: usize,
        /// How long the memory is.
        size: usize,
    },
    /// The link broke ([`MockFabric::break_link`](crate::MockFabric::break_link)). Kind `Disconnected`.
    #[error("the link to the peer broke")]
    LinkDown,
    /// The queue pair failed, as the plan of a simulation says
    /// ([`MockFault::QueuePairError`](crate::MockFault::QueuePairError)). Kind `Device`.
    #[error("the queue pair of this track failed")]
    QueuePairFailed,
    /// This fabric was killed ([`MockFabric::kill`](crate::MockFabric::kill)). Kind `Device`.
    #[error("this fabric was killed: make another")]
    Killed,
}

impl TransportError for MockError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Config { .. } | Self::BadAddress { .. } | Self::NoLength | Self::BadRange { .. } => ErrorKind::Config,
            Self::AddressInUse { .. } | Self::Busy { .. } | Self::BacklogFull { .. } | Self::TracksFull { .. } => {
                ErrorKind::Busy
            }
            Self::ForeignPeer => ErrorKind::Unreachable,
            Self::NobodyListens { .. } | Self::Refused { .. } => ErrorKind::Refused,
            Self::HandshakeTimedOut { .. } | Self::CloseTimedOut { .. } => ErrorKind::TimedOut,
            Self::Withdrawn { .. } | Self::LinkDown => ErrorKind::Disconnected,
            Self::Closed | Self::PeerEnded => ErrorKind::Closed,
            Self::Oversize { .. } | Self::RegionTooShort { .. } | Self::LengthsDiffer { .. } => ErrorKind::Oversize,
            Self::ReadOnlyWindow | Self::AccessRefused { .. } => ErrorKind::RemoteAccess,
            Self::MemoryLimit { .. } | Self::NoMemory { .. } => ErrorKind::ResourceLimit,
            Self::ForeignBuffer => ErrorKind::ForeignBuffer,
            Self::ReceiveTooShort { .. } => ErrorKind::Protocol,
            Self::QueuePairFailed | Self::Killed => ErrorKind::Device,
        }
    }
}
