//! Ends: half, and whole.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use trespass_core::{ErrorKind, InOrder, Lossless, Timer, Track, TransportError, TryError};

use crate::closing::Closing;
use crate::error::{CarrierError, Phase};
use crate::side::Side;
use crate::stream::link::Link;

impl<T: Track<Delivery: Lossless + InOrder>> Link<T> {
    /// Says that no more bytes come, and waits until the peer's device has them all.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        self.out.finish();
        loop {
            if self.nobody_listens() {
                return Poll::Ready(Ok(()));
            }
            self.advance();
            if self.out.has_finished() {
                return self.poll_drained(cx);
            }
            match &self.send_error {
                Some(_) if self.nobody_listens() => return Poll::Ready(Ok(())),
                Some(error) => return Poll::Ready(Err(error.clone())),
                None if self.closing.is_some() => return Poll::Ready(Err(CarrierError::Closed)),
                None => ready!(self.poll_progress(cx)),
            }
        }
    }

    /// Whether there is nobody to say an end to: the peer has left, or had said all and is gone.
    fn nobody_listens(&self) -> bool {
        let gone = |error: &CarrierError<T::Error>| matches!(error.kind(), ErrorKind::Closed | ErrorKind::Disconnected);
        self.inbound.peer_left() || (self.inbound.finished() && self.send_error.as_ref().is_some_and(gone))
    }

    /// Ready when every send slot has come back: then all has arrived, and whoever drops the stream takes nothing from the
    /// peer.
    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        loop {
            if self.has_drained {
                return Poll::Ready(Ok(()));
            }
            self.fill_stash();
            let stashed = self.stashed();
            let Some(track) = &mut self.track else { return Poll::Ready(self.drained_by_end()) };
            match track.try_reserve(0) {
                Ok(slot) => {
                    self.drained.push(slot);
                    if self.drained.len() + stashed >= track.limits().send_slots {
                        self.has_drained = true;
                        self.drained = Vec::new();
                    }
                }
                Err(TryError::WouldBlock) => ready!(self.poll_slot(Side::Writer, cx)),
                Err(TryError::Failed(error)) => {
                    self.sending_failed(error);
                    return Poll::Ready(self.drained_by_end());
                }
            }
        }
    }

    /// The track has ended, and the Fin was said. A peer that is gone wants nothing more; what else went wrong is told.
    fn drained_by_end(&self) -> Result<(), CarrierError<T::Error>> {
        match &self.send_error {
            Some(error) if !matches!(error.kind(), ErrorKind::Closed | ErrorKind::Disconnected) => Err(error.clone()),
            // It is the close that waits for it now.
            None if self.closing.is_some() => Err(CarrierError::Closed),
            _ => Ok(()),
        }
    }

    pub(super) fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        let outcome = match self.closing.take().unwrap_or_else(|| self.start_closing()) {
            Closing::Over(outcome) => outcome,
            Closing::Under { mut deadline, mut parting } => {
                let timed_out = Pin::new(&mut deadline).poll(cx).is_ready();
                match self.poll_end(cx, &mut parting) {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending if timed_out => Err(CarrierError::TimedOut(Phase::Close)),
                    Poll::Pending => {
                        self.closing = Some(Closing::Under { deadline, parting });
                        return Poll::Pending;
                    }
                }
            }
        };
        self.shut(outcome.clone().err().unwrap_or(CarrierError::Closed));
        self.closing = Some(Closing::Over(outcome.clone()));
        Poll::Ready(outcome)
    }

    fn start_closing(&mut self) -> Closing<T> {
        self.inbound.discard();
        let Some(track) = &self.track else {
            return Closing::Over(self.ended_before());
        };
        let deadline = track.timer().sleep(self.config.close_timeout);
        self.pulse.stop();
        self.drained.clear();
        self.out.leave();
        Closing::Under { deadline, parting: None }
    }

    /// How clean an end was that came before the close.
    fn ended_before(&self) -> Result<(), CarrierError<T::Error>> {
        match (&self.recv_error, &self.send_error) {
            _ if self.ended_well() => Ok(()),
            // Without an error of its own, reading was ended by the close itself.
            (Some(error), _) if !matches!(error, CarrierError::Closed) => Err(error.clone()),
            (_, Some(error)) => Err(error.clone()),
            (_, None) => Ok(()),
        }
    }

    /// Whether nothing was lost, whatever became of the track: the peer left, or both ends had said their last.
    fn ended_well(&self) -> bool {
        let gone = |error: &CarrierError<T::Error>| matches!(error, CarrierError::Closed | CarrierError::Disconnected);
        let said = self.inbound.peer_left() || (self.inbound.finished() && self.has_drained);
        said && [&self.recv_error, &self.send_error].into_iter().flatten().all(gone)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, parting: &mut Option<T>) -> Poll<Result<(), CarrierError<T::Error>>> {
        if parting.is_none() {
            ready!(self.poll_saying(cx));
            *parting = self.track.take();
        }
        self.slots.writer().register(cx.waker());
        let Some(track) = parting else { return Poll::Ready(self.ended_before()) };
        let Err(error) = ready!(track.poll_close(&mut Context::from_waker(self.slots.waker()))) else {
            return Poll::Ready(self.ended_before());
        };
        self.track = parting.take();
        // A peer that left at the same time is no failure: its goodbye may be among what has arrived. After that the track says
        // that it is closed, which is this end's doing.
        self.take_arrived();
        let error = self.ended(error);
        self.send_error.get_or_insert(error);
        Poll::Ready(self.ended_before())
    }

    /// Ready when the goodbye is queued, or cannot be.
    fn poll_saying(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.advance();
            if self.track.is_none() || self.out.next().is_none() {
                // What cannot be flushed, the close of the track will say.
                let _ = self.ring();
                return Poll::Ready(());
            }
            ready!(self.poll_progress(cx));
        }
    }

    /// Lets go of the track.
    fn shut(&mut self, error: CarrierError<T::Error>) {
        self.track = None;
        self.inbound.discard();
        let first = self.end_sending(error);
        self.recv_error.get_or_insert(first);
        self.wake_all();
    }

    /// Ends a stream that nobody can finish any more. What had arrived can still be read.
    pub(super) fn abandon(&mut self) {
        if !self.out.has_finished() && self.send_error.is_none() {
            self.fail(CarrierError::Closed);
        }
    }
}
