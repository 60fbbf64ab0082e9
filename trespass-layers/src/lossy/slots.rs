//! Send buffers of a datagram track: memory of its own, since the track below may have no slot when one is reserved.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};

use trespass_core::{SendBuf, WakerSlot};

use crate::sync::{Mutex, MutexGuard};

/// The send slots of one track.
#[derive(Debug)]
pub(super) struct Slots {
    free: Mutex<Vec<Box<[u8]>>>,
    pub(super) waiting: WakerSlot,
}

impl Slots {
    pub(super) fn new(count: usize, max_message: usize) -> Arc<Self> {
        let free = (0..count).map(|_| vec![0; max_message].into_boxed_slice()).collect();
        Arc::new(Self { free: Mutex::new(free), waiting: WakerSlot::new() })
    }

    /// A slot for `len` bytes, no more than one holds, if one is free.
    pub(super) fn claim(self: &Arc<Self>, len: usize) -> Option<LossySendBuf> {
        let memory = self.free().pop()?;
        Some(LossySendBuf { slots: Arc::clone(self), memory, len })
    }

    pub(super) fn has_free(&self) -> bool {
        !self.free().is_empty()
    }

    fn free(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        // What it guards is valid at every step.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reserved datagram.
pub struct LossySendBuf {
    slots: Arc<Slots>,
    memory: Box<[u8]>,
    len: usize,
}

impl LossySendBuf {
    pub(super) fn is_of(&self, slots: &Arc<Slots>) -> bool {
        Arc::ptr_eq(&self.slots, slots)
    }
}

impl Deref for LossySendBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl DerefMut for LossySendBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

impl SendBuf for LossySendBuf {
    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Drop for LossySendBuf {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.slots.free().push(memory);
        self.slots.waiting.wake();
    }
}

impl fmt::Debug for LossySendBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LossySendBuf").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use loom::future::block_on;
    use loom::thread;

    use super::*;

    #[test]
    fn loom_a_slot_that_comes_back_wakes_who_waits_for_it() {
        loom::model(|| {
            let slots = Slots::new(1, 1);
            let taken = slots.claim(1).unwrap();
            let dropping = thread::spawn(move || drop(taken));
            // As a track waits for it.
            block_on(poll_fn(|cx| {
                slots.waiting.register(cx.waker());
                if slots.has_free() { Poll::Ready(()) } else { Poll::Pending }
            }));
            let taken = slots.claim(1);
            assert!(taken.is_some() && slots.claim(1).is_none());
            dropping.join().unwrap();
        });
    }
}
