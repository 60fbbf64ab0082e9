//! The buffers of a track: memory of its lane, and the way back there.

use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use trespass_core::SendBuf;

use crate::lane::{Lane, Message};

/// A message to be sent, and its slot in the send queue.
///
/// Its bytes are zero, or what this track sent before. Dropping it gives both back; it may outlive its track.
pub struct MockSendBuf {
    /// Empty memory (a message of a track has at least one byte of it) once the message went its way.
    message: Message,
    lane: Arc<Lane>,
}

impl MockSendBuf {
    pub(crate) fn new(message: Message, lane: Arc<Lane>) -> Self {
        Self { message, lane }
    }

    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Whether it was reserved on `lane`.
    pub(crate) fn is_of(&self, lane: &Arc<Lane>) -> bool {
        Arc::ptr_eq(&self.lane, lane)
    }

    /// Makes it `len` bytes long, which its memory has room for.
    pub(crate) fn set_len(&mut self, len: usize) {
        self.message.set_len(len);
    }

    /// Immediate data that goes beside it.
    #[inline]
    pub(crate) fn word(&self) -> Option<u32> {
        self.message.word()
    }

    /// Has `word` go beside it, or nothing.
    #[inline]
    pub(crate) fn set_word(&mut self, word: Option<u32>) {
        self.message.set_word(word);
    }

    /// Makes it the place of an operation in the queue.
    pub(crate) fn set_operation(&mut self) {
        self.message.is_operation = true;
    }

    /// Whether it is the place of an operation.
    #[inline]
    pub(crate) fn is_operation(&self) -> bool {
        self.message.is_operation
    }

    /// The message, which now is not given back.
    pub(crate) fn into_message(mut self) -> Message {
        self.message.take()
    }
}

impl SendBuf for MockSendBuf {
    fn truncate(&mut self, len: usize) {
        self.message.set_len(len.min(self.message.bytes().len()));
    }
}

impl Deref for MockSendBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.message.bytes()
    }
}

impl DerefMut for MockSendBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.message.bytes_mut()
    }
}

impl Drop for MockSendBuf {
    fn drop(&mut self) {
        let mem = mem::take(&mut self.message.mem);
        if !mem.is_empty() {
            self.lane.give_back(mem);
        }
    }
}

impl fmt::Debug for MockSendBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockSendBuf").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A received message, in the memory into which the "device" placed it.
///
/// Dropping it, on any thread, gives the memory back to the track's receive queue; it may outlive its track.
pub struct MockRecvBuf {
    message: Message,
    lane: Arc<Lane>,
}

impl MockRecvBuf {
    pub(crate) fn new(message: Message, lane: Arc<Lane>) -> Self {
        Self { message, lane }
    }
}

impl Deref for MockRecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.message.bytes()
    }
}

impl AsRef<[u8]> for MockRecvBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl MockRecvBuf {
    /// The word of immediate data that came beside it: [`RecvSide::immediate`](trespass_core::RecvSide::immediate), of this type.
    #[inline]
    pub fn immediate(&self) -> Option<u32> {
        self.message.word()
    }
}

impl Drop for MockRecvBuf {
    fn drop(&mut self) {
        self.lane.hand_back(mem::take(&mut self.message.mem));
    }
}

impl fmt::Debug for MockRecvBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockRecvBuf").field("len", &self.len()).finish_non_exhaustive()
    }
}
