//! Tracks: a reliable connected queue pair in process.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use trespass_core::{
    Endpoint, ErrorKind, Limits, RecvSide, Reliable, SendSide, Timer, Track, TransportError, TryError, Unsent,
};

use crate::addr::MockAddr;
use crate::buffer::{MockRecvBuf, MockSendBuf};
use crate::clock::{MockSleep, MockTimer};
use crate::conn::End;
use crate::counters::MockCounters;
use crate::error::MockError;
use crate::lane::{Dead, Failed, Lane, Message, Progress, Taken};
use crate::memory::Operation;
use crate::slots::Slots;

/// A reliable track: both halves in one.
///
/// Costs of a message: one lock for the flush that carries it (shared with all that is flushed with it), one for the
/// buffer that is dropped, one to look for arrivals when none are at hand; one copy by the "device"; no allocation.
#[derive(Debug)]
pub struct MockTrack {
    // The sender ends the track when it is dropped; the receiver's memory goes then.
    pub(crate) sender: MockSender,
    receiver: MockReceiver,
}

impl MockTrack {
    pub(crate) fn new(end: &Arc<End>) -> Self {
        Self { sender: MockSender::new(end), receiver: MockReceiver::new(end) }
    }

    /// What this end has done so far.
    pub fn counters(&self) -> MockCounters {
        self.sender.counters()
    }

    /// Breaks the link under this track alone, as [`MockFabric::break_link`](crate::MockFabric::break_link) does under all
    /// of a fabric's: both ends fail with kind `Disconnected`, after what had arrived was received.
    pub fn break_link(&self) {
        self.sender.end.break_link();
    }
}

/// The sending half of a [`MockTrack`]. Dropping it ends the track.
pub struct MockSender {
    pub(crate) end: Arc<End>,
    pub(crate) lane: Arc<Lane>,
    slots: Slots,
    /// Queued, and not yet given to the device.
    queue: Vec<MockSendBuf>,
    /// The operations that have places in it.
    pub(crate) operations: VecDeque<Operation>,
    pub(crate) max_message: usize,
    closing: Closing,
}

enum Closing {
    Open,
    /// Waits for the peer to take what was flushed. The alarm is set when it is waited for.
    Waiting(MockSleep),
    Done(Result<(), MockError>),
}

impl MockSender {
    fn new(end: &Arc<End>) -> Self {
        let Limits { send_slots: slots, max_message, .. } = end.limits();
        Self {
            end: Arc::clone(end),
            lane: Arc::clone(end.outward()),
            slots: Slots::new(slots),
            queue: Vec::with_capacity(slots),
            operations: VecDeque::new(),
            max_message,
            closing: Closing::Open,
        }
    }

    /// What this end has done so far, receiving included.
    pub fn counters(&self) -> MockCounters {
        self.end.counters()
    }

    /// Whether anything can be sent: two loads.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.closing, Closing::Open) && !self.end.has_ended()
    }

    /// Why nothing can be sent.
    #[cold]
    pub(crate) fn why_not(&self) -> MockError {
        self.end.cause()
    }

    /// A buffer of any length, if there is one.
    pub(crate) fn slot(&mut self) -> Option<MockSendBuf> {
        self.slots.take(&self.lane)
    }

    /// Takes a slot back.
    pub(crate) fn unslot(&mut self, slot: MockSendBuf) {
        self.slots.free.push(slot);
    }

    /// Queues `operation`, in the place that `slot` is.
    pub(crate) fn queue_operation(&mut self, mut slot: MockSendBuf, operation: Operation) {
        slot.set_operation();
        self.queue.push(slot);
        self.operations.push_back(operation);
    }

    /// Ready when a slot is free, and a place among the fetches where `fetch` asks for one too. Flushes first.
    pub(crate) fn poll_slot(&mut self, cx: &mut Context<'_>, fetch: bool) -> Poll<()> {
        // A failure is told by the next call; the end of the track makes this ready.
        let failed = self.post(false).is_err();
        if failed || !self.is_open() {
            return Poll::Ready(());
        }
        let ready = match fetch {
            true => self.lane.poll_fetch(self.slots.at_hand(), &mut self.slots.spare, cx.waker()),
            false => self.slots.poll(&self.lane, cx.waker()),
        };
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Gives all that is queued to the device.
    #[inline]
    pub(crate) fn post(&mut self, wake_self: bool) -> Result<(), MockError> {
        if self.queue.is_empty() { Ok(()) } else { self.post_queue(wake_self) }
    }

    // Always: a call of it would cost every flush.
    #[inline(always)]
    fn post_queue(&mut self, wake_self: bool) -> Result<(), MockError> {
        match self.lane.post(&mut self.queue, &mut self.operations, &mut self.slots.free) {
            Ok(mut progress) => {
                if !wake_self {
                    progress.wakes.sender = None;
                }
                // A refusal is not told by the flush, nor does a device know of it then.
                let overrun = matches!(progress.failed, Some(Failed::Overrun(_)));
                self.end.settle(&self.lane, progress);
                if overrun { Err(self.end.cause()) } else { Ok(()) }
            }
            // What is queued stays so: a close is not to take it for sent.
            Err(Dead { .. }) => Err(self.end.cause()),
        }
    }

    /// Ends the track, all being placed or the time being up.
    fn finish(&mut self, result: Result<(), MockError>) -> Poll<Result<(), MockError>> {
        self.end.close();
        self.closing = Closing::Done(result.clone());
        Poll::Ready(result)
    }
}

impl SendSide for MockSender {
    type SendBuf = MockSendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<MockSendBuf, TryError<MockError>> {
        if !self.is_open() {
            return Err(TryError::Failed(self.why_not()));
        }
        let max = self.max_message;
        if len > max {
            return Err(TryError::Failed(MockError::Oversize { len, max }));
        }
        let mut buf = self.slot().ok_or(TryError::WouldBlock)?;
        buf.set_len(len);
        Ok(buf)
    }

    fn send(&mut self, buf: MockSendBuf) -> Result<(), Unsent<MockSendBuf, MockError>> {
        if !self.is_open() {
            return Err(Unsent { buf, error: self.why_not() });
        }
        if !buf.is_of(&self.lane) {
            return Err(Unsent { buf, error: MockError::ForeignBuffer });
        }
        self.queue.push(buf);
        Ok(())
    }

    #[inline]
    fn carries_immediate(&self) -> bool {
        true
    }

    fn send_immediate(&mut self, buf: MockSendBuf, word: u32) -> Result<(), Unsent<MockSendBuf, Option<MockError>>> {
        self.send(buf).map_err(Unsent::certain)?;
        // Its memory goes back without it, so that no later message has it. None is queued where the send failed.
        if let Some(queued) = self.queue.last_mut() {
            queued.set_word(Some(word));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), MockError> {
        match self.is_open() {
            true => self.post(true),
            false => Err(self.why_not()),
        }
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_slot(cx, false)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), MockError>> {
        if let Closing::Done(result) = &self.closing {
            return Poll::Ready(result.clone());
        }
        if let Err(error) = self.post(false) {
            return self.finish(Err(error));
        }
        let waiting = match self.lane.poll_placed(cx.waker()) {
            Ok(0) => return self.finish(Ok(())),
            Ok(waiting) => waiting,
            // The peer has taken all that this close was about, and was faster to end the track: as good as clean.
            Err(Dead { lost: 0 }) if self.end.cause().kind() == ErrorKind::Closed => return self.finish(Ok(())),
            Err(_) => return self.finish(Err(self.end.cause())),
        };
        let after = self.end.fabric().config().close_timeout;
        if let Closing::Open = self.closing {
            self.closing = Closing::Waiting(self.end.fabric().timer().sleep(after));
        }
        let Closing::Waiting(alarm) = &mut self.closing else { return Poll::Pending };
        match Pin::new(alarm).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => self.finish(Err(MockError::CloseTimedOut { after, waiting })),
        }
    }
}

impl Drop for MockSender {
    fn drop(&mut self) {
        self.end.close();
    }
}

impl fmt::Debug for MockSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (local, peer) = (self.end.local(), self.end.peer());
        f.debug_struct("MockSender").field("local", local).field("peer", peer).finish_non_exhaustive()
    }
}

/// The receiving half of a [`MockTrack`]. Dropping it alone leaves the sender be: what arrives then is lost, until the
/// receives run out and the peer stalls.
pub struct MockReceiver {
    end: Arc<End>,
    lane: Arc<Lane>,
    /// Arrived, and taken from the lane many at a time.
    ready: VecDeque<Message>,
    posted: u64,
}

impl MockReceiver {
    fn new(end: &Arc<End>) -> Self {
        let slots = end.limits().recv_slots;
        Self {
            end: Arc::clone(end),
            lane: Arc::clone(end.inward()),
            ready: VecDeque::with_capacity(slots),
            posted: slots as u64,
        }
    }

    /// What this end has done so far, sending included.
    pub fn counters(&self) -> MockCounters {
        self.end.counters()
    }

    /// Does what is left to do after receives were posted again.
    #[inline]
    fn settle(&mut self, reposted: Option<(usize, Progress)>) {
        if let Some((count, progress)) = reposted {
            self.posted += count as u64;
            self.end.settle(&self.lane, progress);
        }
    }
}

impl RecvSide for MockReceiver {
    type RecvBuf = MockRecvBuf;

    fn posted(&self) -> u64 {
        self.posted
    }

    fn try_recv(&mut self) -> Result<MockRecvBuf, TryError<MockError>> {
        let Taken { dead, reposted } = self.lane.take(&mut self.ready);
        self.settle(reposted);
        match self.ready.pop_front() {
            Some(message) => {
                self.lane.counts.receives.add(1);
                Ok(MockRecvBuf::new(message, Arc::clone(&self.lane)))
            }
            None if dead => Err(TryError::Failed(self.end.cause())),
            None => Err(TryError::WouldBlock),
        }
    }

    #[inline]
    fn immediate(buf: &MockRecvBuf) -> Option<u32> {
        buf.immediate()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (found, taken) = self.lane.poll_take(&mut self.ready, cx.waker());
        self.settle(taken.reposted);
        if found { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for MockReceiver {
    fn drop(&mut self) {
        self.lane.receiver_gone();
    }
}

impl fmt::Debug for MockReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (local, peer) = (self.end.local(), self.end.peer());
        f.debug_struct("MockReceiver").field("local", local).field("peer", peer).finish_non_exhaustive()
    }
}

/// What both halves answer from their end.
macro_rules! endpoint_of_end {
    ($half:ty) => {
        impl Endpoint for $half {
            type Error = MockError;
            type Addr = MockAddr;
            type Timer = MockTimer;

            fn limits(&self) -> Limits {
                self.end.limits()
            }

            fn local(&self) -> MockAddr {
                self.end.local().clone()
            }

            fn peer(&self) -> MockAddr {
                self.end.peer().clone()
            }

            fn timer(&self) -> MockTimer {
                self.end.fabric().timer().clone()
            }
        }
    };
}

endpoint_of_end!(MockSender);
endpoint_of_end!(MockReceiver);

impl Endpoint for MockTrack {
    type Error = MockError;
    type Addr = MockAddr;
    type Timer = MockTimer;

    fn limits(&self) -> Limits {
        self.sender.limits()
    }

    fn local(&self) -> MockAddr {
        self.sender.local()
    }

    fn peer(&self) -> MockAddr {
        self.sender.peer()
    }

    fn timer(&self) -> MockTimer {
        self.sender.timer()
    }
}

impl SendSide for MockTrack {
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

impl RecvSide for MockTrack {
    type RecvBuf = MockRecvBuf;

    fn posted(&self) -> u64 {
        self.receiver.posted()
    }

    fn try_recv(&mut self) -> Result<MockRecvBuf, TryError<MockError>> {
        self.receiver.try_recv()
    }

    #[inline]
    fn immediate(buf: &MockRecvBuf) -> Option<u32> {
        buf.immediate()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A failure ends the track, which the receiver is about to see.
        let _ = self.sender.post(true);
        self.receiver.poll_recv_ready(cx)
    }
}

impl Track for MockTrack {
    type Delivery = Reliable;
    type Sender = MockSender;
    type Receiver = MockReceiver;

    fn split(self) -> (MockSender, MockReceiver) {
        (self.sender, self.receiver)
    }
}
