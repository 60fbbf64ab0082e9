//! `VerbsPort`: datagrams to and from any number of peers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rdma_mummy_sys::ud_t;
use trespass_core::{Limits, Port, TryError, Unsent};

use super::port;
use super::recv::{VerbsDatagram, VerbsPeer};
use super::ways::Ways;
use crate::driver::Ticket;
use crate::error::VerbsError;
use crate::hub::{Inward, Member, Sends};
use crate::timer::VerbsTimer;
use crate::track::VerbsSendBuf;

/// Where datagrams of any number of peers come from and go to: one queue pair.
///
/// Costs: as for an [`UnreliableTrack`](crate::UnreliableTrack). The first datagram to an address makes an address handle,
/// which is a system call; handles are kept, up to [`DatagramConfig::peers`](crate::DatagramConfig::peers), and the one
/// that was used least recently makes room.
pub struct VerbsPort {
    sends: Sends<port::Port>,
    inward: Inward<port::Port>,
    ways: Ways,
    local: SocketAddr,
    timer: VerbsTimer,
    close_timeout: Duration,
    /// After the queues, so that the driver holds the last reference to the queue pair.
    _ticket: Ticket,
}

impl VerbsPort {
    pub(crate) fn new(
        port: Arc<port::Port>,
        member: Arc<Member>,
        ways: Ways,
        local: SocketAddr,
        close_timeout: Duration,
        ticket: Ticket,
    ) -> Self {
        let mtu = port.shape.mtu;
        Self {
            inward: Inward::new(Arc::clone(&port), Arc::clone(&member)),
            sends: Sends::new(port, member, mtu),
            ways,
            local,
            timer: ticket.timer(),
            close_timeout,
            _ticket: ticket,
        }
    }

    /// This port, as others know it: for those to whom its address is told by other means than
    /// [`resolve`](trespass_core::PortFabric::resolve).
    pub fn peer(&self) -> VerbsPeer {
        let port = self.sends.gate();
        VerbsPeer { gid: self.ways.from().gid, number: port.qp.number(), key: port.key }
    }

    /// Address handles made so far: one for each address that was sent to, and once more for each that had to make room.
    pub fn handles_made(&self) -> u64 {
        self.ways.made()
    }

    /// Datagrams that arrived and were dropped: the user held, or left unread, all buffers.
    pub fn dropped(&self) -> u64 {
        self.inward.member().dropped()
    }

    /// Datagrams that did not say who sent them: dropped.
    pub fn strangers(&self) -> u64 {
        self.sends.gate().strangers()
    }
}

impl Port for VerbsPort {
    type Error = VerbsError;
    type Addr = SocketAddr;
    type Timer = VerbsTimer;
    type Peer = VerbsPeer;
    type SendBuf = VerbsSendBuf;
    type RecvBuf = VerbsDatagram;

    fn limits(&self) -> Limits {
        let shape = self.sends.gate().shape;
        Limits::new(shape.mtu, shape.send_slots, shape.recv_slots).with_inline(shape.inline.min(shape.mtu))
    }

    fn local(&self) -> SocketAddr {
        self.local
    }

    fn timer(&self) -> VerbsTimer {
        self.timer.clone()
    }

    #[inline]
    fn try_reserve(&mut self, len: usize) -> Result<VerbsSendBuf, TryError<VerbsError>> {
        self.sends.try_reserve(len)
    }

    #[inline]
    fn send_to(&mut self, buf: VerbsSendBuf, to: &VerbsPeer) -> Result<(), Unsent<VerbsSendBuf, VerbsError>> {
        let buf = self.sends.check(buf)?;
        match self.ways.to(to.gid, &self.sends) {
            Ok(handle) => {
                let way = ud_t { ah: handle.raw(), remote_qpn: to.number, remote_qkey: to.key };
                self.sends.queue(buf, None).wr.ud = way;
                Ok(())
            }
            Err(error) => {
                let peer = SocketAddr::new(to.ip(), 0);
                Err(Unsent { buf, error: VerbsError::Unreachable { peer, why: error.to_string() } })
            }
        }
    }

    #[inline]
    fn flush(&mut self) -> Result<(), VerbsError> {
        self.sends.flush()
    }

    #[inline]
    fn try_recv(&mut self) -> Result<VerbsDatagram, TryError<VerbsError>> {
        Ok(VerbsDatagram::new(self.inward.try_recv()?, self.sends.gate().key))
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sends.poll_ready(cx)
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A failure to flush ends the port, which the receiving side tells.
        let _ = self.sends.flush();
        self.inward.poll_ready(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), VerbsError>> {
        self.sends.poll_close(cx, &self.timer, self.close_timeout)
    }
}

impl std::fmt::Debug for VerbsPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerbsPort").field("local", &self.local).field("peer", &self.peer()).finish_non_exhaustive()
    }
}
