//! Writing: bytes in, frames out; and credits, whoever sends them.

use std::task::{Context, Poll, ready};

use trespass_core::{InOrder, Lossless, SendBuf, Track, TryError, Unsent};

use crate::credit::Rank;
use crate::error::{CarrierError, Phase};
use crate::pulse::Sign;
use crate::side::Side;
use crate::stream::link::{Link, STASH, TURN};
use crate::stream::outbound::{Next, Slices};
use crate::wire::{HEADER, Kind, stamp};

impl<T: Track<Delivery: Lossless + InOrder>> Link<T> {
    /// Takes as many bytes as there is room for: at least one, if there are any.
    pub(in crate::stream) fn put(
        &mut self,
        bytes: &mut Slices<'_, '_>,
    ) -> Result<usize, TryError<CarrierError<T::Error>>> {
        let (mut put, queued) = (0, self.stats.frames_sent);
        let outcome = loop {
            if bytes.len() == 0 || put >= TURN {
                break Ok(());
            }
            match self.put_frame(bytes, put > 0) {
                Ok(copied) => put += copied,
                Err(error) => break Err(error),
            }
        };
        self.stats.bytes_sent += put as u64;
        if self.stats.frames_sent > queued {
            // Errors stick: whoever writes next is told.
            let _ = self.ring();
        }
        match outcome {
            Err(error) if put == 0 => Err(error),
            _ => Ok(put),
        }
    }

    /// Puts bytes into one frame, and sends that unless it is to wait for more.
    fn put_frame(
        &mut self,
        bytes: &mut Slices<'_, '_>,
        put_some: bool,
    ) -> Result<usize, TryError<CarrierError<T::Error>>> {
        if !self.may_put() {
            match put_some {
                true => return Err(TryError::WouldBlock),
                false => self.make_way()?,
            }
        }
        if self.out.is_empty() {
            let len = match self.config.coalesce {
                true => self.room,
                false => self.room.min(bytes.len()),
            };
            let frame = self.reserve(self.head + len)?;
            self.out.open(frame, self.head);
        }
        let copied = self.out.fill(bytes);
        if !self.config.coalesce {
            self.out.push();
        }
        self.advance();
        Ok(copied)
    }

    #[inline]
    fn may_put(&self) -> bool {
        let over = self.out.is_over() || self.send_error.is_some();
        !over && (self.out.has_room() || (self.out.is_empty() && self.credits.may_send(Rank::Data)))
    }

    /// Why nothing can be written, if so.
    pub(in crate::stream) fn over(&self) -> Option<CarrierError<T::Error>> {
        match (&self.send_error, self.out.is_over()) {
            (Some(error), _) => Some(error.clone()),
            (None, true) => Some(CarrierError::Closed),
            (None, false) => None,
        }
    }

    /// Clears the way for bytes, as far as that can be done at once.
    #[cold]
    fn make_way(&mut self) -> Result<(), TryError<CarrierError<T::Error>>> {
        self.fill_stash();
        self.advance();
        if !self.may_put() && self.over().is_none() {
            // The credits come with what arrives, and what was queued may be what the peer waits for.
            self.take_in();
            self.settle(Side::Writer);
        }
        match self.over() {
            Some(error) => Err(TryError::Failed(error)),
            None if self.may_put() => Ok(()),
            None => {
                self.ring().map_err(TryError::Failed)?;
                self.stats.stalls += 1;
                Err(TryError::WouldBlock)
            }
        }
    }

    /// Ready when there is room for bytes, or writing has ended.
    pub(in crate::stream) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.make_way() {
                Err(TryError::Failed(_)) => return Poll::Ready(()),
                Err(TryError::WouldBlock) => {
                    self.writer_waits = true;
                    ready!(self.poll_arrival(Side::Writer, cx));
                }
                Ok(()) if self.out.has_room() => return Poll::Ready(()),
                Ok(()) => return self.poll_slot(Side::Writer, cx),
            }
        }
    }

    /// Sends what was put in and waits for more; ready when it is on its way.
    pub(in crate::stream) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        if self.out.is_empty() && matches!(self.send_error, None | Some(CarrierError::Closed)) {
            // Every write rang for itself, and a peer that left is told of by the next one.
            return Poll::Ready(Ok(()));
        }
        self.out.push();
        loop {
            self.advance();
            if let Some(error) = &self.send_error {
                return Poll::Ready(Err(error.clone()));
            }
            if self.out.next() != Some(Next::Bytes) {
                return Poll::Ready(self.ring());
            }
            ready!(self.poll_progress(cx));
        }
    }

    /// Waits for whatever may let go out what is to.
    pub(in crate::stream) fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.take_in();
        if self.advance() {
            return Poll::Ready(());
        }
        self.writer_waits = true;
        self.poll_arrival(Side::Writer, cx)
    }

    fn reserve(&mut self, len: usize) -> Result<T::SendBuf, TryError<CarrierError<T::Error>>> {
        let Some(track) = &mut self.track else { return Err(TryError::Failed(self.why_not())) };
        match track.try_reserve(len) {
            Ok(frame) => Ok(frame),
            Err(TryError::Failed(error)) => Err(TryError::Failed(self.sending_failed(error))),
            // Slots come back when what was queued has arrived: so it has to go out.
            Err(TryError::WouldBlock) => match self.ring() {
                Ok(()) => Err(TryError::WouldBlock),
                Err(error) => Err(TryError::Failed(error)),
            },
        }
    }

    /// Sends what may be sent of what is to go out, in order, and returns whether anything was.
    pub(in crate::stream) fn advance(&mut self) -> bool {
        let mut queued = false;
        while let Some(next) = self.out.next().filter(|next| self.credits.may_send(next.rank())) {
            let sent = match next {
                Next::Bytes => self.out.take().is_some_and(|frame| self.queue(frame, Kind::Bytes)),
                Next::Fin => self.queue_control(Kind::Fin, Rank::Fin),
                Next::Bye => self.queue_control(Kind::Bye, Rank::Bye),
            };
            if !sent {
                break;
            }
            self.stats.frames_sent += u64::from(next == Next::Bytes);
            self.out.said(next);
            queued = true;
        }
        queued
    }

    #[inline]
    fn queue(&mut self, mut frame: T::SendBuf, kind: Kind) -> bool {
        let Some(track) = &mut self.track else { return false };
        let posted = track.posted();
        let sent = match (kind, self.head) {
            (Kind::Bytes, 0) => track.send_immediate(frame, posted as u32),
            _ => {
                stamp(&mut frame, kind, posted);
                track.send(frame).map_err(Unsent::certain)
            }
        };
        match sent {
            Ok(()) => {
                self.credits.on_sent(posted);
                true
            }
            Err(Unsent { error: Some(error), .. }) => {
                self.sending_failed(error);
                false
            }
            Err(Unsent { error: None, .. }) => {
                self.fail(CarrierError::NotCarried);
                false
            }
        }
    }

    /// Queues a frame of control from the stash, if it may go now.
    fn queue_control(&mut self, kind: Kind, rank: Rank) -> bool {
        if !self.credits.may_send(rank) {
            return false;
        }
        self.fill_stash();
        let Some(mut frame) = self.stash.pop() else { return false };
        frame.truncate(HEADER);
        let queued = self.queue(frame, kind);
        self.fill_stash();
        queued
    }

    fn queue_credit(&mut self) -> bool {
        let queued = self.queue_control(Kind::Credit, Rank::Credit);
        self.stats.credit_updates_sent += u64::from(queued);
        queued
    }

    pub(super) fn wants_slot(&self) -> bool {
        self.stash.len() < STASH && !self.out.is_dead()
    }

    /// Fills the stash up, as far as there are slots: before anything else may have them.
    pub(in crate::stream) fn fill_stash(&mut self) {
        while self.wants_slot() {
            let Some(track) = &mut self.track else { return };
            match track.try_reserve(HEADER) {
                Ok(frame) => self.stash.push(frame),
                Err(TryError::WouldBlock) => return,
                Err(TryError::Failed(error)) => {
                    self.sending_failed(error);
                    return;
                }
            }
        }
    }

    /// How many slots are kept back.
    pub(in crate::stream) fn stashed(&self) -> usize {
        self.stash.len()
    }

    /// Gives the peer its credits, if they are due in mid-conversation.
    #[cold]
    pub(super) fn report(&mut self) {
        let due = self.track.as_ref().is_some_and(|track| self.credits.due(track.posted()));
        if due && (self.advance_for(Side::Reader) || self.queue_credit()) {
            let _ = self.ring();
        }
    }

    /// Sends what may be sent of what waits, and the peer's credits if they are due. For an end that is about to wait.
    pub(super) fn settle(&mut self, side: Side) {
        let due = self.track.as_ref().is_some_and(|track| self.credits.due_before_wait(track.posted()));
        if due || self.out.next().is_some() || self.pulse.is_due() {
            self.settle_now(due, side);
        }
    }

    #[cold]
    fn settle_now(&mut self, due: bool, side: Side) {
        let mut queued = self.advance_for(side);
        // Whatever went out has said the credits too.
        if due && !queued {
            queued = self.queue_credit();
        }
        if self.pulse.is_due() {
            queued |= self.feel_pulse();
        }
        if queued {
            // Errors stick: whoever writes next is told.
            let _ = self.ring();
        }
    }

    /// Says that this end is there, or ends what the peer has left to silence. Whether anything was queued.
    fn feel_pulse(&mut self) -> bool {
        let Some(track) = &self.track else { return false };
        match self.pulse.look(&track.timer(), &self.credits) {
            Sign::Fine => false,
            Sign::Beat => {
                let queued = self.queue_control(Kind::Credit, Rank::Data);
                self.stats.beats_sent += u64::from(queued);
                queued
            }
            Sign::Silence => {
                self.fail(CarrierError::TimedOut(Phase::Idle));
                false
            }
        }
    }

    /// What the reader sends may be what the writer waits for.
    fn advance_for(&mut self, side: Side) -> bool {
        let queued = self.advance();
        if queued && side == Side::Reader {
            self.arrivals.writer().wake();
        }
        queued
    }

    /// Rings the doorbell.
    #[inline]
    pub(in crate::stream) fn ring(&mut self) -> Result<(), CarrierError<T::Error>> {
        let Some(track) = &mut self.track else { return Err(self.why_not()) };
        match track.flush() {
            Ok(()) => Ok(()),
            Err(error) => Err(self.sending_failed(error)),
        }
    }

    /// Why nothing can be sent.
    #[cold]
    fn why_not(&self) -> CarrierError<T::Error> {
        self.over().unwrap_or(CarrierError::Closed)
    }
}
