//! A network with faults, from a seed.

use std::ops::AddAssign;
use std::sync::Arc;

use super::config::MockDatagramConfig;
use super::port::Port;
use crate::counters::LaneCounts;
use crate::sim::mixed;
use crate::sync::{Mutex, lock};

/// What the network did to the datagrams that one track or port sent, or all of a fabric, by the chances of
/// [`MockDatagramConfig`](crate::MockDatagramConfig).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MockFaults {
    /// Lost.
    pub lost: u64,
    /// Sent once, and came twice.
    pub duplicated: u64,
    /// Held back until the next one had been sent.
    pub overtaken: u64,
    /// Arrived with a bit that is wrong.
    pub corrupted: u64,
}

impl AddAssign for MockFaults {
    fn add_assign(&mut self, other: MockFaults) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.overtaken += other.overtaken;
        self.corrupted += other.corrupted;
    }
}

/// A datagram on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parcel<'a> {
    pub(super) from: u64,
    pub(super) bytes: &'a [u8],
    pub(super) word: Option<u32>,
}

/// The network behind one track or port. Holds one datagram back at most.
#[derive(Debug)]
pub(super) struct Network {
    /// Never out of range: each is compared with a number below 1000.
    chances: MockDatagramConfig,
    dice: u64,
    held: Option<Held>,
    /// Memory for the one that is held back, while none is.
    room: Box<[u8]>,
    /// Memory for one that is corrupted; none where that does not happen.
    wrong: Box<[u8]>,
    faults: MockFaults,
    /// What those that are gone did.
    retired: Arc<Mutex<MockFaults>>,
}

#[derive(Debug)]
struct Held {
    to: Arc<Port>,
    len: usize,
    word: Option<u32>,
}

impl Network {
    /// That of the track or port number `number` of its fabric.
    pub(super) fn new(config: &MockDatagramConfig, number: u64, retired: &Arc<Mutex<MockFaults>>) -> Self {
        let room = vec![0; config.mtu].into_boxed_slice();
        let dice = mixed(config.seed ^ mixed(number));
        let wrong = vec![0; if config.corruption > 0 { config.mtu } else { 0 }].into_boxed_slice();
        Self {
            chances: config.clone(),
            dice,
            held: None,
            room,
            wrong,
            faults: MockFaults::default(),
            retired: Arc::clone(retired),
        }
    }

    pub(super) fn faults(&self) -> MockFaults {
        self.faults
    }

    /// Carries a datagram to `to`, or does what networks do.
    pub(super) fn carry(&mut self, parcel: Parcel<'_>, to: &Arc<Port>, counts: &LaneCounts) {
        if self.happens(self.chances.loss) {
            self.faults.lost += 1;
            return;
        }
        if self.chances.corruption > 0 && !parcel.bytes.is_empty() && self.happens(self.chances.corruption) {
            return self.carry_wrong(parcel, to, counts);
        }
        self.carry_on(parcel, to, counts);
    }

    /// Carries a datagram of which a bit is wrong.
    #[allow(clippy::cast_possible_truncation, reason = "any place will do")]
    fn carry_wrong(&mut self, parcel: Parcel<'_>, to: &Arc<Port>, counts: &LaneCounts) {
        let mut wrong = std::mem::take(&mut self.wrong);
        let at = self.roll() as usize % (parcel.bytes.len() * 8);
        if let Some(bytes) = wrong.get_mut(..parcel.bytes.len()) {
            bytes.copy_from_slice(parcel.bytes);
            if let Some(byte) = bytes.get_mut(at / 8) {
                *byte ^= 1 << (at % 8);
            }
            self.faults.corrupted += 1;
            self.carry_on(Parcel { bytes, ..parcel }, to, counts);
        }
        self.wrong = wrong;
    }

    fn carry_on(&mut self, parcel: Parcel<'_>, to: &Arc<Port>, counts: &LaneCounts) {
        let twice = self.happens(self.chances.duplication);
        let late = self.happens(self.chances.reordering) && self.held.is_none();
        self.faults.duplicated += u64::from(twice);
        if twice || !late {
            to.deliver(parcel, counts);
        }
        match late {
            true => self.hold(parcel, to),
            false => {
                if twice {
                    to.deliver(parcel, counts);
                }
                self.release(parcel.from, counts);
            }
        }
    }

    /// Lets go what is held back.
    pub(super) fn release(&mut self, from: u64, counts: &LaneCounts) {
        if let Some(Held { to, len, word }) = self.held.take() {
            let bytes = self.room.get(..len).unwrap_or_default();
            to.deliver(Parcel { from, bytes, word }, counts);
        }
    }

    fn hold(&mut self, parcel: Parcel<'_>, to: &Arc<Port>) {
        let len = parcel.bytes.len();
        // There is room for the longest.
        if let Some(room) = self.room.get_mut(..len) {
            room.copy_from_slice(parcel.bytes);
            self.held = Some(Held { to: Arc::clone(to), len, word: parcel.word });
            self.faults.overtaken += 1;
        }
    }

    fn happens(&mut self, per_mille: u16) -> bool {
        self.roll() % 1000 < u64::from(per_mille)
    }

    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.dice)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        *lock(&self.retired) += self.faults;
    }
}
