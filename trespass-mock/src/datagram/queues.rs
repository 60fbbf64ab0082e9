//! The two queues of a track or port.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use trespass_core::{TryError, Unsent};

use super::config::MockDatagramConfig;
use super::faults::{MockFaults, Network, Parcel};
use super::member::Member;
use super::port::Port;
use super::recv::MockDatagram;
use crate::buffer::MockSendBuf;
use crate::error::MockError;
use crate::lane::Message;
use crate::slots::Slots;
use crate::sync::Mutex;

/// The send queue. Dropping it ends its member.
#[derive(Debug)]
pub(super) struct Sends {
    member: Arc<Member>,
    slots: Slots,
    /// Queued, and for which port; `None` for one that is gone.
    queue: Vec<(MockSendBuf, Option<Arc<Port>>)>,
    /// Nothing where the network is perfect.
    network: Option<Box<Network>>,
    /// Somebody may wait for a slot.
    armed: bool,
    closed: Option<Result<(), MockError>>,
}

impl Sends {
    /// That of the member number `number` of its fabric, where `retired` is what the network did to those that are gone.
    pub(super) fn new(
        member: &Arc<Member>,
        config: &MockDatagramConfig,
        number: u64,
        retired: &Arc<Mutex<MockFaults>>,
    ) -> Self {
        let slots = member.limits().send_slots;
        Self {
            member: Arc::clone(member),
            slots: Slots::new(slots),
            queue: Vec::with_capacity(slots),
            network: config.has_faults().then(|| Box::new(Network::new(config, number, retired))),
            armed: false,
            closed: None,
        }
    }

    pub(super) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    pub(super) fn faults(&self) -> MockFaults {
        self.network.as_ref().map_or_else(MockFaults::default, |network| network.faults())
    }

    #[inline]
    pub(super) fn try_reserve(&mut self, len: usize) -> Result<MockSendBuf, TryError<MockError>> {
        if self.member.has_ended() {
            return Err(TryError::Failed(self.member.cause()));
        }
        let max = self.member.limits().max_message;
        if len > max {
            return Err(TryError::Failed(MockError::Oversize { len, max }));
        }
        let mut buf = self.slots.take(self.member.lane()).ok_or(TryError::WouldBlock)?;
        buf.set_len(len);
        Ok(buf)
    }

    /// Whether `buf` can be queued here.
    #[inline]
    pub(super) fn check(&self, buf: MockSendBuf) -> Result<MockSendBuf, Unsent<MockSendBuf, MockError>> {
        if self.member.has_ended() {
            return Err(Unsent { buf, error: self.member.cause() });
        }
        match buf.is_of(self.member.lane()) {
            true => Ok(buf),
            false => Err(Unsent { buf, error: MockError::ForeignBuffer }),
        }
    }

    /// Queues a buffer that was checked.
    #[inline]
    pub(super) fn queue(&mut self, mut buf: MockSendBuf, to: Option<Arc<Port>>, word: Option<u32>) {
        buf.set_word(word);
        self.queue.push((buf, to));
    }

    /// Carries all that is queued; then the device is done with it, and who waits for a slot is woken.
    pub(super) fn flush(&mut self) -> Result<(), MockError> {
        let flushed = self.post();
        if self.armed && self.slots.at_hand() {
            self.armed = false;
            self.member.lane().wake_sender();
        }
        flushed
    }

    fn post(&mut self) -> Result<(), MockError> {
        if self.member.has_ended() {
            return Err(self.member.cause());
        }
        if self.queue.is_empty() {
            return Ok(());
        }
        let (from, counts) = (self.member.port().number(), &self.member.lane().counts);
        counts.doorbells.add(1);
        counts.sends.add(self.queue.len() as u64);
        for (buf, to) in self.queue.drain(..) {
            if let Some(to) = to.as_ref().filter(|to| self.member.reaches(to)) {
                let parcel = Parcel { from, bytes: &buf, word: buf.word() };
                match &mut self.network {
                    None => to.deliver(parcel, counts),
                    Some(network) => network.carry(parcel, to, counts),
                }
            }
            self.slots.free.push(buf);
        }
        Ok(())
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A failure is told by the next call; the end makes this ready.
        let ended = self.post().is_err();
        // Whoever waited before is superseded by this call.
        self.armed = !ended && !self.slots.poll(self.member.lane(), cx.waker());
        if self.armed { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Sends what is queued, and ends the member: the device has nothing to wait for.
    pub(super) fn close(&mut self) -> Result<(), MockError> {
        if let Some(result) = &self.closed {
            return result.clone();
        }
        let result = self.post();
        if let (Ok(()), Some(network)) = (&result, &mut self.network) {
            network.release(self.member.port().number(), &self.member.lane().counts);
        }
        self.member.close();
        self.closed.insert(result).clone()
    }
}

impl Drop for Sends {
    fn drop(&mut self) {
        self.member.close();
    }
}

/// The receive queue.
#[derive(Debug)]
pub(super) struct Inward {
    member: Arc<Member>,
    /// Arrived, and taken from the lane many at a time.
    ready: VecDeque<Message>,
}

impl Inward {
    pub(super) fn new(member: &Arc<Member>) -> Self {
        let ready = VecDeque::with_capacity(member.limits().recv_slots);
        Self { member: Arc::clone(member), ready }
    }

    pub(super) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    pub(super) fn posted(&self) -> u64 {
        self.member.limits().recv_slots as u64 + self.member.lane().counts.reposts.read()
    }

    pub(super) fn try_recv(&mut self) -> Result<MockDatagram, TryError<MockError>> {
        let lane = self.member.lane();
        let dead = self.ready.is_empty() && lane.take_datagrams(&mut self.ready);
        match self.ready.pop_front() {
            Some(message) => {
                lane.counts.receives.add(1);
                let source = self.member.fabric().directory().peer(message.source());
                Ok(MockDatagram::new(message, Arc::clone(lane), source))
            }
            None if dead => Err(TryError::Failed(self.member.cause())),
            None => Err(TryError::WouldBlock),
        }
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let found = self.member.lane().poll_datagrams(&mut self.ready, cx.waker());
        if found { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Inward {
    fn drop(&mut self) {
        self.member.lane().receiver_gone();
    }
}
