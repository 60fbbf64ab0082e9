//! How bad the network is.

/// The longest that a message is held back, in messages.
const MOST_DELAY: u16 = 1024;

/// What happens to datagrams, and how often. Without faults they are lost at a full receiver only.
///
/// Chances are in thousandths; 1000 and above is always.
///
/// ```
/// use trespass_layers::lossy::LossyConfig;
///
/// // 5 % lost, 1 % twice, 10 % overtaken by the next; 2 % late by up to 16 messages.
/// let config = LossyConfig::new(42).with_loss(50).with_duplication(10).with_reordering(100).with_delay(20, 16);
/// assert_eq!(config.seed(), 42);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossyConfig {
    seed: u64,
    pub(super) loss: u16,
    pub(super) duplication: u16,
    pub(super) reordering: u16,
    pub(super) delay: u16,
    pub(super) most_delay: u16,
}

impl LossyConfig {
    /// No faults, and the seed of those to come.
    pub const fn new(seed: u64) -> Self {
        Self { seed, loss: 0, duplication: 0, reordering: 0, delay: 0, most_delay: 1 }
    }

    /// The seed: a run with the same one has the same faults.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// How many of 1000 messages are lost.
    pub const fn with_loss(self, per_mille: u16) -> Self {
        Self { loss: per_mille, ..self }
    }

    /// How many of 1000 messages that are not lost come twice. Either copy may be late.
    pub const fn with_duplication(self, per_mille: u16) -> Self {
        Self { duplication: per_mille, ..self }
    }

    /// How many of 1000 messages are overtaken by the next one of their track.
    pub const fn with_reordering(self, per_mille: u16) -> Self {
        Self { reordering: per_mille, ..self }
    }

    /// How many of 1000 messages are held back, until 1 to `most` others of their track were sent after them (at most
    /// 1024; 0 is 1). A message that nothing is sent after stays in the network until its track is closed.
    pub const fn with_delay(self, per_mille: u16, most: u16) -> Self {
        let most_delay = match most {
            0 => 1,
            MOST_DELAY.. => MOST_DELAY,
            most => most,
        };
        Self { delay: per_mille, most_delay, ..self }
    }
}
