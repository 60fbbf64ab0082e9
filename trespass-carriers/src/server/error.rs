//! Why a handshake came to nothing.

use thiserror::Error;
use trespass_core::{ErrorKind, TransportError};

/// Why a request that was let in did not become a peer: `E` is the error of the listener's fabric, `O` that of the carrier.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandshakeError<E, O> {
    /// The connection was not made. Its own kind.
    #[error("no connection: {0}")]
    Accept(E),
    /// The carrier did not open. Its own kind.
    #[error(transparent)]
    Open(O),
    /// Its track is larger than those before it, and there is no memory for that. Kind `ResourceLimit`.
    #[error(
        "a peer may take {need} bytes, and {left} of max_memory are left: raise it, or lower the slots or the carrier's limits"
    )]
    Memory {
        /// What it may take.
        need: usize,
        /// What is left for it.
        left: usize,
    },
}

impl<E: TransportError, O: TransportError> TransportError for HandshakeError<E, O> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Accept(error) => error.kind(),
            Self::Open(error) => error.kind(),
            Self::Memory { .. } => ErrorKind::ResourceLimit,
        }
    }
}
