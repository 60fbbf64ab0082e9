//! What comes in, without IO: which frames may come, and what waits to be read.

use std::collections::VecDeque;

use crate::error::Violation;
use crate::wire::StreamFrame;

/// What the peer may still say, and the frames of bytes that nobody has read yet: never more than it was given credits for.
#[derive(Debug)]
pub(super) struct Inbound<B> {
    frames: VecDeque<B>,
    state: State,
    /// Nobody will read any more.
    discarding: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// No more bytes come.
    Finished,
    /// Nor does the peer read any.
    Left,
}

impl<B> Inbound<B> {
    pub(super) fn new() -> Self {
        Self { frames: VecDeque::new(), state: State::Open, discarding: false }
    }

    /// Checks that `frame` may come now, and moves on.
    ///
    /// # Errors
    /// Bytes, or an end of them, after the end.
    #[inline]
    pub(super) fn admit(&mut self, frame: &StreamFrame) -> Result<(), Violation> {
        self.state = match (frame, self.state) {
            (StreamFrame::Credit | StreamFrame::Refuse(_), same) => same,
            (StreamFrame::Bytes { .. }, State::Open) => State::Open,
            (StreamFrame::Fin, State::Open) => State::Finished,
            (StreamFrame::Bye, State::Open | State::Finished) => State::Left,
            _ => return Err(Violation::AfterFin(frame.code())),
        };
        Ok(())
    }

    /// Whether somebody may read what comes.
    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        !self.discarding
    }

    /// Keeps a frame of bytes for whoever reads.
    pub(super) fn store(&mut self, frame: B) {
        if self.is_wanted() {
            self.frames.push_back(frame);
        }
    }

    /// The first of those that wait.
    #[inline]
    pub(super) fn next(&mut self) -> Option<B> {
        self.frames.pop_front()
    }

    /// Whether the peer said that no more bytes come.
    pub(super) fn finished(&self) -> bool {
        self.state != State::Open
    }

    /// Whether the peer said that it reads no more.
    pub(super) fn peer_left(&self) -> bool {
        self.state == State::Left
    }

    /// Nobody will read what waits, nor what comes.
    pub(super) fn discard(&mut self) {
        self.discarding = true;
        self.frames.clear();
    }
}
