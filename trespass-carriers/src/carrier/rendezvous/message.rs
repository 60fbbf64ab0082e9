//! What comes out: a message as it arrived, or in memory that it was read into.

use std::fmt;
use std::ops::Deref;

use trespass_core::{Fabric, MemoryFabric};

use crate::message::Message;

/// A received message, owned: as [`Message`] is, or in registered memory that the peer's was read into.
pub struct RendezvousMessage<F: MemoryFabric> {
    place: Place<F>,
}

enum Place<F: MemoryFabric> {
    Sent(Message<<F as Fabric>::Track>),
    Read(F::Region, usize),
}

impl<F: MemoryFabric> RendezvousMessage<F> {
    pub(super) fn sent(message: Message<F::Track>) -> Self {
        Self { place: Place::Sent(message) }
    }

    /// The first `len` bytes of `region`.
    pub(super) fn read(region: F::Region, len: usize) -> Self {
        Self { place: Place::Read(region, len) }
    }

    /// Whether it keeps a receive slot of the track: see [`Message::is_direct`].
    pub fn is_direct(&self) -> bool {
        matches!(&self.place, Place::Sent(message) if message.is_direct())
    }

    /// Whether it was lent, and read.
    pub fn was_lent(&self) -> bool {
        matches!(self.place, Place::Read(..))
    }

    /// The registered memory that it was read into, to be sent on or lent again without a copy. It begins with the message, and
    /// may be longer.
    ///
    /// # Errors
    /// The message, where it was not lent.
    pub fn into_region(self) -> Result<F::Region, Self> {
        match self.place {
            Place::Read(region, _) => Ok(region),
            place => Err(Self { place }),
        }
    }
}

impl<F: MemoryFabric> Deref for RendezvousMessage<F> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.place {
            Place::Sent(message) => message,
            Place::Read(region, len) => region.get(..*len).unwrap_or_default(),
        }
    }
}

impl<F: MemoryFabric> AsRef<[u8]> for RendezvousMessage<F> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<F: MemoryFabric> fmt::Debug for RendezvousMessage<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RendezvousMessage").field("len", &self.len()).field("was_lent", &self.was_lent()).finish()
    }
}
