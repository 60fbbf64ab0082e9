//! What a track or port receives, and who sent it.

use std::fmt;
use std::mem;
use std::ops::Deref;
use std::sync::Arc;

use trespass_core::Sourced;

use crate::lane::{Lane, Message};

/// Another port: an answer to a datagram goes to its [`source`](Sourced::source).
///
/// A number that no other port of its net has or had.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MockPeer {
    pub(super) net: u64,
    pub(super) number: u64,
}

impl fmt::Debug for MockPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MockPeer(port {})", self.number)
    }
}

/// A received datagram, in the memory into which the "device" placed it.
///
/// Dropping it, on any thread, posts the memory again; it may outlive its track or port.
pub struct MockDatagram {
    message: Message,
    lane: Arc<Lane>,
    source: MockPeer,
}

impl MockDatagram {
    pub(super) fn new(message: Message, lane: Arc<Lane>, source: MockPeer) -> Self {
        Self { message, lane, source }
    }
}

impl Deref for MockDatagram {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.message.datagram()
    }
}

impl AsRef<[u8]> for MockDatagram {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Sourced for MockDatagram {
    type Peer = MockPeer;

    fn source(&self) -> MockPeer {
        self.source
    }
}

impl MockDatagram {
    /// The word of immediate data that came beside it: [`RecvSide::immediate`](trespass_core::RecvSide::immediate), of this type.
    #[inline]
    pub fn immediate(&self) -> Option<u32> {
        self.message.word()
    }
}

impl Drop for MockDatagram {
    fn drop(&mut self) {
        self.lane.post_again(mem::take(&mut self.message.mem));
    }
}

impl fmt::Debug for MockDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockDatagram").field("source", &self.source).field("len", &self.len()).finish_non_exhaustive()
    }
}
