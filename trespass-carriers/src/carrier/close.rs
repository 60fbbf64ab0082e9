//! Ends: half, and whole.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use trespass_core::{InOrder, Lossless, Timer, Track};

use crate::carrier::MessageCarrier;
use crate::closing::Closing;
use crate::error::{CarrierError, Phase};
use crate::planted::{self, Bug};
use crate::side::Side;

impl<T: Track<Delivery: Lossless + InOrder>> MessageCarrier<T> {
    /// Says that no more messages come, after all that are queued. The other direction goes on: this end may go on
    /// receiving. Idempotent; dropping the future loses nothing: call again to go on.
    ///
    /// # Errors
    /// Kind `Closed` when the peer has left; else what ended the track.
    pub fn finish(&mut self) -> Finishing<'_, T> {
        Finishing { carrier: self }
    }

    /// [`finish`](Self::finish), in the form of a poll. Ready when all is queued and flushed. One waker: see
    /// [`poll_send_ready`](Self::poll_send_ready).
    ///
    /// # Errors
    /// As `finish`.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        self.out.abandon();
        self.out.finish();
        self.fan_out.writer().register(cx.waker());
        loop {
            self.advance();
            if self.out.has_finished() {
                // It was said; what becomes of the track after it is for others to tell.
                let _ = self.ring();
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = self.out.error() {
                return Poll::Ready(Err(error.clone()));
            }
            if self.closing.is_some() {
                return Poll::Ready(Err(CarrierError::Closed));
            }
            ready!(self.poll_progress());
        }
    }

    /// Waits for whatever may let what is queued go out.
    fn poll_progress(&mut self) -> Poll<()> {
        self.take_in();
        match self.advance() {
            true => Poll::Ready(()),
            false => self.poll_arrival(Side::Writer),
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
        self.inbox.discard();
        let Some(track) = &self.track else {
            return Closing::Over(self.ended_before());
        };
        let deadline = track.timer().sleep(self.config.close_timeout);
        self.pulse.stop();
        self.out.leave();
        self.lends.leave();
        Closing::Under { deadline, parting: None }
    }

    /// How clean an end was that came before the close.
    fn ended_before(&self) -> Result<(), CarrierError<T::Error>> {
        match (&self.recv_error, self.out.error()) {
            // That one comes of the close itself.
            (Some(error), _) if !matches!(error, CarrierError::Closed) => Err(error.clone()),
            (_, Some(error)) if !self.peer_left => Err(error.clone()),
            _ => Ok(()),
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, parting: &mut Option<T>) -> Poll<Result<(), CarrierError<T::Error>>> {
        self.fan_out.writer().register(cx.waker());
        if parting.is_none() {
            ready!(self.poll_saying());
            *parting = self.track.take();
        }
        let Some(track) = parting else { return Poll::Ready(self.ended_before()) };
        let Err(error) = ready!(track.poll_close(&mut Context::from_waker(self.fan_out.waker()))) else {
            return Poll::Ready(self.ended_before());
        };
        self.track = parting.take();
        // A peer that left at the same time is no failure: its goodbye may be among what has arrived. After that the track says
        // that it is closed, which is this end's doing.
        if !planted::is(Bug::Drain) {
            self.take_arrived();
        }
        let error = self.ended(error);
        Poll::Ready(match self.peer_left {
            true => Ok(()),
            false => Err(self.out.error().cloned().unwrap_or(error)),
        })
    }

    /// Ready when the goodbye is queued, or cannot be.
    fn poll_saying(&mut self) -> Poll<()> {
        loop {
            self.advance();
            if self.track.is_none() || !self.out.is_pending() {
                // What cannot be flushed, the close of the track will say.
                let _ = self.ring();
                return Poll::Ready(());
            }
            ready!(self.poll_progress());
        }
    }

    /// Lets go of the track. What was to be received is received, or never will be.
    fn shut(&mut self, error: CarrierError<T::Error>) {
        self.track = None;
        let first = self.out.fail(error);
        if !self.inbox.finished() {
            self.recv_error.get_or_insert(first);
        }
        self.fan_out.waker().wake_by_ref();
    }
}

/// A Fin on its way: see [`MessageCarrier::finish`].
#[must_use = "nothing is said before the first poll"]
pub struct Finishing<'a, T: Track<Delivery: Lossless + InOrder>> {
    carrier: &'a mut MessageCarrier<T>,
}

impl<T: Track<Delivery: Lossless + InOrder>> Future for Finishing<'_, T> {
    type Output = Result<(), CarrierError<T::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().carrier.poll_finish(cx)
    }
}
