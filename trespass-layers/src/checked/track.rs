//! Tracks and buffers that are checked. One type is a whole track and either half: what it knows of a side, it checks.

use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};

use trespass_core::{Delivery, Endpoint, Limits, RecvBuf, RecvSide, SendBuf, SendSide, Track, TryError, Unsent};

use super::state::{self, Claim, Held, Kept, RecvCheck, SendCheck};

/// A track, or a half of one, that is checked.
#[derive(Debug)]
pub struct Checking<T, S, R> {
    inner: T,
    send: S,
    recv: R,
}

/// A whole track that is checked.
pub type CheckedTrack<T> = Checking<T, SendCheck, RecvCheck>;

impl<T, S, R> Checking<T, S, R> {
    /// What is below, for what it alone can tell.
    pub fn inner(&self) -> &T {
        &self.inner
    }
}

impl<T: Track> CheckedTrack<T> {
    pub(super) fn track(inner: T, peer: &T::Addr) -> Self {
        state::joined(peer, &inner.peer());
        let limits = inner.limits();
        let send = SendCheck::new(limits);
        let recv = RecvCheck::new(limits, <T::Delivery as Delivery>::LOSSLESS, inner.posted());
        Self { inner, send, recv }
    }
}

impl<T: Endpoint, S, R> Endpoint for Checking<T, S, R> {
    type Error = T::Error;
    type Addr = T::Addr;
    type Timer = T::Timer;

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn local(&self) -> T::Addr {
        self.inner.local()
    }

    fn peer(&self) -> T::Addr {
        self.inner.peer()
    }

    fn timer(&self) -> T::Timer {
        self.inner.timer()
    }
}

impl<T: SendSide, R> SendSide for Checking<T, SendCheck, R> {
    type SendBuf = CheckedSendBuf<T::SendBuf>;

    #[inline]
    fn try_reserve(&mut self, len: usize) -> Result<Self::SendBuf, TryError<T::Error>> {
        let before = self.send.before_reserve();
        match self.inner.try_reserve(len) {
            Ok(inner) => {
                let (claim, kept) = self.send.reserved(len, inner.len());
                Ok(CheckedSendBuf { claim, inner, kept })
            }
            Err(error) => {
                self.send.not_reserved(before, len, &error);
                Err(error)
            }
        }
    }

    #[inline]
    fn send(&mut self, buf: Self::SendBuf) -> Result<(), Unsent<Self::SendBuf, T::Error>> {
        let CheckedSendBuf { claim, inner, kept } = buf;
        let len = inner.len();
        match self.inner.send(inner) {
            Ok(()) => {
                self.send.sent(&claim);
                Ok(())
            }
            Err(Unsent { buf: inner, error }) => {
                self.send.unsent(&claim, len, inner.len(), &error);
                Err(Unsent { buf: CheckedSendBuf { claim, inner, kept }, error })
            }
        }
    }

    #[inline]
    fn carries_immediate(&self) -> bool {
        self.inner.carries_immediate()
    }

    #[inline]
    fn send_immediate(&mut self, buf: Self::SendBuf, word: u32) -> Result<(), Unsent<Self::SendBuf, Option<T::Error>>> {
        let CheckedSendBuf { claim, inner, kept } = buf;
        let len = inner.len();
        match self.inner.send_immediate(inner, word) {
            Ok(()) => {
                self.send.sent(&claim);
                Ok(())
            }
            Err(Unsent { buf: inner, error }) => {
                match &error {
                    Some(error) => self.send.unsent(&claim, len, inner.len(), error),
                    None => self.send.not_carried(&claim, self.inner.carries_immediate()),
                }
                Err(Unsent { buf: CheckedSendBuf { claim, inner, kept }, error })
            }
        }
    }

    #[inline]
    fn flush(&mut self) -> Result<(), T::Error> {
        let result = self.inner.flush();
        self.send.flushed(&result);
        result
    }

    #[inline]
    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.inner.poll_send_ready(cx);
        self.send.polled_ready(polled);
        polled
    }

    #[inline]
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        let polled = self.inner.poll_close(cx);
        self.send.polled_close(&polled);
        polled
    }
}

impl<T: RecvSide, S> RecvSide for Checking<T, S, RecvCheck> {
    type RecvBuf = CheckedRecvBuf<T::RecvBuf>;

    #[inline]
    fn posted(&self) -> u64 {
        let posted = self.inner.posted();
        self.recv.posted(posted);
        posted
    }

    #[inline]
    fn try_recv(&mut self) -> Result<Self::RecvBuf, TryError<T::Error>> {
        match self.inner.try_recv() {
            Ok(inner) => {
                let held = self.recv.received(&inner);
                self.recv.posted(self.inner.posted());
                Ok(CheckedRecvBuf { inner, held })
            }
            Err(error) => {
                self.recv.not_received(&error);
                Err(error)
            }
        }
    }

    #[inline]
    fn immediate(buf: &Self::RecvBuf) -> Option<u32> {
        T::immediate(&buf.inner)
    }

    #[inline]
    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.inner.poll_recv_ready(cx);
        self.recv.polled_ready(polled);
        polled
    }
}

impl<T: Track> Track for CheckedTrack<T> {
    type Delivery = T::Delivery;
    type Sender = Checking<T::Sender, SendCheck, ()>;
    type Receiver = Checking<T::Receiver, (), RecvCheck>;

    fn split(self) -> (Self::Sender, Self::Receiver) {
        let whole = self.inner.limits();
        let (sender, receiver) = self.inner.split();
        state::split(whole, sender.limits(), receiver.limits());
        (Checking { inner: sender, send: self.send, recv: () }, Checking { inner: receiver, send: (), recv: self.recv })
    }
}

/// A reserved buffer that is checked.
#[derive(Debug)]
pub struct CheckedSendBuf<B> {
    // Dropped in this order. The claim on a slot ends before the slot comes back: whoever reserves it next is never one
    // too many. That it is kept ends after it has: whoever finds no slot then has a reason to complain.
    claim: Claim,
    inner: B,
    kept: Kept,
}

impl<B: SendBuf> Deref for CheckedSendBuf<B> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.inner
    }
}

impl<B: SendBuf> DerefMut for CheckedSendBuf<B> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.inner
    }
}

impl<B: SendBuf> SendBuf for CheckedSendBuf<B> {
    #[inline]
    fn truncate(&mut self, len: usize) {
        let before = self.inner.len();
        self.inner.truncate(len);
        state::truncated(before, len, self.inner.len());
    }
}

/// A received message that is checked: that it is what it was, when it is dropped.
#[derive(Debug)]
pub struct CheckedRecvBuf<B: RecvBuf> {
    inner: B,
    held: Held,
}

impl<B: RecvBuf> Deref for CheckedRecvBuf<B> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.inner
    }
}

impl<B: RecvBuf> AsRef<[u8]> for CheckedRecvBuf<B> {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.inner
    }
}

impl<B: RecvBuf> Drop for CheckedRecvBuf<B> {
    #[inline]
    fn drop(&mut self) {
        self.held.unchanged(&self.inner);
    }
}

#[cfg(all(test, loom, debug_assertions))]
mod loom_tests {
    use std::sync::Arc;

    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::thread;
    use trespass_mock::MockError;

    use super::*;

    /// The one slot of a track that keeps the contract: free when it is dropped.
    struct Slot(Arc<AtomicBool>);

    impl Drop for Slot {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }

    #[test]
    fn loom_a_track_that_keeps_the_contract_is_never_blamed() {
        loom::model(|| {
            let (mut check, free) = (SendCheck::new(Limits::new(1, 1, 1)), Arc::new(AtomicBool::new(false)));
            let (claim, kept) = check.reserved(1, 1);
            let taken = CheckedSendBuf { claim, inner: Slot(Arc::clone(&free)), kept };
            let dropping = thread::spawn(move || drop(taken));
            for _ in 0..2 {
                let before = check.before_reserve();
                if free.load(Ordering::Acquire) {
                    check.reserved(1, 1);
                    break;
                }
                check.not_reserved(before, 1, &TryError::<MockError>::WouldBlock);
            }
            dropping.join().unwrap();
        });
    }
}
