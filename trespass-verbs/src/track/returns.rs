//! Slots that come back, from any thread.

use crate::sync::{AtomicU32, Ordering};

/// A stack of slot numbers: any thread pushes, one takes all. Without a lock, and nothing is ever allocated: each slot
/// has its link. Pushing and taking everything are all there is, so a head that went and came back is as good as one
/// that stayed.
pub(crate) struct Returns {
    head: AtomicU32,
    links: Box<[AtomicU32]>,
}

const NONE: u32 = u32::MAX;

impl Returns {
    pub(crate) fn new(slots: usize) -> Self {
        Self { head: AtomicU32::new(NONE), links: (0..slots).map(|_| AtomicU32::new(NONE)).collect() }
    }

    /// Puts back a slot that is not in the list. A slot number that does not exist is ignored.
    #[inline]
    pub(crate) fn push(&self, slot: u32) {
        let Some(link) = self.links.get(slot as usize) else { return };
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link.store(head, Ordering::Relaxed);
            match self.head.compare_exchange_weak(head, slot, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::SeqCst) == NONE
    }

    /// Takes everything, the latest first.
    #[inline]
    pub(crate) fn take(&self) -> impl Iterator<Item = u32> {
        let mut next = if self.is_empty() { NONE } else { self.head.swap(NONE, Ordering::SeqCst) };
        std::iter::from_fn(move || {
            let slot = next;
            next = self.links.get(slot as usize)?.load(Ordering::Relaxed);
            Some(slot)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_comes_back_once_from_many_threads() {
        const SLOTS: u32 = 64;
        let returns = Returns::new(SLOTS as usize);
        let (give, take) = std::sync::mpsc::channel::<u32>();
        let take = std::sync::Mutex::new(take);
        for slot in 0..SLOTS {
            give.send(slot).unwrap();
        }
        let rounds = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Ok(slot) = { take.lock().unwrap().recv() } {
                        returns.push(slot);
                    }
                });
            }
            scope.spawn(|| {
                let give = give;
                let mut out = [true; SLOTS as usize];
                while rounds.load(Ordering::Relaxed) < 100_000 {
                    for slot in returns.take() {
                        assert!(std::mem::replace(&mut out[slot as usize], false), "slot {slot} came back twice");
                        rounds.fetch_add(1, Ordering::Relaxed);
                        out[slot as usize] = true;
                        give.send(slot).unwrap();
                    }
                }
            });
        });
    }
}
