//! Tracks of the mock, whose senders may have a fault.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use trespass_core::{
    Completed, Endpoint, Limits, RecvSide, Reliable, RemoteMemory, RemoteSlice, SendSide, Track, TryError, Unsent,
};
use trespass_mock::{
    MockAddr, MockError, MockFetchPermit, MockReceiver, MockRecvBuf, MockRegion, MockSendBuf, MockSender, MockTimer,
    MockTrack, MockWritePermit,
};

use crate::fabric::Shared;
use crate::fault::Fault;
use crate::region::{BrokenRegion, Origin};

pub(crate) struct BrokenTrack {
    pub(crate) sender: BrokenSender,
    receiver: MockReceiver,
}

pub(crate) struct BrokenSender {
    mock: MockSender,
    pub(crate) shared: Shared,
    /// Writes that are queued here instead of below.
    pub(crate) late: Vec<Late>,
    /// How many of them a flush has passed by.
    passed: usize,
    /// What is completed here instead of below.
    pub(crate) early: VecDeque<Completed<BrokenRegion, MockError>>,
    /// Completions from below that nobody is told of, by tag.
    pub(crate) swallowed: Vec<u64>,
    pub(crate) operations: u64,
    pub(crate) completions: u64,
    /// Whether the last `try_complete` found nothing.
    pub(crate) looked: bool,
    pub(crate) split: bool,
    pub(crate) returned: Arc<Mutex<Vec<Returned>>>,
    pub(crate) acceptor: bool,
    pub(crate) outstanding: Arc<AtomicUsize>,
}

/// A write that waits here.
pub(crate) struct Late {
    pub(crate) permit: MockWritePermit,
    pub(crate) from: MockRegion,
    pub(crate) at: usize,
    pub(crate) to: RemoteSlice,
    pub(crate) tag: u64,
}

/// A permit that was dropped, and has told nobody.
pub(crate) enum Returned {
    #[expect(dead_code, reason = "dropping it is what it is for")]
    Write(MockWritePermit),
    #[expect(dead_code, reason = "dropping it is what it is for")]
    Fetch(MockFetchPermit),
}

impl BrokenTrack {
    pub(crate) fn new(mock: MockTrack, shared: Shared) -> Self {
        let (mock, receiver) = mock.split();
        let acceptor = shared.acceptor;
        let sender = BrokenSender {
            mock,
            shared,
            late: Vec::new(),
            passed: 0,
            early: VecDeque::new(),
            swallowed: Vec::new(),
            operations: 0,
            completions: 0,
            looked: false,
            split: false,
            returned: Arc::default(),
            acceptor,
            outstanding: Arc::default(),
        };
        Self { sender, receiver }
    }
}

impl BrokenSender {
    pub(crate) fn mock(&self) -> &MockSender {
        &self.mock
    }

    pub(crate) fn below(&mut self) -> &mut MockSender {
        &mut self.mock
    }

    pub(crate) fn is(&self, fault: Fault) -> bool {
        self.shared.origin.fault == fault
    }

    pub(crate) fn fault(&self) -> Fault {
        self.shared.origin.fault
    }

    pub(crate) fn wrap(&self, mock: MockRegion) -> BrokenRegion {
        BrokenRegion { mock, origin: self.shared.origin.clone() }
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.shared.origin
    }

    /// Queues the first `count` of what waits here.
    fn release(&mut self, count: usize) {
        for Late { permit, from, at, to, tag } in self.late.drain(..count) {
            // Of a track that has ended, it goes nowhere.
            let _ = self.mock.write(permit, from, at, to, tag);
        }
    }
}

impl SendSide for BrokenSender {
    type SendBuf = MockSendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<MockSendBuf, TryError<MockError>> {
        self.mock.try_reserve(len)
    }

    fn send(&mut self, buf: MockSendBuf) -> Result<(), Unsent<MockSendBuf, MockError>> {
        self.mock.send(buf)
    }

    fn flush(&mut self) -> Result<(), MockError> {
        // What was queued behind them goes out before them.
        match self.fault() {
            Fault::ReordersWrites => {
                self.mock.flush()?;
                self.release(self.passed);
                self.passed = self.late.len();
            }
            Fault::ReadsOvertake => {
                self.mock.flush()?;
                self.release(self.late.len());
            }
            _ => self.release(self.late.len()),
        }
        self.mock.flush()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.flush_for_wait();
        let waker = if self.is(Fault::RoomWakesNobody) { Waker::noop() } else { cx.waker() };
        self.mock.poll_send_ready(&mut Context::from_waker(waker))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), MockError>> {
        match self.fault() {
            Fault::CloseForgetsOperations => self.late.clear(),
            _ => _ = self.flush(),
        }
        self.mock.poll_close(cx)
    }
}

impl BrokenSender {
    /// Flushes before a wait, unless that is the fault.
    pub(crate) fn flush_for_wait(&mut self) {
        if !self.is(Fault::WaitsWithoutAFlush) {
            let _ = self.flush();
        }
    }
}

impl Drop for BrokenSender {
    fn drop(&mut self) {
        if self.outstanding.load(Ordering::Acquire) > 0 {
            self.shared.dropped.store(true, Ordering::Release);
        }
    }
}

macro_rules! endpoint {
    ($type:ty, $($mock:ident).+) => {
        impl Endpoint for $type {
            type Error = MockError;
            type Addr = MockAddr;
            type Timer = MockTimer;

            fn limits(&self) -> Limits {
                self.$($mock).+.limits()
            }

            fn local(&self) -> MockAddr {
                self.$($mock).+.local()
            }

            fn peer(&self) -> MockAddr {
                self.$($mock).+.peer()
            }

            fn timer(&self) -> MockTimer {
                self.$($mock).+.timer()
            }
        }
    };
}

endpoint!(BrokenSender, mock);
endpoint!(BrokenTrack, sender.mock);

impl SendSide for BrokenTrack {
    type SendBuf = MockSendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<MockSendBuf, TryError<MockError>> {
        self.sender.try_reserve(len)
    }

    fn send(&mut self, buf: MockSendBuf) -> Result<(), Unsent<MockSendBuf, MockError>> {
        self.sender.send(buf)
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

impl RecvSide for BrokenTrack {
    type RecvBuf = MockRecvBuf;

    fn posted(&self) -> u64 {
        self.receiver.posted()
    }

    fn try_recv(&mut self) -> Result<MockRecvBuf, TryError<MockError>> {
        self.receiver.try_recv()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sender.flush_for_wait();
        self.receiver.poll_recv_ready(cx)
    }
}

impl Track for BrokenTrack {
    type Delivery = Reliable;
    type Sender = BrokenSender;
    type Receiver = MockReceiver;

    fn split(mut self) -> (BrokenSender, MockReceiver) {
        self.sender.split = true;
        (self.sender, self.receiver)
    }
}
