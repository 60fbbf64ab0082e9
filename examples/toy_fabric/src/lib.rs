//! A fabric as a user might write it, with nothing but the public traits: the two ends of each track in one process, joined
//! by a `Mutex`.
#![forbid(unsafe_code)]

mod buffer;
mod connect;
mod fabric;
mod link;
mod track;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trespass_core::{ErrorKind, Limits, TransportError};

pub use buffer::{ToyRecvBuf, ToySendBuf};
pub use connect::{ToyConnecting, ToyIncoming, ToyListener};
pub use fabric::{Toy, ToyAddr};
pub use track::{ToyReceiver, ToySender, ToyTrack};

/// How a toy fabric is set up.
#[derive(Debug, Clone, Copy)]
pub struct ToyConfig {
    /// The limits of every track.
    pub limits: Limits,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a close may take.
    pub close: Duration,
    /// How many requests wait at a listener.
    pub backlog: usize,
}

impl Default for ToyConfig {
    fn default() -> Self {
        Self {
            limits: Limits::new(4096, 8, 8),
            handshake: Duration::from_secs(10),
            close: Duration::from_secs(10),
            backlog: 64,
        }
    }
}

/// What goes wrong here: the kind says it all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToyError(pub ErrorKind);

impl fmt::Display for ToyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "toy fabric: {}", self.0)
    }
}

impl std::error::Error for ToyError {}

impl TransportError for ToyError {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

/// A thread that panicked left nothing half done: what is behind these locks is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
