//! The traits by which others read and write bytes.

use std::io;

use trespass_core::{ErrorKind, TransportError};

use crate::error::CarrierError;

/// The carrier's error is the source.
impl<E: TransportError> From<CarrierError<E>> for io::Error {
    fn from(error: CarrierError<E>) -> Self {
        let kind = match error.kind() {
            ErrorKind::Disconnected => io::ErrorKind::ConnectionReset,
            ErrorKind::Closed => io::ErrorKind::BrokenPipe,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::Protocol => io::ErrorKind::InvalidData,
            ErrorKind::Refused => io::ErrorKind::ConnectionRefused,
            ErrorKind::Unreachable => io::ErrorKind::HostUnreachable,
            ErrorKind::Config | ErrorKind::Oversize | ErrorKind::ForeignBuffer => io::ErrorKind::InvalidInput,
            ErrorKind::ResourceLimit => io::ErrorKind::OutOfMemory,
            ErrorKind::Busy => io::ErrorKind::ResourceBusy,
            ErrorKind::Unavailable => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "tokio")]
mod tokio;
