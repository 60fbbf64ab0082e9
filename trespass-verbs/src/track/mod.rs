//! `ReliableTrack`: one reliable connected queue pair, and its halves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rdma_mummy_sys::ibv_qp_attr_mask;
use trespass_core::{Endpoint, Limits, RecvSide, Reliable, SendSide, Timer, Track, TryError, Unsent};

use crate::driver::Ticket;
use crate::error::VerbsError;
use crate::port::mtu_bytes;
use crate::timer::{VerbsSleep, VerbsTimer};

pub(crate) mod conn;
mod ending;
#[cfg(all(test, loom))]
mod loom_tests;
mod operations;
mod permit;
mod recv;
mod remote;
pub(crate) mod returns;
mod send;
pub(crate) mod slots;

pub use conn::leaked_queue_pairs;
pub use permit::{VerbsFetchPermit, VerbsWritePermit};
pub(crate) use recv::RecvQueue;
pub use recv::VerbsRecvBuf;
pub(crate) use send::SendQueue;
pub use send::VerbsSendBuf;

/// What both halves know of their track.
#[derive(Clone)]
struct About {
    limits: Limits,
    local: SocketAddr,
    peer: SocketAddr,
    timer: VerbsTimer,
    close_timeout: Duration,
    /// Whether the device carries immediate data.
    immediate: bool,
    /// The last half to drop it has the driver tear the track down; after the queues, so the driver holds the last
    /// reference to the queue pair.
    ticket: Arc<Ticket>,
}

/// What a track has asked of its device so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerbsCounters {
    /// Calls that posted sends: one for each flush of something.
    pub send_doorbells: u64,
    /// Calls that posted receives: one for each batch.
    pub recv_doorbells: u64,
    /// Calls that asked for a notification.
    pub arms: u64,
}

/// The way from a track to its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerbsPath {
    /// The port of the device.
    pub port: u8,
    /// The longest packet, in bytes of payload.
    pub mtu: u16,
    /// The index of the own GID; `None` where packets carry none, as within an InfiniBand subnet.
    pub gid_index: Option<u8>,
    /// The traffic class of what is sent; `None` where packets carry none.
    pub traffic_class: Option<u8>,
}

/// A reliable connected (RC) queue pair between two processes.
///
/// Each message is one SEND; its bytes are copied by the devices alone. Nothing is added to them: any verbs program can
/// be the peer. A receiver that holds all its buffers makes the peer's device retry (receiver not ready) until it lets
/// go.
///
/// Costs: [`try_reserve`](SendSide::try_reserve), [`send`](SendSide::send) and [`try_recv`](RecvSide::try_recv) make no
/// system call of their own, take no lock of ours and allocate nothing; [`flush`](SendSide::flush) is one
/// `ibv_post_send`. Buffers count references to their track's memory: one atomic operation each to make and to drop.
///
/// Made by [`VerbsFabric`](crate::VerbsFabric), which has an example.
pub struct ReliableTrack {
    sender: VerbsSender,
    receiver: VerbsReceiver,
}

/// The sending half of a [`ReliableTrack`].
pub struct VerbsSender {
    queue: SendQueue,
    closing: Closing,
    /// How long operations that are in flight after the end are waited for.
    lingering: Option<VerbsSleep>,
    about: About,
    /// Whether dropping this half cuts the track off: not while it is part of a whole one.
    alone: bool,
}

/// The receiving half of a [`ReliableTrack`].
pub struct VerbsReceiver {
    queue: RecvQueue,
    about: About,
}

enum Closing {
    No,
    Draining(VerbsSleep),
    Done(Result<(), VerbsError>),
}

impl ReliableTrack {
    pub(crate) fn new(
        sender: SendQueue,
        receiver: RecvQueue,
        limits: Limits,
        close_timeout: Duration,
        ticket: Ticket,
    ) -> Self {
        let immediate = sender.conn().device.immediate;
        let id = &sender.conn().id;
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let about = About {
            limits,
            local: id.local().unwrap_or(unknown),
            peer: id.peer().unwrap_or(unknown),
            timer: ticket.timer(),
            close_timeout,
            immediate,
            ticket: Arc::new(ticket),
        };
        Self {
            sender: VerbsSender {
                queue: sender,
                closing: Closing::No,
                lingering: None,
                about: about.clone(),
                alone: false,
            },
            receiver: VerbsReceiver { queue: receiver, about },
        }
    }

    /// The way to the peer, as the device has it. One system call.
    ///
    /// # Errors
    /// Kind `Device` where the device does not say.
    pub fn path(&self) -> Result<VerbsPath, VerbsError> {
        let mask = ibv_qp_attr_mask::IBV_QP_AV | ibv_qp_attr_mask::IBV_QP_PATH_MTU | ibv_qp_attr_mask::IBV_QP_PORT;
        let qp = &self.sender.queue.conn().qp;
        let attr = qp.query(mask).map_err(|error| VerbsError::os("ask for the path of the track", &error))?;
        let route = (attr.ah_attr.is_global != 0).then_some(attr.ah_attr.grh);
        Ok(VerbsPath {
            port: attr.port_num,
            mtu: mtu_bytes(attr.path_mtu),
            gid_index: route.map(|route| route.sgid_index),
            traffic_class: route.map(|route| route.traffic_class),
        })
    }

    /// What this track has asked of its device so far.
    pub fn counters(&self) -> VerbsCounters {
        VerbsCounters {
            send_doorbells: self.sender.queue.doorbells(),
            recv_doorbells: self.receiver.queue.doorbells(),
            arms: self.sender.queue.arms() + self.receiver.queue.arms(),
        }
    }
}

impl Endpoint for VerbsSender {
    type Error = VerbsError;
    type Addr = SocketAddr;
    type Timer = VerbsTimer;

    fn limits(&self) -> Limits {
        self.about.limits
    }

    fn local(&self) -> SocketAddr {
        self.about.local
    }

    fn peer(&self) -> SocketAddr {
        self.about.peer
    }

    fn timer(&self) -> VerbsTimer {
        self.about.timer.clone()
    }
}

impl SendSide for VerbsSender {
    type SendBuf = VerbsSendBuf;

    #[inline]
    fn try_reserve(&mut self, len: usize) -> Result<VerbsSendBuf, TryError<VerbsError>> {
        self.still_open().map_err(TryError::Failed)?;
        self.queue.try_reserve(len)
    }

    #[inline]
    fn send(&mut self, buf: VerbsSendBuf) -> Result<(), Unsent<VerbsSendBuf, VerbsError>> {
        if let Err(error) = self.still_open() {
            return Err(Unsent { buf, error });
        }
        self.queue.send(buf)
    }

    #[inline]
    fn carries_immediate(&self) -> bool {
        self.about.immediate
    }

    #[inline]
    fn send_immediate(&mut self, buf: VerbsSendBuf, word: u32) -> Result<(), Unsent<VerbsSendBuf, Option<VerbsError>>> {
        if !self.about.immediate {
            return Err(Unsent { buf, error: None });
        }
        if let Err(error) = self.still_open() {
            return Err(Unsent { buf, error: Some(error) });
        }
        self.queue.send_immediate(buf, word).map_err(Unsent::certain)
    }

    #[inline]
    fn flush(&mut self) -> Result<(), VerbsError> {
        self.queue.flush()
    }

    #[inline]
    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.still_open() {
            Ok(()) => self.queue.poll_ready(cx),
            Err(_) => Poll::Ready(()),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), VerbsError>> {
        let timeout = self.about.close_timeout;
        if matches!(self.closing, Closing::No) {
            self.closing = Closing::Draining(self.about.timer.sleep(timeout));
        }
        let outcome = match &mut self.closing {
            Closing::Done(outcome) => return Poll::Ready(outcome.clone()),
            Closing::No => Ok(()),
            Closing::Draining(deadline) => match self.queue.poll_drained(cx) {
                Poll::Ready(true) if self.queue.conn().shared.has_failed() => Err(self.queue.cause()),
                Poll::Ready(true) => Ok(()),
                Poll::Ready(false) => Err(self.queue.cause()),
                Poll::Pending => {
                    ready!(std::pin::Pin::new(deadline).poll(cx));
                    Err(VerbsError::TimedOut { what: "closing the track", limit: timeout })
                }
            },
        };
        self.closing = Closing::Done(outcome.clone());
        self.queue.conn().end(None);
        Poll::Ready(outcome)
    }
}

impl VerbsSender {
    #[inline]
    fn still_open(&self) -> Result<(), VerbsError> {
        if matches!(self.closing, Closing::No) { Ok(()) } else { Err(VerbsError::Closed) }
    }
}

impl Drop for VerbsSender {
    fn drop(&mut self) {
        if self.alone && !matches!(self.closing, Closing::Done(_)) {
            self.about.ticket.cut_off();
        }
    }
}

impl Endpoint for VerbsReceiver {
    type Error = VerbsError;
    type Addr = SocketAddr;
    type Timer = VerbsTimer;

    fn limits(&self) -> Limits {
        self.about.limits
    }

    fn local(&self) -> SocketAddr {
        self.about.local
    }

    fn peer(&self) -> SocketAddr {
        self.about.peer
    }

    fn timer(&self) -> VerbsTimer {
        self.about.timer.clone()
    }
}

impl RecvSide for VerbsReceiver {
    type RecvBuf = VerbsRecvBuf;

    #[inline]
    fn posted(&self) -> u64 {
        self.queue.posted()
    }

    #[inline]
    fn try_recv(&mut self) -> Result<VerbsRecvBuf, TryError<VerbsError>> {
        self.queue.try_recv()
    }

    #[inline]
    fn immediate(buf: &VerbsRecvBuf) -> Option<u32> {
        buf.immediate()
    }

    #[inline]
    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.queue.poll_ready(cx)
    }
}

impl Endpoint for ReliableTrack {
    type Error = VerbsError;
    type Addr = SocketAddr;
    type Timer = VerbsTimer;

    fn limits(&self) -> Limits {
        self.sender.limits()
    }

    fn local(&self) -> SocketAddr {
        self.sender.local()
    }

    fn peer(&self) -> SocketAddr {
        self.sender.peer()
    }

    fn timer(&self) -> VerbsTimer {
        self.sender.timer()
    }
}

impl SendSide for ReliableTrack {
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

    #[inline]
    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_send_ready(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), VerbsError>> {
        self.sender.poll_close(cx)
    }
}

impl RecvSide for ReliableTrack {
    type RecvBuf = VerbsRecvBuf;

    #[inline]
    fn posted(&self) -> u64 {
        self.receiver.posted()
    }

    #[inline]
    fn try_recv(&mut self) -> Result<VerbsRecvBuf, TryError<VerbsError>> {
        self.receiver.try_recv()
    }

    #[inline]
    fn immediate(buf: &VerbsRecvBuf) -> Option<u32> {
        buf.immediate()
    }

    #[inline]
    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A failure to flush ends the track, which the receiving side tells.
        self.sender.queue.post_queued();
        self.receiver.poll_recv_ready(cx)
    }
}

impl Track for ReliableTrack {
    type Delivery = Reliable;
    type Sender = VerbsSender;
    type Receiver = VerbsReceiver;

    fn split(mut self) -> (VerbsSender, VerbsReceiver) {
        self.sender.alone = true;
        (self.sender, self.receiver)
    }
}

impl std::fmt::Debug for ReliableTrack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReliableTrack")
            .field("local", &self.local())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for VerbsSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerbsSender").field("local", &self.local()).field("peer", &self.peer()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for VerbsReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerbsReceiver")
            .field("local", &self.local())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}
