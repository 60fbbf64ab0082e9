//! Errors of either side.

use std::error::Error;
use std::fmt;

use trespass_core::{ErrorKind, TransportError};

use super::addr::UnreadableAddress;

/// What went wrong on whichever side it was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EitherError<A, B> {
    /// On the first side; kind and text are that error's.
    Left(A),
    /// On the second side; kind and text are that error's.
    Right(B),
    /// An address that is none of the side that was chosen: kind `Config`.
    Address(UnreadableAddress),
    /// A buffer of a track of the other side: kind `ForeignBuffer`.
    ForeignBuffer,
}

impl<A, B> From<UnreadableAddress> for EitherError<A, B> {
    fn from(unreadable: UnreadableAddress) -> Self {
        Self::Address(unreadable)
    }
}

impl<A: fmt::Display, B: fmt::Display> fmt::Display for EitherError<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left(error) => error.fmt(f),
            Self::Right(error) => error.fmt(f),
            Self::Address(error) => error.fmt(f),
            Self::ForeignBuffer => f.write_str("the buffer was reserved on a track of another fabric: send it there"),
        }
    }
}

impl<A: Error, B: Error> Error for EitherError<A, B> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The text of an inner error is told above; what lies below it goes on.
        match self {
            Self::Left(error) => error.source(),
            Self::Right(error) => error.source(),
            Self::Address(_) | Self::ForeignBuffer => None,
        }
    }
}

impl<A: TransportError, B: TransportError> TransportError for EitherError<A, B> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Left(error) => error.kind(),
            Self::Right(error) => error.kind(),
            Self::Address(_) => ErrorKind::Config,
            Self::ForeignBuffer => ErrorKind::ForeignBuffer,
        }
    }
}
