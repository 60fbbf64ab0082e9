//! How a fabric is set up.

use std::time::Duration;

use trespass_core::Limits;

use crate::error::MockError;

/// The longest message there can be: that of a reliable connected queue pair (2^31 bytes; InfiniBand specification
/// vol. 1, 9.7.7) is more than a laboratory needs.
const MAX_MESSAGE: usize = 1 << 30;
/// The deepest queue: that of common devices.
pub(crate) const MAX_SLOTS: usize = 1 << 15;
/// The memory of one end of a track.
const MAX_MEMORY: u64 = 1 << 32;
/// The deepest queue of connection requests.
const MAX_BACKLOG: usize = 1 << 16;

/// Fails for a `value` that is out of range.
pub(crate) fn number(
    field: &'static str,
    value: usize,
    min: usize,
    max: usize,
    must: &'static str,
) -> Result<(), MockError> {
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(MockError::Config { field, value: value.to_string(), must }),
    }
}

/// How the tracks and listeners of a fabric are set up. Checked when a fabric is made of it.
///
/// Each end of a track takes `(send_slots + recv_slots) * (max_message + 4)` bytes of memory, for as long as it lives.
///
/// ```
/// use trespass_mock::{MockConfig, MockNet};
///
/// let net = MockNet::new();
/// assert!(net.fabric(MockConfig::default().with_max_message(4096).with_recv_slots(8)).is_ok());
/// let error = net.fabric(MockConfig::default().with_recv_slots(0)).unwrap_err();
/// assert!(error.to_string().contains("recv_slots"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MockConfig {
    /// The longest message, in bytes: 1 to 2^30. Default 16 KiB. Both ends of a track want the same: a message longer
    /// than the receives of its peer ends the track, as it does on a device.
    pub max_message: usize,
    /// The depth of the send queue: how many messages of a track may be reserved or under way at once, 1 to 2^15. Default 64.
    pub send_slots: usize,
    /// The depth of the receive queue: how many receives a track keeps posted, 1 to 2^15. Default 64.
    pub recv_slots: usize,
    /// What [`Limits::inline`] says: 0 to `max_message` bytes. Default 0. Nothing else depends on it.
    pub inline: usize,
    /// How long a connect of this fabric waits to be accepted; more than zero. Default 5 s.
    pub handshake_timeout: Duration,
    /// How long a close waits for a peer that does not receive; more than zero. Default 5 s.
    pub close_timeout: Duration,
    /// How many connection requests a listener holds until they are taken, 1 to 2^16. Default 128.
    pub backlog: usize,
    /// How many reads and atomic operations of a track may be under way at once (`max_rd_atomic`), 1 to 2^15. Default 16.
    pub fetch_slots: usize,
    /// How many bytes of regions there may be at once. Default 1 GiB.
    pub memory_limit: usize,
}

impl Default for MockConfig {
    fn default() -> Self {
        Self {
            max_message: 16 << 10,
            send_slots: 64,
            recv_slots: 64,
            inline: 0,
            handshake_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(5),
            backlog: 128,
            fetch_slots: 16,
            memory_limit: 1 << 30,
        }
    }
}

impl MockConfig {
    /// The same, with another [`max_message`](Self::max_message).
    pub fn with_max_message(self, max_message: usize) -> Self {
        Self { max_message, ..self }
    }

    /// The same, with another [`send_slots`](Self::send_slots).
    pub fn with_send_slots(self, send_slots: usize) -> Self {
        Self { send_slots, ..self }
    }

    /// The same, with another [`recv_slots`](Self::recv_slots).
    pub fn with_recv_slots(self, recv_slots: usize) -> Self {
        Self { recv_slots, ..self }
    }

    /// The same, with another [`inline`](Self::inline).
    pub fn with_inline(self, inline: usize) -> Self {
        Self { inline, ..self }
    }

    /// The same, with another [`handshake_timeout`](Self::handshake_timeout).
    pub fn with_handshake_timeout(self, handshake_timeout: Duration) -> Self {
        Self { handshake_timeout, ..self }
    }

    /// The same, with another [`close_timeout`](Self::close_timeout).
    pub fn with_close_timeout(self, close_timeout: Duration) -> Self {
        Self { close_timeout, ..self }
    }

    /// The same, with another [`backlog`](Self::backlog).
    pub fn with_backlog(self, backlog: usize) -> Self {
        Self { backlog, ..self }
    }

    /// The same, with another [`fetch_slots`](Self::fetch_slots).
    pub fn with_fetch_slots(self, fetch_slots: usize) -> Self {
        Self { fetch_slots, ..self }
    }

    /// The same, with another [`memory_limit`](Self::memory_limit).
    pub fn with_memory_limit(self, memory_limit: usize) -> Self {
        Self { memory_limit, ..self }
    }

    /// The sizes of the tracks made by it.
    pub(crate) fn limits(&self) -> Limits {
        Limits::new(self.max_message, self.send_slots, self.recv_slots).with_inline(self.inline)
    }

    /// The same, with every setting within its range.
    ///
    /// # Errors
    /// Kind `Config`, naming the first setting that is not.
    pub(crate) fn checked(self) -> Result<Self, MockError> {
        let time = |field, value: Duration| match value.is_zero() {
            true => Err(MockError::Config { field, value: "zero".into(), must: "longer than zero" }),
            false => Ok(()),
        };
        number("max_message", self.max_message, 1, MAX_MESSAGE, "1 to 2^30 bytes")?;
        number("send_slots", self.send_slots, 1, MAX_SLOTS, "1 to 2^15")?;
        number("recv_slots", self.recv_slots, 1, MAX_SLOTS, "1 to 2^15")?;
        number("inline", self.inline, 0, self.max_message, "0 to `max_message`")?;
        number("fetch_slots", self.fetch_slots, 1, MAX_SLOTS, "1 to 2^15")?;
        number("backlog", self.backlog, 1, MAX_BACKLOG, "1 to 2^16")?;
        time("handshake_timeout", self.handshake_timeout)?;
        time("close_timeout", self.close_timeout)?;
        // Cannot overflow: 2^16 slots of 2^30 bytes at most.
        let memory = (self.send_slots + self.recv_slots) as u64 * self.max_message as u64;
        match memory <= MAX_MEMORY {
            true => Ok(self),
            false => Err(MockError::Config {
                field: "max_message",
                value: self.max_message.to_string(),
                must: "less, or the slots fewer: one end of a track may take 4 GiB",
            }),
        }
    }
}
