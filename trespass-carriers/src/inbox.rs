//! What has arrived and waits for the application, without IO.
//!
//! Data is taken in two ways. A receiver takes a frame and has its message at once: nothing is stored. A sender that waits
//! for credits takes in whatever comes, because the credits come with it; its frames of data are stored here, in the order
//! in which they arrived:
//!
//! 1. `ready`: messages that were copied out, or put together, to make room;
//! 2. the message in assembly;
//! 3. `backlog`: frames in the track's own buffers, each keeping a receive slot.
//!
//! Making room ([`Inbox::spill`]) takes from the front of 3, through 2, to the back of 1, as far as the limit allows. Beyond
//! it frames stay where they are, and the peer runs out of credits for data, not for control.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;

use crate::error::Violation;
use crate::message::Payload;
use crate::planted::{self, Bug};
use crate::pool::{Pool, Pooled};
use crate::segment::{Assembly, Sequence};
use crate::wire::{FIRST_HEADER, Frame, HEADER};

/// There is no memory for a message of so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfMemory(pub(crate) usize);

#[derive(Debug)]
pub(crate) struct Inbox<B> {
    sequence: Sequence,
    ready: VecDeque<Payload<B>>,
    /// What `ready` takes up, in bytes.
    held: usize,
    assembly: Option<Assembly>,
    backlog: VecDeque<(Frame, B)>,
    pool: Arc<Pool>,
    max_message: usize,
    spill_limit: usize,
    /// Nobody will read any more.
    discarding: bool,
}

/// What a stored message takes up besides its bytes, in bytes: so that many short ones count too.
const OVERHEAD: usize = 64;

impl<B: Deref<Target = [u8]>> Inbox<B> {
    pub(crate) fn new(max_message: usize, spill_limit: usize, pool_limit: usize) -> Self {
        Self {
            sequence: Sequence::Between,
            ready: VecDeque::new(),
            held: 0,
            assembly: None,
            backlog: VecDeque::new(),
            pool: Pool::new(pool_limit),
            max_message,
            spill_limit,
            discarding: false,
        }
    }

    /// Whether frame `frame` may come now. Must be asked of every frame, in order, before anything else is done with it.
    pub(crate) fn admit(&mut self, frame: &Frame) -> Result<(), Violation> {
        let before = self.sequence;
        self.sequence.admit(frame, self.max_message)?;
        if let (Sequence::Within(_), Frame::Abort | Frame::Bye) = (before, frame) {
            self.forget_begun();
        }
        Ok(())
    }

    /// Whether a whole message of `len` bytes may come now, and is wanted. Only where nothing waits.
    #[inline]
    pub(crate) fn takes(&self, len: usize) -> bool {
        self.sequence == Sequence::Between && len <= self.max_message && !self.discarding
    }

    /// Whether the peer has sent its last message.
    #[inline]
    pub(crate) fn finished(&self) -> bool {
        self.sequence == Sequence::Finished
    }

    /// Whether nothing waits here: the next message is the track's to give.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.backlog.is_empty()
    }

    /// What an admitted frame of data comes to: a message, or nothing yet. Only where nothing waits.
    pub(crate) fn open(&mut self, frame: Frame, buf: B) -> Result<Option<Payload<B>>, OutOfMemory> {
        match frame {
            _ if self.discarding => Ok(None),
            Frame::Message { len } => {
                let head = head_of(&buf, len);
                Ok(Some(Payload::Direct(buf, head)))
            }
            Frame::Lend(window) => Ok(Some(Payload::Lent(window))),
            _ => Ok(self.assemble(frame, &buf)?.map(Payload::Pooled)),
        }
    }

    /// Stores an admitted frame of data behind what waits already.
    pub(crate) fn store(&mut self, frame: Frame, buf: B) {
        if !self.discarding {
            self.backlog.push_back((frame, buf));
        }
    }

    /// The next message of those that wait.
    pub(crate) fn next(&mut self) -> Result<Option<Payload<B>>, OutOfMemory> {
        if let Some(payload) = self.ready.pop_front() {
            self.held -= footprint(&payload);
            return Ok(Some(payload));
        }
        while let Some((frame, buf)) = self.backlog.pop_front() {
            if let Some(payload) = self.open(frame, buf)? {
                return Ok(Some(payload));
            }
        }
        Ok(None)
    }

    /// Puts the message that was next back in its place.
    pub(crate) fn put_back(&mut self, payload: Payload<B>) {
        self.held += footprint(&payload);
        self.ready.push_front(payload);
    }

    /// Forgets the message that was begun: its sender withdrew it.
    fn forget_begun(&mut self) {
        if planted::is(Bug::Reassembly) {
            self.backlog.clear();
        }
        // Its frames are the last that came: all those since its First, or, where that is in assembly, all there are.
        while let Some((Frame::First { .. } | Frame::More { .. }, _)) = self.backlog.back() {
            if let Some((Frame::First { .. }, _)) = self.backlog.pop_back() {
                return;
            }
        }
        self.assembly = None;
    }

    /// Copies what waits out of the track's buffers, as far as the limit allows. Returns how many messages that made, and
    /// of how many bytes.
    pub(crate) fn spill(&mut self) -> Result<(u64, u64), OutOfMemory> {
        let (mut messages, mut bytes) = (0, 0);
        while self.may_spill() {
            let Some((frame, buf)) = self.backlog.pop_front() else { break };
            if let Frame::Lend(window) = frame {
                self.ready.push_back(Payload::Lent(window));
                continue;
            }
            let whole = match frame {
                Frame::Message { len } => {
                    let mut copy = self.pool.take(len).ok_or(OutOfMemory(len))?;
                    copy.append(buf.get(head_of(&buf, len)..).unwrap_or_default());
                    Some(copy)
                }
                _ => self.assemble(frame, &buf)?,
            };
            let Some(whole) = whole else { continue };
            messages += 1;
            bytes += whole.bytes().len() as u64;
            let payload = Payload::Pooled(whole);
            self.held += footprint(&payload);
            self.ready.push_back(payload);
        }
        Ok((messages, bytes))
    }

    /// A message in assembly may always go on, and where nothing is held one may always begin: what is agreed to be a
    /// message gets through, whatever the limit.
    fn may_spill(&self) -> bool {
        let len = match self.backlog.front() {
            None => return false,
            Some((Frame::First { total, .. }, _)) => usize::try_from(*total).unwrap_or(usize::MAX),
            Some((Frame::Message { len }, _)) => *len,
            Some(_) => return true,
        };
        let fits = self.held.saturating_add(cost(len)) <= self.spill_limit;
        fits || (self.spill_limit > 0 && self.held == 0)
    }

    fn assemble(&mut self, frame: Frame, buf: &B) -> Result<Option<Pooled>, OutOfMemory> {
        let (mut assembly, segment) = match (frame, self.assembly.take()) {
            (Frame::First { total, .. }, _) => {
                let total = usize::try_from(total).unwrap_or(usize::MAX);
                let assembly = Assembly::begin(&self.pool, total).ok_or(OutOfMemory(total))?;
                (assembly, buf.get(FIRST_HEADER..))
            }
            (Frame::More { .. }, Some(assembly)) => (assembly, buf.get(HEADER..)),
            // Nothing else is stored, and no More is admitted without its First.
            (_, assembly) => {
                self.assembly = assembly;
                return Ok(None);
            }
        };
        assembly.append(segment.unwrap_or_default());
        match assembly.finish() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(unfinished) => {
                self.assembly = Some(unfinished);
                Ok(None)
            }
        }
    }

    /// How many bytes of messages it holds, and how many frames in the track's own buffers.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn holds(&self) -> (usize, usize) {
        (self.held, self.backlog.len())
    }

    /// Drops all that waits, and all that will come.
    pub(crate) fn discard(&mut self) {
        self.discarding = true;
        self.ready.clear();
        self.backlog.clear();
        self.assembly = None;
        self.held = 0;
    }
}

/// Where a message of `len` bytes begins in its frame, which it fills to the end.
pub(crate) fn head_of(frame: &[u8], len: usize) -> usize {
    frame.len().saturating_sub(len)
}

/// What a stored message takes up, in bytes, beyond the track's own buffers.
fn footprint<B>(payload: &Payload<B>) -> usize {
    match payload {
        Payload::Direct(..) | Payload::Lent(_) => 0,
        Payload::Pooled(bytes) => cost(bytes.bytes().len()),
    }
}

/// What storing a message of `len` bytes takes up. Memory from the pool may be larger, but is then no new memory.
fn cost(len: usize) -> usize {
    Pool::room_for(len).saturating_add(OVERHEAD)
}

#[cfg(test)]
mod tests;
