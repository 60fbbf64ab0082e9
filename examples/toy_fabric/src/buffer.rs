//! Buffers: owned, and with a handle of their link, so that they outlive everything else.

use std::ops::{Deref, DerefMut};

use trespass_core::SendBuf;

use crate::link::End;

/// A buffer that was reserved.
#[derive(Debug)]
pub struct ToySendBuf {
    bytes: Vec<u8>,
    /// Whose slot it holds; none once it was sent.
    slot: Option<End>,
}

impl ToySendBuf {
    pub(crate) fn new(len: usize, slot: End) -> Self {
        Self { bytes: vec![0; len], slot: Some(slot) }
    }

    pub(crate) fn is_of(&self, end: &End) -> bool {
        self.slot.as_ref().is_some_and(|slot| slot.is(end))
    }

    /// What is to be sent. Its slot goes with it.
    pub(crate) fn into_message(mut self) -> Box<[u8]> {
        self.slot = None;
        std::mem::take(&mut self.bytes).into()
    }
}

impl Deref for ToySendBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for ToySendBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl SendBuf for ToySendBuf {
    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }
}

impl Drop for ToySendBuf {
    fn drop(&mut self) {
        if let Some(end) = self.slot.take() {
            end.with(|device| device.slots_taken -= 1);
            end.link.send_wakers[end.side].wake();
        }
    }
}

/// A message that was received.
#[derive(Debug)]
pub struct ToyRecvBuf {
    bytes: Box<[u8]>,
    slot: End,
}

impl ToyRecvBuf {
    pub(crate) fn new(bytes: Box<[u8]>, slot: End) -> Self {
        Self { bytes, slot }
    }
}

impl Deref for ToyRecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for ToyRecvBuf {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for ToyRecvBuf {
    fn drop(&mut self) {
        self.slot.with(|device| device.returned += 1);
        self.slot.link.recv_wakers[self.slot.side].wake();
    }
}
