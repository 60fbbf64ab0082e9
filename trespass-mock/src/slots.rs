//! The send slots of a track, with the one who reserves them.

use std::sync::Arc;
use std::task::Waker;

use crate::buffer::MockSendBuf;
use crate::lane::{Lane, Message};

/// Send slots that are at hand without the lane's lock.
#[derive(Debug)]
pub(crate) struct Slots {
    /// For messages to come: those of messages that were placed at once.
    pub(crate) free: Vec<MockSendBuf>,
    /// Memory for messages to come, when there are no buffers; there may be more in the lane when this runs out.
    pub(crate) spare: Vec<Box<[u8]>>,
}

impl Slots {
    /// Room for so many; none at hand.
    pub(crate) fn new(slots: usize) -> Self {
        Self { free: Vec::with_capacity(slots), spare: Vec::with_capacity(slots) }
    }

    /// A buffer of `lane` of any length, if there is one.
    #[inline]
    pub(crate) fn take(&mut self, lane: &Arc<Lane>) -> Option<MockSendBuf> {
        // The one that was used last is the warmest.
        if let Some(buf) = self.free.pop() {
            return Some(buf);
        }
        if self.spare.is_empty() {
            lane.refill(&mut self.spare);
        }
        let mem = self.spare.pop()?;
        Some(MockSendBuf::new(Message::new(mem), Arc::clone(lane)))
    }

    /// Whether there is one without a look at the lane.
    #[inline]
    pub(crate) fn at_hand(&self) -> bool {
        !self.free.is_empty() || !self.spare.is_empty()
    }

    /// Whether there is one, or `lane` has ended; if not, `waker` is told when that may be.
    pub(crate) fn poll(&mut self, lane: &Lane, waker: &Waker) -> bool {
        self.at_hand() || lane.poll_free(&mut self.spare, waker)
    }
}
