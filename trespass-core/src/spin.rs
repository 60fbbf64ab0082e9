//! Tracks that look for a while before they sleep.

use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::error::{TryError, Unsent};
use crate::track::{Endpoint, Limits, RecvSide, SendSide, Track};

/// How long a wait may look before it sleeps: the setting of a [`Spinning`] track.
///
/// The time adapts, for each track and side. A wait that was over within the limit, found by looking or not, doubles the
/// time that the next one looks; one that took longer halves it, down to nothing. So a track whose answers come soon
/// pays for no wake-up, and one that is idle for no looking.
///
/// ```
/// use std::time::Duration;
/// use trespass_core::Spin;
///
/// assert_eq!(Spin::default().limit(), Duration::from_micros(50));
/// assert_eq!(Spin::up_to(Duration::from_micros(20)).limit(), Duration::from_micros(20));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spin {
    limit: Duration,
}

impl Spin {
    /// Looks for `limit` at most, for each wait. Zero never looks.
    pub const fn up_to(limit: Duration) -> Self {
        Self { limit }
    }

    /// The most that a wait looks.
    pub const fn limit(self) -> Duration {
        self.limit
    }
}

impl Default for Spin {
    /// 50 µs: of the order of what it costs to be put to sleep and woken. Measure it on the machine that matters.
    fn default() -> Self {
        Self::up_to(Duration::from_micros(50))
    }
}

/// A track whose waits look for a while, by `try_` calls, before they arm a notification and sleep.
///
/// It is for latency: a wake-up goes through the device, the driver and the executor, a look only through the device.
/// It is a track like any other, whole or split, below a carrier or alone; `try_` calls are those of the track below. While
/// it looks it arms nothing; when it gives up it waits as the track below does, so no wake-up is lost.
///
/// # Costs
/// - A poll that finds nothing keeps its thread for up to [`Spin::limit`]: on an executor, so long no other task of that
///   thread runs. Where tasks that wait for each other share one thread, looking is in vain, and soon given up.
/// - A wait: two looks at the clock, and one more for each 16 looks at the track. A look at the sending side claims a slot and gives
///   it back. Between looks the thread hints that it spins; on a machine with one CPU it yields that instead, a system call.
/// - A message: nothing but a comparison. A wait that found one keeps it until the next `try_recv`: the application has
///   one receive buffer fewer meanwhile.
/// - What a carrier has to say only after the wait, such as credits that became due meanwhile, waits so long.
///
/// `Spun` of `trespass-layers` makes every track of a fabric one of these, and has an example. One-sided operations do not
/// pass through it.
#[derive(Debug)]
pub struct Spinning<T: Track> {
    inner: T,
    sends: Budget,
    receives: Budget,
    /// What a wait has found.
    found: Option<T::RecvBuf>,
}

/// The sending half of a [`Spinning`] track, or of any other.
#[derive(Debug)]
pub struct SpinningSender<S: SendSide> {
    inner: S,
    sends: Budget,
}

/// The receiving half of a [`Spinning`] track, or of any other.
#[derive(Debug)]
pub struct SpinningReceiver<R: RecvSide> {
    inner: R,
    receives: Budget,
    found: Option<R::RecvBuf>,
}

impl<T: Track> Spinning<T> {
    /// Has the waits of `track` look first.
    pub fn new(track: T, spin: Spin) -> Self {
        Self { inner: track, sends: Budget::new(spin), receives: Budget::new(spin), found: None }
    }

    /// How long the next wait for a message would look.
    pub fn patience(&self) -> Duration {
        self.receives.now
    }
}

impl<S: SendSide> SpinningSender<S> {
    /// Has the waits of `sender` look first.
    pub fn new(sender: S, spin: Spin) -> Self {
        Self { inner: sender, sends: Budget::new(spin) }
    }
}

impl<R: RecvSide> SpinningReceiver<R> {
    /// Has the waits of `receiver` look first.
    pub fn new(receiver: R, spin: Spin) -> Self {
        Self { inner: receiver, receives: Budget::new(spin), found: None }
    }

    /// How long the next wait for a message would look.
    pub fn patience(&self) -> Duration {
        self.receives.now
    }
}

/// What all three have of the track below.
macro_rules! endpoint {
    ($spinning:ident, $side:ident) => {
        impl<T: $side> $spinning<T> {
            /// What is below, for what it alone can tell.
            pub fn inner(&self) -> &T {
                &self.inner
            }
        }

        impl<T: $side> Endpoint for $spinning<T> {
            type Error = T::Error;
            type Addr = T::Addr;
            type Timer = T::Timer;

            fn limits(&self) -> Limits {
                self.inner.limits()
            }

            fn local(&self) -> T::Addr {
                self.inner.local()
            }

            fn peer(&self) -> T::Addr {
                self.inner.peer()
            }

            fn timer(&self) -> T::Timer {
                self.inner.timer()
            }
        }
    };
}

endpoint!(Spinning, Track);
endpoint!(SpinningSender, SendSide);
endpoint!(SpinningReceiver, RecvSide);

macro_rules! send_side {
    ($spinning:ident, $side:ident) => {
        impl<T: $side> SendSide for $spinning<T> {
            type SendBuf = T::SendBuf;

            #[inline]
            fn try_reserve(&mut self, len: usize) -> Result<T::SendBuf, TryError<T::Error>> {
                let reserved = self.inner.try_reserve(len);
                self.sends.note(&reserved);
                reserved
            }

            #[inline]
            fn send(&mut self, buf: T::SendBuf) -> Result<(), Unsent<T::SendBuf, T::Error>> {
                self.inner.send(buf)
            }

            #[inline]
            fn carries_immediate(&self) -> bool {
                self.inner.carries_immediate()
            }

            #[inline]
            fn send_immediate(
                &mut self,
                buf: T::SendBuf,
                word: u32,
            ) -> Result<(), Unsent<T::SendBuf, Option<T::Error>>> {
                self.inner.send_immediate(buf, word)
            }

            #[inline]
            fn flush(&mut self) -> Result<(), T::Error> {
                self.inner.flush()
            }

            fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
                // Nothing may wait for a doorbell while this looks. What is wrong sticks, and is told by the next call.
                let _ = self.inner.flush();
                match self.sends.spin(|| is_over(self.inner.try_reserve(0))) {
                    true => Poll::Ready(()),
                    false => self.inner.poll_send_ready(cx),
                }
            }

            fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
                self.inner.poll_close(cx)
            }
        }
    };
}

send_side!(Spinning, Track);
send_side!(SpinningSender, SendSide);

macro_rules! recv_side {
    ($spinning:ident, $side:ident, $first:expr) => {
        impl<T: $side> RecvSide for $spinning<T> {
            type RecvBuf = T::RecvBuf;

            #[inline]
            fn posted(&self) -> u64 {
                self.inner.posted()
            }

            #[inline]
            fn try_recv(&mut self) -> Result<T::RecvBuf, TryError<T::Error>> {
                if let Some(found) = self.found.take() {
                    return Ok(found);
                }
                let received = self.inner.try_recv();
                self.receives.note(&received);
                received
            }

            #[inline]
            fn immediate(buf: &T::RecvBuf) -> Option<u32> {
                T::immediate(buf)
            }

            fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
                // Also where something was found by an earlier wait: a wait sends what was queued.
                $first(&mut self.inner);
                if self.found.is_some() {
                    return Poll::Ready(());
                }
                let look = || match self.inner.try_recv() {
                    Ok(buf) => {
                        self.found = Some(buf);
                        true
                    }
                    failed => is_over(failed),
                };
                match self.receives.spin(look) {
                    true => Poll::Ready(()),
                    false => self.inner.poll_recv_ready(cx),
                }
            }
        }
    };
}

recv_side!(Spinning, Track, |inner: &mut T| _ = inner.flush());
recv_side!(SpinningReceiver, RecvSide, |_: &mut T| {});

impl<T: Track> Track for Spinning<T> {
    type Delivery = T::Delivery;
    type Sender = SpinningSender<T::Sender>;
    type Receiver = SpinningReceiver<T::Receiver>;

    fn split(self) -> (Self::Sender, Self::Receiver) {
        let Self { inner, sends, receives, found } = self;
        let (sender, receiver) = inner.split();
        (SpinningSender { inner: sender, sends }, SpinningReceiver { inner: receiver, receives, found })
    }
}

/// Whether a wait for this is over.
fn is_over<T, E>(result: Result<T, TryError<E>>) -> bool {
    !matches!(result, Err(TryError::WouldBlock))
}

/// How long one side looks, by what its waits have come to.
#[derive(Debug)]
struct Budget {
    limit: Duration,
    now: Duration,
    /// When the wait began that is not over yet.
    since: Option<Instant>,
}

/// Looks between two looks at the clock.
const LOOKS: u32 = 16;

impl Budget {
    fn new(spin: Spin) -> Self {
        Self { limit: spin.limit, now: spin.limit, since: None }
    }

    /// The shortest that is worth anything. Less is nothing.
    fn least(&self) -> Duration {
        self.limit / 64
    }

    /// Looks until something is there, or the time of this wait is over: polls of the same wait share it.
    fn spin(&mut self, mut look: impl FnMut() -> bool) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.now.is_zero() {
            return false;
        }
        let alone = is_alone();
        while since.elapsed() < self.now {
            for _ in 0..if alone { 1 } else { LOOKS } {
                if look() {
                    self.end(since);
                    return true;
                }
                match alone {
                    true => std::thread::yield_now(),
                    false => std::hint::spin_loop(),
                }
            }
        }
        false
    }

    /// What a `try_` call came to: perhaps the end of a wait.
    #[inline]
    fn note<T, E>(&mut self, result: &Result<T, TryError<E>>) {
        if let (Some(since), Ok(_)) = (self.since, result) {
            self.end(since);
        }
    }

    /// A wait is over that began at `since`.
    #[cold]
    fn end(&mut self, since: Instant) {
        self.since = None;
        self.now = match since.elapsed() <= self.limit {
            true => (self.now * 2).clamp(self.least(), self.limit),
            false if self.now / 2 >= self.least() => self.now / 2,
            false => Duration::ZERO,
        };
    }
}

/// Whether there is but one CPU: then nothing comes while this thread keeps it.
fn is_alone() -> bool {
    static ALONE: OnceLock<bool> = OnceLock::new();
    *ALONE.get_or_init(|| std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(1000);

    fn ended_after(budget: &mut Budget, wait: Duration) -> Duration {
        budget.end(Instant::now().checked_sub(wait).expect("a clock that old"));
        budget.now
    }

    #[test]
    fn late_answers_shrink_it_to_nothing_and_early_ones_grow_it_to_the_limit() {
        let mut budget = Budget::new(Spin::up_to(Duration::from_millis(1000)));
        let late = Duration::from_secs(2);
        let shrinking: Vec<_> = (0..8).map(|_| ended_after(&mut budget, late).as_micros()).collect();
        assert_eq!(shrinking, [500_000, 250_000, 125_000, 62_500, 31_250, 15_625, 0, 0]);
        let growing: Vec<_> = (0..8).map(|_| ended_after(&mut budget, Duration::ZERO).as_micros()).collect();
        assert_eq!(growing, [15_625, 31_250, 62_500, 125_000, 250_000, 500_000, 1_000_000, 1_000_000]);
    }

    #[test]
    fn a_wait_that_ends_while_looking_is_early() {
        let mut budget = Budget::new(Spin::up_to(LIMIT));
        budget.now = LIMIT / 4;
        let mut looks = 0;
        assert!(budget.spin(|| {
            looks += 1;
            looks == 40
        }));
        assert_eq!((looks, budget.now, budget.since), (40, LIMIT / 2, None));
    }

    #[test]
    fn without_time_it_does_not_look() {
        let mut budget = Budget::new(Spin::up_to(Duration::ZERO));
        assert!(!budget.spin(|| unreachable!("it looked")));
        assert_eq!(ended_after(&mut budget, Duration::from_nanos(1)), Duration::ZERO);
    }

    #[test]
    fn polls_of_one_wait_share_its_time() {
        let mut budget = Budget::new(Spin::up_to(Duration::from_millis(5)));
        assert!(!budget.spin(|| false));
        assert!(!budget.spin(|| unreachable!("it looked again")));
    }
}
