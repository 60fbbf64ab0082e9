//! How a fabric is set up.

use std::net::IpAddr;
use std::time::Duration;

use crate::error::VerbsError;

/// The settings of a [`VerbsFabric`](crate::VerbsFabric). Checked when the fabric is opened; a bad one is refused with the
/// reason.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerbsConfig {
    /// The name of the device (`mlx5_0`, `rxe0`); by default the one that has `local`, else the first with an active
    /// port.
    pub device: Option<String>,
    /// The local address to connect from; by default an address of the device.
    pub local: Option<IpAddr>,
    /// The longest message of a track, in bytes. Each send and receive slot takes this much registered memory.
    pub max_message: usize,
    /// Messages reserved or under way per track.
    pub send_slots: usize,
    /// Receives posted per track.
    pub recv_slots: usize,
    /// Messages up to this many bytes go inline with their work request, if the device takes that many; else as many
    /// as it takes.
    pub inline: usize,
    /// How long a connect or an accept may take, and how long a request may wait to be accepted.
    pub handshake_timeout: Duration,
    /// How long a close waits for what was flushed to arrive.
    pub close_timeout: Duration,
    /// Connection requests that may wait per listener; the next is refused with kind `Busy`.
    pub backlog: usize,
    /// Registered memory at most, in bytes.
    pub pool_limit: usize,
    /// How long to wait for an acknowledgement before sending again: 4.096 µs × 2^this, from 1 to 31 (InfiniBand
    /// specification vol. 1, 9.7.6.1.3). A dead link is noticed after about this times `retries` + 1: 1.9 s by default.
    /// Soft-RoCE counts the wait for a receiver that is not ready as well, where it is one message that waits: there a
    /// raw track that stalls longer than that breaks (carriers never stall it).
    pub ack_timeout: u8,
    /// How often to send again before giving the peer up: 0 to 6. (7 never ended on soft-RoCE.)
    pub retries: u8,
    /// How long the peer waits when it met no posted receive, as the code of the specification (vol. 1, table 45):
    /// 1 is 10 µs, 12 is 0.64 ms, 0 is 655 ms. Carriers with credits never get there.
    pub min_rnr_timer: u8,
}

impl Default for VerbsConfig {
    fn default() -> Self {
        Self {
            device: None,
            local: None,
            max_message: 16 * 1024,
            send_slots: 64,
            recv_slots: 64,
            inline: 256,
            handshake_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(5),
            backlog: 128,
            pool_limit: 1 << 30,
            ack_timeout: 16,
            retries: 6,
            min_rnr_timer: 12,
        }
    }
}

impl VerbsConfig {
    /// The same, on this device.
    #[must_use]
    pub fn with_device(self, name: &str) -> Self {
        Self { device: Some(name.to_owned()), ..self }
    }

    /// The same, from this address (and so on the device that has it).
    #[must_use]
    pub fn with_local(self, ip: IpAddr) -> Self {
        Self { local: Some(ip), ..self }
    }

    /// The same, with tracks of this shape.
    #[must_use]
    pub fn with_slots(self, max_message: usize, send_slots: usize, recv_slots: usize) -> Self {
        Self { max_message, send_slots, recv_slots, ..self }
    }

    /// The same, with these deadlines.
    #[must_use]
    pub fn with_timeouts(self, handshake: Duration, close: Duration) -> Self {
        Self { handshake_timeout: handshake, close_timeout: close, ..self }
    }

    /// The memory of one slot: the message, rounded up to a cache line.
    pub(crate) fn slot_size(&self) -> usize {
        self.max_message.next_multiple_of(64)
    }

    /// The registered memory of one track.
    pub(crate) fn arena_size(&self) -> usize {
        self.slot_size() * (self.send_slots + self.recv_slots)
    }

    /// What can be checked without a device.
    pub(crate) fn check(&self) -> Result<(), VerbsError> {
        let range = |setting, value: usize, from: usize, to: usize| {
            if (from..=to).contains(&value) {
                return Ok(());
            }
            Err(VerbsError::Config { setting, why: format!("is {value}; it has to be from {from} to {to}") })
        };
        range("max_message", self.max_message, 1, 1 << 30)?;
        range("send_slots", self.send_slots, 1, 1 << 15)?;
        range("recv_slots", self.recv_slots, 1, 1 << 15)?;
        range("inline", self.inline, 0, 4096)?;
        range("backlog", self.backlog, 1, 1 << 15)?;
        range("ack_timeout", self.ack_timeout.into(), 1, 31)?;
        range("retries", self.retries.into(), 0, 6)?;
        range("min_rnr_timer", self.min_rnr_timer.into(), 1, 31)?;
        range("handshake_timeout (ms)", millis(self.handshake_timeout), 1, 3_600_000)?;
        range("close_timeout (ms)", millis(self.close_timeout), 1, 3_600_000)?;
        let arena = self.slot_size().checked_mul(self.send_slots + self.recv_slots);
        match arena {
            Some(arena) if arena <= self.pool_limit => Ok(()),
            _ => Err(VerbsError::Config {
                setting: "pool_limit",
                why: format!(
                    "is {} bytes, and one track takes {} slots of {} bytes; raise it, or shrink max_message or the slots",
                    self.pool_limit,
                    self.send_slots + self.recv_slots,
                    self.slot_size()
                ),
            }),
        }
    }
}

fn millis(duration: Duration) -> usize {
    usize::try_from(duration.as_millis()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_setting_is_named() {
        let refused = |config: VerbsConfig| match config.check() {
            Err(VerbsError::Config { setting, .. }) => setting,
            other => panic!("{other:?}"),
        };
        assert_eq!(VerbsConfig::default().check(), Ok(()));
        assert_eq!(refused(VerbsConfig { max_message: 0, ..Default::default() }), "max_message");
        assert_eq!(refused(VerbsConfig { retries: 7, ..Default::default() }), "retries");
        assert_eq!(refused(VerbsConfig { min_rnr_timer: 0, ..Default::default() }), "min_rnr_timer");
        assert_eq!(refused(VerbsConfig { pool_limit: 1, ..Default::default() }), "pool_limit");
    }
}
