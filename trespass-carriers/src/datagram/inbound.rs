//! What becomes of what arrives, without IO.

use std::sync::Arc;
use std::time::Duration;

use super::assembly::{Added, Assemblies, Bounds};
use super::stats::DatagramStats;
use super::window::{Verdict, Window};
use super::wire::{Misfit, Packet, Segment};
use crate::pool::{Pool, Pooled};

/// The receiving end of a session.
#[derive(Debug)]
pub(super) struct Inbound {
    session: u32,
    max_message: usize,
    window: Window,
    assemblies: Assemblies,
    stats: DatagramStats,
}

/// What a datagram comes to.
#[derive(Debug)]
pub(super) enum Taken {
    Nothing,
    /// The datagram is a message, behind its header.
    Whole,
    Assembled(Pooled),
    /// The peer leaves.
    Bye,
    /// The peer waits to hear that its Welcome came.
    Welcome,
}

impl Inbound {
    pub(super) fn new(session: u32, slots: usize, bounds: Bounds, pool: Arc<Pool>) -> Self {
        let assemblies = Assemblies::new(slots, bounds, pool);
        let (max_message, stats) = (bounds.max_message, DatagramStats::default());
        Self { session, max_message, window: Window::new(), assemblies, stats }
    }

    pub(super) fn stats(&self) -> DatagramStats {
        DatagramStats { missed: self.window.missed(), ..self.stats }
    }

    /// Takes a datagram in. `now` is asked where a message begins that is longer than one datagram.
    #[inline]
    pub(super) fn take(&mut self, datagram: &[u8], now: impl FnOnce() -> Duration) -> Taken {
        match Packet::parse(datagram, self.session) {
            Ok(Packet::Whole { number, len }) if len <= self.max_message => self.take_whole(number, len),
            Ok(Packet::Segment { number, segment }) if self.assemblies.fits(&segment) => {
                self.take_segment(number, &segment, now)
            }
            Ok(Packet::Bye) => Taken::Bye,
            Ok(Packet::Welcome) => Taken::Welcome,
            Ok(Packet::Beat | Packet::Ready) => Taken::Nothing,
            Err(Misfit::Stale) => count(&mut self.stats.stale),
            Ok(_) | Err(Misfit::Garbage) => count(&mut self.stats.garbage),
        }
    }

    #[inline]
    fn take_whole(&mut self, number: u32, len: usize) -> Taken {
        match self.window.admit(number) {
            Verdict::Fresh => {}
            verdict => return self.turn_away(verdict),
        }
        // A number is of one message.
        if self.assemblies.has(number) {
            return count(&mut self.stats.garbage);
        }
        self.window.finish(number);
        self.deliver(len);
        Taken::Whole
    }

    fn take_segment(&mut self, number: u32, segment: &Segment<'_>, now: impl FnOnce() -> Duration) -> Taken {
        if !self.assemblies.has(number) {
            match self.window.admit(number) {
                Verdict::Fresh => {}
                verdict => return self.turn_away(verdict),
            }
            let (window, stats) = (&mut self.window, &mut self.stats);
            // What follows of one that was given up is not to begin it again.
            let given_up = |number| {
                window.finish(number);
                stats.given_up += 1;
            };
            if !self.assemblies.begin(number, segment.total, now(), given_up) {
                return count(&mut self.stats.out_of_memory);
            }
        }
        match self.assemblies.add(number, segment) {
            Added::Incomplete => count(&mut self.stats.segments_received),
            Added::Again => count(&mut self.stats.duplicates),
            Added::Misfit => count(&mut self.stats.garbage),
            Added::Complete(bytes) => {
                self.stats.segments_received += 1;
                self.window.finish(number);
                self.deliver(bytes.bytes().len());
                Taken::Assembled(bytes)
            }
        }
    }

    fn deliver(&mut self, len: usize) {
        self.stats.messages_received += 1;
        self.stats.bytes_received += len as u64;
    }

    fn turn_away(&mut self, verdict: Verdict) -> Taken {
        match verdict {
            Verdict::Over => count(&mut self.stats.duplicates),
            _ => count(&mut self.stats.out_of_window),
        }
    }

    /// Gives up what has been incomplete for too long.
    pub(super) fn expire(&mut self, now: Duration) {
        let (window, stats) = (&mut self.window, &mut self.stats);
        self.assemblies.expire(now, &mut |number| {
            window.finish(number);
            stats.given_up += 1;
        });
    }

    /// How many messages are incomplete, and how many bytes of memory they have.
    #[cfg(feature = "fuzzing")]
    pub(super) fn holds(&self) -> (usize, usize) {
        (self.assemblies.len(), self.assemblies.bytes())
    }

    /// When [`expire`](Self::expire) will have something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        match self.assemblies.len() {
            0 => None,
            _ => self.assemblies.next_deadline(),
        }
    }
}

fn count(counter: &mut u64) -> Taken {
    *counter += 1;
    Taken::Nothing
}

#[cfg(test)]
mod tests;
