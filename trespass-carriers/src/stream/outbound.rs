//! What goes out, and in what order, without IO: bytes, then the ends.

use std::io::IoSlice;

use trespass_core::SendBuf;

use crate::credit::Rank;
use crate::planted::{self, Bug};

/// The frame that is being filled, and what is to be said after it.
#[derive(Debug)]
pub(super) struct Outbound<B> {
    open: Option<Open<B>>,
    fin: Word,
    bye: Word,
    /// Nothing can be said any more.
    dead: bool,
}

#[derive(Debug)]
struct Open<B> {
    frame: B,
    /// Where the next byte goes.
    at: usize,
    /// It goes out as soon as there are credits; nothing more is put into it.
    due: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Unsaid,
    Due,
    Said,
}

/// What is to be sent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Bytes,
    Fin,
    Bye,
}

impl Next {
    /// What credits it takes.
    pub(super) fn rank(self) -> Rank {
        match self {
            Self::Bytes => Rank::Data,
            Self::Fin => Rank::Fin,
            Self::Bye => Rank::Bye,
        }
    }
}

impl<B: SendBuf> Outbound<B> {
    pub(super) fn new() -> Self {
        Self { open: None, fin: Word::Unsaid, bye: Word::Unsaid, dead: false }
    }

    /// Whether bytes may still be put in, as far as this end decides.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.dead || self.fin != Word::Unsaid || self.bye != Word::Unsaid
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Whether the Fin is on its way.
    pub(super) fn has_finished(&self) -> bool {
        self.fin == Word::Said
    }

    /// Whether a new frame may be opened.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_none()
    }

    /// Whether there is a frame that takes more bytes.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.due)
    }

    /// Opens a frame, whose bytes begin at `head`. What was open was sent before.
    #[inline]
    pub(super) fn open(&mut self, frame: B, head: usize) {
        self.open = Some(Open { frame, at: head, due: false });
    }

    /// Copies bytes into the frame that is open. A full one is due.
    #[inline]
    pub(super) fn fill(&mut self, bytes: &mut Slices<'_, '_>) -> usize {
        let Some(open) = &mut self.open else { return 0 };
        let copied = bytes.copy_to(open.frame.get_mut(open.at..).unwrap_or_default());
        open.at += copied;
        open.due |= open.at >= open.frame.len();
        copied
    }

    /// What was put in is to go out.
    #[inline]
    pub(super) fn push(&mut self) {
        if let Some(open) = &mut self.open {
            open.due = true;
        }
    }

    /// No more bytes: a Fin is to be said, after them.
    pub(super) fn finish(&mut self) {
        self.push();
        if !self.is_over() {
            self.fin = Word::Due;
        }
    }

    /// Nor will any be read: a Bye is to be said, in place of a Fin that was not said yet.
    pub(super) fn leave(&mut self) {
        self.push();
        if self.fin == Word::Due {
            self.fin = Word::Unsaid;
        }
        if self.bye == Word::Unsaid {
            self.bye = Word::Due;
        }
    }

    /// The peer reads no more: bytes and the end of them are of no use. A Bye may still be said.
    pub(super) fn peer_left(&mut self) {
        self.open = None;
        self.fin = match self.fin {
            Word::Due => Word::Unsaid,
            same => same,
        };
    }

    /// Nothing goes out any more.
    pub(super) fn end(&mut self) {
        self.open = None;
        self.dead = true;
    }

    /// What goes out as soon as it may.
    #[inline]
    pub(super) fn next(&self) -> Option<Next> {
        match &self.open {
            _ if self.dead => None,
            Some(open) => open.due.then_some(Next::Bytes),
            None if self.fin == Word::Due => Some(Next::Fin),
            None => (self.bye == Word::Due).then_some(Next::Bye),
        }
    }

    /// The frame that is due, as long as what was put in.
    #[inline]
    pub(super) fn take(&mut self) -> Option<B> {
        let Open { mut frame, at, .. } = self.open.take_if(|open| open.due)?;
        frame.truncate(at);
        Some(frame)
    }

    /// Notes that an end was said.
    pub(super) fn said(&mut self, next: Next) {
        match next {
            Next::Bytes => {}
            Next::Fin => self.fin = Word::Said,
            Next::Bye => self.bye = Word::Said,
        }
    }
}

/// Bytes in pieces, taken off the front.
pub(super) struct Slices<'a, 'b> {
    slices: &'a [IoSlice<'b>],
    /// How much of the first is taken.
    at: usize,
    left: usize,
}

impl<'a, 'b> Slices<'a, 'b> {
    pub(super) fn new(slices: &'a [IoSlice<'b>]) -> Self {
        let left = slices.iter().fold(0_usize, |sum, slice| sum.saturating_add(slice.len()));
        Self { slices, at: 0, left }
    }

    /// How many bytes there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.left
    }

    /// Moves as many as fit.
    #[inline]
    fn copy_to(&mut self, room: &mut [u8]) -> usize {
        let mut copied = 0;
        while let Some((first, rest)) = self.slices.split_first() {
            let (from, to) = (first.get(self.at..).unwrap_or_default(), room.get_mut(copied..).unwrap_or_default());
            let len = from.len().min(to.len());
            to[..len].copy_from_slice(&from[..len]);
            copied += len;
            if len < from.len() {
                self.at = if planted::is(Bug::Gathered) { len } else { self.at + len };
                break;
            }
            (self.slices, self.at) = (rest, 0);
        }
        // With the bug more is copied than there is.
        self.left = if planted::is(Bug::Gathered) { self.left.saturating_sub(copied) } else { self.left - copied };
        copied
    }
}
