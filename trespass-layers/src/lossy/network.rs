//! The bad network: decides about each message, by the seed alone.

use super::config::LossyConfig;

/// What became of the messages of a track.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// Messages that were lost on purpose.
    pub lost: u64,
    /// Messages that were sent twice on purpose.
    pub duplicated: u64,
    /// Messages, or copies of them, that were held back on purpose.
    pub held_back: u64,
    /// Messages, or copies of them, that the track below had no slot for: its receiver was too slow.
    pub overflowed: u64,
    /// Messages, or copies of them, that were sent when the peer had ended the track.
    pub unheard: u64,
}

/// One direction of a track.
#[derive(Debug)]
pub(super) struct Network {
    config: LossyConfig,
    rng: u64,
    /// How many messages have come so far.
    clock: u64,
    /// Those that are held back, and until which message. Bounded: each goes out at most 1024 messages later.
    held: Vec<(u64, Vec<u8>)>,
    pub(super) faults: Faults,
}

impl Network {
    pub(super) fn new(config: LossyConfig, seed: u64) -> Self {
        Self { config, rng: seed, clock: 0, held: Vec::new(), faults: Faults::default() }
    }

    /// Takes a message, and carries it or not, and those for which it is time.
    pub(super) fn take(&mut self, message: &[u8], mut carry: impl FnMut(&[u8], &mut Faults)) {
        self.clock += 1;
        // The same number of rolls for each message, so that no fault moves the others.
        let [loss, duplication] = [self.roll(), self.roll()];
        let delays = [self.delay(), self.delay()];
        let copies = match (loss < self.config.loss, duplication < self.config.duplication) {
            (true, _) => {
                self.faults.lost += 1;
                0
            }
            (false, true) => {
                self.faults.duplicated += 1;
                2
            }
            (false, false) => 1,
        };
        for delay in &delays[..copies] {
            match delay {
                0 => carry(message, &mut self.faults),
                _ => {
                    self.faults.held_back += 1;
                    self.held.push((self.clock + delay, message.to_vec()));
                }
            }
        }
        let clock = self.clock;
        self.release(clock, &mut carry);
    }

    /// Carries all that is held back.
    pub(super) fn drain(&mut self, mut carry: impl FnMut(&[u8], &mut Faults)) {
        self.release(u64::MAX, &mut carry);
    }

    fn release(&mut self, clock: u64, carry: &mut impl FnMut(&[u8], &mut Faults)) {
        let faults = &mut self.faults;
        self.held.retain(|(due, message)| {
            let stays = *due > clock;
            if !stays {
                carry(message, faults);
            }
            stays
        });
    }

    /// By how many messages the next one is late.
    fn delay(&mut self) -> u64 {
        let [reordering, delay, by] = [self.roll(), self.roll(), self.roll()];
        if delay < self.config.delay {
            1 + u64::from(by) * u64::from(self.config.most_delay) / 1000
        } else {
            u64::from(reordering < self.config.reordering)
        }
    }

    /// A number below 1000.
    #[allow(clippy::cast_possible_truncation, reason = "below 1000")]
    fn roll(&mut self) -> u16 {
        self.rng = self.rng.wrapping_add(0x9E37_79B9_7F4A_7C15);
        (mix(self.rng) % 1000) as u16
    }
}

/// splitmix64's output function: every bit of the input moves every bit of the output.
pub(super) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out for messages 0, 1, 2, … and at the end.
    fn carried(config: LossyConfig, count: u8) -> (Vec<u8>, Faults) {
        let mut network = Network::new(config, config.seed());
        let mut out = Vec::new();
        (0..count).for_each(|id| network.take(&[id], |bytes, _| out.push(bytes[0])));
        network.drain(|bytes, _| out.push(bytes[0]));
        (out, network.faults)
    }

    #[test]
    fn without_faults_all_pass_in_order() {
        assert_eq!(carried(LossyConfig::new(1), 100), ((0..100).collect(), Faults::default()));
    }

    #[test]
    fn a_seed_is_a_run() {
        let config =
            |seed| LossyConfig::new(seed).with_loss(200).with_duplication(200).with_reordering(200).with_delay(200, 9);
        assert_eq!(carried(config(5), 200), carried(config(5), 200));
        assert_ne!(carried(config(5), 200), carried(config(6), 200));
    }

    #[test]
    fn each_fault_does_what_it_is_called() {
        let (out, faults) = carried(LossyConfig::new(2).with_loss(300), 200);
        assert!(out.is_sorted_by(|a, b| a < b) && out.len() as u64 == 200 - faults.lost);
        assert!((30..90).contains(&faults.lost), "{faults:?}");
        assert_eq!(carried(LossyConfig::new(2).with_loss(1000), 200).0, []);

        let (out, faults) = carried(LossyConfig::new(3).with_duplication(1000), 100);
        assert_eq!(out, (0..100).flat_map(|id| [id, id]).collect::<Vec<_>>());
        assert_eq!(faults.duplicated, 100);

        let (out, faults) = carried(LossyConfig::new(4).with_reordering(300), 200);
        assert!(faults.held_back > 30 && !out.is_sorted());
        for (at, id) in out.iter().enumerate() {
            assert!(at.abs_diff(usize::from(*id)) <= 1 + 200 / 10, "{out:?}");
        }
        let mut all = out.clone();
        all.sort_unstable();
        assert_eq!(all, (0..200).collect::<Vec<_>>(), "reordering loses or duplicates");
    }

    #[test]
    fn a_delay_has_a_bound_and_reaches_it() {
        let config = LossyConfig::new(8).with_delay(500, 7);
        let mut network = Network::new(config, 8);
        let mut latest = 0;
        for id in 0..=255_u8 {
            network.take(&[id], |bytes, _| latest = latest.max(id - bytes[0]));
            assert!(network.held.len() <= 7, "more are held back than the delay allows");
        }
        assert_eq!(latest, 7, "late by at most 7, and sometimes by that");
        assert_eq!(LossyConfig::new(1).with_delay(1, u16::MAX), LossyConfig::new(1).with_delay(1, 1024));
        assert_eq!(LossyConfig::new(1).with_delay(1, 0), LossyConfig::new(1).with_delay(1, 1));
    }
}
