//! Signs of life: a beat where nothing else is said, and how long the peer may be silent.
//!
//! A beat is a Credit frame that is sent like data: it leaves the credits alone that are kept back for control, so what
//! [`credit`](crate::credit) says of those holds with beats as without, and an old end understands it. Each end tells the
//! other in the handshake how long it bears silence, and the other beats three times as often at least. So a beat that is late
//! ends nothing, and the two need not be configured alike.
//!
//! Silence counts only while the peer may speak, and anew when it is granted more: one that has no credits for data cannot
//! beat, and this end is to blame.
//!
//! Looking costs the message path nothing: at each tick the counts that the credits keep are compared with those of the last
//! one. Between ticks an end that is about to wait looks at one flag, which the alarm sets.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use trespass_core::Timer;

use crate::credit::Credits;
use crate::handshake::Agreement;

/// What a tick comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// There is no need of anything.
    Fine,
    /// This end has said nothing for so long that it should.
    Beat,
    /// The peer has said nothing for too long.
    Silence,
}

/// The rhythm of one end, and the alarm that keeps it.
pub(crate) struct Pulse<T: Timer> {
    /// `None` where nothing is to be kept, and once the end has begun to close.
    alarm: Option<Alarm<T>>,
}

struct Alarm<T: Timer> {
    rhythm: Rhythm,
    bell: Arc<Bell>,
    /// Rings the bell.
    waker: Waker,
    sleep: T::Sleep,
}

impl<T: Timer> Pulse<T> {
    /// Starts. `waiters` wakes whoever waits for the peer.
    pub(crate) fn start(wanted: Vigilance, agreement: &Agreement, timer: &T, waiters: &Waker) -> Self {
        let alarm =
            Rhythm::new(wanted.beat_every(agreement.peer_idle), wanted.idle_timeout, timer.now()).map(|rhythm| {
                let bell = Arc::new(Bell { rung: AtomicBool::new(false), waiters: waiters.clone() });
                let waker = Waker::from(Arc::clone(&bell));
                let mut alarm = Alarm { rhythm, bell, waker, sleep: timer.sleep(rhythm.tick) };
                alarm.listen();
                alarm
            });
        Self { alarm }
    }

    /// Whether it is time to [`look`](Self::look).
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.alarm.as_ref().is_some_and(|alarm| alarm.bell.rung.load(Ordering::Acquire))
    }

    /// What there is to do, for an end that is about to wait and has taken in all that arrived; then sets the next alarm.
    #[cold]
    pub(crate) fn look(&mut self, timer: &T, credits: &Credits) -> Sign {
        let Some(alarm) = &mut self.alarm else { return Sign::Fine };
        alarm.bell.rung.store(false, Ordering::Relaxed);
        alarm.sleep = timer.sleep(alarm.rhythm.tick);
        alarm.listen();
        alarm.rhythm.tick(timer.now(), credits.signs_of_life(), credits.peer_may_speak())
    }

    /// Ends it: whoever closes has a deadline of its own.
    pub(crate) fn stop(&mut self) {
        self.alarm = None;
    }
}

impl<T: Timer> Alarm<T> {
    fn listen(&mut self) {
        if let Poll::Ready(()) = Pin::new(&mut self.sleep).poll(&mut Context::from_waker(&self.waker)) {
            self.waker.wake_by_ref();
        }
    }
}

/// What the alarm wakes.
struct Bell {
    rung: AtomicBool,
    waiters: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.waiters.wake_by_ref();
    }
}

/// What an end was configured for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vigilance {
    pub(crate) keepalive: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
}

impl Vigilance {
    /// How often to beat: as configured, or as the peer needs it, whichever is more often.
    pub(crate) fn beat_every(&self, peer_idle: Option<Duration>) -> Option<Duration> {
        let needed = peer_idle.map(|idle| (idle / 3).max(Duration::from_millis(1)));
        match (self.keepalive, needed) {
            (Some(wanted), Some(needed)) => Some(wanted.min(needed)),
            (wanted, needed) => wanted.or(needed),
        }
    }

    /// What the handshake says of it: for how many milliseconds silence is borne, 0 for ever.
    pub(crate) fn idle_millis(&self) -> u32 {
        let millis = |idle: Duration| u32::try_from(idle.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        self.idle_timeout.map_or(0, millis)
    }
}

/// When to beat, and when the peer has been silent for too long.
#[derive(Debug, Clone, Copy)]
struct Rhythm {
    beat: Option<Duration>,
    silence: Option<Duration>,
    /// How often to look.
    tick: Duration,
    /// How much was said, and when that was last found to be more than before.
    said: (u64, Duration),
    /// How much was heard, in the same way.
    heard: (u64, Duration),
}

impl Rhythm {
    /// `None` where there is nothing to keep.
    fn new(beat: Option<Duration>, silence: Option<Duration>, now: Duration) -> Option<Self> {
        let tick = match (beat, silence) {
            (Some(beat), Some(silence)) => beat.min(silence),
            (beat, silence) => beat.or(silence)?,
        };
        Some(Self { beat, silence, tick, said: (0, now), heard: (0, now) })
    }

    fn tick(&mut self, now: Duration, (said, heard): (u64, u64), peer_may_speak: bool) -> Sign {
        if said != self.said.0 {
            self.said = (said, now);
        }
        if heard != self.heard.0 || !peer_may_speak {
            self.heard = (heard, now);
        }
        let past = |limit: Option<Duration>, since: Duration| limit.is_some_and(|limit| now - since >= limit);
        if past(self.silence, self.heard.1) {
            return Sign::Silence;
        }
        match past(self.beat, self.said.1) {
            true => Sign::Beat,
            false => Sign::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn an_end_that_says_nothing_beats() {
        let mut rhythm = Rhythm::new(Some(ms(10)), None, ms(0)).unwrap();
        assert_eq!(rhythm.tick(ms(10), (0, 0), true), Sign::Beat);
        // The beat was sent, and counts as said.
        assert_eq!(rhythm.tick(ms(20), (1, 0), true), Sign::Fine);
        assert_eq!(rhythm.tick(ms(30), (1, 0), true), Sign::Beat);
    }

    #[test]
    fn an_end_that_talks_does_not_beat() {
        let mut rhythm = Rhythm::new(Some(ms(10)), None, ms(0)).unwrap();
        for tick in 1..100 {
            assert_eq!(rhythm.tick(ms(10 * tick), (tick, 0), true), Sign::Fine);
        }
    }

    #[test]
    fn silence_counts_from_what_was_heard_last() {
        let mut rhythm = Rhythm::new(None, Some(ms(30)), ms(0)).unwrap();
        assert_eq!(rhythm.tick(ms(29), (0, 1), true), Sign::Fine);
        assert_eq!(rhythm.tick(ms(58), (9, 1), true), Sign::Fine);
        assert_eq!(rhythm.tick(ms(59), (9, 1), true), Sign::Silence);
    }

    #[test]
    fn silence_does_not_count_while_the_peer_may_not_speak() {
        let mut rhythm = Rhythm::new(None, Some(ms(30)), ms(0)).unwrap();
        for tick in 1..100 {
            assert_eq!(rhythm.tick(ms(30 * tick), (0, 0), false), Sign::Fine);
        }
        assert_eq!(rhythm.tick(ms(3_000), (0, 0), true), Sign::Silence);
    }

    #[test]
    fn beats_come_as_often_as_the_peer_needs_them() {
        let every = |keepalive, idle| Vigilance { keepalive, idle_timeout: None }.beat_every(idle);
        assert_eq!(every(Some(ms(5_000)), Some(ms(3_000))), Some(ms(1_000)));
        assert_eq!(every(Some(ms(500)), Some(ms(3_000))), Some(ms(500)));
        assert_eq!(every(None, Some(ms(3_000))), Some(ms(1_000)));
        assert_eq!(every(None, Some(ms(1))), Some(ms(1)));
        assert_eq!(every(None, None), None);
    }

    /// Two ends whose beats are late by up to a tick each never find each other silent.
    #[test]
    fn a_peer_that_beats_is_never_silent() {
        let idle = ms(30);
        let beat = Vigilance { keepalive: None, idle_timeout: None }.beat_every(Some(idle)).unwrap();
        for offset in 0..beat.as_millis() as u64 {
            let (mut speaker, mut listener) =
                (Rhythm::new(Some(beat), None, ms(offset)).unwrap(), Rhythm::new(None, Some(idle), ms(0)).unwrap());
            let mut said = 0;
            for now in 1..1_000 {
                let (now, beats) = (ms(now), now > offset && (now - offset) % beat.as_millis() as u64 == 0);
                if beats && speaker.tick(now, (said, 0), true) == Sign::Beat {
                    said += 1;
                }
                if now.as_millis() % idle.as_millis() == 0 {
                    assert_eq!(listener.tick(now, (0, said), true), Sign::Fine, "at {now:?}, {offset} apart");
                }
            }
        }
    }

    #[test]
    fn what_is_said_of_silence_is_whole_milliseconds_and_never_0_by_rounding() {
        let said = |idle| Vigilance { keepalive: None, idle_timeout: idle }.idle_millis();
        assert_eq!((said(None), said(Some(ms(7)))), (0, 7));
        assert_eq!(said(Some(Duration::from_nanos(1))), 1);
        assert_eq!(said(Some(Duration::MAX)), u32::MAX);
    }
}
