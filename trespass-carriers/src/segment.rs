//! Messages in pieces, without IO: how they are cut, in what order frames of data may come, and how they are put together.

use std::sync::Arc;

use crate::error::Violation;
use crate::pool::{Pool, Pooled};
use crate::wire::{FIRST_HEADER, Frame, HEADER, Kind};

/// A message on its way out, segment by segment. A segment fills its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    total: usize,
    done: usize,
    frame: usize,
}

/// The next segment: `data[start..end]`, behind a header of `header` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) kind: Kind,
    pub(crate) header: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Cut {
    /// A message of `total` bytes in frames of up to `frame` bytes.
    pub(crate) fn new(total: usize, frame: usize) -> Self {
        Self { total, done: 0, frame }
    }

    /// The next segment; `None` when all are done.
    pub(crate) fn next(&self) -> Option<Segment> {
        let (kind, header) = match self.done {
            0 => (Kind::First, FIRST_HEADER),
            _ => (Kind::More, HEADER),
        };
        let left = self.total - self.done;
        let len = left.min(self.frame.saturating_sub(header));
        (len > 0).then_some(Segment { kind, header, start: self.done, end: self.done + len })
    }

    /// Notes that `segment` is on its way.
    pub(crate) fn sent(&mut self, segment: Segment) {
        self.done = segment.end;
    }

    /// Whether the message was begun.
    pub(crate) fn begun(&self) -> bool {
        self.done > 0
    }
}

/// Which frames of data may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sequence {
    /// Anything that begins.
    Between,
    /// More of the message: this many bytes of it are missing.
    Within(u64),
    /// Nothing: the peer said Fin or Bye.
    Finished,
}

impl Sequence {
    /// Checks that `frame` may come now, and moves on. Frames that are no data may always come.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn admit(&mut self, frame: &Frame, max_message: usize) -> Result<(), Violation> {
        let max = max_message as u64;
        *self = match (*self, *frame) {
            (same, Frame::Credit | Frame::Fetched | Frame::Refuse(_)) => same,
            (Self::Finished, Frame::Bye) => Self::Finished,
            (Self::Finished, _) => return Err(Violation::AfterFin(frame.kind().code())),
            (Self::Between, Frame::Message { len }) if len as u64 > max => return Err(oversize(len as u64, max)),
            (Self::Between, Frame::Message { .. }) => Self::Between,
            (Self::Between, Frame::Lend(window)) if window.len() > max => return Err(oversize(window.len(), max)),
            (Self::Between, Frame::Lend(window)) if window.is_empty() => return Err(Violation::EmptySegment),
            (Self::Between, Frame::Lend(_)) => Self::Between,
            (Self::Between, Frame::First { total, len }) => Self::begin(total, len as u64, max)?,
            (Self::Between, Frame::More { .. } | Frame::Abort) => return Err(Violation::NoMessage),
            (Self::Within(left), Frame::More { len }) => Self::advance(left, len as u64)?,
            (Self::Within(_), Frame::Abort) => Self::Between,
            // A peer that leaves need not say that it withdraws what it had begun.
            (Self::Between | Self::Within(_), Frame::Bye) | (Self::Between, Frame::Fin) => Self::Finished,
            (Self::Within(_), Frame::Message { .. } | Frame::First { .. } | Frame::Lend(_) | Frame::Fin) => {
                return Err(Violation::Interleaved(frame.kind().code()));
            }
        };
        Ok(())
    }

    fn begin(total: u64, len: u64, max: u64) -> Result<Self, Violation> {
        match total > max {
            true => Err(oversize(total, max)),
            false => Self::advance(total, len),
        }
    }

    fn advance(left: u64, len: u64) -> Result<Self, Violation> {
        match len {
            0 => Err(Violation::EmptySegment),
            _ if len > left => Err(Violation::Overrun { len, left }),
            _ if len == left => Ok(Self::Between),
            _ => Ok(Self::Within(left - len)),
        }
    }
}

fn oversize(len: u64, max: u64) -> Violation {
    Violation::Oversize { len, max }
}

/// A message that is being put together. What it is given has passed [`Sequence`].
#[derive(Debug)]
pub(crate) struct Assembly {
    bytes: Pooled,
    total: usize,
}

impl Assembly {
    /// Room for a message of `total` bytes; `None` where there is no more memory. The memory is the system's to give
    /// when it is written to: a peer that announces much and sends little costs little.
    pub(crate) fn begin(pool: &Arc<Pool>, total: usize) -> Option<Self> {
        Some(Self { bytes: pool.take(total)?, total })
    }

    /// Appends a segment.
    pub(crate) fn append(&mut self, segment: &[u8]) {
        self.bytes.append(segment);
    }

    /// The message, if this was the last of it.
    pub(crate) fn finish(self) -> Result<Pooled, Self> {
        match self.bytes.bytes().len() >= self.total {
            true => Ok(self.bytes),
            false => Err(self),
        }
    }
}

#[cfg(test)]
mod tests;
