//! How a carrier is set up.

use std::time::Duration;

use trespass_core::Limits;

use crate::error::{ConfigFault, Phase};
use crate::pool::Pool;
use crate::pulse::Vigilance;
use crate::wire;

/// How often to beat where nothing else is configured: often enough for whoever waits to learn of a dead peer within some
/// seconds, seldom enough to cost a thousand idle connections no more than some hundred frames a second.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(5);

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
/// Messages that the application holds are its own. Memory comes in powers of two, and where the pool has nothing smaller it may
/// be four times what a message needs: [`most_memory`](trespass_core::Carrier::most_memory) counts with that.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageConfig {
    /// The longest message, in bytes, either way: the smaller of both ends' counts. Default 1 GiB.
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
    /// A beat is sent where nothing else was for so long, while this end waits: so that the end of a peer whose machine or
    /// link is gone is found by the track below, though nothing is said. It may take twice that, and then as long as the
    /// track tries. More often where the peer's `idle_timeout` asks for it. Default 5 s; `None` sends only what the peer asks for.
    pub keepalive: Option<Duration>,
    /// For how long nothing may come from the peer, while this end waits and the peer has credits, until both directions end
    /// with `TimedOut`; it may take twice that to be noticed. The peer is told, and beats three times as often while it is
    /// inside a call that waits: so this also finds an application that stands still. Default `None`: for ever.
    pub idle_timeout: Option<Duration>,
}

impl Default for MessageConfig {
    fn default() -> Self {
        Self {
            max_message: 1 << 30,
            spill_limit: 16 << 20,
            pool_limit: 64 << 20,
            open_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(5),
            keepalive: Some(KEEPALIVE),
            idle_timeout: None,
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

    /// The same, with beats this often.
    pub fn with_keepalive(self, every: Option<Duration>) -> Self {
        Self { keepalive: every, ..self }
    }

    /// The same, with this limit to the peer's silence.
    pub fn with_idle_timeout(self, timeout: Option<Duration>) -> Self {
        Self { idle_timeout: timeout, ..self }
    }

    pub(crate) fn vigilance(&self) -> Vigilance {
        Vigilance { keepalive: self.keepalive, idle_timeout: self.idle_timeout }
    }

    /// What a carrier may take, beside its track.
    pub(crate) fn most_memory(&self) -> usize {
        let message = Pool::room_for(self.max_message);
        Pool::most_for(self.spill_limit).saturating_add(self.pool_limit).saturating_add(message.saturating_mul(2))
    }

    /// Checks the settings against the track, and says what this end may be offered as.
    pub(crate) fn check(&self, limits: &Limits) -> Result<wire::Offer, ConfigFault> {
        if self.max_message == 0 || self.max_message > isize::MAX as usize {
            return Err(ConfigFault::MaxMessage(self.max_message));
        }
        check_timeouts(self.open_timeout, self.close_timeout, self.vigilance())?;
        let (window, max_frame) = check_track(limits)?;
        let idle_millis = self.vigilance().idle_millis();
        Ok(wire::Offer { idle_millis, ..wire::Offer::new(window, max_frame, self.max_message as u64) })
    }
}

/// Checks the deadlines of any carrier.
pub(crate) fn check_timeouts(open: Duration, close: Duration, vigilance: Vigilance) -> Result<(), ConfigFault> {
    for (timeout, phase) in [
        (Some(open), Phase::Open),
        (Some(close), Phase::Close),
        (vigilance.idle_timeout, Phase::Idle),
        (vigilance.keepalive, Phase::Keepalive),
    ] {
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
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
