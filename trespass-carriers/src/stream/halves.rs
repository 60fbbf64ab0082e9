//! A stream in two halves, for two tasks or threads.

use std::fmt;
use std::sync::{Arc, PoisonError, TryLockError, Weak};

use trespass_core::{InOrder, Lossless, Track};

use crate::stream::link::Link;
use crate::stream::reader::{Reach, Reader};
use crate::sync::{AtomicBool, Mutex, Ordering, fence};

/// The half of a stream that reads: see [`StreamCarrier::into_split`](crate::StreamCarrier::into_split).
///
/// Dropping it leaves the other half be; what the peer sends then waits in the track, and in the end the peer with it.
pub struct StreamReadHalf<T: Track<Delivery: Lossless + InOrder>> {
    pub(super) link: Arc<Shared<T>>,
    pub(super) reader: Reader<T::RecvBuf>,
}

/// The half of a stream that writes: see [`StreamCarrier::into_split`](crate::StreamCarrier::into_split).
///
/// Dropping it after a finish leaves the other half be. Dropped before, it ends the whole stream: nobody could say any more
/// that all was written, so the peer must not take it for an end of file. Its reader gets what had arrived, and then kind
/// `Disconnected`; the reader of this end what had arrived, and then kind `Closed`.
pub struct StreamWriteHalf<T: Track<Delivery: Lossless + InOrder>> {
    // Goes first: it needs the link.
    abandon: Abandon<T>,
    pub(super) link: Arc<Shared<T>>,
}

/// Lets the stream go when it is dropped, if there is still a stream.
struct Abandon<T: Track<Delivery: Lossless + InOrder>>(Weak<Shared<T>>);

/// A link, and how the writer lets it go.
pub(super) struct Shared<T: Track<Delivery: Lossless + InOrder>> {
    link: Mutex<Link<T>>,
    /// The writer was dropped. A waker that is dropped under the lock may be the last owner of a task, and with it of the
    /// writer: so a drop never waits for the lock, and whoever has it does what is to be done.
    abandoned: AtomicBool,
}

impl<T: Track<Delivery: Lossless + InOrder>> Shared<T> {
    fn with<R>(&self, act: impl FnOnce(&mut Link<T>) -> R) -> R {
        // Valid at every step, so a panic elsewhere harms nothing.
        let result = act(&mut self.link.lock().unwrap_or_else(PoisonError::into_inner));
        self.tidy();
        result
    }

    /// Ends the stream, if the writer is gone.
    #[inline]
    fn tidy(&self) {
        // With the fence in `abandon`: either this sees the mark, or the lock is free when the writer tries it.
        fence(Ordering::SeqCst);
        if self.abandoned.load(Ordering::Relaxed) {
            self.try_abandon();
        }
    }

    fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        // With the fence in `tidy`.
        fence(Ordering::SeqCst);
        self.try_abandon();
    }

    /// Whether the track has been let go.
    #[cfg(all(test, loom))]
    pub(super) fn is_over(&self) -> bool {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).track.is_none()
    }

    #[cold]
    fn try_abandon(&self) {
        match self.link.try_lock() {
            Ok(mut link) => link.abandon(),
            Err(TryLockError::Poisoned(link)) => link.into_inner().abandon(),
            // Whoever has it looks when it lets go.
            Err(TryLockError::WouldBlock) => {}
        }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Reach<T> for Arc<Shared<T>> {
    #[inline]
    fn with<R>(&mut self, act: impl FnOnce(&mut Link<T>) -> R) -> R {
        Shared::with(self, act)
    }
}

pub(super) fn split<T: Track<Delivery: Lossless + InOrder>>(
    link: Link<T>,
    reader: Reader<T::RecvBuf>,
) -> (StreamReadHalf<T>, StreamWriteHalf<T>) {
    let link = Arc::new(Shared { link: Mutex::new(link), abandoned: AtomicBool::new(false) });
    let write = StreamWriteHalf { abandon: Abandon(Arc::downgrade(&link)), link: Arc::clone(&link) };
    (StreamReadHalf { link, reader }, write)
}

pub(super) fn unsplit<T: Track<Delivery: Lossless + InOrder>>(
    read: StreamReadHalf<T>,
    write: StreamWriteHalf<T>,
) -> Result<(Link<T>, Reader<T::RecvBuf>), (StreamReadHalf<T>, StreamWriteHalf<T>)> {
    if !Arc::ptr_eq(&read.link, &write.link) {
        return Err((read, write));
    }
    let (StreamReadHalf { link, reader }, StreamWriteHalf { abandon, link: last }) = (read, write);
    drop(link);
    match Arc::try_unwrap(last) {
        // Nothing is left for `abandon` to end.
        Ok(shared) => Ok((shared.link.into_inner().unwrap_or_else(PoisonError::into_inner), reader)),
        Err(link) => Err((StreamReadHalf { link: Arc::clone(&link), reader }, StreamWriteHalf { abandon, link })),
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Drop for Abandon<T> {
    fn drop(&mut self) {
        if let Some(link) = self.0.upgrade() {
            link.abandon();
        }
    }
}

// Nothing in them is pinned.
impl<T: Track<Delivery: Lossless + InOrder>> Unpin for StreamReadHalf<T> {}
impl<T: Track<Delivery: Lossless + InOrder>> Unpin for StreamWriteHalf<T> {}

impl<T: Track<Delivery: Lossless + InOrder>> fmt::Debug for StreamReadHalf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReadHalf").finish_non_exhaustive()
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> fmt::Debug for StreamWriteHalf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWriteHalf").finish_non_exhaustive()
    }
}
