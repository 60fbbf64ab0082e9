//! Errors: what went wrong, in words that every backend shares.

use std::fmt;

use thiserror::Error;

/// What went wrong, whatever the backend. The error itself says more: which device, which status, what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no RDMA here: a library, a kernel module or a device is missing. The error says which.
    Unavailable,
    /// The peer answered, and said no; or nobody listens at that address.
    Refused,
    /// No way to that address: nobody has it, or it lies behind another device.
    Unreachable,
    /// The deadline of the operation passed.
    TimedOut,
    /// The other side has too much to do just now; later may work.
    Busy,
    /// The peer is gone without having said goodbye, or the link to it is.
    Disconnected,
    /// A message longer than the track or carrier takes.
    Oversize,
    /// A buffer that belongs to another track.
    ForeignBuffer,
    /// One-sided access outside what was granted.
    RemoteAccess,
    /// Memory, locked memory, descriptors, queue pairs: something finite has run out.
    ResourceLimit,
    /// The peer spoke nonsense.
    Protocol,
    /// The device or its driver failed.
    Device,
    /// This end is closed, or the track has ended: all that had arrived was delivered before this was said.
    Closed,
    /// What was asked for cannot be: a setting out of range, an address that does not parse. The error names it.
    Config,
}

impl ErrorKind {
    /// Every kind, in the order of the enum: `ALL[kind as usize]` is `kind`. For tables by kind.
    pub const ALL: [Self; 14] = [
        Self::Unavailable,
        Self::Refused,
        Self::Unreachable,
        Self::TimedOut,
        Self::Busy,
        Self::Disconnected,
        Self::Oversize,
        Self::ForeignBuffer,
        Self::RemoteAccess,
        Self::ResourceLimit,
        Self::Protocol,
        Self::Device,
        Self::Closed,
        Self::Config,
    ];
}

// A kind that is added without a place in the list does not compile; one in another order fails in the tests.
const _: () = assert!(ErrorKind::Config as usize + 1 == ErrorKind::ALL.len());

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "RDMA is not available",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed out",
            Self::Busy => "busy",
            Self::Disconnected => "disconnected",
            Self::Oversize => "message too long",
            Self::ForeignBuffer => "buffer of another track",
            Self::RemoteAccess => "remote access denied",
            Self::ResourceLimit => "resource limit reached",
            Self::Protocol => "protocol violation",
            Self::Device => "device failure",
            Self::Closed => "closed",
            Self::Config => "bad configuration",
        })
    }
}

/// An error of a fabric, a listener or a track.
///
/// # For implementers
/// - Keep the first cause. A failing completion is the truth; the flush errors that follow it are noise.
/// - `Display` says what to do about it where that is known.
/// - Cheap to clone: errors stick, and each later call returns a copy.
///
/// # For users
/// Match on [`kind`](TransportError::kind); show the error itself to people.
///
/// # Implemented by
/// `VerbsError`, `MockError`, `CarrierError` of `trespass-carriers`, `HandshakeError` and `ServerFault` of its servers, and
/// `LossyError` and `EitherError` of the layers.
///
/// # A toy
/// ```
/// use trespass_core::{ErrorKind, TransportError};
///
/// #[derive(Debug, Clone)]
/// struct ToyError(ErrorKind);
/// impl std::fmt::Display for ToyError {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         write!(f, "the toy is {}", self.0)
///     }
/// }
/// impl std::error::Error for ToyError {}
/// impl TransportError for ToyError {
///     fn kind(&self) -> ErrorKind {
///         self.0
///     }
/// }
/// assert_eq!(ToyError(ErrorKind::Busy).to_string(), "the toy is busy");
/// ```
pub trait TransportError: std::error::Error + Clone + Send + Sync + 'static {
    /// The portable part of the error.
    fn kind(&self) -> ErrorKind;
}

/// Why a `try_` call gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TryError<E> {
    /// Not now. Wait with the matching `poll_…_ready`, or try again later.
    #[error("would block")]
    WouldBlock,
    /// Not any more, or not like this.
    #[error(transparent)]
    Failed(E),
}

impl<E> TryError<E> {
    /// The failure, if it is one.
    pub fn failed(self) -> Option<E> {
        match self {
            Self::WouldBlock => None,
            Self::Failed(error) => Some(error),
        }
    }
}

/// A buffer that was not queued, handed back untouched, and why.
#[derive(Error)]
#[error("not sent: {error}")]
pub struct Unsent<B, E> {
    /// The buffer, as it was.
    pub buf: B,
    /// Why it was not queued.
    pub error: E,
}

impl<B, E> Unsent<B, E> {
    /// The same, for where there may be no error: see [`SendSide::send_immediate`](crate::SendSide::send_immediate).
    pub fn certain(self) -> Unsent<B, Option<E>> {
        Unsent { buf: self.buf, error: Some(self.error) }
    }
}

impl<B, E: fmt::Debug> fmt::Debug for Unsent<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsent").field("error", &self.error).finish_non_exhaustive()
    }
}
