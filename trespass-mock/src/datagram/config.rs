//! How datagrams are set up.

use crate::config::{MAX_SLOTS, number};
use crate::error::MockError;

/// The longest datagram there can be: what an IPv6 packet has room for. With the deepest queues, a track takes 4 GiB then.
const MAX_MTU: usize = 1 << 16;

/// The settings of [`MockDatagrams`](crate::MockDatagrams). Checked when they are opened; a bad one is refused by its name.
///
/// A track or port takes about `(send_slots + recv_slots) * mtu` bytes of memory, for as long as it lives.
///
/// The network is perfect unless it is told otherwise: then datagrams are lost at a full receiver only. Chances are in
/// thousandths; 1000 and above is always.
///
/// ```
/// use trespass_mock::{MockDatagramConfig, MockFabric};
///
/// // 5 % lost, 1 % twice, 10 % overtaken by the next.
/// let config = MockDatagramConfig::default().with_seed(42).with_loss(50).with_duplication(10).with_reordering(100);
/// let datagrams = MockFabric::new().datagrams(config).unwrap();
/// assert_eq!(datagrams.config().seed, 42);
/// let error = MockFabric::new().datagrams(MockDatagramConfig::default().with_tracks(0)).unwrap_err();
/// assert!(error.to_string().contains("tracks"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MockDatagramConfig {
    /// The longest datagram, in bytes: 1 to 2^16. Default 4096. A track takes the smaller one of its two ends; a datagram that
    /// is longer than what a port takes is dropped there.
    pub mtu: usize,
    /// Datagrams that are reserved or queued, for each track and port, 1 to 2^15. Default 32.
    pub send_slots: usize,
    /// Datagrams that wait or are held, for each track and port, 1 to 2^15; what arrives beyond it is dropped. Default 64.
    pub recv_slots: usize,
    /// Tracks that a listener gives at once, 1 to 2^15; the next request is refused with kind `Busy`. Default 64.
    pub tracks: usize,
    /// Where the faults come from: tracks and ports that are made and used in the same order with the same seed have the
    /// same ones. Default 0.
    pub seed: u64,
    /// How many of 1000 datagrams are lost. Default 0.
    pub loss: u16,
    /// How many of 1000 datagrams that are not lost come twice. Default 0.
    pub duplication: u16,
    /// How many of 1000 datagrams that are not lost are overtaken by the next one of their track or port. What nothing is sent
    /// after stays in the network until a close. Default 0.
    pub reordering: u16,
    /// How many of 1000 datagrams that are not lost arrive with a bit that is not as it was sent. A device has checksums, and
    /// makes a loss of it; so this is more than there is on hardware, for those who trust nobody. Default 0.
    pub corruption: u16,
}

impl Default for MockDatagramConfig {
    fn default() -> Self {
        Self {
            mtu: 4096,
            send_slots: 32,
            recv_slots: 64,
            tracks: 64,
            seed: 0,
            loss: 0,
            duplication: 0,
            reordering: 0,
            corruption: 0,
        }
    }
}

impl MockDatagramConfig {
    /// The same, with another [`mtu`](Self::mtu).
    #[must_use]
    pub fn with_mtu(self, mtu: usize) -> Self {
        Self { mtu, ..self }
    }

    /// The same, with tracks and ports of this shape.
    #[must_use]
    pub fn with_slots(self, send_slots: usize, recv_slots: usize) -> Self {
        Self { send_slots, recv_slots, ..self }
    }

    /// The same, with so many tracks for each listener at once.
    #[must_use]
    pub fn with_tracks(self, tracks: usize) -> Self {
        Self { tracks, ..self }
    }

    /// The same, with another [`seed`](Self::seed).
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The same, with another [`loss`](Self::loss).
    #[must_use]
    pub fn with_loss(self, per_mille: u16) -> Self {
        Self { loss: per_mille, ..self }
    }

    /// The same, with another [`duplication`](Self::duplication).
    #[must_use]
    pub fn with_duplication(self, per_mille: u16) -> Self {
        Self { duplication: per_mille, ..self }
    }

    /// The same, with another [`reordering`](Self::reordering).
    #[must_use]
    pub fn with_reordering(self, per_mille: u16) -> Self {
        Self { reordering: per_mille, ..self }
    }

    /// The same, with another [`corruption`](Self::corruption).
    #[must_use]
    pub fn with_corruption(self, per_mille: u16) -> Self {
        Self { corruption: per_mille, ..self }
    }

    /// Whether the network does anything but lose what nobody takes.
    pub(crate) fn has_faults(&self) -> bool {
        self.loss > 0 || self.duplication > 0 || self.reordering > 0 || self.corruption > 0
    }

    /// The same, with every setting within its range.
    ///
    /// # Errors
    /// Kind `Config`, naming the first setting that is not.
    pub(crate) fn checked(self) -> Result<Self, MockError> {
        number("mtu", self.mtu, 1, MAX_MTU, "1 to 2^16 bytes")?;
        number("send_slots", self.send_slots, 1, MAX_SLOTS, "1 to 2^15")?;
        number("recv_slots", self.recv_slots, 1, MAX_SLOTS, "1 to 2^15")?;
        number("tracks", self.tracks, 1, MAX_SLOTS, "1 to 2^15")?;
        Ok(self)
    }
}
