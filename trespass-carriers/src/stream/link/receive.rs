//! Reading: frames in, bytes out.

use std::task::{Context, Poll, ready};

use trespass_core::{InOrder, Lossless, Track, TryError};

use crate::credit::Rank;
use crate::error::{CarrierError, Violation};
use crate::side::Side;
use crate::stream::link::Link;
use crate::stream::outbound::Next;
use crate::wire::{HEADER, StreamFrame};

impl<T: Track<Delivery: Lossless + InOrder>> Link<T> {
    /// The next frame of bytes, and where they begin in it; `None` after the peer's last.
    #[inline]
    pub(in crate::stream) fn next(&mut self) -> Result<Option<(T::RecvBuf, usize)>, TryError<CarrierError<T::Error>>> {
        loop {
            // A report that fails takes in what had arrived: then that is next.
            if let Some(frame) = self.inbound.next() {
                let head = self.head_of(&frame);
                return Ok(Some((frame, head)));
            }
            if self.inbound.finished() {
                // What else comes is for whoever writes.
                return Ok(None);
            }
            let Some(track) = &mut self.track else { return self.end() };
            match track.try_recv() {
                Ok(frame) => {
                    let bytes = self.admit(&frame)?;
                    if self.writer_waits {
                        self.hail_writer();
                    }
                    // Control is given back at once: the credits count on it.
                    let frame = (bytes && self.inbound.is_wanted()).then_some(frame);
                    if self.credits.may_be_due() {
                        self.report();
                    }
                    if let Some(frame) = frame {
                        let head = self.head_of(&frame);
                        return Ok(Some((frame, head)));
                    }
                }
                Err(TryError::WouldBlock) => return Err(TryError::WouldBlock),
                Err(TryError::Failed(error)) => self.track_ended(error),
            }
        }
    }

    /// The same; a reader that finds nothing sends what was written and not flushed, and the peer's credits.
    pub(in crate::stream) fn try_next(
        &mut self,
    ) -> Result<Option<(T::RecvBuf, usize)>, TryError<CarrierError<T::Error>>> {
        let next = self.next();
        if let Err(TryError::WouldBlock) = next {
            self.out.push();
            self.settle(Side::Reader);
        }
        next
    }

    /// The same, or a wait for it.
    pub(in crate::stream) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<(T::RecvBuf, usize)>, CarrierError<T::Error>>> {
        loop {
            match self.next() {
                Ok(frame) => return Poll::Ready(Ok(frame)),
                Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                Err(TryError::WouldBlock) => self.out.push(),
            }
            ready!(self.poll_arrival(Side::Reader, cx));
        }
    }

    /// What reading ends with.
    #[cold]
    fn end(&mut self) -> Result<Option<(T::RecvBuf, usize)>, TryError<CarrierError<T::Error>>> {
        // Without an error it is a close of this end that is under way; and what was told once is told again.
        Err(TryError::Failed(self.recv_error.get_or_insert(CarrierError::Closed).clone()))
    }

    /// The credits beside a frame that is bare.
    #[inline]
    fn bare(&self, frame: &T::RecvBuf) -> Option<u32> {
        if self.head == 0 { T::immediate(frame) } else { None }
    }

    /// Where the bytes of a frame begin.
    #[inline]
    fn head_of(&self, frame: &T::RecvBuf) -> usize {
        if self.bare(frame).is_some() { 0 } else { HEADER }
    }

    /// Checks a frame, and does what it says. Whether it has bytes.
    #[inline]
    fn admit(&mut self, frame: &T::RecvBuf) -> Result<bool, TryError<CarrierError<T::Error>>> {
        let parsed = match self.bare(frame) {
            Some(credits) => StreamFrame::bare(frame.len()).map(|frame| (frame, credits)),
            None => StreamFrame::parse(frame),
        };
        let parsed = parsed.and_then(|(frame, credits)| {
            self.credits.on_received(credits)?;
            self.inbound.admit(&frame)?;
            Ok(frame)
        });
        match parsed {
            Ok(StreamFrame::Bytes { len }) => {
                self.stats.frames_received += 1;
                self.stats.bytes_received += len as u64;
                return Ok(true);
            }
            Ok(StreamFrame::Credit) => self.stats.credit_updates_received += 1,
            Ok(StreamFrame::Fin) => {}
            Ok(StreamFrame::Bye) => self.peer_left(),
            Ok(StreamFrame::Refuse(refusal)) => {
                return Err(TryError::Failed(self.fail(CarrierError::Refused(refusal))));
            }
            Err(violation) => return Err(self.violated(violation)),
        }
        Ok(false)
    }

    #[cold]
    fn peer_left(&mut self) {
        self.out.peer_left();
        self.send_error.get_or_insert(CarrierError::Closed);
        self.arrivals.writer().wake();
        self.slots.writer().wake();
    }

    #[cold]
    fn violated(&mut self, violation: Violation) -> TryError<CarrierError<T::Error>> {
        TryError::Failed(self.fail(CarrierError::Protocol(violation)))
    }

    /// The writer waits for what the reader may have taken in.
    #[cold]
    fn hail_writer(&mut self) {
        let rank = self.out.next().map_or(Rank::Data, Next::rank);
        if self.credits.may_send(rank) {
            self.writer_waits = false;
            self.arrivals.writer().wake();
        }
    }

    /// Takes in what has arrived, for the sake of the credits that come with it. Bytes wait for whoever reads.
    pub(in crate::stream) fn take_in(&mut self) {
        if let Some(error) = self.take_arrived() {
            self.track_ended(error);
        }
    }

    /// The same, and no conclusions: how the track has ended, if it has.
    pub(in crate::stream) fn take_arrived(&mut self) -> Option<T::Error> {
        let mut any = false;
        let mut end = None;
        while let Some(track) = &mut self.track {
            match track.try_recv() {
                Ok(frame) => match self.admit(&frame) {
                    Ok(true) => self.inbound.store(frame),
                    Ok(false) => {}
                    Err(_) => break,
                },
                Err(TryError::WouldBlock) => break,
                Err(TryError::Failed(error)) => {
                    end = Some(error);
                    break;
                }
            }
            any = true;
        }
        if any {
            self.arrivals.reader().wake();
        }
        end
    }
}
