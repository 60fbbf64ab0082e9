//! What can go wrong with a carrier, in types.

use thiserror::Error;
use trespass_core::{BadWindow, ErrorKind, TransportError};

/// What went wrong with a carrier over a track whose own errors are `E`.
///
/// Errors stick: the first that ends a direction is what every later call of that direction returns. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CarrierError<E> {
    /// A setting, or the track below, is out of range. Kind `Config`.
    #[error("bad configuration: {0}")]
    Config(ConfigFault),
    /// The peer answered the handshake, and said no. Kind `Refused`.
    #[error("the peer refused the handshake: {0}")]
    Refused(Refusal),
    /// This end said no to the peer's handshake, and told it so. Kind `Refused`.
    #[error("refused the peer's handshake: {0}")]
    Incompatible(Refusal),
    /// A deadline passed. Kind `TimedOut`.
    #[error("the {0} took too long")]
    TimedOut(Phase),
    /// The track ended, and the peer had not said goodbye. Kind `Disconnected`.
    #[error("the peer is gone, and had not said goodbye")]
    Disconnected,
    /// The message is longer than what was agreed, or than one frame where only one will do. Nothing was sent, and the
    /// carrier lives on. Kind `Oversize`.
    #[error("a message of {len} bytes, where at most {max} will go")]
    Oversize {
        /// How long it is, in bytes.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// The peer broke the protocol; the track is closed. Kind `Protocol`.
    #[error("the peer broke the protocol: {0}")]
    Protocol(Violation),
    /// The buffer was reserved from another carrier. Kind `ForeignBuffer`.
    #[error("the buffer was reserved from another carrier")]
    ForeignBuffer,
    /// There is no memory for a message that the peer announced; the track is closed. Kind `ResourceLimit`.
    #[error("no memory for a message of {0} bytes")]
    OutOfMemory(usize),
    /// An item was given to a sink that was not ready: poll it first. Kind `Busy`.
    #[error("the sink keeps an item already: wait until it is ready before the next one")]
    NotReady,
    /// The track does not carry immediate data, and had said that it does ([`carries_immediate`]): a fault of its implementation. Kind
    /// `Protocol`.
    ///
    /// [`carries_immediate`]: trespass_core::SendSide::carries_immediate
    #[error("the track said that it carries immediate data, and does not: a fault of its implementation")]
    NotCarried,
    /// This end has finished or closed, or the peer has left. Kind `Closed`.
    #[error("the carrier is closed")]
    Closed,
    /// The track failed. Its own kind.
    #[error(transparent)]
    Track(E),
}

impl<E: TransportError> TransportError for CarrierError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) => ErrorKind::Config,
            Self::Refused(_) | Self::Incompatible(_) => ErrorKind::Refused,
            Self::TimedOut(_) => ErrorKind::TimedOut,
            Self::Disconnected => ErrorKind::Disconnected,
            Self::Oversize { .. } => ErrorKind::Oversize,
            Self::Protocol(_) | Self::NotCarried => ErrorKind::Protocol,
            Self::ForeignBuffer => ErrorKind::ForeignBuffer,
            Self::OutOfMemory(_) => ErrorKind::ResourceLimit,
            Self::NotReady => ErrorKind::Busy,
            Self::Closed => ErrorKind::Closed,
            Self::Track(error) => error.kind(),
        }
    }
}

/// What took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Phase {
    /// The handshake: the configured `open_timeout`.
    #[error("handshake")]
    Open,
    /// The close: the configured `close_timeout`.
    #[error("close")]
    Close,
    /// A message over datagrams whose parts have not all come: the configured `assembly_timeout`.
    #[error("assembly of a message")]
    Assembly,
    /// The silence of the peer: the configured `idle_timeout`.
    #[error("silence of the peer")]
    Idle,
    /// Beats: the configured `keepalive`.
    #[error("keepalive")]
    Keepalive,
    /// A send with a limit of its own: the message is withdrawn, and the carrier lives on.
    #[error("send")]
    Send,
    /// A receive with a limit of its own: nothing is lost, and the carrier lives on.
    #[error("receive")]
    Receive,
}

/// Which setting is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum ConfigFault {
    /// The track keeps too few receives posted for credits to work.
    #[error("the track has {have} receive slots, a carrier needs {need} to {most}")]
    RecvSlots {
        /// What the track has.
        have: usize,
        /// The fewest that will do.
        need: usize,
        /// The most that the wire format can count.
        most: usize,
    },
    /// The track has too few send slots to keep some back for control.
    #[error("the track has {have} send slots, a carrier needs {need}")]
    SendSlots {
        /// What the track has.
        have: usize,
        /// The fewest that will do.
        need: usize,
    },
    /// The track's messages are too short for a handshake.
    #[error("the track carries {have} bytes in a message, a carrier needs {need}")]
    FrameSize {
        /// What the track carries.
        have: usize,
        /// The least that will do.
        need: usize,
    },
    /// `max_message` is zero, or more than memory can hold.
    #[error("max_message is {0}: at least 1, at most isize::MAX")]
    MaxMessage(usize),
    /// `max_message` is more than a carrier over datagrams can count.
    #[error("max_message is {0}: over datagrams at most u32::MAX")]
    LongMessage(usize),
    /// `assemblies` is out of range.
    #[error("assemblies is {0}: 1 to 1024")]
    Assemblies(usize),
    /// A timeout is zero: nothing could ever finish in time.
    #[error("the timeout of the {0} is zero")]
    Timeout(Phase),
}

/// Why a handshake was refused. The refusing end says it on the wire, so that both ends know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No protocol version that both ends speak.
    #[error("no version in common: the refusing end speaks {min} to {max}")]
    Version {
        /// The oldest version that the refusing end speaks.
        min: u16,
        /// The newest.
        max: u16,
    },
    /// The other end is a carrier of another kind.
    #[error("another kind of carrier: the refusing end is of kind {0}")]
    Kind(u16),
    /// The refused end requires features that the refusing end does not have.
    #[error("features {0:#x} are required, and unknown to the refusing end")]
    Features(u64),
    /// The refused end keeps too few receives posted, or more than can be counted.
    #[error("the refused end has {0} receive slots, which will not do")]
    Window(u32),
    /// The refused end receives frames that are too short.
    #[error("the refused end receives {0} bytes in a frame, which is too short")]
    FrameSize(u32),
    /// What came first was no handshake of this protocol.
    #[error("that was no handshake")]
    Malformed,
    /// A reason from a newer version.
    #[error("reason {code}, value {value}: unknown to this version")]
    Unknown {
        /// Its number.
        code: u16,
        /// What came with it.
        value: u64,
    },
}

/// How a peer broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame that is shorter than what its kind needs.
    #[error("a frame of {len} bytes, where its kind needs {need}")]
    Short {
        /// How long it is.
        len: usize,
        /// The least that will do.
        need: usize,
    },
    /// A frame that is longer than what its kind may have.
    #[error("a frame of {len} bytes, where its kind has {max}")]
    Long {
        /// How long it is.
        len: usize,
        /// The most that will do.
        max: usize,
    },
    /// A frame of no known kind, or with bits set that must be zero.
    #[error("a frame that starts with {0:#010x}, which is no known kind")]
    UnknownFrame(u32),
    /// A frame of a known kind where it does not belong: a handshake in mid-conversation, data instead of one.
    #[error("a frame of kind {0:#04x} where it does not belong")]
    OutOfPlace(u8),
    /// A handshake that does not start with the magic.
    #[error("a handshake without the magic")]
    Magic,
    /// A handshake that says a length which it does not have.
    #[error("a handshake that says {says} bytes and has {has}")]
    HandshakeLength {
        /// The length that it says.
        says: usize,
        /// The length that it has.
        has: usize,
    },
    /// A handshake whose oldest version is newer than its newest.
    #[error("a handshake for versions {min} to {max}")]
    Versions {
        /// Its oldest version.
        min: u16,
        /// Its newest.
        max: u16,
    },
    /// A handshake whose sizes contradict each other: a whole message that is longer than a frame, or no message at all.
    #[error("a handshake whose sizes contradict each other")]
    Sizes,
    /// Credits for more than the peer's window.
    #[error("credits up to {granted}, where the window ends at {limit}")]
    CreditBeyondWindow {
        /// Up to which frame the peer said that this end may send.
        granted: u64,
        /// Up to which it can have meant it.
        limit: u64,
    },
    /// Credits that were taken back.
    #[error("credits taken back: {0} fewer than before")]
    CreditFell(u32),
    /// A frame that this end had given no credit for.
    #[error("a frame beyond the {0} that were allowed")]
    BeyondCredit(u64),
    /// A message longer than this end takes.
    #[error("a message of {len} bytes, where at most {max} were agreed")]
    Oversize {
        /// How long it is.
        len: u64,
        /// How long it may be.
        max: u64,
    },
    /// A segment, or a message that is lent, without a byte in it.
    #[error("an empty segment")]
    EmptySegment,
    /// A message that is lent in bytes that are no window.
    #[error("a message is lent badly: {0}")]
    Window(BadWindow),
    /// Segments with more bytes than their message was said to have.
    #[error("a segment of {len} bytes, where {left} are left of the message")]
    Overrun {
        /// How long the segment is.
        len: u64,
        /// How much of the message was missing.
        left: u64,
    },
    /// A segment, or an abort, of a message that was not begun.
    #[error("a segment of no message")]
    NoMessage,
    /// A message that begins, or an end, in the middle of another message.
    #[error("a frame of kind {0:#04x} in the middle of a message")]
    Interleaved(u8),
    /// Data after the peer's own end of data.
    #[error("a frame of kind {0:#04x} after the end")]
    AfterFin(u8),
}
