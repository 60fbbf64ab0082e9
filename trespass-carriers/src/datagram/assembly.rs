//! Messages that are put together from segments, without IO: bounded in number, in size, and in time.

use std::sync::Arc;
use std::time::Duration;

use super::wire::Segment;
use crate::planted::{self, Bug};
use crate::pool::{Pool, Pooled};

/// What may be in assembly at once.
#[derive(Debug)]
pub(super) struct Assemblies {
    slots: Box<[Slot]>,
    /// How many of them are taken.
    busy: usize,
    bounds: Bounds,
    pool: Arc<Pool>,
    /// How many were begun.
    begun: u64,
}

/// What a message may be, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The longest message.
    pub(super) max_message: usize,
    /// How long each segment is, but for the last of a message. Not 0.
    pub(super) segment: usize,
    /// How long a message may be incomplete.
    pub(super) timeout: Duration,
}

#[derive(Debug, Default)]
struct Slot {
    /// `None` where the slot is free.
    bytes: Option<Pooled>,
    number: u32,
    total: u32,
    missing: u32,
    deadline: Duration,
    /// Which one it is of all that were begun.
    order: u64,
    /// A bit for each segment that came. Kept for the next message.
    came: Vec<u64>,
}

/// What became of a segment.
#[derive(Debug)]
pub(super) enum Added {
    /// More are missing.
    Incomplete,
    Complete(Pooled),
    /// It came before.
    Again,
    /// It fits no message, or not the one that it says.
    Misfit,
}

impl Assemblies {
    pub(super) fn new(slots: usize, bounds: Bounds, pool: Arc<Pool>) -> Self {
        let slots = (0..slots.max(1)).map(|_| Slot::default()).collect();
        Self { slots, busy: 0, bounds, pool, begun: 0 }
    }

    /// How many messages are incomplete.
    pub(super) fn len(&self) -> usize {
        self.busy
    }

    /// Whether the message of this number is incomplete.
    pub(super) fn has(&self, number: u32) -> bool {
        self.busy > 0 && self.slots.iter().any(|slot| slot.is(number))
    }

    /// Whether there could be such a segment.
    pub(super) fn fits(&self, segment: &Segment<'_>) -> bool {
        let total = segment.total as usize;
        let start = (segment.index as usize).saturating_mul(self.bounds.segment);
        total <= self.bounds.max_message
            && start < total
            && segment.bytes.len() == self.bounds.segment.min(total - start)
    }

    /// Makes room for a message, and begins it. `given_up` hears of those that had to make way: first all whose time is up,
    /// then the oldest.
    ///
    /// False where there is no memory.
    pub(super) fn begin(&mut self, number: u32, total: u32, now: Duration, mut given_up: impl FnMut(u32)) -> bool {
        self.expire(now, &mut given_up);
        if self.busy == self.slots.len() {
            let oldest = self.slots.iter_mut().min_by_key(|slot| slot.order);
            if let Some(number) = oldest.and_then(Slot::give_up) {
                self.busy -= 1;
                given_up(number);
            }
        }
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.bytes.is_none()) else { return false };
        let Some(bytes) = self.pool.take(total as usize) else { return false };
        let segments = (total as usize).div_ceil(self.bounds.segment);
        slot.came.clear();
        slot.came.resize(segments.div_ceil(u64::BITS as usize), 0);
        let deadline = now.saturating_add(self.bounds.timeout);
        let (missing, came) = (segments as u32, std::mem::take(&mut slot.came));
        *slot = Slot { bytes: Some(bytes), number, total, missing, deadline, order: self.begun, came };
        self.begun += 1;
        self.busy += 1;
        true
    }

    /// Adds a segment that [fits](Self::fits) to the message of this number, which was begun.
    pub(super) fn add(&mut self, number: u32, segment: &Segment<'_>) -> Added {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.is(number)) else { return Added::Misfit };
        let added = slot.add(segment, self.bounds.segment);
        if matches!(added, Added::Complete(_)) {
            self.busy -= 1;
        }
        added
    }

    /// Gives up all whose time is up.
    pub(super) fn expire(&mut self, now: Duration, given_up: &mut impl FnMut(u32)) {
        if self.busy == 0 {
            return;
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.deadline <= now) {
            if let Some(number) = slot.give_up() {
                self.busy -= 1;
                given_up(number);
            }
        }
    }

    /// When the next one's time is up.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let busy = self.slots.iter().filter(|slot| slot.bytes.is_some());
        busy.map(|slot| slot.deadline).min()
    }

    /// How much memory the incomplete ones have.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn bytes(&self) -> usize {
        self.slots.iter().filter_map(|slot| slot.bytes.as_ref()).map(|bytes| bytes.bytes().len()).sum()
    }
}

impl Slot {
    fn is(&self, number: u32) -> bool {
        self.number == number && self.bytes.is_some()
    }

    fn give_up(&mut self) -> Option<u32> {
        self.bytes.take().map(|_| self.number)
    }

    fn add(&mut self, segment: &Segment<'_>, len: usize) -> Added {
        let (word, bit) = (segment.index / u64::BITS, 1_u64 << (segment.index % u64::BITS));
        let (Some(bytes), Some(came)) = (&mut self.bytes, self.came.get_mut(word as usize)) else {
            return Added::Misfit;
        };
        if segment.total != self.total {
            return Added::Misfit;
        }
        if *came & bit != 0 && !planted::is(Bug::Duplicates) {
            return Added::Again;
        }
        *came |= bit;
        bytes.write_at(segment.index as usize * len, segment.bytes);
        self.missing -= 1;
        match self.missing {
            0 => self.bytes.take().map_or(Added::Misfit, Added::Complete),
            _ => Added::Incomplete,
        }
    }
}
