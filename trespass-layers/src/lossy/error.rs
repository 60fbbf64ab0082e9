//! What goes wrong on a datagram track.

use std::fmt;

use trespass_core::{ErrorKind, TransportError};

/// What went wrong: below, or on the datagram track itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossyError<E> {
    /// The fabric below; kind and text are that error's.
    Below(E),
    /// A message longer than a datagram of this track: kind `Oversize`.
    Oversize {
        /// What was asked for, in bytes.
        len: usize,
        /// The longest there is, in bytes.
        max: usize,
    },
    /// A buffer of another track: kind `ForeignBuffer`.
    ForeignBuffer,
    /// This end was closed: kind `Closed`.
    Closed,
}

impl<E: TransportError> From<E> for LossyError<E> {
    fn from(error: E) -> Self {
        Self::Below(error)
    }
}

impl<E: fmt::Display> fmt::Display for LossyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(error) => error.fmt(f),
            Self::Oversize { len, max } => {
                write!(f, "a datagram of {len} bytes, and {max} is the maximum: send it in parts")
            }
            Self::ForeignBuffer => f.write_str("the buffer was reserved on another track: send it there"),
            Self::Closed => f.write_str("this end of the datagram track was closed"),
        }
    }
}

impl<E: std::error::Error> std::error::Error for LossyError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its own text is told above; what lies below it goes on.
            Self::Below(error) => error.source(),
            _ => None,
        }
    }
}

impl<E: TransportError> TransportError for LossyError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Below(error) => error.kind(),
            Self::Oversize { .. } => ErrorKind::Oversize,
            Self::ForeignBuffer => ErrorKind::ForeignBuffer,
            Self::Closed => ErrorKind::Closed,
        }
    }
}
