//! Sending: messages in, frames out.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use trespass_core::{InOrder, Lossless, Track, TryError, Unsent};

use crate::carrier::{MessageCarrier, limited};
use crate::credit::Rank;
use crate::error::{CarrierError, Phase};
use crate::message::MessageBuf;
use crate::segment::{Cut, Segment};
use crate::side::Side;
use crate::wire::{Kind, stamp_total};

impl<T: Track<Delivery: Lossless + InOrder>> MessageCarrier<T> {
    /// Sends `data` as one message of any length up to [`max_message`](Self::max_message). Ready when all of it is queued and
    /// flushed.
    ///
    /// Dropping the future before that withdraws the message: it arrives not at all, never in part. Nothing is sent before
    /// the first poll. While it waits it takes in what the peer sends.
    ///
    /// # Errors
    /// Kind `Oversize` above `max_message`: nothing was sent, the carrier lives on. `Closed` after a finish or close of this
    /// end, or when the peer has left; else what ended the track.
    pub fn send<'a>(&'a mut self, data: &'a [u8]) -> Sending<'a, T> {
        let cut = self.cut(data.len());
        Sending { carrier: self, data, cut, outcome: None }
    }

    /// [`send`](Self::send), for `limit` at most: a message that is not on its way by then is withdrawn, and the carrier lives
    /// on. Costs an alarm where it has to wait.
    ///
    /// # Errors
    /// As `send`; kind `TimedOut` with [`Phase::Send`] past the limit.
    pub fn send_within<'a>(
        &'a mut self,
        limit: Duration,
        data: &'a [u8],
    ) -> impl Future<Output = Result<(), CarrierError<T::Error>>> + use<'a, T> {
        let timer = self.timer();
        limited(timer, limit, Phase::Send, self.send(data))
    }

    /// Queues `data` as one message of up to [`eager_limit`](Self::eager_limit) bytes. Nothing goes out before a
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// `WouldBlock` without credits or send slots: what was queued was flushed, and what had arrived taken in. Else as
    /// [`send`](Self::send), with kind `Oversize` above `eager_limit`.
    #[inline]
    pub fn try_send(&mut self, data: &[u8]) -> Result<(), TryError<CarrierError<T::Error>>> {
        let mut buf = self.try_reserve(data.len())?;
        buf.copy_from_slice(data);
        self.send_buf(buf).map_err(|unsent| TryError::Failed(unsent.error))
    }

    /// Claims room for a message of `len` bytes, up to [`eager_limit`](Self::eager_limit), in registered memory.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<MessageBuf<T>, TryError<CarrierError<T::Error>>> {
        if len > self.sizes.eager_limit {
            return Err(TryError::Failed(CarrierError::Oversize { len, max: self.sizes.eager_limit }));
        }
        self.clear_way()?;
        let head = self.sizes.head;
        let frame = self.reserve(head + len)?;
        Ok(MessageBuf { frame, head, carrier: self.out.id })
    }

    /// Queues a message that was filled in place. It has its slot: this never blocks. Where more were reserved than there are
    /// credits, it waits for them inside and goes out, in order, in a later call of any sort.
    ///
    /// # Errors
    /// The buffer comes back: with kind `ForeignBuffer` where it is another carrier's; `Closed` after a finish or close of
    /// this end, or when the peer has left; else with what ended the track.
    #[inline]
    pub fn send_buf(&mut self, buf: MessageBuf<T>) -> Result<(), Unsent<MessageBuf<T>, CarrierError<T::Error>>> {
        if buf.carrier != self.out.id {
            return Err(Unsent { buf, error: CarrierError::ForeignBuffer });
        }
        let (carrier, head, len) = (buf.carrier, buf.head, buf.len());
        let queued = match self.out.is_clear() && self.credits.may_send(Rank::Data) {
            true => self.queue(buf.frame, Kind::Message),
            false => self.send_buf_late(buf.frame),
        };
        match queued {
            Ok(()) => {
                self.stats.messages_sent += 1;
                self.stats.bytes_sent += len as u64;
                Ok(())
            }
            Err(Unsent { buf: frame, error }) => Err(Unsent { buf: MessageBuf { frame, head, carrier }, error }),
        }
    }

    #[cold]
    fn send_buf_late(&mut self, frame: T::SendBuf) -> Result<(), Unsent<T::SendBuf, CarrierError<T::Error>>> {
        if let Some(error) = self.out.over() {
            return Err(Unsent { buf: frame, error });
        }
        self.out.abandon();
        self.advance();
        self.queue_or_keep(frame)
    }

    /// Rings the doorbell once for all that was queued.
    ///
    /// # Errors
    /// What ended the track.
    #[inline]
    pub fn flush(&mut self) -> Result<(), CarrierError<T::Error>> {
        if self.out.is_pending() {
            self.advance();
        }
        self.ring()
    }

    /// Ready when [`try_reserve`](Self::try_reserve) of a message would not say `WouldBlock`: there are credits and a send
    /// slot, or sending has ended. Flushes first; while it waits it takes in what the peer sends. One waker, which this shares
    /// with [`send`](Self::send), [`finish`](Self::finish) and [`close`](Self::close): the latest wins.
    pub fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.out.abandon();
        self.poll_way(cx)
    }

    pub(super) fn reserve(&mut self, len: usize) -> Result<T::SendBuf, TryError<CarrierError<T::Error>>> {
        let Some(track) = &mut self.track else { return Err(TryError::Failed(self.why_not())) };
        match track.try_reserve(len) {
            Ok(frame) => Ok(frame),
            Err(error) => Err(self.not_reserved(error)),
        }
    }

    /// Slots come back when what was queued has arrived: so it has to go out.
    #[cold]
    fn not_reserved(&mut self, error: TryError<T::Error>) -> TryError<CarrierError<T::Error>> {
        match error {
            TryError::Failed(error) => TryError::Failed(self.sending_failed(error)),
            TryError::WouldBlock => match self.ring() {
                Ok(()) => TryError::WouldBlock,
                Err(error) => TryError::Failed(error),
            },
        }
    }

    /// Clears the way for a new message, unless it is.
    #[inline]
    pub(super) fn clear_way(&mut self) -> Result<(), TryError<CarrierError<T::Error>>> {
        match self.out.is_clear() && self.credits.may_send(Rank::Data) {
            true => Ok(()),
            false => self.make_way(),
        }
    }

    /// Clears the way for a new message, as far as that can be done at once.
    #[cold]
    fn make_way(&mut self) -> Result<(), TryError<CarrierError<T::Error>>> {
        self.out.abandon();
        self.make_way_for_segment()
    }

    /// The same, for the message that was begun.
    fn make_way_for_segment(&mut self) -> Result<(), TryError<CarrierError<T::Error>>> {
        self.fill_stash();
        self.advance();
        if !self.way_is_clear()? {
            // The credits come with what arrives, and what was queued may be what the peer waits for.
            self.take_in();
            self.settle();
            if !self.way_is_clear()? {
                self.ring().map_err(TryError::Failed)?;
                self.stats.stalls += u64::from(!self.credits.may_send(Rank::Data));
                return Err(TryError::WouldBlock);
            }
        }
        Ok(())
    }

    fn way_is_clear(&self) -> Result<bool, TryError<CarrierError<T::Error>>> {
        match self.out.over() {
            Some(error) => Err(TryError::Failed(error)),
            None => Ok(self.out.is_clear_for_segment() && self.credits.may_send(Rank::Data)),
        }
    }

    /// Ready when the way is clear and the track has a slot, or sending has ended.
    pub(super) fn poll_way(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let way = self.make_way_for_segment();
            self.fan_out.writer().register(cx.waker());
            match way {
                Err(TryError::Failed(_)) => return Poll::Ready(()),
                Err(TryError::WouldBlock) if self.track.is_none() => return Poll::Ready(()),
                Err(TryError::WouldBlock) => ready!(self.poll_arrival(Side::Writer)),
                Ok(()) => return self.poll_send_slot(Side::Writer),
            }
        }
    }

    /// Queues the next segment of `data`.
    fn try_segment(&mut self, segment: Segment, data: &[u8]) -> Result<(), TryError<CarrierError<T::Error>>> {
        let first = segment.kind == Kind::First;
        match first {
            true if !(self.out.is_clear() && self.credits.may_send(Rank::Data)) => self.make_way()?,
            false if !self.way_is_clear()? => self.make_way_for_segment()?,
            _ => {}
        }
        let bytes = data.get(segment.start..segment.end).unwrap_or_default();
        let mut frame = self.reserve(segment.header + bytes.len())?;
        if first {
            stamp_total(&mut frame, data.len() as u64);
        }
        if let Some(room) = frame.get_mut(segment.header..) {
            room.copy_from_slice(bytes);
        }
        self.queue(frame, segment.kind).map_err(|unsent| TryError::Failed(unsent.error))?;
        self.stats.segments_sent += 1;
        self.out.set_open(true);
        Ok(())
    }

    /// Queues as much of a long message as there is room for.
    fn try_segments(&mut self, cut: &mut Cut, data: &[u8]) -> Result<(), TryError<CarrierError<T::Error>>> {
        while let Some(segment) = cut.next() {
            self.try_segment(segment, data)?;
            cut.sent(segment);
        }
        self.out.set_open(false);
        self.stats.messages_sent += 1;
        self.stats.bytes_sent += data.len() as u64;
        Ok(())
    }

    /// How a message of `len` bytes is cut where it does not fit a frame.
    pub(super) fn cut(&self, len: usize) -> Cut {
        Cut::new(len, self.sizes.frame)
    }

    /// Sends what is left of `data` after `cut`. Whoever gives up before it is ready has to [`withdraw`](Self::withdraw).
    pub(super) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
        cut: &mut Cut,
        data: &[u8],
    ) -> Poll<Result<(), CarrierError<T::Error>>> {
        loop {
            match self.try_message(cut, data) {
                Ok(()) => return Poll::Ready(self.ring()),
                Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                Err(TryError::WouldBlock) => ready!(self.poll_way(cx)),
            }
        }
    }

    /// The same without a wait, and without a doorbell at its end.
    pub(super) fn try_message(&mut self, cut: &mut Cut, data: &[u8]) -> Result<(), TryError<CarrierError<T::Error>>> {
        let (len, max) = (data.len(), self.sizes.max_message);
        if len <= self.sizes.eager_limit {
            self.try_send(data)
        } else if len <= max {
            self.try_segments(cut, data)
        } else {
            Err(TryError::Failed(CarrierError::Oversize { len, max }))
        }
    }

    /// Withdraws the message that was begun, at once if possible; else before anything else is sent.
    pub(super) fn withdraw(&mut self) {
        if self.out.abandon() && self.advance() {
            let _ = self.ring();
        }
    }
}

/// A message on its way: see [`MessageCarrier::send`].
#[must_use = "nothing is sent before the first poll"]
pub struct Sending<'a, T: Track<Delivery: Lossless + InOrder>> {
    carrier: &'a mut MessageCarrier<T>,
    data: &'a [u8],
    cut: Cut,
    outcome: Option<Result<(), CarrierError<T::Error>>>,
}

// Nothing in it is pinned.
impl<T: Track<Delivery: Lossless + InOrder>> Unpin for Sending<'_, T> {}

impl<T: Track<Delivery: Lossless + InOrder>> Future for Sending<'_, T> {
    type Output = Result<(), CarrierError<T::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(outcome) = &this.outcome {
            return Poll::Ready(outcome.clone());
        }
        let outcome = ready!(this.carrier.poll_message(cx, &mut this.cut, this.data));
        this.outcome = Some(outcome.clone());
        Poll::Ready(outcome)
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Drop for Sending<'_, T> {
    fn drop(&mut self) {
        if self.outcome.is_none() && self.cut.begun() {
            self.carrier.withdraw();
        }
    }
}
