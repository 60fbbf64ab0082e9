//! Credits, without IO: how many more frames each end may send.
//!
//! # The rule
//! Every frame carries how many receives its sender has *posted* since the start, so that its receiver knows up to which
//! frame it may send. The counts are cumulative: one that comes late or twice does no harm. An end sends a frame only
//! while fewer were sent than were granted; so there is always a receive posted for it, and a receiver that is not ready
//! is never met (where receives are shared it may be, for a moment: `Limits::recv_shared`).
//!
//! The last of the credits are kept back for control, each [`Rank`] down to a floor of its own: data leaves
//! [`CONTROL_RESERVE`], an Abort one fewer, a Fin one fewer, a Bye one fewer, and only a Credit uses the very last. Fin and Bye
//! come once, and an Abort needs a First before it, so they cannot use the reserve up; Credits can, but each one means that
//! more has been granted, and the peer answers every second one. Once nothing is under way three credits are left at least,
//! whatever the peer's application holds: an end can always be said.
//!
//! # When credits are sent by themselves
//! Traffic in both directions needs no Credit frame. Otherwise one is due
//! - when the receives posted and not yet reported are half the window; and
//! - before this end waits, when the peer has too few left for data, and two or more are not yet reported.
//!
//! A Credit frame itself makes the peer post one receive more, which alone makes none due: the exchange dies out. (A
//! [beat](crate::pulse) is a Credit frame too, but ranks as data.)
//!
//! # Why no deadlock
//! Frames of control are consumed when they are taken from the track, and never held. Suppose that both ends had used their
//! last credit, and nothing were under way. The last credit goes to a Credit frame, and that grants more than was granted
//! before: so whoever was granted it, having none left, has sent after it arrived. Each end's last frame would then have
//! been sent after the other's had arrived; which cannot be. So at least one end has a credit left, and sends its Credit
//! when one is due; after that so has the other. With all frames consumed and all receives posted again, either the peer
//! has credits for data, or two are not reported and a Credit is due: data flows. The model beside this walks every state
//! that two ends can reach, and finds the same.
//!
//! # What an application may hold
//! An end whose application holds messages posts fewer receives. As long as it holds at most ¾ of its receive slots less 5,
//! the next message always comes through (a track may sit on a quarter of its slots to post them in a batch). Above that
//! the peer may have to wait until some are let go.

use crate::error::Violation;
use crate::planted::{self, Bug};

/// How many of the peer's receives are kept free of data.
pub(crate) const CONTROL_RESERVE: u64 = 4;

/// What a frame is for: what is more needed may go lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    Data,
    Abort,
    Fin,
    Bye,
    Credit,
}

impl Rank {
    /// How many credits must be left for others.
    const fn floor(self) -> u64 {
        match self {
            Self::Data => CONTROL_RESERVE,
            Self::Abort => 3,
            Self::Fin => 2,
            Self::Bye => 1,
            Self::Credit => 0,
        }
    }
}

/// Both directions of one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Credits {
    /// Frames sent.
    sent: u64,
    /// Up to which frame the peer lets this end send.
    granted: u64,
    peer_window: u64,
    /// Frames received.
    received: u64,
    /// Up to which frame this end told the peer that it may send.
    advertised: u64,
    /// Half the window: that many receives, posted and not reported, are worth a frame.
    threshold: u64,
    /// When that many are received, it is time to look whether they are posted again.
    report_at: u64,
}

impl Credits {
    /// Before the handshake: each end may send its first frame, and no more.
    pub(crate) fn new(window: u32, peer_window: u32) -> Self {
        let threshold = u64::from(window / 2);
        let peer_window = u64::from(peer_window);
        Self { sent: 0, granted: 0, peer_window, received: 0, advertised: 1, threshold, report_at: threshold }
    }

    /// Whether a frame of this rank may be sent.
    #[inline]
    pub(crate) fn may_send(&self, rank: Rank) -> bool {
        self.granted > self.sent + rank.floor()
    }

    /// Notes a frame that was sent, and that it said `posted`.
    #[inline]
    pub(crate) fn on_sent(&mut self, posted: u64) {
        self.sent += 1;
        self.advertised = posted;
        self.report_at = self.received + self.threshold;
    }

    /// Notes a frame that was received, and the low 32 bits of what it says is posted.
    ///
    /// # Errors
    /// A grant beyond what the peer's window allows, or below what it had granted; a frame that had no credit.
    #[inline]
    pub(crate) fn on_received(&mut self, posted: u32) -> Result<(), Violation> {
        let more = posted.wrapping_sub(self.granted as u32);
        let granted = self.granted + u64::from(more);
        // A fall comes out as more than any window: one comparison finds both.
        if granted > self.sent + self.peer_window || self.received >= self.advertised {
            return Err(self.violation(granted, more));
        }
        self.granted = granted;
        self.received += 1;
        Ok(())
    }

    #[cold]
    fn violation(&self, granted: u64, more: u32) -> Violation {
        if self.received >= self.advertised {
            return Violation::BeyondCredit(self.advertised);
        }
        match more > u32::MAX / 2 {
            true => Violation::CreditFell(more.wrapping_neg()),
            false => Violation::CreditBeyondWindow { granted, limit: self.sent + self.peer_window },
        }
    }

    /// Whether so much was received since the last report that [`due`](Self::due) is worth asking.
    #[inline]
    pub(crate) fn may_be_due(&self) -> bool {
        self.received >= self.report_at
    }

    /// Whether a Credit frame should go out, now that `posted` receives are posted.
    #[inline]
    pub(crate) fn due(&self, posted: u64) -> bool {
        posted.saturating_sub(self.advertised) >= self.threshold
    }

    /// The same, for an end that is about to wait.
    #[inline]
    pub(crate) fn due_before_wait(&self, posted: u64) -> bool {
        let starved = self.advertised <= self.received + CONTROL_RESERVE;
        self.due(posted) || (starved && !planted::is(Bug::Credits) && posted.saturating_sub(self.advertised) >= 2)
    }

    /// Two numbers that grow: the first whenever this end says something; the second when the peer does, and when it is
    /// granted more, since before that it may have had to be silent.
    pub(crate) fn signs_of_life(&self) -> (u64, u64) {
        (self.sent, self.received + self.advertised)
    }

    /// Whether the peer has been told that it may send more than control.
    pub(crate) fn peer_may_speak(&self) -> bool {
        self.advertised > self.received + CONTROL_RESERVE
    }

    /// Whether the peer has used up half of what it may send: time to make room.
    pub(crate) fn peer_runs_low(&self) -> bool {
        self.advertised <= self.received + self.threshold.max(CONTROL_RESERVE)
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
