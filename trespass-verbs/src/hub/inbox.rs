//! Inboxes: what has arrived for one member and waits for its receiving half.

use std::collections::VecDeque;
use std::sync::PoisonError;

use super::memory::Received;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// Bounded by the member's quota: whoever puts something in has counted.
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    /// Whether there is something: looking at an empty inbox is one load.
    filled: AtomicBool,
}

struct Waiting {
    messages: VecDeque<Received>,
    /// Nobody reads any more.
    shut: bool,
}

impl Inbox {
    pub(crate) fn new(quota: u32) -> Self {
        let messages = VecDeque::with_capacity(quota as usize);
        Self { waiting: Mutex::new(Waiting { messages, shut: false }), filled: AtomicBool::new(false) }
    }

    /// Puts a message in; it comes back where nobody reads any more.
    #[inline]
    pub(crate) fn push(&self, message: Received) -> Option<Received> {
        let mut waiting = self.lock();
        if waiting.shut {
            return Some(message);
        }
        waiting.messages.push_back(message);
        self.filled.store(true, Ordering::SeqCst);
        None
    }

    #[inline]
    pub(crate) fn is_filled(&self) -> bool {
        self.filled.load(Ordering::SeqCst)
    }

    /// Exchanges all that waits for `taken`, which is empty.
    #[inline]
    pub(crate) fn take(&self, taken: &mut VecDeque<Received>) {
        if self.is_filled() {
            let mut waiting = self.lock();
            std::mem::swap(&mut waiting.messages, taken);
            self.filled.store(false, Ordering::SeqCst);
        }
    }

    /// Takes nothing more, and gives back what waits.
    pub(crate) fn shut(&self) {
        let messages = {
            let mut waiting = self.lock();
            waiting.shut = true;
            std::mem::take(&mut waiting.messages)
        };
        self.filled.store(false, Ordering::SeqCst);
        // Not under the lock: giving a buffer back may call the driver.
        drop(messages);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
