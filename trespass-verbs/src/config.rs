//! How a fabric is set up.

use std::net::IpAddr;
use std::time::Duration;

use crate::error::VerbsError;
use crate::pool::{CHUNK, arenas_at_once};
use crate::port::mtu_code;

/// The settings of a [`VerbsFabric`](crate::VerbsFabric). Checked when the fabric is opened; a bad one is refused with the
/// reason.
///
/// Each end of a track takes `send_slots + recv_slots` times `max_message`, rounded up to a cache line, of registered (and so
/// locked) memory: 2 MiB by default, registered 4 MiB at a time, or for one track where that is more.
///
/// ```
/// use std::time::Duration;
/// use trespass_verbs::VerbsConfig;
///
/// let config = VerbsConfig::default().with_slots(4096, 16, 32).with_timeouts(Duration::from_secs(2), Duration::from_secs(1));
/// assert_eq!((config.max_message, config.send_slots, config.recv_slots), (4096, 16, 32));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerbsConfig {
    /// The name of the device (`mlx5_0`, `rxe0`); by default the one that has `local`, else the first with an active
    /// port.
    pub device: Option<String>,
    /// The local address to connect from; by default an address of the device. A link-local one (`fe80::…`) stands for
    /// the interface of the first device that has it. To peers of the other family it connects from an address of theirs.
    pub local: Option<IpAddr>,
    /// The GID to use, by its index in the device's table (`trespass doctor` and `ibv_devinfo -v` show it); by default
    /// the one of the address that is used. The connection manager knows addresses and no indices, so this stands for the
    /// address of that GID, here and towards every peer. One that is no address, or of RoCE v1 where the same address has
    /// RoCE v2 too, which the connection manager then takes, is refused.
    pub gid_index: Option<u8>,
    /// The traffic class of what tracks send, that is the DSCP times 4, plus the ECN bits; by default what the system
    /// has (`default_roce_tos` of the connection manager). Each end sets its own. Priority flow control looks at it, or at
    /// the VLAN priority, which the system makes of that of the connecting end.
    pub traffic_class: Option<u8>,
    /// The longest packet, in bytes of payload: 256, 512, 1024, 2048 or 4096; by default what the way to the peer takes,
    /// as the connecting end sees it. A cap, which a shorter way lowers further. Both ends have to set the same: devices
    /// tell it to nobody, and may break connections whose ends differ.
    pub path_mtu: Option<u16>,
    /// By which of the device's completion vectors (interrupts) notifications come: from 0, below as many as it has. For a
    /// fabric for each core, give each another one. Default 0.
    pub completion_vector: u32,
    /// The longest message of a track, in bytes: 1 to 2^30. Default 16 KiB. Each send and receive slot takes this much
    /// registered memory.
    pub max_message: usize,
    /// Messages reserved or under way per track: 1 to 2^15, or fewer where the device has shorter queues. Default 64.
    pub send_slots: usize,
    /// Receives posted per track: 1 to 2^15, or fewer where the device has shorter queues. Default 64.
    pub recv_slots: usize,
    /// Messages up to this many bytes go inline with their work request, if the device takes that many; else as many
    /// as it takes. 0 to 4096, default 256.
    pub inline: usize,
    /// How long a connect or an accept may take, and how long a request may wait to be accepted: 1 ms to an hour. Default 5 s.
    pub handshake_timeout: Duration,
    /// How long a close waits for what was flushed to arrive: 1 ms to an hour. Default 5 s.
    pub close_timeout: Duration,
    /// Connection requests that may wait per listener to be accepted, each for `handshake_timeout` at most: 1 to 2^15, default
    /// 1024. One that waits has a connection identifier, and neither a queue pair nor registered memory. The next is told to come
    /// again: a connect does so by itself, after pauses of 20 ms to 1 s, until its own `handshake_timeout` is over, and then
    /// fails with kind `Busy`.
    pub backlog: usize,
    /// Registered memory for tracks at most, in bytes; beyond it a connect or accept fails with kind `ResourceLimit`. Default
    /// 1 GiB, at least what one track takes.
    pub pool_limit: usize,
    /// Of the memory that was allocated for regions and given back, so many bytes at most stay registered, to be used again.
    /// Default 64 MiB.
    pub region_cache: usize,
    /// Whether peers may reach memory at all. What they may reach is what windows lend: where there is no window, nothing.
    /// `false` makes the device refuse even that. Default `true`.
    pub remote_access: bool,
    /// How long to wait for an acknowledgement before sending again: 4.096 µs × 2^this, from 1 to 31 (InfiniBand
    /// specification vol. 1, 9.7.6.1.3). Default 16. A dead link is noticed after about this times `retries` + 1: 1.9 s by default.
    /// Soft-RoCE counts the wait for a receiver that is not ready as well, where it is one message that waits: there a
    /// raw track that stalls longer than that breaks (carriers never stall it).
    pub ack_timeout: u8,
    /// How often to send again before giving the peer up: 0 to 6, default 6. (7 never ended on soft-RoCE.)
    pub retries: u8,
    /// How long the peer waits when it met no posted receive, as the code of the specification (vol. 1, table 45):
    /// 1 (10 µs) to 31 (491 ms), default 12 (0.64 ms). Carriers with credits never get there.
    pub min_rnr_timer: u8,
}

impl Default for VerbsConfig {
    fn default() -> Self {
        Self {
            device: None,
            local: None,
            gid_index: None,
            traffic_class: None,
            path_mtu: None,
            completion_vector: 0,
            max_message: 16 * 1024,
            send_slots: 64,
            recv_slots: 64,
            inline: 256,
            handshake_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(5),
            backlog: 1024,
            pool_limit: 1 << 30,
            region_cache: 64 << 20,
            remote_access: true,
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

    /// The same, with the GID of this index.
    #[must_use]
    pub fn with_gid_index(self, index: u8) -> Self {
        Self { gid_index: Some(index), ..self }
    }

    /// The same, with this traffic class: DSCP times 4, plus the ECN bits.
    #[must_use]
    pub fn with_traffic_class(self, class: u8) -> Self {
        Self { traffic_class: Some(class), ..self }
    }

    /// The same, with packets of at most this many bytes of payload. Both ends have to set the same.
    #[must_use]
    pub fn with_path_mtu(self, bytes: u16) -> Self {
        Self { path_mtu: Some(bytes), ..self }
    }

    /// The same, with notifications by this completion vector.
    #[must_use]
    pub fn with_completion_vector(self, vector: u32) -> Self {
        Self { completion_vector: vector, ..self }
    }

    /// The same, with this acknowledgement timeout, as a code, and so many retries.
    #[must_use]
    pub fn with_retries(self, ack_timeout: u8, retries: u8) -> Self {
        Self { ack_timeout, retries, ..self }
    }

    /// The same, with so many requests waiting per listener at most.
    #[must_use]
    pub fn with_backlog(self, requests: usize) -> Self {
        Self { backlog: requests, ..self }
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

    /// The registered memory with which a fabric begins.
    pub(crate) fn locked_at_first(&self) -> usize {
        let arena = self.arena_size();
        arena * arenas_at_once(arena.max(1), CHUNK, self.pool_limit)
    }

    /// How long a device tries to send what is not acknowledged, before it gives the peer up.
    pub(crate) fn retry_time(&self) -> Duration {
        Duration::from_nanos(4096 << self.ack_timeout.min(31)) * (u32::from(self.retries) + 1)
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
        if let Some(bytes) = self.path_mtu.filter(|bytes| mtu_code(*bytes).is_none()) {
            let why = format!("is {bytes}; it has to be 256, 512, 1024, 2048 or 4096");
            return Err(VerbsError::Config { setting: "path_mtu", why });
        }
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
        assert_eq!(refused(VerbsConfig::default().with_retries(0, 6)), "ack_timeout");
        assert_eq!(refused(VerbsConfig::default().with_retries(32, 6)), "ack_timeout");
        for bytes in [0, 1, 255, 1500, 8192, u16::MAX] {
            assert_eq!(refused(VerbsConfig::default().with_path_mtu(bytes)), "path_mtu");
        }
        assert_eq!(VerbsConfig::default().with_path_mtu(256).check(), Ok(()));
        assert_eq!(refused(VerbsConfig { pool_limit: 1, ..Default::default() }), "pool_limit");
    }

    #[test]
    fn the_retry_time_is_what_the_documentation_says() {
        let millis = |config: VerbsConfig| config.retry_time().as_millis();
        assert_eq!(millis(VerbsConfig::default()), 1879);
        assert_eq!(millis(VerbsConfig::default().with_retries(14, 6)), 469);
        assert!(millis(VerbsConfig::default().with_retries(31, 6)) > 3_600_000);
    }
}
