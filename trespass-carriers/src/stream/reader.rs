//! The frame that is being read, and how a link is reached: alone, or with the other half.

use std::ops::Deref;
use std::task::{Context, Poll, ready};

use trespass_core::{InOrder, Lossless, Track, TryError};

use crate::error::CarrierError;
use crate::stream::link::Link;

/// Whoever has a link: for as short a time as may be.
pub(super) trait Reach<T: Track<Delivery: Lossless + InOrder>> {
    fn with<R>(&mut self, act: impl FnOnce(&mut Link<T>) -> R) -> R;
}

impl<T: Track<Delivery: Lossless + InOrder>> Reach<T> for Link<T> {
    #[inline]
    fn with<R>(&mut self, act: impl FnOnce(&mut Link<T>) -> R) -> R {
        act(self)
    }
}

/// The frame that is being read: in the memory into which the device wrote it.
#[derive(Debug)]
pub(super) struct Reader<B> {
    frame: Option<B>,
    /// Where the next byte is.
    at: usize,
}

impl<B: Deref<Target = [u8]>> Reader<B> {
    pub(super) fn new() -> Self {
        Self { frame: None, at: 0 }
    }

    /// What is left of it.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.frame.as_ref().and_then(|frame| frame.get(self.at..)).unwrap_or_default()
    }

    /// Notes that so many bytes were read. A frame that is read to its end is given back.
    #[inline]
    pub(super) fn consume(&mut self, len: usize) {
        self.at += len.min(self.bytes().len());
        if self.bytes().is_empty() {
            self.discard();
        }
    }

    pub(super) fn discard(&mut self) {
        (self.frame, self.at) = (None, 0);
    }

    #[inline]
    fn begin(&mut self, (frame, head): (B, usize)) {
        (self.frame, self.at) = (Some(frame), head);
    }

    /// Ready when there are bytes, or none will come.
    #[inline]
    pub(super) fn poll_ready<T>(
        &mut self,
        link: &mut impl Reach<T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CarrierError<T::Error>>>
    where
        T: Track<Delivery: Lossless + InOrder, RecvBuf = B>,
    {
        if self.frame.is_none() {
            if let Some(frame) = ready!(link.with(|link| link.poll_next(cx)))? {
                self.begin(frame);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The same without a wait.
    pub(super) fn try_ready<T>(&mut self, link: &mut impl Reach<T>) -> Result<(), TryError<CarrierError<T::Error>>>
    where
        T: Track<Delivery: Lossless + InOrder, RecvBuf = B>,
    {
        if self.frame.is_none() {
            if let Some(frame) = link.with(|link| link.try_next())? {
                self.begin(frame);
            }
        }
        Ok(())
    }

    /// Hands pieces to `sink`, which says how much of each it took, for as long as it takes them whole and more are there.
    /// How much that was.
    #[cfg(any(feature = "tokio", feature = "futures-io"))]
    pub(super) fn drain_into<T>(&mut self, link: &mut impl Reach<T>, mut sink: impl FnMut(&[u8]) -> usize) -> usize
    where
        T: Track<Delivery: Lossless + InOrder, RecvBuf = B>,
    {
        let mut total = 0;
        loop {
            let bytes = self.bytes();
            let (there, taken) = (bytes.len(), sink(bytes));
            total += taken;
            self.consume(taken);
            if taken < there || total >= TURN {
                return total;
            }
            // What else there is: nothing waits, nothing is armed. What went wrong is told by the next call.
            match link.with(Link::next) {
                Ok(Some(frame)) => self.begin(frame),
                Ok(None) | Err(_) => return total,
            }
        }
    }
}

/// About how many bytes one call reads.
#[cfg(any(feature = "tokio", feature = "futures-io"))]
const TURN: usize = 128 << 10;
