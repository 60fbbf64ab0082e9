//! Time: the trait by which carriers ask for it, and the queue of which backends make it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::sync::{Condvar, Mutex};
use crate::wake::lock;

/// A clock and an alarm: real on a device, virtual in a laboratory.
///
/// # For implementers
/// - `now` never goes back. `sleep` ends at the first moment at which `now` is past the deadline, never before.
/// - A dropped sleep leaves nothing behind.
///
/// # For users
/// Carriers take time only from here, so that a test with a virtual clock runs a minute of timeouts in
/// milliseconds. The sleep of a zero duration is ready at once.
///
/// # Implemented by
/// [`SystemTimer`], `VerbsTimer` (rung by the fabric's driver), `MockTimer` (real or virtual), and `Either` of the
/// layers.
///
/// # A toy
/// [`SystemTimer`] serves any backend whose time is real: `type Timer = SystemTimer`.
/// ```
/// use std::time::Duration;
/// use trespass_core::{SystemTimer, Timer};
///
/// let timer = SystemTimer::new();
/// let before = timer.now();
/// futures_executor::block_on(timer.sleep(Duration::from_millis(2)));
/// assert!(timer.now() - before >= Duration::from_millis(2));
/// ```
pub trait Timer: Clone + 'static {
    /// Ends when the time has come.
    type Sleep: Future<Output = ()> + Unpin + 'static;

    /// The time since some fixed moment.
    fn now(&self) -> Duration;

    /// An alarm `after` from now. Costs an allocation at most; meant for set-up, deadlines and keepalive, not for
    /// each message.
    fn sleep(&self, after: Duration) -> Self::Sleep;
}

/// What `future` comes to, if that is before `limit` by `timer`: any future with a deadline, in any executor. The limit counts
/// from the first poll.
///
/// # Errors
/// [`Elapsed`] once the limit is over: `future` was polled once more then, and was dropped. With the futures of tracks and
/// carriers that loses nothing: call again to go on. (On a plain thread [`wait_within`](crate::wait_within) does the same.)
///
/// # Costs
/// An alarm of `timer` where the first poll finds the future not ready; else nothing.
///
/// ```
/// use std::future::pending;
/// use std::time::Duration;
/// use trespass_core::{Elapsed, SystemTimer, wait, within};
///
/// let timer = SystemTimer::new();
/// assert_eq!(wait(within(&timer, Duration::from_millis(2), pending::<()>())), Err(Elapsed));
/// assert_eq!(wait(within(&timer, Duration::ZERO, async { 7 })), Ok(7));
/// ```
pub fn within<T: Timer, F: Future>(
    timer: &T,
    limit: Duration,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> + use<T, F> {
    let timer = timer.clone();
    async move {
        let mut future = pin!(future);
        let mut alarm = None;
        poll_fn(|cx| {
            // First, so that a future which is ready at the last moment is not given up.
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            Pin::new(alarm.get_or_insert_with(|| timer.sleep(limit))).poll(cx).map(|()| Err(Elapsed))
        })
        .await
    }
}

/// A limit in time is over: see [`within`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the time is up")]
pub struct Elapsed;

/// The alarms of one clock, in order: what a driver asks how long it may sleep, and whom to wake.
///
/// It has no clock of its own: every call says what time it is.
#[derive(Debug, Default)]
pub struct TimerQueue {
    order: BinaryHeap<Reverse<(Duration, u64)>>,
    alarms: BTreeMap<u64, Alarm>,
    next_id: u64,
}

#[derive(Debug)]
struct Alarm {
    deadline: Duration,
    waker: Option<Waker>,
}

impl TimerQueue {
    /// Sets an alarm and returns its name.
    pub fn insert(&mut self, deadline: Duration) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.order.push(Reverse((deadline, id)));
        self.alarms.insert(id, Alarm { deadline, waker: None });
        id
    }

    /// Whether alarm `id` has gone off by `now`; if not, `waker` is told when it does. Drops the waker that was told
    /// before: whoever has a lock around this queue keeps a copy of it until the lock is let go, as [`SystemSleep`] does.
    pub fn poll(&mut self, id: u64, now: Duration, waker: &Waker) -> Poll<()> {
        match self.alarms.get_mut(&id) {
            Some(alarm) if alarm.deadline > now => {
                alarm.waker = Some(waker.clone());
                Poll::Pending
            }
            _ => {
                self.alarms.remove(&id);
                Poll::Ready(())
            }
        }
    }

    /// Forgets alarm `id`.
    pub fn cancel(&mut self, id: u64) {
        self.alarms.remove(&id);
        self.prune();
    }

    /// When the next alarm goes off.
    pub fn next_deadline(&mut self) -> Option<Duration> {
        self.prune();
        self.order.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// Takes out one alarm that has gone off by `now`, and returns its waker. Call until `None`; wake without
    /// holding a lock around this queue.
    pub fn pop_due(&mut self, now: Duration) -> Option<Waker> {
        loop {
            let &Reverse((deadline, id)) = self.order.peek()?;
            if deadline > now {
                return None;
            }
            self.order.pop();
            if let Some(Alarm { waker: Some(waker), .. }) = self.alarms.remove(&id) {
                return Some(waker);
            }
        }
    }

    /// Drops cancelled alarms from the front, and everywhere once they are the most part.
    fn prune(&mut self) {
        while let Some(Reverse((_, id))) = self.order.peek() {
            if self.alarms.contains_key(id) {
                break;
            }
            self.order.pop();
        }
        if self.order.len() > 2 * self.alarms.len() + 64 {
            let alarms = &self.alarms;
            self.order.retain(|Reverse((_, id))| alarms.contains_key(id));
        }
    }
}

/// Real time for any backend: a thread that sleeps until the next alarm. It ends with the last clone and sleep.
#[derive(Debug, Clone)]
pub struct SystemTimer {
    shared: Arc<SystemShared>,
}

#[derive(Debug)]
struct SystemShared {
    start: Instant,
    state: Arc<SystemState>,
}

#[derive(Debug, Default)]
struct SystemState {
    alarms: Mutex<Alarms>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Alarms {
    queue: TimerQueue,
    /// Whether a thread serves the queue: at most one does.
    served: bool,
}

impl SystemTimer {
    /// A clock that starts now. The thread starts with the first alarm that has to be waited for.
    pub fn new() -> Self {
        Self { shared: Arc::new(SystemShared { start: Instant::now(), state: Arc::default() }) }
    }
}

impl Default for SystemTimer {
    fn default() -> Self {
        Self::new()
    }
}

impl Timer for SystemTimer {
    type Sleep = SystemSleep;

    fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    fn sleep(&self, after: Duration) -> SystemSleep {
        let deadline = self.now().saturating_add(after);
        let mut alarms = lock(&self.shared.state.alarms);
        let id = alarms.queue.insert(deadline);
        let served = std::mem::replace(&mut alarms.served, true);
        drop(alarms);
        if !served {
            self.shared.start_thread();
        }
        self.shared.state.changed.notify_one();
        SystemSleep { shared: Arc::clone(&self.shared), id, waker: Waker::noop().clone() }
    }
}

impl SystemShared {
    /// The thread ends when the queue is empty, so that an idle clock costs nothing.
    fn start_thread(&self) {
        let state = Arc::clone(&self.state);
        let start = self.start;
        let spawned = std::thread::Builder::new().name("trespass-timer".into()).spawn(move || serve(&state, start));
        if spawned.is_err() {
            // No thread to be had: every alarm goes off at once rather than never.
            let mut alarms = lock(&self.state.alarms);
            alarms.served = false;
            while let Some(waker) = alarms.queue.pop_due(Duration::MAX) {
                drop(alarms);
                waker.wake();
                alarms = lock(&self.state.alarms);
            }
        }
    }
}

/// Wakes those whose time has come, until no alarm is left. Sleeps cancel themselves when they are dropped, and keep
/// the clock alive: a clock that is gone has none left.
fn serve(state: &SystemState, start: Instant) {
    let mut alarms = lock(&state.alarms);
    loop {
        if let Some(waker) = alarms.queue.pop_due(start.elapsed()) {
            drop(alarms);
            waker.wake();
            alarms = lock(&state.alarms);
            continue;
        }
        let Some(deadline) = alarms.queue.next_deadline() else {
            alarms.served = false;
            return;
        };
        let wait = deadline.saturating_sub(start.elapsed());
        alarms = state.changed.wait_timeout(alarms, wait).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// An alarm of a [`SystemTimer`].
#[derive(Debug)]
pub struct SystemSleep {
    shared: Arc<SystemShared>,
    id: u64,
    /// The one that the queue has a copy of. So the copy is never the last one, whose drop may drop a task, and with it
    /// another alarm of this clock: the queue drops it under its lock.
    waker: Waker,
}

impl Future for SystemSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.shared.start.elapsed();
        let result = lock(&self.shared.state.alarms).queue.poll(self.id, now, cx.waker());
        self.waker.clone_from(cx.waker());
        result
    }
}

impl Drop for SystemSleep {
    fn drop(&mut self) {
        lock(&self.shared.state.alarms).queue.cancel(self.id);
        self.shared.state.changed.notify_one();
    }
}
