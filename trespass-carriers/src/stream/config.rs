//! How a stream is set up.

use std::time::Duration;

use trespass_core::Limits;

use crate::config::{KEEPALIVE, check_timeouts, check_track};
use crate::error::ConfigFault;
use crate::pulse::Vigilance;
use crate::wire::Offer;

/// How a [`StreamCarrier`](crate::StreamCarrier) is set up. Checked when it is opened: kind `Config` where it cannot be.
///
/// ```
/// use std::time::Duration;
/// use trespass_carriers::StreamConfig;
///
/// let config = StreamConfig::default().with_coalesce(true).with_open_timeout(Duration::from_secs(1));
/// assert!(config.coalesce);
/// ```
///
/// # Memory
/// A stream has no buffers beside the track's own: what is written lies in its send slots, what has arrived in its receive
/// slots.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamConfig {
    /// Whether small writes wait for each other. Default: no.
    ///
    /// Without it a write is on its way when it returns, as on a socket with `TCP_NODELAY`: nobody who forgets to flush hangs,
    /// and each write takes a frame, however small. With it written bytes wait in one frame of the track, until that is full,
    /// or they are flushed, or a read of this end has to wait, or the stream is finished or closed. **Bytes that are
    /// neither flushed nor followed by one of these do not go out**: a stream has no background work that could send them.
    pub coalesce: bool,
    /// How long a handshake may take. Default 5 s.
    pub open_timeout: Duration,
    /// How long a close may take, with all that was written. Default 5 s.
    pub close_timeout: Duration,
    /// A beat is sent where nothing else was for so long, while this end waits: see
    /// [`MessageConfig::keepalive`](crate::MessageConfig::keepalive). Default 5 s.
    pub keepalive: Option<Duration>,
    /// For how long nothing may come from the peer: see [`MessageConfig::idle_timeout`](crate::MessageConfig::idle_timeout).
    /// Default `None`: for ever.
    pub idle_timeout: Option<Duration>,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            coalesce: false,
            open_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(5),
            keepalive: Some(KEEPALIVE),
            idle_timeout: None,
        }
    }
}

impl StreamConfig {
    /// The same, with small writes that wait for each other, or not.
    pub fn with_coalesce(self, coalesce: bool) -> Self {
        Self { coalesce, ..self }
    }

    /// The same, with this deadline for handshakes.
    pub fn with_open_timeout(self, timeout: Duration) -> Self {
        Self { open_timeout: timeout, ..self }
    }

    /// The same, with this deadline for closes.
    pub fn with_close_timeout(self, timeout: Duration) -> Self {
        Self { close_timeout: timeout, ..self }
    }

    /// The same, with beats this often.
    pub fn with_keepalive(self, every: Option<Duration>) -> Self {
        Self { keepalive: every, ..self }
    }

    /// The same, with this limit to the peer's silence.
    pub fn with_idle_timeout(self, timeout: Option<Duration>) -> Self {
        Self { idle_timeout: timeout, ..self }
    }

    pub(super) fn vigilance(&self) -> Vigilance {
        Vigilance { keepalive: self.keepalive, idle_timeout: self.idle_timeout }
    }

    /// Checks the settings against the track, and says what this end may be offered as.
    pub(super) fn check(&self, limits: &Limits) -> Result<Offer, ConfigFault> {
        check_timeouts(self.open_timeout, self.close_timeout, self.vigilance())?;
        let (window, max_frame) = check_track(limits)?;
        Ok(Offer { idle_millis: self.vigilance().idle_millis(), ..Offer::stream(window, max_frame) })
    }
}
