//! The receiving half.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use trespass_core::{Datagram, Endpoint, ErrorKind, RecvSide, Timer, Track, TransportError, TryError};

use super::Shared;
use super::inbound::{Inbound, Taken};
use super::stats::DatagramStats;
use crate::error::{CarrierError, Phase};
use crate::message::{Message, Payload};
use crate::wire::HEADER;

/// The receiving half of a [`DatagramCarrier`](crate::DatagramCarrier): see [`split`](crate::DatagramCarrier::split).
pub struct DatagramRecvHalf<T: Track<Delivery = Datagram>> {
    pub(super) track: T::Receiver,
    shared: Arc<Shared>,
    inbound: Inbound,
    /// What came while hands were being shaken.
    first: Option<T::RecvBuf>,
    /// What receiving has ended with: `Ok` where the peer has left.
    end: Option<Result<(), CarrierError<T::Error>>>,
    assembly: Option<<T::Timer as Timer>::Sleep>,
    idle: Option<<T::Timer as Timer>::Sleep>,
    idle_timeout: Option<Duration>,
    /// Something has come since `idle` was set.
    heard: bool,
}

impl<T: Track<Delivery = Datagram>> DatagramRecvHalf<T> {
    pub(super) fn new(
        track: T::Receiver,
        inbound: Inbound,
        first: Option<T::RecvBuf>,
        idle_timeout: Option<Duration>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { track, shared, inbound, first, end: None, assembly: None, idle: None, idle_timeout, heard: false }
    }

    /// What this half has done so far.
    pub fn stats(&self) -> DatagramStats {
        self.inbound.stats()
    }

    /// The next message; `None` once the peer has said goodbye.
    ///
    /// # Errors
    /// `WouldBlock` while there is none. Then, again and again: kind `Closed` after a close of this end; `Disconnected`
    /// where the track says that the peer is gone; `TimedOut` where it was silent for the configured `idle_timeout`, which
    /// only waiting notices; else what ended the track.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<T>>, TryError<CarrierError<T::Error>>> {
        loop {
            if let Some(end) = &self.end {
                return end.clone().map(|()| None).map_err(TryError::Failed);
            }
            let datagram = match self.first.take() {
                Some(first) => Ok(first),
                None => self.track.try_recv(),
            };
            let datagram = match datagram {
                Ok(datagram) => datagram,
                Err(TryError::WouldBlock) => return Err(TryError::WouldBlock),
                Err(TryError::Failed(error)) => {
                    self.end(Err(error));
                    continue;
                }
            };
            if let Some(message) = self.take(datagram) {
                return Ok(Some(message));
            }
        }
    }

    #[inline]
    fn take(&mut self, datagram: T::RecvBuf) -> Option<Message<T>> {
        let track = &self.track;
        let taken = self.inbound.take(&datagram, || track.timer().now());
        self.heard = true;
        match taken {
            Taken::Whole => return Some(Message::new(Payload::Direct(datagram, HEADER))),
            Taken::Assembled(bytes) => return Some(Message::new(Payload::Pooled(bytes))),
            Taken::Nothing => {}
            Taken::Welcome => {
                self.shared.owes_ready.store(true, Ordering::Release);
                self.shared.sender.wake();
            }
            Taken::Bye => {
                self.end = Some(Ok(()));
                self.shared.left.store(true, Ordering::Release);
                self.shared.sender.wake();
            }
        }
        None
    }

    #[cold]
    fn end(&mut self, outcome: Result<(), T::Error>) {
        self.end = Some(match outcome {
            Ok(()) => Ok(()),
            Err(_) if self.shared.closed.load(Ordering::Acquire) => Err(CarrierError::Closed),
            Err(error) if error.kind() == ErrorKind::Closed => Err(CarrierError::Disconnected),
            Err(error) => Err(CarrierError::Track(error)),
        });
    }

    /// Waits for the next message; `None` once the peer has said goodbye. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv), never `WouldBlock`.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message<T>>, CarrierError<T::Error>>> + use<'_, T> {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// [`recv`](Self::recv), in the form of a poll. One waker: the latest wins.
    ///
    /// # Errors
    /// As `recv`.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message<T>>, CarrierError<T::Error>>> {
        loop {
            match self.try_recv() {
                Ok(message) => return Poll::Ready(Ok(message)),
                Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                Err(TryError::WouldBlock) => {}
            }
            self.poll_assembly(cx);
            if self.poll_silence(cx).is_ready() {
                self.end = Some(Err(CarrierError::TimedOut(Phase::Idle)));
                continue;
            }
            ready!(self.track.poll_recv_ready(cx));
        }
    }

    /// Gives up what has been incomplete for too long. The alarm outlives what it was set for, so that there is one for each
    /// deadline at most, and none for each message.
    fn poll_assembly(&mut self, cx: &mut Context<'_>) {
        loop {
            let timer = self.track.timer();
            if self.assembly.is_none() {
                let Some(deadline) = self.inbound.next_deadline() else { return };
                self.assembly = Some(timer.sleep(deadline.saturating_sub(timer.now())));
            }
            if self.assembly.as_mut().is_some_and(|alarm| Pin::new(alarm).poll(cx).is_pending()) {
                return;
            }
            self.assembly = None;
            self.inbound.expire(timer.now());
        }
    }

    /// Ready when the peer has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timeout) = self.idle_timeout else { return Poll::Pending };
        loop {
            let Some(alarm) = &mut self.idle else {
                self.idle = Some(self.track.timer().sleep(timeout));
                self.heard = false;
                continue;
            };
            ready!(Pin::new(alarm).poll(cx));
            self.idle = None;
            if !self.heard {
                return Poll::Ready(());
            }
        }
    }
}

impl<T: Track<Delivery = Datagram>> fmt::Debug for DatagramRecvHalf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramRecvHalf").field("end", &self.end).field("stats", &self.stats()).finish_non_exhaustive()
    }
}
