//! The right to queue one operation: a slot in the send queue, and for those that fetch one of the device's few places.

use std::fmt;
use std::sync::Arc;

use crate::track::slots::Shared;

/// The right to queue one write or gathered send. Dropping it gives the slot back.
#[derive(Debug)]
pub struct VerbsWritePermit(pub(super) Permit);

/// The right to queue one read or atomic operation. Dropping it gives slot and place back.
#[derive(Debug)]
pub struct VerbsFetchPermit(pub(super) Permit);

/// A slot, and whether it has a place among the fetches too.
pub(super) struct Permit {
    slot: u32,
    fetches: bool,
    shared: Arc<Shared>,
}

impl Permit {
    pub(super) fn new(slot: u32, fetches: bool, shared: &Arc<Shared>) -> Self {
        Self { slot, fetches, shared: Arc::clone(shared) }
    }

    pub(super) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// The slot, which is now the caller's to give back, and so is the place.
    pub(super) fn redeem(self) -> u32 {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped and not used again, so this reference count is given back once, here.
        drop(unsafe { std::ptr::read(&this.shared) });
        this.slot
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.fetches {
            self.shared.end_fetch();
        }
        self.shared.unsent.push(self.slot);
        self.shared.send_waker.wake();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("slot", &self.slot).finish_non_exhaustive()
    }
}
