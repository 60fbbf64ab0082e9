//! The sending half.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use trespass_core::{Datagram, Endpoint, ErrorKind, SendSide, Timer, Track, TransportError, TryError, Unsent};

use super::stats::DatagramStats;
use super::wire::{BEAT, BYE, READY, SEGMENT, SEGMENT_HEADER, WHOLE, put_header, put_segment};
use super::{Session, Shared};
use crate::error::{CarrierError, Phase};
use crate::message::MessageBuf;
use crate::wire::HEADER;

/// How often a goodbye is said: it may be lost.
const GOODBYES: u8 = 3;

/// The sending half of a [`DatagramCarrier`](crate::DatagramCarrier): see [`split`](crate::DatagramCarrier::split).
///
/// Dropping it ends the track, and the peer hears nothing of it: [`close`](Self::close) says goodbye.
pub struct DatagramSendHalf<T: Track<Delivery = Datagram>> {
    pub(super) track: T::Sender,
    session: Session,
    shared: Arc<Shared>,
    /// The number of the next message.
    next: u32,
    /// Something was sent since the last beat was due.
    said: bool,
    beat: Option<<T::Timer as Timer>::Sleep>,
    closing: Option<Closing<T>>,
    stats: DatagramStats,
}

enum Closing<T: Endpoint> {
    Under { deadline: <T::Timer as Timer>::Sleep, goodbyes: u8 },
    Over(Result<(), CarrierError<T::Error>>),
}

impl<T: Track<Delivery = Datagram>> DatagramSendHalf<T> {
    pub(super) fn new(track: T::Sender, session: Session, shared: Arc<Shared>) -> Self {
        let stats = DatagramStats::default();
        Self { track, session, shared, next: 0, said: false, beat: None, closing: None, stats }
    }

    /// What this half has done so far.
    pub fn stats(&self) -> DatagramStats {
        self.stats
    }

    /// The longest message that goes as one datagram, in bytes: what [`try_send`](Self::try_send) and
    /// [`try_reserve`](Self::try_reserve) take.
    pub fn eager_limit(&self) -> usize {
        self.session.eager_limit
    }

    /// The longest message that [`send`](Self::send) takes, in bytes: the smaller of what both ends were configured for.
    pub fn max_message(&self) -> usize {
        self.session.max_message
    }

    /// Queues a message of up to [`eager_limit`](Self::eager_limit) bytes: one copy, no flush.
    ///
    /// # Errors
    /// `WouldBlock` while all send slots are taken: the own device has not sent yet. Kind `Oversize` for a longer one;
    /// `Closed` when this end has closed, or the peer has left; else what ended the track.
    pub fn try_send(&mut self, data: &[u8]) -> Result<(), TryError<CarrierError<T::Error>>> {
        let mut buf = self.try_reserve(data.len())?;
        buf.copy_from_slice(data);
        self.send_buf(buf).map_err(|unsent| TryError::Failed(unsent.error))
    }

    /// Claims a slot, and room for a message of `len` bytes, up to [`eager_limit`](Self::eager_limit), to be filled in place.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<MessageBuf<T>, TryError<CarrierError<T::Error>>> {
        if len > self.session.eager_limit {
            let max = self.session.eager_limit;
            return Err(TryError::Failed(CarrierError::Oversize { len, max }));
        }
        let frame = self.try_frame(HEADER + len)?;
        Ok(MessageBuf { frame, head: HEADER, carrier: self.session.id })
    }

    /// Queues a message that was filled in place: no copy, no flush, and never for want of a slot.
    ///
    /// # Errors
    /// The buffer comes back: kind `ForeignBuffer` for one of another carrier; `Closed`; or what ended the track.
    #[inline]
    pub fn send_buf(&mut self, buf: MessageBuf<T>) -> Result<(), Unsent<MessageBuf<T>, CarrierError<T::Error>>> {
        if buf.carrier != self.session.id {
            return Err(Unsent { buf, error: CarrierError::ForeignBuffer });
        }
        if let Err(error) = self.check_open() {
            return Err(Unsent { buf, error });
        }
        let MessageBuf { mut frame, head, carrier } = buf;
        put_header(&mut frame, WHOLE, self.session.peer, self.next);
        let len = frame.len() - HEADER;
        if let Err(Unsent { buf: frame, error }) = self.track.send(frame) {
            return Err(Unsent { buf: MessageBuf { frame, head, carrier }, error: ended(error) });
        }
        self.next = self.next.wrapping_add(1);
        self.sent(len);
        Ok(())
    }

    /// Rings the doorbell once for all that is queued.
    ///
    /// # Errors
    /// What ended the track.
    pub fn flush(&mut self) -> Result<(), CarrierError<T::Error>> {
        self.settle();
        self.track.flush().map_err(ended)
    }

    /// Ready when [`try_reserve`](Self::try_reserve) would not say `WouldBlock`. Flushes first. One waker: the latest wins.
    pub fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.sender.register(cx.waker());
        self.settle();
        match self.check_open() {
            Ok(()) => self.track.poll_send_ready(cx),
            Err(_) => Poll::Ready(()),
        }
    }

    /// Sends a message of up to [`max_message`](Self::max_message) bytes, in as many datagrams as it needs, and flushes.
    /// Waits for send slots alone: see [`DatagramCarrier`](crate::DatagramCarrier) for what that means for the receiver.
    ///
    /// Dropping the future before it is ready withdraws the message: the peer does not receive any of it.
    ///
    /// # Errors
    /// Kind `Oversize` for a longer one, and the carrier lives on; else as [`try_send`](Self::try_send).
    pub fn send<'a>(&'a mut self, data: &'a [u8]) -> DatagramSending<'a, T> {
        DatagramSending { half: self, data, at: None, outcome: None }
    }

    /// Sends a beat whenever nothing else was sent for the configured `keepalive`, and what the receiving half owes the
    /// peer. Never ready before the carrier is closed, or the peer has left: for a task of its own beside others that send,
    /// by `select`, or while there is nothing to send. Dropping it loses nothing.
    pub fn keepalive(&mut self) -> impl Future<Output = ()> + use<'_, T> {
        poll_fn(|cx| {
            self.shared.sender.register(cx.waker());
            self.poll_beat(cx);
            match self.check_open() {
                Ok(()) => Poll::Pending,
                Err(_) => Poll::Ready(()),
            }
        })
    }

    /// Says goodbye, and ends the track: see [`Carrier::poll_close`](trespass_core::Carrier::poll_close). Dropping the future
    /// loses nothing: call again to go on.
    ///
    /// # Errors
    /// Kind `TimedOut` past `close_timeout`; else what ended the track.
    pub fn close(&mut self) -> impl Future<Output = Result<(), CarrierError<T::Error>>> + use<'_, T> {
        poll_fn(|cx| self.poll_close(cx))
    }

    /// [`close`](Self::close), in the form of a poll.
    ///
    /// # Errors
    /// As `close`.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        let outcome = match self.closing.take().unwrap_or_else(|| self.start_closing()) {
            Closing::Over(outcome) => outcome,
            Closing::Under { mut deadline, mut goodbyes } => {
                let timed_out = Pin::new(&mut deadline).poll(cx).is_ready();
                match self.poll_end(cx, &mut goodbyes) {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending if timed_out => Err(CarrierError::TimedOut(Phase::Close)),
                    Poll::Pending => {
                        self.closing = Some(Closing::Under { deadline, goodbyes });
                        return Poll::Pending;
                    }
                }
            }
        };
        self.closing = Some(Closing::Over(outcome.clone()));
        Poll::Ready(outcome)
    }

    fn start_closing(&mut self) -> Closing<T> {
        self.shared.closed.store(true, Ordering::Release);
        let deadline = self.track.timer().sleep(self.session.close_timeout);
        // One that has left need not be told.
        let goodbyes = if self.shared.left.load(Ordering::Acquire) { 0 } else { GOODBYES };
        Closing::Under { deadline, goodbyes }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, goodbyes: &mut u8) -> Poll<Result<(), CarrierError<T::Error>>> {
        while *goodbyes > 0 {
            match self.try_control(BYE) {
                Ok(()) => *goodbyes -= 1,
                Err(TryError::WouldBlock) => ready!(self.track.poll_send_ready(cx)),
                // How it ended the track will say.
                Err(TryError::Failed(_)) => *goodbyes = 0,
            }
        }
        match ready!(self.track.poll_close(cx)) {
            Err(error) if error.kind() != ErrorKind::Closed => Poll::Ready(Err(CarrierError::Track(error))),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Sends what is owed, and a beat if one is due.
    pub(super) fn poll_beat(&mut self, cx: &mut Context<'_>) {
        self.settle();
        let Some(every) = self.session.keepalive.filter(|_| self.check_open().is_ok()) else { return };
        loop {
            let timer = self.track.timer();
            let beat = self.beat.get_or_insert_with(|| timer.sleep(every));
            if Pin::new(beat).poll(cx).is_pending() {
                return;
            }
            self.beat = None;
            if !std::mem::take(&mut self.said) && self.try_control(BEAT).is_ok() {
                self.said = false;
                self.stats.control_sent += 1;
                // What failed every other call says.
                let _ = self.track.flush();
            }
        }
    }

    /// Answers a peer that has not heard that its Welcome came.
    pub(super) fn settle(&mut self) {
        if self.shared.owes_ready.load(Ordering::Acquire) && self.try_control(READY).is_ok() {
            self.shared.owes_ready.store(false, Ordering::Release);
            self.stats.control_sent += 1;
            let _ = self.track.flush();
        }
    }

    fn try_control(&mut self, kind: u8) -> Result<(), TryError<T::Error>> {
        let mut frame = self.track.try_reserve(HEADER)?;
        put_header(&mut frame, kind, self.session.peer, 0);
        self.said = true;
        self.track.send(frame).map_err(|unsent| TryError::Failed(unsent.error))
    }

    fn try_frame(&mut self, len: usize) -> Result<T::SendBuf, TryError<CarrierError<T::Error>>> {
        self.check_open().map_err(TryError::Failed)?;
        self.track.try_reserve(len).map_err(|error| match error {
            TryError::WouldBlock => TryError::WouldBlock,
            TryError::Failed(error) => TryError::Failed(ended(error)),
        })
    }

    /// Queues segment `at.1` of message number `at.0`. Whether it was the last.
    fn try_segment(&mut self, at: (u32, u32), data: &[u8]) -> Result<bool, TryError<CarrierError<T::Error>>> {
        let start = at.1 as usize * self.session.segment;
        let end = data.len().min(start + self.session.segment);
        let bytes = data.get(start..end).unwrap_or_default();
        let mut frame = self.try_frame(SEGMENT_HEADER + bytes.len())?;
        put_header(&mut frame, SEGMENT, self.session.peer, at.0);
        // No longer than `max_message`, which fits.
        put_segment(&mut frame, data.len() as u32, at.1, bytes);
        self.track.send(frame).map_err(|unsent| TryError::Failed(ended(unsent.error)))?;
        self.stats.segments_sent += 1;
        self.said = true;
        Ok(end == data.len())
    }

    fn sent(&mut self, len: usize) {
        self.said = true;
        self.stats.messages_sent += 1;
        self.stats.bytes_sent += len as u64;
    }

    #[inline]
    fn check_open(&self) -> Result<(), CarrierError<T::Error>> {
        match self.closing.is_some() || self.shared.left.load(Ordering::Relaxed) {
            true => Err(CarrierError::Closed),
            false => Ok(()),
        }
    }
}

/// What the end of the track means to a sender.
fn ended<E: TransportError>(error: E) -> CarrierError<E> {
    match error.kind() {
        ErrorKind::Closed => CarrierError::Disconnected,
        _ => CarrierError::Track(error),
    }
}

/// A message on its way: see [`DatagramSendHalf::send`].
#[must_use = "nothing is sent before the first poll"]
pub struct DatagramSending<'a, T: Track<Delivery = Datagram>> {
    half: &'a mut DatagramSendHalf<T>,
    data: &'a [u8],
    /// The number of the message, and the next segment. `None` before the first.
    at: Option<(u32, u32)>,
    outcome: Option<Result<(), CarrierError<T::Error>>>,
}

impl<T: Track<Delivery = Datagram>> DatagramSending<'_, T> {
    fn try_advance(&mut self) -> Result<(), TryError<CarrierError<T::Error>>> {
        let (len, max) = (self.data.len(), self.half.session.max_message);
        if len <= self.half.session.eager_limit {
            return self.half.try_send(self.data);
        }
        if len > max {
            return Err(TryError::Failed(CarrierError::Oversize { len, max }));
        }
        loop {
            let (number, index) = self.at.unwrap_or((self.half.next, 0));
            let last = self.half.try_segment((number, index), self.data)?;
            if self.at.is_none() {
                // Also of one that will be withdrawn: no other message may be taken for the rest of it.
                self.half.next = number.wrapping_add(1);
            }
            self.at = Some((number, index + 1));
            if last {
                self.half.sent(len);
                return Ok(());
            }
        }
    }
}

// Nothing in it is pinned.
impl<T: Track<Delivery = Datagram>> Unpin for DatagramSending<'_, T> {}

impl<T: Track<Delivery = Datagram>> Future for DatagramSending<'_, T> {
    type Output = Result<(), CarrierError<T::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(outcome) = &this.outcome {
            return Poll::Ready(outcome.clone());
        }
        let outcome = loop {
            match this.try_advance() {
                Ok(()) => break this.half.flush(),
                Err(TryError::Failed(error)) => break Err(error),
                Err(TryError::WouldBlock) => ready!(this.half.poll_send_ready(cx)),
            }
        };
        this.outcome = Some(outcome.clone());
        Poll::Ready(outcome)
    }
}

impl<T: Track<Delivery = Datagram>> fmt::Debug for DatagramSendHalf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramSendHalf")
            .field("session", &self.session)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
