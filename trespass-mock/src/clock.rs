//! Time: real, or moved by hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use trespass_core::{Drive, SystemSleep, SystemTimer, Timer, TimerQueue};

use crate::sync::{Condvar, Mutex, MutexGuard, lock};

/// The clock of a net: real, or virtual and moved by its [`MockDriver`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MockTimer(Clock);

#[derive(Debug, Clone)]
enum Clock {
    Real(SystemTimer),
    Virtual(Arc<VirtualClock>),
}

impl MockTimer {
    /// Real time.
    pub(crate) fn real() -> Self {
        Self(Clock::Real(SystemTimer::new()))
    }

    /// Virtual time, from zero, and what moves it.
    pub(crate) fn driven() -> (Self, MockDriver) {
        let clock = Arc::new(VirtualClock::default());
        let interrupter = Waker::from(Arc::clone(&clock));
        (Self(Clock::Virtual(Arc::clone(&clock))), MockDriver { clock, interrupter, patience: Duration::ZERO })
    }
}

impl Timer for MockTimer {
    type Sleep = MockSleep;

    fn now(&self) -> Duration {
        match &self.0 {
            Clock::Real(timer) => timer.now(),
            Clock::Virtual(clock) => clock.state().now,
        }
    }

    fn sleep(&self, after: Duration) -> MockSleep {
        MockSleep(match &self.0 {
            Clock::Real(timer) => Sleep::Real(timer.sleep(after)),
            Clock::Virtual(clock) => {
                Sleep::Virtual { id: clock.set_alarm(after), clock: Arc::clone(clock), waker: Waker::noop().clone() }
            }
        })
    }
}

/// An alarm of a [`MockTimer`]. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct MockSleep(Sleep);

#[derive(Debug)]
enum Sleep {
    Real(SystemSleep),
    Virtual {
        id: u64,
        clock: Arc<VirtualClock>,
        /// The one that the clock has a copy of: so the copy is never the last, whose drop could run anything, and under
        /// the clock's lock at that.
        waker: Waker,
    },
}

impl Future for MockSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Sleep::Real(sleep) => Pin::new(sleep).poll(cx),
            Sleep::Virtual { id, clock, waker } => {
                let mut state = clock.state();
                let now = state.now;
                let result = state.alarms.poll(*id, now, cx.waker());
                drop(state);
                waker.clone_from(cx.waker());
                result
            }
        }
    }
}

impl Drop for MockSleep {
    fn drop(&mut self) {
        if let Sleep::Virtual { id, clock, .. } = &self.0 {
            clock.state().alarms.cancel(*id);
        }
    }
}

/// Moves the virtual time of a net.
///
/// [`drive`](Drive::drive) moves the clock to the next alarm and wakes whoever set it, so that
/// [`block_on`](trespass_core::block_on) with it runs a minute of timeouts in milliseconds: time passes only when the
/// future has nothing else to do. With no alarm set it waits to be interrupted, or for an alarm.
///
/// Time does not know what other threads are busy with. A test that has some gives them
/// [`patience`](MockDriver::with_patience), or keeps to timeouts that cannot hurt it.
///
/// ```
/// use std::time::Duration;
/// use trespass_core::{Fabric, Timer, block_on};
/// use trespass_mock::{MockConfig, MockNet};
///
/// let (net, mut driver) = MockNet::virtual_time();
/// let timer = net.fabric(MockConfig::default()).unwrap().timer();
/// block_on(&mut driver, timer.sleep(Duration::from_secs(3600)));
/// assert_eq!(timer.now(), Duration::from_secs(3600));
/// ```
#[derive(Debug)]
pub struct MockDriver {
    clock: Arc<VirtualClock>,
    interrupter: Waker,
    patience: Duration,
}

impl MockDriver {
    /// The same, but it waits so long, in real time, for an interruption before it moves the clock. Default zero.
    pub fn with_patience(self, real: Duration) -> Self {
        Self { patience: real, ..self }
    }

    /// The time now.
    pub fn now(&self) -> Duration {
        self.clock.state().now
    }

    /// Moves the clock on by `by`, stopping at each alarm on the way to wake whoever set it.
    pub fn advance(&mut self, by: Duration) {
        let target = self.now().saturating_add(by);
        while self.clock.step(target) {}
    }
}

impl Drive for MockDriver {
    /// Moves the clock to the next alarm, but by no more than `timeout`: that, too, is virtual.
    fn drive(&mut self, timeout: Option<Duration>) {
        if self.clock.interrupted(self.patience) {
            return;
        }
        match timeout {
            Some(timeout) => {
                let target = self.clock.state().now.saturating_add(timeout);
                self.clock.step(target);
            }
            None => self.clock.next_event(),
        }
    }

    fn interrupter(&self) -> Waker {
        self.interrupter.clone()
    }
}

#[derive(Debug, Default)]
struct VirtualClock {
    state: Mutex<VirtualState>,
    /// An alarm was set, or the driver interrupted.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct VirtualState {
    now: Duration,
    alarms: TimerQueue,
    interrupted: bool,
}

impl VirtualClock {
    fn state(&self) -> MutexGuard<'_, VirtualState> {
        lock(&self.state)
    }

    fn set_alarm(&self, after: Duration) -> u64 {
        let mut state = self.state();
        let deadline = state.now.saturating_add(after);
        let id = state.alarms.insert(deadline);
        drop(state);
        self.changed.notify_one();
        id
    }

    /// Whether the driver was interrupted, or is within `patience`. Forgets it.
    fn interrupted(&self, patience: Duration) -> bool {
        let start = Instant::now();
        let mut state = self.state();
        loop {
            if std::mem::take(&mut state.interrupted) {
                return true;
            }
            // Saturates to zero once the time is up.
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Moves to the next alarm and lets all go off that are set for then, or waits until there is one or an interruption.
    fn next_event(&self) {
        let mut state = self.state();
        loop {
            if std::mem::take(&mut state.interrupted) {
                return;
            }
            if let Some(deadline) = state.alarms.next_deadline() {
                drop(state);
                self.step(deadline);
                return;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Moves to the next alarm and lets all go off that are set for then; or to `target`, if that comes first. Says
    /// whether `target` is not reached yet.
    fn step(&self, target: Duration) -> bool {
        let mut state = self.state();
        let next = state.alarms.next_deadline().map_or(target, |deadline| deadline.min(target));
        state.now = state.now.max(next);
        let now = state.now;
        while let Some(waker) = state.alarms.pop_due(now) {
            drop(state);
            waker.wake();
            state = self.state();
        }
        now < target
    }
}

impl Wake for VirtualClock {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.state().interrupted = true;
        self.changed.notify_one();
    }
}
