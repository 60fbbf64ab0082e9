//! `MockDatagramTrack`: datagrams to and from one peer.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use trespass_core::{Datagram, Endpoint, Limits, RecvSide, SendSide, Track, TryError, Unsent};

use super::faults::MockFaults;
use super::port::Port;
use super::queues::{Inward, Sends};
use super::recv::MockDatagram;
use crate::addr::MockAddr;
use crate::buffer::MockSendBuf;
use crate::clock::MockTimer;
use crate::counters::MockCounters;
use crate::error::MockError;

/// The two ends of a track.
#[derive(Clone)]
struct About {
    local: MockAddr,
    peer: MockAddr,
}

/// Datagrams to and from one peer: a view of a port, which it shares with others where a listener gave it.
///
/// A datagram arrives whole and unchanged or not at all; the network may lose, duplicate and reorder it, where it is told
/// to. One that meets no posted receive is gone, and the sender is not told. Nothing tells one end that the other is gone.
///
/// Costs of a datagram: two locks to send it (the peer's port, and the peer), one for the one that is dropped, one to look
/// for arrivals when none are at hand; one copy by the "device"; no allocation.
pub struct MockDatagramTrack {
    // The sender ends the track when it is dropped; the receiver's memory goes then.
    sender: MockDatagramSender,
    receiver: MockDatagramReceiver,
}

/// The sending half of a [`MockDatagramTrack`]. Dropping it ends the track.
pub struct MockDatagramSender {
    sends: Sends,
    way: Arc<Port>,
    about: About,
}

/// The receiving half of a [`MockDatagramTrack`]. Dropping it alone leaves the sender be: what arrives then is gone.
pub struct MockDatagramReceiver {
    inward: Inward,
    about: About,
}

impl MockDatagramTrack {
    /// The track of these queues, to port `way`.
    pub(super) fn new((sends, inward): (Sends, Inward), way: &Arc<Port>, local: &MockAddr, peer: &MockAddr) -> Self {
        let about = About { local: local.clone(), peer: peer.clone() };
        Self {
            sender: MockDatagramSender { sends, way: Arc::clone(way), about: about.clone() },
            receiver: MockDatagramReceiver { inward, about },
        }
    }

    /// What this end has done so far.
    pub fn counters(&self) -> MockCounters {
        self.receiver.inward.member().counters()
    }

    /// Datagrams of the peer that arrived and were dropped: the receiver held, or left unread, all that it may.
    pub fn dropped(&self) -> u64 {
        self.receiver.dropped()
    }

    /// Datagrams that arrived at the port of this track, and that none of its peers sent: dropped.
    pub fn strangers(&self) -> u64 {
        self.sender.sends.member().port().strangers()
    }

    /// What the network did to datagrams of this end.
    pub fn faults(&self) -> MockFaults {
        self.sender.faults()
    }
}

impl MockDatagramSender {
    /// As [`MockDatagramTrack::faults`].
    pub fn faults(&self) -> MockFaults {
        self.sends.faults()
    }

    fn queue(&mut self, buf: MockSendBuf, word: Option<u32>) -> Result<(), Unsent<MockSendBuf, MockError>> {
        let buf = self.sends.check(buf)?;
        self.sends.queue(buf, Some(Arc::clone(&self.way)), word);
        Ok(())
    }
}

impl MockDatagramReceiver {
    /// As [`MockDatagramTrack::dropped`].
    pub fn dropped(&self) -> u64 {
        self.inward.member().dropped()
    }
}

macro_rules! endpoint {
    ($type:ty, $($about:ident).+, $($queue:ident).+) => {
        impl Endpoint for $type {
            type Error = MockError;
            type Addr = MockAddr;
            type Timer = MockTimer;

            fn limits(&self) -> Limits {
                self.$($queue).+.member().limits()
            }

            fn local(&self) -> MockAddr {
                self.$($about).+.local.clone()
            }

            fn peer(&self) -> MockAddr {
                self.$($about).+.peer.clone()
            }

            fn timer(&self) -> MockTimer {
                self.$($queue).+.member().fabric().timer().clone()
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let About { local, peer } = &self.$($about).+;
                f.debug_struct(stringify!($type)).field("local", local).field("peer", peer).finish_non_exhaustive()
            }
        }
    };
}

endpoint!(MockDatagramSender, about, sends);
endpoint!(MockDatagramReceiver, about, inward);
endpoint!(MockDatagramTrack, sender.about, sender.sends);

impl SendSide for MockDatagramSender {
    type SendBuf = MockSendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<MockSendBuf, TryError<MockError>> {
        self.sends.try_reserve(len)
    }

    fn send(&mut self, buf: MockSendBuf) -> Result<(), Unsent<MockSendBuf, MockError>> {
        self.queue(buf, None)
    }

    #[inline]
    fn carries_immediate(&self) -> bool {
        true
    }

    fn send_immediate(&mut self, buf: MockSendBuf, word: u32) -> Result<(), Unsent<MockSendBuf, Option<MockError>>> {
        self.queue(buf, Some(word)).map_err(Unsent::certain)
    }

    fn flush(&mut self) -> Result<(), MockError> {
        self.sends.flush()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sends.poll_ready(cx)
    }

    /// Done at once: datagrams that were sent may arrive or not, and the "device" has nothing to wait for.
    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), MockError>> {
        Poll::Ready(self.sends.close())
    }
}

impl RecvSide for MockDatagramReceiver {
    type RecvBuf = MockDatagram;

    fn posted(&self) -> u64 {
        self.inward.posted()
    }

    fn try_recv(&mut self) -> Result<MockDatagram, TryError<MockError>> {
        self.inward.try_recv()
    }

    #[inline]
    fn immediate(buf: &MockDatagram) -> Option<u32> {
        buf.immediate()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inward.poll_ready(cx)
    }
}

impl SendSide for MockDatagramTrack {
    type SendBuf = MockSendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<MockSendBuf, TryError<MockError>> {
        self.sender.try_reserve(len)
    }

    fn send(&mut self, buf: MockSendBuf) -> Result<(), Unsent<MockSendBuf, MockError>> {
        self.sender.send(buf)
    }

    #[inline]
    fn carries_immediate(&self) -> bool {
        self.sender.carries_immediate()
    }

    fn send_immediate(&mut self, buf: MockSendBuf, word: u32) -> Result<(), Unsent<MockSendBuf, Option<MockError>>> {
        self.sender.send_immediate(buf, word)
    }

    fn flush(&mut self) -> Result<(), MockError> {
        self.sender.flush()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_send_ready(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), MockError>> {
        self.sender.poll_close(cx)
    }
}

impl RecvSide for MockDatagramTrack {
    type RecvBuf = MockDatagram;

    fn posted(&self) -> u64 {
        self.receiver.posted()
    }

    fn try_recv(&mut self) -> Result<MockDatagram, TryError<MockError>> {
        self.receiver.try_recv()
    }

    #[inline]
    fn immediate(buf: &MockDatagram) -> Option<u32> {
        buf.immediate()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A failure to flush ends the track, which the receiving side tells.
        let _ = self.sender.flush();
        self.receiver.poll_recv_ready(cx)
    }
}

impl Track for MockDatagramTrack {
    type Delivery = Datagram;
    type Sender = MockDatagramSender;
    type Receiver = MockDatagramReceiver;

    fn split(self) -> (MockDatagramSender, MockDatagramReceiver) {
        (self.sender, self.receiver)
    }
}
