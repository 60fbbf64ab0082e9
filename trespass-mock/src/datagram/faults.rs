//! A network with faults, from a seed.

use std::sync::Arc;

use super::config::MockDatagramConfig;
use super::port::Port;
use crate::counters::LaneCounts;

/// What the network did to the datagrams that one track or port sent, by the chances of
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
    faults: MockFaults,
}

#[derive(Debug)]
struct Held {
    to: Arc<Port>,
    len: usize,
    word: Option<u32>,
}

impl Network {
    /// That of the track or port number `number` of its fabric.
    pub(super) fn new(config: &MockDatagramConfig, number: u64) -> Self {
        let room = vec![0; config.mtu].into_boxed_slice();
        let dice = mixed(config.seed ^ mixed(number));
        Self { chances: config.clone(), dice, held: None, room, faults: MockFaults::default() }
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
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.dice) % 1000 < u64::from(per_mille)
    }
}

/// A number that shows nothing of `number` (splitmix64).
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
