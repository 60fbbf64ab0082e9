//! How a carrier is set up.

use std::time::Duration;

use trespass_core::Limits;

use crate::error::{ConfigFault, Phase};
use crate::wire;

/// How a [`MessageCarrier`](crate::MessageCarrier) is set up. Checked when it is opened: kind `Config` where it cannot be.
///
/// ```
/// use std::time::Duration;
/// use trespass_carriers::MessageConfig;
///
/// let config = MessageConfig::default().with_max_message(1 << 20).with_open_timeout(Duration::from_secs(1));
/// assert_eq!(config.max_message, 1 << 20);
/// ```
///
/// # Memory
/// Beyond the track's own buffers a carrier holds at most `spill_limit` bytes of messages that wait for the application,
/// one message over that, one message in assembly, and `pool_limit` bytes kept for the next ones: whatever the peer does.
/// Messages that the application holds are its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageConfig {
    /// The longest message, in bytes, either way: the smaller of both ends' counts. Default 64 MiB.
    pub max_message: usize,
    /// How many bytes of messages may be copied out of the track's buffers while this end waits to send, so that two ends
    /// which both send before they receive get through. Above it they wait for the application. What is counted is the memory
    /// that they take: for each message 64 bytes and its length, rounded up to a power of two. Default 16 MiB.
    pub spill_limit: usize,
    /// How many bytes of memory are kept for messages that are put together from segments. Longer ones than this are
    /// allocated each time. Default 64 MiB; nothing is allocated before it is needed.
    pub pool_limit: usize,
    /// How long a handshake may take. Default 5 s.
    pub open_timeout: Duration,
    /// How long a close may take, with all that is queued. Default 5 s.
    pub close_timeout: Duration,
}

impl Default for MessageConfig {
    fn default() -> Self {
        Self {
            max_message: 64 << 20,
            spill_limit: 16 << 20,
            pool_limit: 64 << 20,
            open_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(5),
        }
    }
}

impl MessageConfig {
    /// The same, with messages of up to `bytes`.
    pub fn with_max_message(self, bytes: usize) -> Self {
        Self { max_message: bytes, ..self }
    }

    /// The same, with up to `bytes` copied out while a send waits. 0 copies nothing.
    pub fn with_spill_limit(self, bytes: usize) -> Self {
        Self { spill_limit: bytes, ..self }
    }

    /// The same, with up to `bytes` kept for reuse. 0 keeps nothing.
    pub fn with_pool_limit(self, bytes: usize) -> Self {
        Self { pool_limit: bytes, ..self }
    }

    /// The same, with this deadline for handshakes.
    pub fn with_open_timeout(self, timeout: Duration) -> Self {
        Self { open_timeout: timeout, ..self }
    }

    /// The same, with this deadline for closes.
    pub fn with_close_timeout(self, timeout: Duration) -> Self {
        Self { close_timeout: timeout, ..self }
    }

    /// Checks the settings against the track, and says what this end may be offered as.
    pub(crate) fn check(&self, limits: &Limits) -> Result<wire::Offer, ConfigFault> {
        if self.max_message == 0 || self.max_message > isize::MAX as usize {
            return Err(ConfigFault::MaxMessage(self.max_message));
        }
        check_timeouts(self.open_timeout, self.close_timeout)?;
        let (window, max_frame) = check_track(limits)?;
        Ok(wire::Offer::new(window, max_frame, self.max_message as u64))
    }
}

/// Checks the deadlines of any carrier.
pub(crate) fn check_timeouts(open: Duration, close: Duration) -> Result<(), ConfigFault> {
    for (timeout, phase) in [(open, Phase::Open), (close, Phase::Close)] {
        if timeout.is_zero() {
            return Err(ConfigFault::Timeout(phase));
        }
    }
    Ok(())
}

/// Checks that a carrier can run over such a track: how many receives it keeps posted, and how long a frame may be.
pub(crate) fn check_track(limits: &Limits) -> Result<(u32, u32), ConfigFault> {
    if limits.send_slots < MIN_SEND_SLOTS {
        return Err(ConfigFault::SendSlots { have: limits.send_slots, need: MIN_SEND_SLOTS });
    }
    if limits.max_message < wire::MIN_FRAME as usize {
        return Err(ConfigFault::FrameSize { have: limits.max_message, need: wire::MIN_FRAME as usize });
    }
    let window = u32::try_from(limits.recv_slots).unwrap_or(u32::MAX);
    if !(wire::MIN_WINDOW..=wire::MAX_WINDOW).contains(&window) {
        let (need, most) = (wire::MIN_WINDOW as usize, wire::MAX_WINDOW as usize);
        return Err(ConfigFault::RecvSlots { have: limits.recv_slots, need, most });
    }
    Ok((window, u32::try_from(limits.max_message).unwrap_or(u32::MAX)))
}

/// Two that are kept for control, and two to work with.
const MIN_SEND_SLOTS: usize = 4;
