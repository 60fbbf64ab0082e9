//! Tracks as links: nothing between the loops and the device.

use std::task::{Context, Poll, ready};

use trespass_core::{Track, TryError, poll_recv, poll_reserve};

use super::link::{Link, Word, word_of};

/// A track of any sort.
pub(crate) struct TrackLink<T> {
    track: T,
    size: usize,
}

impl<T: Track> TrackLink<T> {
    pub(crate) fn new(track: T, size: usize) -> Self {
        Self { track, size }
    }
}

impl<T: Track> Link for TrackLink<T> {
    type Error = T::Error;

    #[inline]
    fn send(&mut self, word: Word, cx: Option<&mut Context<'_>>) -> Poll<Result<(), T::Error>> {
        let mut buf = ready!(reserve(&mut self.track, self.size, cx))?;
        word.put(&mut buf);
        Poll::Ready(self.track.send(buf).map_err(|unsent| unsent.error))
    }

    #[inline]
    fn flush(&mut self) -> Result<(), T::Error> {
        self.track.flush()
    }

    #[inline]
    fn recv(&mut self, cx: Option<&mut Context<'_>>) -> Poll<Result<Word, T::Error>> {
        recv(&mut self.track, cx).map(|message| Ok(word_of(&message?, self.size)))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.track.poll_close(cx)
    }
}

/// A slot; where there is none, what was queued goes out, since slots come back of what has arrived.
#[inline]
fn reserve<T: Track>(track: &mut T, size: usize, cx: Option<&mut Context<'_>>) -> Poll<Result<T::SendBuf, T::Error>> {
    match (track.try_reserve(size), cx) {
        (Ok(buf), _) => Poll::Ready(Ok(buf)),
        (Err(TryError::Failed(error)), _) => Poll::Ready(Err(error)),
        (Err(TryError::WouldBlock), Some(cx)) => poll_reserve(track, cx, size),
        (Err(TryError::WouldBlock), None) => {
            track.flush()?;
            Poll::Pending
        }
    }
}

#[inline]
fn recv<T: Track>(track: &mut T, cx: Option<&mut Context<'_>>) -> Poll<Result<T::RecvBuf, T::Error>> {
    match (cx, track.try_recv()) {
        (_, Ok(message)) => Poll::Ready(Ok(message)),
        (_, Err(TryError::Failed(error))) => Poll::Ready(Err(error)),
        (None, Err(TryError::WouldBlock)) => Poll::Pending,
        (Some(cx), Err(TryError::WouldBlock)) => poll_recv(track, cx),
    }
}

/// The bytes of what tells how many receives were posted.
const NOTE: usize = 8;

/// What an end of one-way traffic does about receives. Round trips need nothing of it: one message is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notes {
    None,
    /// It receives, and tells of what it has posted.
    Tells,
    /// It sends, and no more than it was told of.
    Heeds,
}

/// A track that ends a peer which sends more than was posted for it. So the end that receives tells of what it has posted,
/// every half of its receives, by messages of their own; a carrier does the same inside.
pub(crate) struct SharedLink<T> {
    track: T,
    size: usize,
    /// How many receives the peer keeps posted at first.
    receives: u64,
    sent: u64,
    /// Receives of the peer's that this end was told of, over time, and those of its own that it told of.
    allowed: u64,
    told: u64,
    notes: Notes,
}

impl<T: Track> SharedLink<T> {
    pub(crate) fn new(track: T, size: usize, receives: usize, notes: Notes) -> Self {
        let receives = receives as u64;
        Self { track, size, receives, sent: 0, allowed: receives, told: receives, notes }
    }

    /// Takes in what the peer tells, until this end may send. What was queued has to go out: that is what the peer tells of.
    fn allowance(&mut self, mut cx: Option<&mut Context<'_>>) -> Poll<Result<(), T::Error>> {
        self.track.flush()?;
        while self.sent == self.allowed {
            let message = ready!(recv(&mut self.track, cx.as_deref_mut()))?;
            self.note(&message);
        }
        Poll::Ready(Ok(()))
    }

    /// Whether it was a note. One that takes back what was told is none.
    fn note(&mut self, message: &[u8]) -> bool {
        let word = word_of(message, NOTE);
        let more = self.notes == Notes::Heeds && !word.is_last() && word.to_number() > self.allowed;
        if more {
            self.allowed = word.to_number();
        }
        more
    }

    /// Tells the peer of what was posted, if that is worth it and there is a slot.
    fn tell(&mut self) -> Result<(), T::Error> {
        if self.notes != Notes::Tells {
            return Ok(());
        }
        let posted = self.track.posted();
        if posted.saturating_sub(self.told) < self.receives.div_ceil(2) {
            return Ok(());
        }
        match self.track.try_reserve(NOTE) {
            Ok(mut buf) => {
                Word::number(posted).put(&mut buf);
                self.track.send(buf).map_err(|unsent| unsent.error)?;
                self.told = posted;
                self.track.flush()
            }
            Err(TryError::WouldBlock) => Ok(()),
            Err(TryError::Failed(error)) => Err(error),
        }
    }
}

impl<T: Track> Link for SharedLink<T> {
    type Error = T::Error;

    #[inline]
    fn send(&mut self, word: Word, mut cx: Option<&mut Context<'_>>) -> Poll<Result<(), T::Error>> {
        if self.sent == self.allowed && self.notes == Notes::Heeds {
            ready!(self.allowance(cx.as_deref_mut()))?;
        }
        let mut buf = ready!(reserve(&mut self.track, self.size, cx))?;
        word.put(&mut buf);
        self.sent += 1;
        Poll::Ready(self.track.send(buf).map_err(|unsent| unsent.error))
    }

    #[inline]
    fn flush(&mut self) -> Result<(), T::Error> {
        self.track.flush()
    }

    #[inline]
    fn recv(&mut self, mut cx: Option<&mut Context<'_>>) -> Poll<Result<Word, T::Error>> {
        loop {
            self.tell()?;
            let message = ready!(recv(&mut self.track, cx.as_deref_mut()))?;
            if !self.note(&message) {
                return Poll::Ready(Ok(word_of(&message, self.size)));
            }
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.track.poll_close(cx)
    }
}
