//! `UnreliableTrack`: datagrams to and from one peer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rdma_mummy_sys::ud_t;
use trespass_core::{Datagram, Endpoint, Limits, RecvSide, SendSide, Track, TryError, Unsent};

use super::port::Port;
use super::recv::VerbsDatagram;
use crate::driver::Ticket;
use crate::error::VerbsError;
use crate::hub::{Inward, Member, Sends};
use crate::timer::VerbsTimer;
use crate::track::{VerbsCounters, VerbsSendBuf};

/// What both halves know of their track.
#[derive(Clone)]
struct About {
    limits: Limits,
    local: SocketAddr,
    peer: SocketAddr,
    timer: VerbsTimer,
    close_timeout: Duration,
    /// The last of all that use the port to drop it has the driver tear that down; after their queues, so that the driver
    /// holds the last reference to the queue pair.
    _ticket: Arc<Ticket>,
}

/// Datagrams to and from one peer: a view of a port, which it shares with others where a listener gave it.
///
/// A datagram arrives whole and unchanged or not at all; the network may lose, duplicate and reorder it. One that meets no
/// posted receive, or goes beyond the quota of [`recv_slots`](Limits::recv_slots) that the receiver holds or leaves
/// unread, is gone, and the sender is not told. Nothing tells one end that the other is gone.
///
/// Costs: as for a [`ReliableTrack`](crate::ReliableTrack); in addition every message takes the lock of its port once for
/// each batch that arrives, and that of its inbox. Looking where nothing has come takes none.
pub struct UnreliableTrack {
    sender: DatagramSender,
    receiver: DatagramReceiver,
}

/// The sending half of an [`UnreliableTrack`].
pub struct DatagramSender {
    sends: Sends<Port>,
    way: ud_t,
    about: About,
}

// SAFETY: the way holds a pointer to an address handle, which the port keeps (`Port::hold`) for as long as this member of
// it may post; no thread owns it.
unsafe impl Send for DatagramSender {}

/// The receiving half of an [`UnreliableTrack`].
pub struct DatagramReceiver {
    inward: Inward<Port>,
    /// What an answer has to show.
    key: u32,
    about: About,
}

/// What a track is made of.
pub(crate) struct Parts {
    pub(crate) port: Arc<Port>,
    pub(crate) member: Arc<Member>,
    pub(crate) way: ud_t,
    /// The longest datagram that both ends take.
    pub(crate) mtu: usize,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) close_timeout: Duration,
    pub(crate) ticket: Arc<Ticket>,
}

impl UnreliableTrack {
    /// # Safety
    /// The address handle in the way is held by the port for this member.
    pub(crate) unsafe fn new(parts: Parts) -> Self {
        let Parts { port, member, way, mtu, local, peer, close_timeout, ticket } = parts;
        let shape = port.shape;
        let limits = Limits::new(mtu, shape.send_slots, shape.recv_slots).with_inline(shape.inline.min(mtu));
        let about = About { limits, local, peer, timer: ticket.timer(), close_timeout, _ticket: ticket };
        let inward = Inward::new(Arc::clone(&port), Arc::clone(&member));
        Self {
            sender: DatagramSender { sends: Sends::new(port, member, mtu), way, about: about.clone() },
            receiver: DatagramReceiver { inward, key: way.remote_qkey, about },
        }
    }

    /// What this track has asked of its device so far. Receives and notifications are those of the whole port.
    pub fn counters(&self) -> VerbsCounters {
        let port = self.sender.sends.gate();
        VerbsCounters {
            send_doorbells: self.sender.sends.doorbells(),
            recv_doorbells: port.recv_doorbells(),
            arms: port.sends.arms() + port.receives.arms(),
        }
    }

    /// Datagrams of the peer that arrived and were dropped: the receiver held, or left unread, all that it may.
    pub fn dropped(&self) -> u64 {
        self.receiver.dropped()
    }

    /// Datagrams that arrived at the port of this track, and that none of its peers sent: dropped.
    pub fn strangers(&self) -> u64 {
        self.sender.sends.gate().strangers()
    }
}

impl DatagramReceiver {
    /// As [`UnreliableTrack::dropped`].
    pub fn dropped(&self) -> u64 {
        self.inward.member().dropped()
    }
}

macro_rules! endpoint {
    ($type:ty, $($about:ident).+) => {
        impl Endpoint for $type {
            type Error = VerbsError;
            type Addr = SocketAddr;
            type Timer = VerbsTimer;

            fn limits(&self) -> Limits {
                self.$($about).+.limits
            }

            fn local(&self) -> SocketAddr {
                self.$($about).+.local
            }

            fn peer(&self) -> SocketAddr {
                self.$($about).+.peer
            }

            fn timer(&self) -> VerbsTimer {
                self.$($about).+.timer.clone()
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let (local, peer) = (self.local(), self.peer());
                f.debug_struct(stringify!($type)).field("local", &local).field("peer", &peer).finish_non_exhaustive()
            }
        }
    };
}

endpoint!(DatagramSender, about);
endpoint!(DatagramReceiver, about);
endpoint!(UnreliableTrack, sender.about);

impl SendSide for DatagramSender {
    type SendBuf = VerbsSendBuf;

    #[inline]
    fn try_reserve(&mut self, len: usize) -> Result<VerbsSendBuf, TryError<VerbsError>> {
        self.sends.try_reserve(len)
    }

    #[inline]
    fn send(&mut self, buf: VerbsSendBuf) -> Result<(), Unsent<VerbsSendBuf, VerbsError>> {
        let buf = self.sends.check(buf)?;
        self.sends.queue(buf, None).wr.ud = self.way;
        Ok(())
    }

    #[inline]
    fn carries_immediate(&self) -> bool {
        true
    }

    #[inline]
    fn send_immediate(&mut self, buf: VerbsSendBuf, word: u32) -> Result<(), Unsent<VerbsSendBuf, Option<VerbsError>>> {
        let buf = self.sends.check(buf).map_err(Unsent::certain)?;
        self.sends.queue(buf, Some(word)).wr.ud = self.way;
        Ok(())
    }

    #[inline]
    fn flush(&mut self) -> Result<(), VerbsError> {
        self.sends.flush()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sends.poll_ready(cx)
    }

    /// Waits for the own device alone: datagrams that it has sent may arrive or not.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), VerbsError>> {
        self.sends.poll_close(cx, &self.about.timer, self.about.close_timeout)
    }
}

impl RecvSide for DatagramReceiver {
    type RecvBuf = VerbsDatagram;

    #[inline]
    fn posted(&self) -> u64 {
        self.inward.posted()
    }

    #[inline]
    fn try_recv(&mut self) -> Result<VerbsDatagram, TryError<VerbsError>> {
        Ok(VerbsDatagram::new(self.inward.try_recv()?, self.key))
    }

    #[inline]
    fn immediate(buf: &VerbsDatagram) -> Option<u32> {
        buf.immediate()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inward.poll_ready(cx)
    }
}

impl SendSide for UnreliableTrack {
    type SendBuf = VerbsSendBuf;

    #[inline]
    fn try_reserve(&mut self, len: usize) -> Result<VerbsSendBuf, TryError<VerbsError>> {
        self.sender.try_reserve(len)
    }

    #[inline]
    fn send(&mut self, buf: VerbsSendBuf) -> Result<(), Unsent<VerbsSendBuf, VerbsError>> {
        self.sender.send(buf)
    }

    #[inline]
    fn carries_immediate(&self) -> bool {
        self.sender.carries_immediate()
    }

    #[inline]
    fn send_immediate(&mut self, buf: VerbsSendBuf, word: u32) -> Result<(), Unsent<VerbsSendBuf, Option<VerbsError>>> {
        self.sender.send_immediate(buf, word)
    }

    #[inline]
    fn flush(&mut self) -> Result<(), VerbsError> {
        self.sender.flush()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_send_ready(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), VerbsError>> {
        self.sender.poll_close(cx)
    }
}

impl RecvSide for UnreliableTrack {
    type RecvBuf = VerbsDatagram;

    #[inline]
    fn posted(&self) -> u64 {
        self.receiver.posted()
    }

    #[inline]
    fn try_recv(&mut self) -> Result<VerbsDatagram, TryError<VerbsError>> {
        self.receiver.try_recv()
    }

    #[inline]
    fn immediate(buf: &VerbsDatagram) -> Option<u32> {
        buf.immediate()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A failure to flush ends the track, which the receiving side tells.
        let _ = self.sender.flush();
        self.receiver.poll_recv_ready(cx)
    }
}

impl Track for UnreliableTrack {
    type Delivery = Datagram;
    type Sender = DatagramSender;
    type Receiver = DatagramReceiver;

    fn split(self) -> (DatagramSender, DatagramReceiver) {
        (self.sender, self.receiver)
    }
}
