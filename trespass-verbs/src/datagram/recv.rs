//! The receiving side of a track or port, what it gives, and who sent it.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};

use rdma_mummy_sys::ibv_wc_flags;
use trespass_core::{Immediate, Sourced, TryError};

use super::port::Port;
use crate::error::VerbsError;
use crate::hub::{Member, Received};

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
    received: Received,
    /// What an answer has to show.
    key: u32,
}

impl Deref for VerbsDatagram {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.received
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
        VerbsPeer { gid: self.received.source.gid, number: self.received.source.number, key: self.key }
    }
}

impl Immediate for VerbsDatagram {
    fn immediate(&self) -> Option<u32> {
        let has_word = self.received.flags & ibv_wc_flags::IBV_WC_WITH_IMM.0 != 0;
        has_word.then(|| u32::from_be(self.received.word))
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

/// What arrives for one member of a port.
pub(crate) struct Inward {
    port: Arc<Port>,
    member: Arc<Member>,
    /// Taken out of the inbox, all that was there at once.
    taken: VecDeque<Received>,
    key: u32,
}

impl Inward {
    /// `key` is what answers have to show.
    pub(crate) fn new(port: Arc<Port>, member: Arc<Member>, key: u32) -> Self {
        let taken = VecDeque::with_capacity(port.shape.recv_slots);
        Self { port, member, taken, key }
    }

    #[inline]
    pub(crate) fn posted(&self) -> u64 {
        self.member.posted()
    }

    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    #[inline]
    pub(crate) fn try_recv(&mut self) -> Result<VerbsDatagram, TryError<VerbsError>> {
        if self.taken.is_empty() {
            self.port.receives.awake(&self.member);
            // Looked at before the queue: what arrived before the end is there by then.
            let ended = self.member.shared.has_ended();
            self.port.look();
            self.member.inbox.take(&mut self.taken);
            if self.taken.is_empty() && ended {
                return Err(TryError::Failed(self.member.shared.cause()));
            }
        }
        let received = self.taken.pop_front().ok_or(TryError::WouldBlock)?;
        Ok(VerbsDatagram { received, key: self.key })
    }

    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.taken.is_empty() {
            return Poll::Ready(());
        }
        self.member.shared.recv_waker.register(cx.waker());
        self.port.receives.sleep(&self.member);
        let mut over = self.look();
        if !over {
            if let Err(error) = self.port.receives.arm() {
                self.port.end(Some(VerbsError::os("arm the receive completion queue", &error)));
            }
            over = self.look();
        }
        if !over {
            self.port.mind_shortage();
            return Poll::Pending;
        }
        self.port.receives.awake(&self.member);
        Poll::Ready(())
    }

    fn look(&self) -> bool {
        let ended = self.member.shared.has_ended();
        self.port.look_surely();
        self.member.inbox.is_filled() || ended
    }
}

impl Drop for Inward {
    fn drop(&mut self) {
        self.member.inbox.shut();
        self.port.receives.awake(&self.member);
    }
}
