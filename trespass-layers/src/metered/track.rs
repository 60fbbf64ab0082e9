//! Tracks that count. One type is a whole track and either half.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use trespass_core::{Endpoint, ErrorKind, Limits, RecvSide, SendSide, Track, TransportError, TryError, Unsent};

use super::counts::{Counting, Membership, TrackCounts, one_more};
use super::export;

/// A track, or a half of one, that counts.
#[derive(Debug)]
pub struct Metering<T> {
    inner: T,
    counting: Arc<Counting>,
    shared: Arc<Shared>,
}

/// What the halves of a track share.
#[derive(Debug)]
struct Shared {
    membership: Membership,
    name: Arc<str>,
}

impl<T> Metering<T> {
    /// What is below, for what it alone can tell.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// What this track has done so far, both halves together.
    pub fn counts(&self) -> TrackCounts {
        self.counting.read()
    }
}

impl<T: Track> Metering<T> {
    pub(super) fn track(inner: T, membership: Membership, name: Arc<str>) -> Self {
        let counting = Arc::clone(&membership.counting);
        counting.posted.set(inner.posted());
        Self { inner, counting, shared: Arc::new(Shared { membership, name }) }
    }
}

impl<T: Endpoint> Metering<T> {
    #[cold]
    fn failed(&self, error: &T::Error) {
        let kind = error.kind();
        let buffer = matches!(kind, ErrorKind::Oversize | ErrorKind::ForeignBuffer);
        // Errors stick, and both halves have them: an end is one, however often it is told.
        if buffer || !self.counting.ended.swap(true, Ordering::Relaxed) {
            self.shared.membership.totals().error(kind);
            export::track_failed(&self.shared.name, &self.inner.peer(), error);
        }
    }

    #[cold]
    fn closed(&self, result: &Result<(), T::Error>) {
        match result {
            Err(error) => self.failed(error),
            Ok(()) => {
                if !self.counting.ended.swap(true, Ordering::Relaxed) {
                    one_more(&self.shared.membership.totals().closed);
                    export::track_closed(&self.shared.name, &self.inner.peer());
                }
            }
        }
    }
}

impl<T: Endpoint> Endpoint for Metering<T> {
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

impl<T: SendSide> SendSide for Metering<T> {
    type SendBuf = T::SendBuf;

    #[inline]
    fn try_reserve(&mut self, len: usize) -> Result<T::SendBuf, TryError<T::Error>> {
        let result = self.inner.try_reserve(len);
        match &result {
            Ok(_) => {}
            Err(TryError::WouldBlock) => self.counting.stalls.add(1),
            Err(TryError::Failed(error)) => self.failed(error),
        }
        result
    }

    #[inline]
    fn send(&mut self, buf: T::SendBuf) -> Result<(), Unsent<T::SendBuf, T::Error>> {
        let len = buf.len();
        let result = self.inner.send(buf);
        match &result {
            Ok(()) => {
                self.counting.messages_sent.add(1);
                self.counting.bytes_sent.add(len as u64);
            }
            Err(unsent) => self.failed(&unsent.error),
        }
        result
    }

    #[inline]
    fn carries_immediate(&self) -> bool {
        self.inner.carries_immediate()
    }

    #[inline]
    fn send_immediate(&mut self, buf: T::SendBuf, word: u32) -> Result<(), Unsent<T::SendBuf, Option<T::Error>>> {
        let len = buf.len();
        let result = self.inner.send_immediate(buf, word);
        match &result {
            Ok(()) => {
                self.counting.messages_sent.add(1);
                self.counting.bytes_sent.add(len as u64);
            }
            Err(unsent) => unsent.error.iter().for_each(|error| self.failed(error)),
        }
        result
    }

    #[inline]
    fn flush(&mut self) -> Result<(), T::Error> {
        self.counting.flushes.add(1);
        let result = self.inner.flush();
        if let Err(error) = &result {
            self.failed(error);
        }
        result
    }

    #[inline]
    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.inner.poll_send_ready(cx);
        if polled.is_pending() {
            self.counting.send_waits.add(1);
        }
        polled
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        let polled = self.inner.poll_close(cx);
        match &polled {
            Poll::Pending => self.counting.send_waits.add(1),
            Poll::Ready(result) => self.closed(result),
        }
        polled
    }
}

impl<T: RecvSide> RecvSide for Metering<T> {
    type RecvBuf = T::RecvBuf;

    #[inline]
    fn posted(&self) -> u64 {
        self.inner.posted()
    }

    #[inline]
    fn try_recv(&mut self) -> Result<T::RecvBuf, TryError<T::Error>> {
        let result = self.inner.try_recv();
        match &result {
            Ok(buf) => {
                self.counting.messages_received.add(1);
                self.counting.bytes_received.add(buf.len() as u64);
                self.counting.posted.set(self.inner.posted());
            }
            Err(TryError::WouldBlock) => {}
            Err(TryError::Failed(error)) => self.failed(error),
        }
        result
    }

    #[inline]
    fn immediate(buf: &T::RecvBuf) -> Option<u32> {
        T::immediate(buf)
    }

    #[inline]
    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.inner.poll_recv_ready(cx);
        if polled.is_pending() {
            self.counting.recv_waits.add(1);
            self.counting.posted.set(self.inner.posted());
        }
        polled
    }
}

impl<T: Track> Track for Metering<T> {
    type Delivery = T::Delivery;
    type Sender = Metering<T::Sender>;
    type Receiver = Metering<T::Receiver>;

    fn split(self) -> (Self::Sender, Self::Receiver) {
        let (sender, receiver) = self.inner.split();
        let (counting, shared) = (Arc::clone(&self.counting), Arc::clone(&self.shared));
        (
            Metering { inner: sender, counting, shared },
            Metering { inner: receiver, counting: self.counting, shared: self.shared },
        )
    }
}
