//! One-sided access, for whole tracks and sending halves.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use trespass_core::{Completed, RemoteMemory, RemoteSlice, RemoteWord, Timer, TryError, Unsent};

use crate::error::VerbsError;
use crate::memory::VerbsRegion;
use crate::track::permit::{VerbsFetchPermit, VerbsWritePermit};
use crate::track::send::VerbsSendBuf;
use crate::track::{ReliableTrack, VerbsSender};

impl VerbsSender {
    /// After the end the device lets go of what it has within the close deadline. If it does not, its memory is kept with the
    /// queue pair, and is not waited for any longer.
    fn bound_lingering(&mut self, cx: &mut Context<'_>) {
        if !self.queue.is_lingering() {
            return;
        }
        let timeout = self.about.close_timeout;
        let timer = &self.about.timer;
        let alarm = self.lingering.get_or_insert_with(|| timer.sleep(timeout));
        if Pin::new(alarm).poll(cx).is_ready() {
            self.queue.give_up_operations();
        }
    }
}

/// Operations are work requests on the queue pair of the track, behind its sends. Each costs an entry in the table of what is
/// in flight; none allocates.
impl RemoteMemory for VerbsSender {
    type Region = VerbsRegion;
    type WritePermit = VerbsWritePermit;
    type FetchPermit = VerbsFetchPermit;

    fn fetch_slots(&self) -> usize {
        self.queue.conn().shared.fetch_slots() as usize
    }

    fn try_write_permit(&mut self) -> Result<VerbsWritePermit, TryError<VerbsError>> {
        self.still_open().map_err(TryError::Failed)?;
        self.queue.try_write_permit()
    }

    fn try_fetch_permit(&mut self) -> Result<VerbsFetchPermit, TryError<VerbsError>> {
        self.still_open().map_err(TryError::Failed)?;
        self.queue.try_fetch_permit()
    }

    fn read(
        &mut self,
        permit: VerbsFetchPermit,
        into: VerbsRegion,
        at: usize,
        from: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(VerbsFetchPermit, VerbsRegion), VerbsError>> {
        match self.still_open() {
            Ok(()) => self.queue.read(permit, into, at, from, tag),
            Err(error) => Err(Unsent { buf: (permit, into), error }),
        }
    }

    fn write(
        &mut self,
        permit: VerbsWritePermit,
        from: VerbsRegion,
        at: usize,
        to: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(VerbsWritePermit, VerbsRegion), VerbsError>> {
        match self.still_open() {
            Ok(()) => self.queue.write(permit, from, at, to, tag),
            Err(error) => Err(Unsent { buf: (permit, from), error }),
        }
    }

    fn write_buf(&mut self, buf: VerbsSendBuf, to: RemoteSlice) -> Result<(), Unsent<VerbsSendBuf, VerbsError>> {
        match self.still_open() {
            Ok(()) => self.queue.write_buf(buf, to),
            Err(error) => Err(Unsent { buf, error }),
        }
    }

    fn compare_swap(
        &mut self,
        permit: VerbsFetchPermit,
        word: RemoteWord,
        expected: u64,
        new: u64,
        tag: u64,
    ) -> Result<(), Unsent<VerbsFetchPermit, VerbsError>> {
        match self.still_open() {
            Ok(()) => self.queue.compare_swap(permit, word, expected, new, tag),
            Err(error) => Err(Unsent { buf: permit, error }),
        }
    }

    fn fetch_add(
        &mut self,
        permit: VerbsFetchPermit,
        word: RemoteWord,
        add: u64,
        tag: u64,
    ) -> Result<(), Unsent<VerbsFetchPermit, VerbsError>> {
        match self.still_open() {
            Ok(()) => self.queue.fetch_add(permit, word, add, tag),
            Err(error) => Err(Unsent { buf: permit, error }),
        }
    }

    fn send_gathered(
        &mut self,
        head: VerbsSendBuf,
        body: VerbsRegion,
        range: Range<usize>,
        tag: u64,
    ) -> Result<(), Unsent<(VerbsSendBuf, VerbsRegion), VerbsError>> {
        match self.still_open() {
            Ok(()) => self.queue.send_gathered(head, body, range, tag),
            Err(error) => Err(Unsent { buf: (head, body), error }),
        }
    }

    fn try_complete(&mut self) -> Result<Completed<VerbsRegion, VerbsError>, TryError<VerbsError>> {
        let completed = self.queue.try_complete();
        if matches!(completed, Err(TryError::WouldBlock)) && self.queue.is_lingering() {
            // Whoever polls without ever waiting is not kept for ever either.
            self.bound_lingering(&mut Context::from_waker(std::task::Waker::noop()));
            return self.queue.try_complete();
        }
        completed
    }

    fn poll_write_permit_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.still_open() {
            Ok(()) => self.queue.poll_ready(cx),
            Err(_) => Poll::Ready(()),
        }
    }

    fn poll_fetch_permit_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.still_open() {
            Ok(()) => self.queue.poll_fetch_ready(cx),
            Err(_) => Poll::Ready(()),
        }
    }

    fn poll_complete_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.queue.poll_complete_ready(cx).is_ready() {
            return Poll::Ready(());
        }
        self.bound_lingering(cx);
        self.queue.poll_complete_ready(cx)
    }
}

impl RemoteMemory for ReliableTrack {
    type Region = VerbsRegion;
    type WritePermit = VerbsWritePermit;
    type FetchPermit = VerbsFetchPermit;

    fn fetch_slots(&self) -> usize {
        self.sender.fetch_slots()
    }

    fn try_write_permit(&mut self) -> Result<VerbsWritePermit, TryError<VerbsError>> {
        self.sender.try_write_permit()
    }

    fn try_fetch_permit(&mut self) -> Result<VerbsFetchPermit, TryError<VerbsError>> {
        self.sender.try_fetch_permit()
    }

    fn read(
        &mut self,
        permit: VerbsFetchPermit,
        into: VerbsRegion,
        at: usize,
        from: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(VerbsFetchPermit, VerbsRegion), VerbsError>> {
        self.sender.read(permit, into, at, from, tag)
    }

    fn write(
        &mut self,
        permit: VerbsWritePermit,
        from: VerbsRegion,
        at: usize,
        to: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(VerbsWritePermit, VerbsRegion), VerbsError>> {
        self.sender.write(permit, from, at, to, tag)
    }

    fn write_buf(&mut self, buf: VerbsSendBuf, to: RemoteSlice) -> Result<(), Unsent<VerbsSendBuf, VerbsError>> {
        self.sender.write_buf(buf, to)
    }

    fn compare_swap(
        &mut self,
        permit: VerbsFetchPermit,
        word: RemoteWord,
        expected: u64,
        new: u64,
        tag: u64,
    ) -> Result<(), Unsent<VerbsFetchPermit, VerbsError>> {
        self.sender.compare_swap(permit, word, expected, new, tag)
    }

    fn fetch_add(
        &mut self,
        permit: VerbsFetchPermit,
        word: RemoteWord,
        add: u64,
        tag: u64,
    ) -> Result<(), Unsent<VerbsFetchPermit, VerbsError>> {
        self.sender.fetch_add(permit, word, add, tag)
    }

    fn send_gathered(
        &mut self,
        head: VerbsSendBuf,
        body: VerbsRegion,
        range: Range<usize>,
        tag: u64,
    ) -> Result<(), Unsent<(VerbsSendBuf, VerbsRegion), VerbsError>> {
        self.sender.send_gathered(head, body, range, tag)
    }

    fn try_complete(&mut self) -> Result<Completed<VerbsRegion, VerbsError>, TryError<VerbsError>> {
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
