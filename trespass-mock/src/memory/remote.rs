//! A peer's memory, through a track.

use std::ops::Range;
use std::task::{Context, Poll};

use trespass_core::{Access, Completed, MemoryFabric, RemoteMemory, RemoteSlice, RemoteWord, TryError, Unsent};

use crate::buffer::MockSendBuf;
use crate::error::MockError;
use crate::fabric::MockFabric;
use crate::lane::TakenDone;
use crate::memory::block::Block;
use crate::memory::{Action, Failure, MockFetchPermit, MockRegion, MockWritePermit, Operation, Payload};
use crate::track::{MockSender, MockTrack};

impl MemoryFabric for MockFabric {
    type Region = MockRegion;

    /// Fails with kind `ResourceLimit` past [`memory_limit`](crate::MockConfig::memory_limit).
    fn alloc(&self, len: usize) -> Result<MockRegion, MockError> {
        self.shared.alive()?;
        Block::zeroed(self.shared.domain(), len).map(MockRegion::new)
    }

    fn adopt(&self, memory: Box<[u8]>) -> Result<MockRegion, Unsent<Box<[u8]>, MockError>> {
        match self.shared.alive() {
            Ok(()) => Block::adopted(self.shared.domain(), memory).map(MockRegion::new),
            Err(error) => Err(Unsent { buf: memory, error }),
        }
    }
}

impl MockSender {
    fn open(&self) -> Result<(), MockError> {
        if self.is_open() { Ok(()) } else { Err(self.why_not()) }
    }

    /// Whether `slot` and `region`, where there are any, are of this track and its fabric.
    fn owns(&self, slot: Option<&MockSendBuf>, region: Option<&MockRegion>) -> Result<(), MockError> {
        let foreign_slot = slot.is_none_or(|slot| !slot.is_of(&self.lane));
        let foreign_region = region.is_some_and(|region| !region.is_of(self.end.fabric().domain()));
        if foreign_slot || foreign_region { Err(MockError::ForeignBuffer) } else { Ok(()) }
    }

    fn may_read(&self, permit: &MockFetchPermit, into: &MockRegion, at: usize, len: usize) -> Result<(), MockError> {
        self.open()?;
        self.owns(permit.slot(), Some(into))?;
        fits(into, at, len)
    }

    fn may_write(
        &self,
        permit: &MockWritePermit,
        from: &MockRegion,
        at: usize,
        to: RemoteSlice,
    ) -> Result<(), MockError> {
        self.open()?;
        self.owns(Some(permit.slot()), Some(from))?;
        writable(to.access())?;
        fits(from, at, to.len())
    }

    fn may_write_buf(&self, buf: &MockSendBuf, to: RemoteSlice) -> Result<(), MockError> {
        self.open()?;
        self.owns(Some(buf), None)?;
        writable(to.access())?;
        match buf.len() == to.len() {
            true => Ok(()),
            false => Err(MockError::LengthsDiffer { len: buf.len(), window: to.len() }),
        }
    }

    fn may_gather(&self, head: &MockSendBuf, body: &MockRegion, range: &Range<usize>) -> Result<(), MockError> {
        self.open()?;
        self.owns(Some(head), Some(body))?;
        let len = range.end.checked_sub(range.start);
        let part = len.ok_or(MockError::RegionTooShort { len: 0, at: range.start, size: body.len() })?;
        fits(body, range.start, part)?;
        // Both lie in memory: no overflow.
        let (len, max) = (head.len() + part, self.max_message);
        if len > max { Err(MockError::Oversize { len, max }) } else { Ok(()) }
    }

    /// Queues an atomic operation.
    fn queue_atomic(
        &mut self,
        permit: MockFetchPermit,
        word: RemoteWord,
        operation: Operation,
    ) -> Result<(), Unsent<MockFetchPermit, MockError>> {
        let may = self.open().and_then(|()| self.owns(permit.slot(), None)).and_then(|()| writable(word.access()));
        match may {
            Ok(()) => self.queue_fetch(permit, operation),
            Err(error) => return Err(Unsent { buf: permit, error }),
        }
        Ok(())
    }

    fn queue_fetch(&mut self, permit: MockFetchPermit, operation: Operation) {
        // A permit has its slot until here.
        if let Some(slot) = permit.into_slot() {
            self.queue_operation(slot, operation);
        }
    }

    /// What is told of an operation that is over.
    fn completed(&self, tag: u64, payload: Payload) -> Option<Completed<MockRegion, MockError>> {
        let error = |failure| match failure {
            Failure::Refused(why) => why.into(),
            Failure::Ended => self.end.cause(),
        };
        match payload {
            Payload::Memory(region, result) => Some(Completed::Memory { tag, region, result: result.map_err(error) }),
            Payload::Word(result) => Some(Completed::Word { tag, result: result.map_err(error) }),
            Payload::Nothing(_) => None,
        }
    }

    /// The next operation that was queued and never flushed, of a track that has ended.
    fn take_unflushed(&mut self) -> Option<Completed<MockRegion, MockError>> {
        while let Some(Operation { tag, action }) = self.operations.pop_front() {
            if let Some(completed) = self.completed(tag, action.ended()) {
                return Some(completed);
            }
        }
        None
    }
}

fn writable(access: Access) -> Result<(), MockError> {
    if access == Access::ReadWrite { Ok(()) } else { Err(MockError::ReadOnlyWindow) }
}

fn fits(region: &MockRegion, at: usize, len: usize) -> Result<(), MockError> {
    match region.len().checked_sub(at) {
        Some(rest) if len <= rest => Ok(()),
        _ => Err(MockError::RegionTooShort { len, at, size: region.len() }),
    }
}

impl RemoteMemory for MockSender {
    type Region = MockRegion;
    type WritePermit = MockWritePermit;
    type FetchPermit = MockFetchPermit;

    fn fetch_slots(&self) -> usize {
        let config = self.end.fabric().config();
        config.fetch_slots.min(config.send_slots)
    }

    fn try_write_permit(&mut self) -> Result<MockWritePermit, TryError<MockError>> {
        self.open().map_err(TryError::Failed)?;
        let mut slot = self.slot().ok_or(TryError::WouldBlock)?;
        slot.set_len(0);
        Ok(MockWritePermit::new(slot))
    }

    fn try_fetch_permit(&mut self) -> Result<MockFetchPermit, TryError<MockError>> {
        self.open().map_err(TryError::Failed)?;
        let mut slot = self.slot().ok_or(TryError::WouldBlock)?;
        if !self.lane.claim_fetch() {
            self.unslot(slot);
            return Err(TryError::WouldBlock);
        }
        slot.set_len(0);
        Ok(MockFetchPermit::new(slot))
    }

    fn read(
        &mut self,
        permit: MockFetchPermit,
        into: MockRegion,
        at: usize,
        from: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(MockFetchPermit, MockRegion), MockError>> {
        if let Err(error) = self.may_read(&permit, &into, at, from.len()) {
            return Err(Unsent { buf: (permit, into), error });
        }
        self.queue_fetch(permit, Operation { tag, action: Action::Read { into, at, from } });
        Ok(())
    }

    fn write(
        &mut self,
        permit: MockWritePermit,
        from: MockRegion,
        at: usize,
        to: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(MockWritePermit, MockRegion), MockError>> {
        if let Err(error) = self.may_write(&permit, &from, at, to) {
            return Err(Unsent { buf: (permit, from), error });
        }
        self.queue_operation(permit.into_slot(), Operation { tag, action: Action::Write { from, at, to } });
        Ok(())
    }

    fn write_buf(&mut self, buf: MockSendBuf, to: RemoteSlice) -> Result<(), Unsent<MockSendBuf, MockError>> {
        if let Err(error) = self.may_write_buf(&buf, to) {
            return Err(Unsent { buf, error });
        }
        self.queue_operation(buf, Operation { tag: 0, action: Action::WriteSlot { to } });
        Ok(())
    }

    fn compare_swap(
        &mut self,
        permit: MockFetchPermit,
        word: RemoteWord,
        expected: u64,
        new: u64,
        tag: u64,
    ) -> Result<(), Unsent<MockFetchPermit, MockError>> {
        self.queue_atomic(permit, word, Operation { tag, action: Action::CompareSwap { word, expected, new } })
    }

    fn fetch_add(
        &mut self,
        permit: MockFetchPermit,
        word: RemoteWord,
        add: u64,
        tag: u64,
    ) -> Result<(), Unsent<MockFetchPermit, MockError>> {
        self.queue_atomic(permit, word, Operation { tag, action: Action::FetchAdd { word, add } })
    }

    fn send_gathered(
        &mut self,
        head: MockSendBuf,
        body: MockRegion,
        range: Range<usize>,
        tag: u64,
    ) -> Result<(), Unsent<(MockSendBuf, MockRegion), MockError>> {
        if let Err(error) = self.may_gather(&head, &body, &range) {
            return Err(Unsent { buf: (head, body), error });
        }
        self.queue_operation(head, Operation { tag, action: Action::Gather { body, range } });
        Ok(())
    }

    fn try_complete(&mut self) -> Result<Completed<MockRegion, MockError>, TryError<MockError>> {
        loop {
            match self.lane.take_done() {
                TakenDone::Done(tag, payload) => {
                    if let Some(completed) = self.completed(tag, payload) {
                        return Ok(completed);
                    }
                }
                TakenDone::None => return Err(TryError::WouldBlock),
                TakenDone::Dead => {
                    return self.take_unflushed().ok_or_else(|| TryError::Failed(self.end.cause()));
                }
            }
        }
    }

    fn poll_write_permit_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_slot(cx, false)
    }

    fn poll_fetch_permit_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_slot(cx, true)
    }

    fn poll_complete_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A failure ends the track, which makes this ready.
        let failed = self.post(true).is_err();
        if failed || self.lane.poll_done(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl RemoteMemory for MockTrack {
    type Region = MockRegion;
    type WritePermit = MockWritePermit;
    type FetchPermit = MockFetchPermit;

    fn fetch_slots(&self) -> usize {
        self.sender.fetch_slots()
    }

    fn try_write_permit(&mut self) -> Result<MockWritePermit, TryError<MockError>> {
        self.sender.try_write_permit()
    }

    fn try_fetch_permit(&mut self) -> Result<MockFetchPermit, TryError<MockError>> {
        self.sender.try_fetch_permit()
    }

    fn read(
        &mut self,
        permit: MockFetchPermit,
        into: MockRegion,
        at: usize,
        from: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(MockFetchPermit, MockRegion), MockError>> {
        self.sender.read(permit, into, at, from, tag)
    }

    fn write(
        &mut self,
        permit: MockWritePermit,
        from: MockRegion,
        at: usize,
        to: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(MockWritePermit, MockRegion), MockError>> {
        self.sender.write(permit, from, at, to, tag)
    }

    fn write_buf(&mut self, buf: MockSendBuf, to: RemoteSlice) -> Result<(), Unsent<MockSendBuf, MockError>> {
        self.sender.write_buf(buf, to)
    }

    fn compare_swap(
        &mut self,
        permit: MockFetchPermit,
        word: RemoteWord,
        expected: u64,
        new: u64,
        tag: u64,
    ) -> Result<(), Unsent<MockFetchPermit, MockError>> {
        self.sender.compare_swap(permit, word, expected, new, tag)
    }

    fn fetch_add(
        &mut self,
        permit: MockFetchPermit,
        word: RemoteWord,
        add: u64,
        tag: u64,
    ) -> Result<(), Unsent<MockFetchPermit, MockError>> {
        self.sender.fetch_add(permit, word, add, tag)
    }

    fn send_gathered(
        &mut self,
        head: MockSendBuf,
        body: MockRegion,
        range: Range<usize>,
        tag: u64,
    ) -> Result<(), Unsent<(MockSendBuf, MockRegion), MockError>> {
        self.sender.send_gathered(head, body, range, tag)
    }

    fn try_complete(&mut self) -> Result<Completed<MockRegion, MockError>, TryError<MockError>> {
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
