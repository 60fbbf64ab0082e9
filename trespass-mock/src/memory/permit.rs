//! Permits: a send slot without a message, and a place among the fetches.

use std::fmt;

use crate::buffer::MockSendBuf;

/// The right to queue one write or gathered send on the track that gave it. Dropping it, on any thread, gives it back.
pub struct MockWritePermit {
    slot: MockSendBuf,
}

impl MockWritePermit {
    pub(crate) fn new(slot: MockSendBuf) -> Self {
        Self { slot }
    }

    pub(crate) fn slot(&self) -> &MockSendBuf {
        &self.slot
    }

    pub(crate) fn into_slot(self) -> MockSendBuf {
        self.slot
    }
}

/// The right to queue one read or atomic operation on the track that gave it. Dropping it, on any thread, gives it back.
pub struct MockFetchPermit {
    /// Taken out when it is used.
    slot: Option<MockSendBuf>,
}

impl MockFetchPermit {
    /// With `slot`, and a place among the fetches of its lane that was claimed.
    pub(crate) fn new(slot: MockSendBuf) -> Self {
        Self { slot: Some(slot) }
    }

    pub(crate) fn slot(&self) -> Option<&MockSendBuf> {
        self.slot.as_ref()
    }

    pub(crate) fn into_slot(mut self) -> Option<MockSendBuf> {
        self.slot.take()
    }
}

impl Drop for MockFetchPermit {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            // Dropping the slot then wakes who waits for both.
            slot.lane().give_fetch_back();
        }
    }
}

impl fmt::Debug for MockWritePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockWritePermit").finish_non_exhaustive()
    }
}

impl fmt::Debug for MockFetchPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockFetchPermit").finish_non_exhaustive()
    }
}
