//! What a track or port receives, and who sent it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Deref;

use trespass_core::Sourced;

use crate::hub::{Message, Source};

/// Another port: an answer to a datagram goes to its [`source`](Sourced::source).
///
/// It is an address, the number of a queue pair there, and the key that its datagrams have to show. Another life of a port
/// has another number until the device has used up its 2^24.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerbsPeer {
    pub(crate) gid: Ipv6Addr,
    pub(crate) number: u32,
    pub(crate) key: u32,
}

impl VerbsPeer {
    /// The address of its device.
    pub fn ip(&self) -> IpAddr {
        self.gid.to_ipv4_mapped().map_or(IpAddr::V6(self.gid), IpAddr::V4)
    }
}

impl fmt::Debug for VerbsPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerbsPeer({}, queue pair {})", self.ip(), self.number)
    }
}

/// A received datagram, in the registered memory into which the device wrote it.
pub struct VerbsDatagram {
    message: Message,
    /// What an answer has to show.
    key: u32,
}

impl VerbsDatagram {
    #[inline]
    pub(crate) fn new(message: Message, key: u32) -> Self {
        Self { message, key }
    }
}

impl Deref for VerbsDatagram {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.message
    }
}

impl AsRef<[u8]> for VerbsDatagram {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Sourced for VerbsDatagram {
    type Peer = VerbsPeer;

    fn source(&self) -> VerbsPeer {
        let Source { gid, number } = self.message.source();
        VerbsPeer { gid, number, key: self.key }
    }
}

impl VerbsDatagram {
    /// The word of immediate data that came beside it: [`RecvSide::immediate`](trespass_core::RecvSide::immediate), of this type.
    #[inline]
    pub fn immediate(&self) -> Option<u32> {
        self.message.immediate()
    }
}

impl fmt::Debug for VerbsDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerbsDatagram")
            .field("source", &self.source())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
