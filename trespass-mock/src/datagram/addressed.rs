//! `MockPort`: datagrams to and from any number of peers.

use std::fmt;
use std::task::{Context, Poll};

use trespass_core::{Limits, Port, TryError, Unsent};

use super::faults::MockFaults;
use super::queues::{Inward, Sends};
use super::recv::{MockDatagram, MockPeer};
use crate::addr::MockAddr;
use crate::buffer::MockSendBuf;
use crate::clock::MockTimer;
use crate::counters::MockCounters;
use crate::error::MockError;

/// Where datagrams of any number of peers come from and go to: one queue pair, as it were.
///
/// Costs: as for a [`MockDatagramTrack`](crate::MockDatagramTrack), and one more lock for each datagram, to find its port.
pub struct MockPort {
    // Ends the port when it is dropped; what had arrived goes then.
    sends: Sends,
    inward: Inward,
    local: MockAddr,
}

impl MockPort {
    pub(super) fn new(sends: Sends, inward: Inward, local: MockAddr) -> Self {
        Self { sends, inward, local }
    }

    /// This port, as others know it: for those to whom its address is told by other means than
    /// [`resolve`](trespass_core::PortFabric::resolve).
    pub fn peer(&self) -> MockPeer {
        self.sends.member().port().peer()
    }

    /// Datagrams that arrived and were dropped: the user held, or left unread, all buffers, or they were too long for one.
    pub fn dropped(&self) -> u64 {
        self.inward.member().dropped()
    }

    /// What the network did to datagrams of this port.
    pub fn faults(&self) -> MockFaults {
        self.sends.faults()
    }

    /// What this port has done so far.
    pub fn counters(&self) -> MockCounters {
        self.sends.member().counters()
    }
}

impl Port for MockPort {
    type Error = MockError;
    type Addr = MockAddr;
    type Timer = MockTimer;
    type Peer = MockPeer;
    type SendBuf = MockSendBuf;
    type RecvBuf = MockDatagram;

    fn limits(&self) -> Limits {
        self.sends.member().limits()
    }

    fn local(&self) -> MockAddr {
        self.local.clone()
    }

    fn timer(&self) -> MockTimer {
        self.sends.member().fabric().timer().clone()
    }

    fn try_reserve(&mut self, len: usize) -> Result<MockSendBuf, TryError<MockError>> {
        self.sends.try_reserve(len)
    }

    /// A peer that is gone is no error: the datagram is.
    fn send_to(&mut self, buf: MockSendBuf, to: &MockPeer) -> Result<(), Unsent<MockSendBuf, MockError>> {
        let buf = self.sends.check(buf)?;
        match self.sends.member().fabric().directory().port(to) {
            Ok(port) => {
                self.sends.queue(buf, port, None);
                Ok(())
            }
            Err(error) => Err(Unsent { buf, error }),
        }
    }

    fn flush(&mut self) -> Result<(), MockError> {
        self.sends.flush()
    }

    fn try_recv(&mut self) -> Result<MockDatagram, TryError<MockError>> {
        self.inward.try_recv()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sends.poll_ready(cx)
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A failure to flush ends the port, which the receiving side tells.
        let _ = self.sends.flush();
        self.inward.poll_ready(cx)
    }

    /// Done at once: the "device" has nothing to wait for.
    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), MockError>> {
        Poll::Ready(self.sends.close())
    }
}

impl fmt::Debug for MockPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockPort").field("local", &self.local).field("peer", &self.peer()).finish_non_exhaustive()
    }
}
