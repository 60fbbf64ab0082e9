//! How a carrier over datagrams is set up.

use std::time::Duration;

use trespass_core::Limits;

use super::assembly::Bounds;
use super::wire::SEGMENT_HEADER;
use crate::config::check_timeouts;
use crate::error::{ConfigFault, Phase};
use crate::handshake::Agreement;
use crate::pool::Pool;
use crate::pulse::Vigilance;
use crate::wire::{DATAGRAM_CARRIER, MAX_WINDOW, MIN_FRAME, MIN_WINDOW, Offer};

/// The settings of a [`DatagramCarrier`](crate::DatagramCarrier). The two ends may differ.
///
/// ```
/// use std::time::Duration;
/// use trespass_carriers::DatagramConfig;
///
/// let config = DatagramConfig::default().with_max_message(64 << 10).with_idle_timeout(Some(Duration::from_secs(3)));
/// assert_eq!(config.max_message, 64 << 10);
/// ```
///
/// # Memory
/// Beyond the track's own buffers a carrier holds at most `assemblies` messages that are incomplete, each up to
/// `max_message` and, since memory comes in powers of two, room for up to four times that where the pool has nothing
/// smaller, and `pool_limit` bytes kept for the next ones: whatever the peer does. Messages that the application holds are
/// its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatagramConfig {
    /// The longest message, in bytes, either way: the smaller of both ends' counts. The longer a message, the likelier is
    /// that one of its datagrams is lost, and so all of it. Default 1 MiB, at most `u32::MAX`.
    pub max_message: usize,
    /// How many messages may be incomplete at once, 1 to 1024; when one more begins the oldest is given up. Default 16.
    pub assemblies: usize,
    /// How long a message may be incomplete before it is given up. Default 1 s.
    pub assembly_timeout: Duration,
    /// How many bytes of memory are kept for messages that are put together. Default 16 MiB; nothing is allocated before it
    /// is needed.
    pub pool_limit: usize,
    /// How long a handshake may take. Default 5 s.
    pub open_timeout: Duration,
    /// After how long what was said in a handshake and not answered is said again. Default 50 ms.
    pub open_retry: Duration,
    /// How long a close may take. Default 5 s.
    pub close_timeout: Duration,
    /// For how long nothing may come from the peer, while this end waits to receive, until receiving ends with `TimedOut`;
    /// it may take twice that to be noticed. Nothing else tells of a peer that died. The peer is told, and beats three times as
    /// often while it waits to receive. Default `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// A beat is sent where nothing else was for so long. Default `None`: only as often as the peer's `idle_timeout` asks for.
    pub keepalive: Option<Duration>,
}

impl Default for DatagramConfig {
    fn default() -> Self {
        Self {
            max_message: 1 << 20,
            assemblies: 16,
            assembly_timeout: Duration::from_secs(1),
            pool_limit: 16 << 20,
            open_timeout: Duration::from_secs(5),
            open_retry: Duration::from_millis(50),
            close_timeout: Duration::from_secs(5),
            idle_timeout: None,
            keepalive: None,
        }
    }
}

/// The most messages that may be incomplete at once: each segment is looked up among them.
const MAX_ASSEMBLIES: usize = 1024;
/// One to say goodbye with, and one to work with.
const MIN_SEND_SLOTS: usize = 2;

impl DatagramConfig {
    /// The same, with messages of up to `bytes`.
    pub fn with_max_message(self, bytes: usize) -> Self {
        Self { max_message: bytes, ..self }
    }

    /// The same, with up to `count` messages incomplete at once, each for up to `timeout`.
    pub fn with_assemblies(self, count: usize, timeout: Duration) -> Self {
        Self { assemblies: count, assembly_timeout: timeout, ..self }
    }

    /// The same, with up to `bytes` kept for reuse. 0 keeps nothing.
    pub fn with_pool_limit(self, bytes: usize) -> Self {
        Self { pool_limit: bytes, ..self }
    }

    /// The same, with this deadline for handshakes.
    pub fn with_open_timeout(self, timeout: Duration) -> Self {
        Self { open_timeout: timeout, ..self }
    }

    /// The same, with what was not answered in a handshake said again after `every`.
    pub fn with_open_retry(self, every: Duration) -> Self {
        Self { open_retry: every, ..self }
    }

    /// The same, with this deadline for closes.
    pub fn with_close_timeout(self, timeout: Duration) -> Self {
        Self { close_timeout: timeout, ..self }
    }

    /// The same, with this limit to the peer's silence.
    pub fn with_idle_timeout(self, timeout: Option<Duration>) -> Self {
        Self { idle_timeout: timeout, ..self }
    }

    /// The same, with beats.
    pub fn with_keepalive(self, every: Option<Duration>) -> Self {
        Self { keepalive: every, ..self }
    }

    pub(super) fn vigilance(&self) -> Vigilance {
        Vigilance { keepalive: self.keepalive, idle_timeout: self.idle_timeout }
    }

    /// What a carrier may take, beside its track.
    pub(super) fn most_memory(&self) -> usize {
        // A bit for each segment, of which the shortest frames make the most.
        let bits = self.max_message / (MIN_FRAME as usize - SEGMENT_HEADER) / 8 + 16;
        let message = Pool::room_for(self.max_message).saturating_add(bits);
        message.saturating_mul(self.assemblies).saturating_add(self.pool_limit)
    }

    /// Checks the settings against the track, and says what this end may be offered as.
    pub(super) fn check(&self, limits: &Limits) -> Result<Offer, ConfigFault> {
        if self.max_message == 0 {
            return Err(ConfigFault::MaxMessage(0));
        }
        if u32::try_from(self.max_message).is_err() {
            return Err(ConfigFault::LongMessage(self.max_message));
        }
        if !(1..=MAX_ASSEMBLIES).contains(&self.assemblies) {
            return Err(ConfigFault::Assemblies(self.assemblies));
        }
        check_timeouts(self.open_timeout.min(self.open_retry), self.close_timeout, self.vigilance())?;
        if self.assembly_timeout.is_zero() {
            return Err(ConfigFault::Timeout(Phase::Assembly));
        }
        if limits.send_slots < MIN_SEND_SLOTS {
            return Err(ConfigFault::SendSlots { have: limits.send_slots, need: MIN_SEND_SLOTS });
        }
        if limits.max_message < MIN_FRAME as usize {
            return Err(ConfigFault::FrameSize { have: limits.max_message, need: MIN_FRAME as usize });
        }
        let window = u32::try_from(limits.recv_slots).unwrap_or(u32::MAX);
        if !(MIN_WINDOW..=MAX_WINDOW).contains(&window) {
            let (need, most) = (MIN_WINDOW as usize, MAX_WINDOW as usize);
            return Err(ConfigFault::RecvSlots { have: limits.recv_slots, need, most });
        }
        let max_frame = u32::try_from(limits.max_message).unwrap_or(u32::MAX);
        let idle_millis = self.vigilance().idle_millis();
        Ok(Offer { carrier: DATAGRAM_CARRIER, idle_millis, ..Offer::new(window, max_frame, self.max_message as u64) })
    }

    /// What messages in assembly are held to.
    pub(super) fn bounds(&self, agreement: &Agreement) -> Bounds {
        Bounds {
            max_message: agreement.max_message,
            // Never 0: a frame is far longer than this.
            segment: agreement.send_frame.saturating_sub(SEGMENT_HEADER).max(1),
            timeout: self.assembly_timeout,
        }
    }
}
