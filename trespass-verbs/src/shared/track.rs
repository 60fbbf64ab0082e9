//! `SharedTrack`: a reliable track that shares its queues with others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use trespass_core::{Endpoint, Limits, RecvSide, Reliable, SendSide, Track, TryError, Unsent};

use super::fabric::Claim;
use super::gate::SharedGate;
use super::queue::SharedQueue;
use super::recv::SharedRecvBuf;
use crate::driver::Ticket;
use crate::error::VerbsError;
use crate::hub::{Inward, Member, Sends};
use crate::timer::VerbsTimer;
use crate::track::conn::Conn;
use crate::track::{VerbsCounters, VerbsSendBuf};

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
    /// reference to the queue pair. Then the claim to the shared queues, which outlive it.
    _ticket: Arc<Ticket>,
    _claim: Arc<Claim>,
}

/// A reliable connected (RC) queue pair that shares completion queues and receive buffers with the other tracks of its
/// [`VerbsShared`](crate::VerbsShared).
///
/// It keeps what the contract says of reliable tracks but for one clause: **F5**. A receiver that holds all its buffers does not
/// stall its peer: the device would have to stall everybody's. So the peer may never have more messages under way than
/// [`posted`](RecvSide::posted) was; carriers see to that by their credits. A peer that does not keep to it is ended, with
/// kind `Protocol`, and disturbs nobody: [`Limits::recv_shared`](trespass_core::Limits) says so. Receives are posted for all tracks
/// together, more as the device runs low ([`SharedConfig`](crate::SharedConfig)): after a burst that none was posted for peers meet a
/// receiver that is not ready, and come again after `min_rnr_timer`.
///
/// Costs: as for a [`ReliableTrack`](crate::ReliableTrack); in addition every batch of messages takes the lock of the shared
/// queues and that of each inbox that gets some, and a receiver that sleeps while sends are under way has an event for
/// their completion. Looking where nothing has come takes no lock.
pub struct SharedTrack {
    sender: SharedSender,
    receiver: SharedReceiver,
}

/// The sending half of a [`SharedTrack`].
pub struct SharedSender {
    sends: Sends<SharedGate>,
    about: About,
}

/// The receiving half of a [`SharedTrack`].
pub struct SharedReceiver {
    inward: Inward<SharedQueue>,
    about: About,
}

impl SharedTrack {
    pub(crate) fn new(
        conn: Arc<Conn>,
        member: Arc<Member>,
        close_timeout: Duration,
        ticket: Ticket,
        claim: Arc<Claim>,
    ) -> Self {
        let queue = Arc::clone(claim.queue());
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let inline = queue.device.depths.inline as usize;
        let limits =
            Limits::new(queue.max_message, queue.send_slots, queue.config.quota).with_inline(inline).with_recv_shared();
        let about = About {
            limits,
            local: conn.id.local().unwrap_or(unknown),
            peer: conn.id.peer().unwrap_or(unknown),
            timer: ticket.timer(),
            close_timeout,
            immediate: queue.device.immediate,
            _ticket: Arc::new(ticket),
            _claim: claim,
        };
        let inward = Inward::new(Arc::clone(&queue), Arc::clone(&member));
        let max_message = queue.max_message;
        let gate = Arc::new(SharedGate { conn, queue });
        Self {
            sender: SharedSender { sends: Sends::new(gate, member, max_message), about: about.clone() },
            receiver: SharedReceiver { inward, about },
        }
    }

    /// What this track has asked of its device so far. Notifications are those of all tracks that share; calls that posted
    /// receives are not counted.
    pub fn counters(&self) -> VerbsCounters {
        let queue = self.receiver.inward.supply();
        VerbsCounters {
            send_doorbells: self.sender.sends.doorbells(),
            recv_doorbells: 0,
            arms: queue.sends.arms() + queue.receives.arms(),
        }
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

endpoint!(SharedSender, about);
endpoint!(SharedReceiver, about);
endpoint!(SharedTrack, sender.about);

impl Drop for SharedReceiver {
    fn drop(&mut self) {
        // It does not sleep any more.
        self.inward.supply().sends.forget(self.inward.member());
    }
}

impl SendSide for SharedSender {
    type SendBuf = VerbsSendBuf;

    #[inline]
    fn try_reserve(&mut self, len: usize) -> Result<VerbsSendBuf, TryError<VerbsError>> {
        self.sends.try_reserve(len)
    }

    #[inline]
    fn send(&mut self, buf: VerbsSendBuf) -> Result<(), Unsent<VerbsSendBuf, VerbsError>> {
        let buf = self.sends.check(buf)?;
        self.sends.queue(buf, None);
        Ok(())
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
        let buf = self.sends.check(buf).map_err(Unsent::certain)?;
        self.sends.queue(buf, Some(word));
        Ok(())
    }

    #[inline]
    fn flush(&mut self) -> Result<(), VerbsError> {
        self.sends.flush()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sends.poll_ready(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), VerbsError>> {
        self.sends.poll_close(cx, &self.about.timer, self.about.close_timeout)
    }
}

impl RecvSide for SharedReceiver {
    type RecvBuf = SharedRecvBuf;

    #[inline]
    fn posted(&self) -> u64 {
        self.inward.posted()
    }

    #[inline]
    fn try_recv(&mut self) -> Result<SharedRecvBuf, TryError<VerbsError>> {
        self.inward.try_recv().map(SharedRecvBuf::new)
    }

    #[inline]
    fn immediate(buf: &SharedRecvBuf) -> Option<u32> {
        buf.immediate()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inward.poll_ready(cx)
    }
}

impl SendSide for SharedTrack {
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

impl RecvSide for SharedTrack {
    type RecvBuf = SharedRecvBuf;

    #[inline]
    fn posted(&self) -> u64 {
        self.receiver.posted()
    }

    #[inline]
    fn try_recv(&mut self) -> Result<SharedRecvBuf, TryError<VerbsError>> {
        self.receiver.try_recv()
    }

    #[inline]
    fn immediate(buf: &SharedRecvBuf) -> Option<u32> {
        buf.immediate()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A failure to flush ends the track, which the receiving side tells.
        let _ = self.sender.flush();
        self.receiver.poll_recv_ready(cx)
    }
}

impl Track for SharedTrack {
    type Delivery = Reliable;
    type Sender = SharedSender;
    type Receiver = SharedReceiver;

    fn split(self) -> (SharedSender, SharedReceiver) {
        (self.sender, self.receiver)
    }
}
