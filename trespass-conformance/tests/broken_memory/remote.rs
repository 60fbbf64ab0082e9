//! One-sided operations, with a fault.
#![allow(clippy::result_large_err, reason = "what is refused comes back")]

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use trespass_core::{
    Completed, ErrorKind, MemoryFabric, RemoteMemory, RemoteSlice, RemoteWindow, RemoteWord, SendSide, TransportError,
    TryError, Unsent,
};
use trespass_mock::{MockError, MockFetchPermit, MockRegion, MockSendBuf, MockWritePermit};

use crate::fault::Fault;
use crate::region::BrokenRegion;
use crate::track::{BrokenSender, BrokenTrack, Late, Returned};

/// A permit, and what its drop may do.
pub(crate) struct Permit<P: Into<Returned>> {
    /// `None` where there is no slot to it, or it was used.
    mock: Option<P>,
    fault: Fault,
    before_split: bool,
    returned: Arc<Mutex<Vec<Returned>>>,
}

impl From<MockWritePermit> for Returned {
    fn from(permit: MockWritePermit) -> Self {
        Self::Write(permit)
    }
}

impl From<MockFetchPermit> for Returned {
    fn from(permit: MockFetchPermit) -> Self {
        Self::Fetch(permit)
    }
}

impl<P: Into<Returned>> Drop for Permit<P> {
    fn drop(&mut self) {
        let Some(permit) = self.mock.take() else { return };
        match self.fault {
            Fault::LosesPermits => std::mem::forget(permit),
            Fault::FreedPermitWakesNobody => {
                self.returned.lock().expect("no panic under this lock").push(permit.into());
            }
            _ => drop(permit),
        }
    }
}

impl BrokenSender {
    fn permit<P: Into<Returned>>(&self, mock: Option<P>) -> Permit<P> {
        let returned = Arc::clone(&self.returned);
        Permit { mock, fault: self.fault(), before_split: !self.split, returned }
    }

    /// What `permit` stands for below, if it is good enough here.
    fn redeem<P: Into<Returned>>(&self, permit: &mut Permit<P>) -> Result<P, MockError> {
        if self.is(Fault::SplitForgetsPermits) && self.split && permit.before_split {
            return Err(MockError::ForeignBuffer);
        }
        permit.mock.take().ok_or(MockError::Killed)
    }

    /// What happens before any operation is queued.
    fn before(&mut self) {
        self.operations += 1;
        self.outstanding.fetch_add(1, Ordering::AcqRel);
        if self.is(Fault::LosesSlots) && self.operations % 10 == 0 {
            if let Ok(permit) = self.below().try_write_permit() {
                std::mem::forget(permit);
            }
        }
    }

    /// What happens after a queued operation.
    fn after(&mut self) {
        if self.is(Fault::RingsForEachOperation) {
            let _ = self.below().flush();
        }
    }

    /// What happens when an operation was refused here.
    fn refused(&mut self, error: &MockError) {
        if error.kind() != ErrorKind::Oversize {
            return;
        }
        match self.fault() {
            Fault::MisfitsEndTheTrack => {
                drop(self.below().poll_close(&mut Context::from_waker(Waker::noop())));
            }
            Fault::MisfitsCostAPermit => {
                if let Ok(permit) = self.below().try_write_permit() {
                    std::mem::forget(permit);
                }
            }
            _ => {}
        }
    }

    /// The completion from below, as it is told here; `None` where nobody is told.
    fn told(&mut self, completed: Completed<MockRegion, MockError>) -> Option<Completed<BrokenRegion, MockError>> {
        self.completions += 1;
        self.outstanding.fetch_sub(1, Ordering::AcqRel);
        if let Some(at) = self.swallowed.iter().position(|tag| *tag == completed.tag()) {
            self.swallowed.swap_remove(at);
            return None;
        }
        if self.is(Fault::LosesCompletions) && self.completions % 10 == 0 {
            return None;
        }
        let failed = match &completed {
            Completed::Memory { result, .. } => result.is_err(),
            Completed::Word { result, .. } => result.is_err(),
            _ => false,
        };
        if failed && self.is(Fault::EndKeepsMemory) {
            return None;
        }
        Some(match completed {
            Completed::Memory { tag, region, result } => {
                let mut region = self.wrap(region);
                match self.fault() {
                    Fault::SwapsMemory => {
                        let mut other = self.origin().mock.alloc(region.len()).expect("memory");
                        other.copy_from_slice(&region);
                        region = self.wrap(other);
                    }
                    Fault::CorruptsReads if self.completions % 8 == 0 => region[0] = 0x33,
                    Fault::ScribblesBehindReads => {
                        let last = region.len() - 1;
                        region[last] ^= 1;
                    }
                    _ => {}
                }
                Completed::Memory { tag, region, result: result.map_err(|error| self.renamed(error)) }
            }
            Completed::Word { tag, result } => {
                let result = result.map_err(|error| self.renamed(error));
                Completed::Word {
                    tag,
                    result: if self.is(Fault::SwapsAlwaysSucceed) { result.map(|_| 0) } else { result },
                }
            }
            _ => return None,
        })
    }

    fn renamed(&self, error: MockError) -> MockError {
        match error.kind() {
            ErrorKind::RemoteAccess if self.is(Fault::RefusalIsDisconnected) => MockError::LinkDown,
            _ => error,
        }
    }

    /// The next completion below that somebody is told of.
    fn next(&mut self) -> Result<Completed<BrokenRegion, MockError>, TryError<MockError>> {
        loop {
            let completed = self.below().try_complete()?;
            if let Some(told) = self.told(completed) {
                return Ok(told);
            }
        }
    }

    /// Queues a write below, with what is wrong with it.
    fn write_below(
        &mut self,
        permit: MockWritePermit,
        from: MockRegion,
        at: usize,
        to: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(MockWritePermit, MockRegion), MockError>> {
        let longer = RemoteWindow::new(to.address(), to.len() as u64 + 1, to.key(), to.access());
        let longer = longer.ok().and_then(|window| window.slice(0, to.len() + 1).ok());
        match self.fault() {
            Fault::WritesTooMuch if at.saturating_add(to.len()) < from.len() && to.len() < 100 => {
                let mut from = from;
                from[at + to.len()] |= 1;
                self.below().write(permit, from, at, longer.unwrap_or(to), tag)
            }
            Fault::ReordersWrites
            | Fault::ReadsOvertake
            | Fault::WaitsWithoutAFlush
            | Fault::CloseForgetsOperations => {
                self.late.push(Late { permit, from, at, to, tag });
                Ok(())
            }
            Fault::ReturnsMemoryEarly if from.get(at..).is_some_and(|rest| rest.len() >= to.len()) => {
                let mut copy = self.origin().mock.alloc(from.len()).expect("memory");
                copy.copy_from_slice(&from);
                self.below().write(permit, copy, at, to, tag)?;
                self.swallowed.push(tag);
                let region = self.wrap(from);
                self.early.push_back(Completed::Memory { tag, region, result: Ok(()) });
                Ok(())
            }
            _ => self.below().write(permit, from, at, to, tag),
        }
    }
}

impl RemoteMemory for BrokenSender {
    type Region = BrokenRegion;
    type WritePermit = Permit<MockWritePermit>;
    type FetchPermit = Permit<MockFetchPermit>;

    fn fetch_slots(&self) -> usize {
        self.mock().fetch_slots()
    }

    fn try_write_permit(&mut self) -> Result<Self::WritePermit, TryError<MockError>> {
        self.returned.lock().expect("no panic under this lock").clear();
        if self.is(Fault::CompletionsAreUnbounded) {
            while let Ok(completed) = self.next() {
                self.early.push_back(completed);
            }
        }
        match self.below().try_write_permit() {
            Ok(permit) => Ok(self.permit(Some(permit))),
            Err(TryError::WouldBlock) if self.is(Fault::PermitsHaveNoBound) => Ok(self.permit(None)),
            Err(error) => Err(error),
        }
    }

    fn try_fetch_permit(&mut self) -> Result<Self::FetchPermit, TryError<MockError>> {
        self.returned.lock().expect("no panic under this lock").clear();
        let permit = self.below().try_fetch_permit()?;
        Ok(self.permit(Some(permit)))
    }

    fn read(
        &mut self,
        mut permit: Self::FetchPermit,
        into: BrokenRegion,
        at: usize,
        from: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(Self::FetchPermit, BrokenRegion), MockError>> {
        self.before();
        let mock = match self.redeem(&mut permit) {
            Ok(mock) => mock,
            Err(error) => return Err(Unsent { buf: (permit, into), error }),
        };
        let queued = self.below().read(mock, into.mock, at, from, tag);
        self.after();
        queued.map_err(|Unsent { buf: (mock, region), error }| {
            self.refused(&error);
            permit.mock = Some(mock);
            Unsent { buf: (permit, self.wrap(region)), error }
        })
    }

    fn write(
        &mut self,
        mut permit: Self::WritePermit,
        from: BrokenRegion,
        at: usize,
        to: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(Self::WritePermit, BrokenRegion), MockError>> {
        self.before();
        match self.fault() {
            Fault::PermitsFindNoRoom if matches!(self.below().try_reserve(0), Err(TryError::WouldBlock)) => {
                return Err(Unsent { buf: (permit, from), error: MockError::Killed });
            }
            Fault::EmptyWritesAreSilent if to.is_empty() => return Ok(()),
            Fault::AcceptorDoesNotWrite if self.acceptor => {
                self.early.push_back(Completed::Memory { tag, region: from, result: Ok(()) });
                return Ok(());
            }
            Fault::SwallowsAfterTheEnd if matches!(self.below().try_reserve(0), Err(TryError::Failed(_))) => {
                return Ok(());
            }
            _ => {}
        }
        let mock = match self.redeem(&mut permit) {
            Ok(mock) => mock,
            Err(error) => return Err(Unsent { buf: (permit, from), error }),
        };
        let queued = self.write_below(mock, from.mock, at, to, tag);
        self.after();
        let Err(Unsent { buf: (mock, region), error }) = queued else { return Ok(()) };
        self.refused(&error);
        if self.is(Fault::AcceptsForeignPermits) && error.kind() == ErrorKind::ForeignBuffer {
            if let Ok(own) = self.below().try_write_permit() {
                return match self.below().write(own, region, at, to, tag) {
                    Ok(()) => Ok(()),
                    Err(Unsent { buf: (own, region), error }) => {
                        permit.mock = Some(own);
                        Err(Unsent { buf: (permit, self.wrap(region)), error })
                    }
                };
            }
            return Ok(());
        }
        permit.mock = Some(mock);
        Err(Unsent { buf: (permit, self.wrap(region)), error })
    }

    fn write_buf(&mut self, buf: MockSendBuf, to: RemoteSlice) -> Result<(), Unsent<MockSendBuf, MockError>> {
        self.below().write_buf(buf, to)?;
        if self.is(Fault::WrittenBuffersComplete) {
            self.early.push_back(Completed::Word { tag: 0, result: Ok(0) });
        }
        Ok(())
    }

    fn compare_swap(
        &mut self,
        mut permit: Self::FetchPermit,
        word: RemoteWord,
        expected: u64,
        new: u64,
        tag: u64,
    ) -> Result<(), Unsent<Self::FetchPermit, MockError>> {
        self.before();
        let mock = match self.redeem(&mut permit) {
            Ok(mock) => mock,
            Err(error) => return Err(Unsent { buf: permit, error }),
        };
        self.below().compare_swap(mock, word, expected, new, tag).map_err(|Unsent { buf, error }| {
            permit.mock = Some(buf);
            Unsent { buf: permit, error }
        })
    }

    fn fetch_add(
        &mut self,
        mut permit: Self::FetchPermit,
        word: RemoteWord,
        add: u64,
        tag: u64,
    ) -> Result<(), Unsent<Self::FetchPermit, MockError>> {
        self.before();
        let mock = match self.redeem(&mut permit) {
            Ok(mock) => mock,
            Err(error) => return Err(Unsent { buf: permit, error }),
        };
        let add = match self.fault() {
            Fault::AddsOneMore => add.wrapping_add(1),
            Fault::LosesAdditions if self.operations % 100 == 0 => 0,
            _ => add,
        };
        self.below().fetch_add(mock, word, add, tag).map_err(|Unsent { buf, error }| {
            permit.mock = Some(buf);
            Unsent { buf: permit, error }
        })
    }

    fn send_gathered(
        &mut self,
        head: MockSendBuf,
        body: BrokenRegion,
        range: Range<usize>,
        tag: u64,
    ) -> Result<(), Unsent<(MockSendBuf, BrokenRegion), MockError>> {
        self.before();
        if self.is(Fault::GathersInTwo) && range.len() > 4 {
            if let Some(second) = self.below().try_reserve(0).ok().filter(|_| body.get(range.clone()).is_some()) {
                // A track that has ended says so again below.
                let _ = self.below().send(head);
                let queued = self.below().send_gathered(second, body.mock, range, tag);
                return queued
                    .map_err(|Unsent { buf: (head, region), error }| Unsent { buf: (head, self.wrap(region)), error });
            }
        }
        let queued = self.below().send_gathered(head, body.mock, range, tag);
        self.after();
        queued.map_err(|Unsent { buf: (head, region), error }| Unsent { buf: (head, self.wrap(region)), error })
    }

    fn try_complete(&mut self) -> Result<Completed<BrokenRegion, MockError>, TryError<MockError>> {
        if self.is(Fault::ArmsInTry) {
            let _ = self.below().poll_complete_ready(&mut Context::from_waker(Waker::noop()));
        }
        if let Some(early) = self.early.pop_front() {
            return Ok(early);
        }
        let first = self.next();
        self.looked = matches!(first, Err(TryError::WouldBlock));
        let first = first?;
        if self.is(Fault::SwapsCompletions) {
            if let Ok(second) = self.next() {
                self.early.push_back(first);
                return Ok(second);
            }
        }
        Ok(first)
    }

    fn poll_write_permit_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.flush_for_wait();
        let waker = if self.is(Fault::RoomWakesNobody) { Waker::noop() } else { cx.waker() };
        self.below().poll_write_permit_ready(&mut Context::from_waker(waker))
    }

    fn poll_fetch_permit_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.flush_for_wait();
        self.below().poll_fetch_permit_ready(cx)
    }

    fn poll_complete_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.flush_for_wait();
        let looked = std::mem::take(&mut self.looked);
        let waker = if self.is(Fault::CompletionWakesNobody) { Waker::noop() } else { cx.waker() };
        let polled = self.below().poll_complete_ready(&mut Context::from_waker(waker));
        match self.fault() {
            _ if !self.early.is_empty() => Poll::Ready(()),
            Fault::ForgetsTheRecheck if looked => Poll::Pending,
            _ => polled,
        }
    }
}

impl RemoteMemory for BrokenTrack {
    type Region = BrokenRegion;
    type WritePermit = Permit<MockWritePermit>;
    type FetchPermit = Permit<MockFetchPermit>;

    fn fetch_slots(&self) -> usize {
        self.sender.fetch_slots()
    }

    fn try_write_permit(&mut self) -> Result<Self::WritePermit, TryError<MockError>> {
        self.sender.try_write_permit()
    }

    fn try_fetch_permit(&mut self) -> Result<Self::FetchPermit, TryError<MockError>> {
        self.sender.try_fetch_permit()
    }

    fn read(
        &mut self,
        permit: Self::FetchPermit,
        into: BrokenRegion,
        at: usize,
        from: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(Self::FetchPermit, BrokenRegion), MockError>> {
        self.sender.read(permit, into, at, from, tag)
    }

    fn write(
        &mut self,
        permit: Self::WritePermit,
        from: BrokenRegion,
        at: usize,
        to: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(Self::WritePermit, BrokenRegion), MockError>> {
        self.sender.write(permit, from, at, to, tag)
    }

    fn write_buf(&mut self, buf: MockSendBuf, to: RemoteSlice) -> Result<(), Unsent<MockSendBuf, MockError>> {
        self.sender.write_buf(buf, to)
    }

    fn compare_swap(
        &mut self,
        permit: Self::FetchPermit,
        word: RemoteWord,
        expected: u64,
        new: u64,
        tag: u64,
    ) -> Result<(), Unsent<Self::FetchPermit, MockError>> {
        self.sender.compare_swap(permit, word, expected, new, tag)
    }

    fn fetch_add(
        &mut self,
        permit: Self::FetchPermit,
        word: RemoteWord,
        add: u64,
        tag: u64,
    ) -> Result<(), Unsent<Self::FetchPermit, MockError>> {
        self.sender.fetch_add(permit, word, add, tag)
    }

    fn send_gathered(
        &mut self,
        head: MockSendBuf,
        body: BrokenRegion,
        range: Range<usize>,
        tag: u64,
    ) -> Result<(), Unsent<(MockSendBuf, BrokenRegion), MockError>> {
        self.sender.send_gathered(head, body, range, tag)
    }

    fn try_complete(&mut self) -> Result<Completed<BrokenRegion, MockError>, TryError<MockError>> {
        self.sender.try_complete()
    }

    fn poll_write_permit_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_write_permit_ready(cx)
    }

    fn poll_fetch_permit_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_fetch_permit_ready(cx)
    }

    fn poll_complete_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_complete_ready(cx)
    }
}
