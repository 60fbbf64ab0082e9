//! What a track that shares its queues receives.

use std::ops::Deref;

use crate::hub::Message;

/// A received message, in a registered buffer of all tracks that share.
pub struct SharedRecvBuf(Message);

impl SharedRecvBuf {
    #[inline]
    pub(crate) fn new(message: Message) -> Self {
        Self(message)
    }
}

impl Deref for SharedRecvBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for SharedRecvBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl SharedRecvBuf {
    /// The word of immediate data that came beside it: [`RecvSide::immediate`](trespass_core::RecvSide::immediate), of this type.
    #[inline]
    pub fn immediate(&self) -> Option<u32> {
        self.0.immediate()
    }
}

impl std::fmt::Debug for SharedRecvBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedRecvBuf").field("len", &self.len()).finish_non_exhaustive()
    }
}
