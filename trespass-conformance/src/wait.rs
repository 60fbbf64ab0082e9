//! Waiting with a deadline: nothing in this kit waits without end.
//!
//! The executor here polls a future only when its waker was woken. A fabric that loses a wake-up therefore runs into
//! the deadline, and the panic says so: one more poll at the end tells a lost wake-up from something that never came.

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use trespass_core::{RecvSide, SendSide, TryError};

use crate::harness::Harness;

/// Runs `future` to its end on this thread.
///
/// # Panics
/// When it has not ended within `patience`; the message names `what` was waited for.
pub fn block_on<F: Future>(patience: Duration, what: impl Display, future: F) -> F::Output {
    run(patience, what, future, false)
}

/// How many wakers a wait used: one throughout, or a new one at every poll.
fn run<F: Future>(patience: Duration, what: impl Display, future: F, fresh: bool) -> F::Output {
    let deadline = Instant::now() + patience;
    let mut future = pin!(future);
    let mut signal = Signal::new();
    let mut waker = Waker::from(Arc::clone(&signal));
    let mut polls = 0_u64;
    loop {
        while signal.woken.swap(false, Ordering::AcqRel) {
            if fresh && polls > 0 {
                signal = Signal::new();
                signal.woken.store(false, Ordering::Release);
                waker = Waker::from(Arc::clone(&signal));
            }
            polls += 1;
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let late = future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
            // Taken again only now: a wake-up that came between the last look and the poll above was not lost.
            let woken = signal.woken.load(Ordering::Acquire);
            let why = match (late, woken) {
                (true, false) => "a wake-up was lost: it is ready, but the waker of the latest poll was never woken",
                (true, true) => "it became ready only as the time ran out",
                (false, _) => "it never became ready",
            };
            panic!("waited {patience:?} for {what}, in {polls} polls: {why}");
        }
        std::thread::park_timeout(left);
    }
}

struct Signal {
    woken: AtomicBool,
    thread: Thread,
}

impl Signal {
    fn new() -> Arc<Self> {
        Arc::new(Self { woken: AtomicBool::new(true), thread: std::thread::current() })
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// What properties wait with.
pub(crate) trait Waits: Harness {
    /// Runs `future` to its end, within the harness's patience.
    fn wait<F: Future>(&self, what: impl Display, future: F) -> F::Output {
        run(self.patience(), what, future, false)
    }

    /// The same with a new waker at every poll; wake-ups of older ones do not count.
    fn wait_with_new_wakers<F: Future>(&self, what: impl Display, future: F) -> F::Output {
        run(self.patience(), what, future, true)
    }

    /// Calls `look` until it finds something, without waiting for any waker: what a busy-polling thread does.
    fn spin<T>(&self, what: impl Display, mut look: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        let mut looks = 0_u64;
        loop {
            if let Some(found) = look() {
                return found;
            }
            looks += 1;
            assert!(start.elapsed() < self.patience(), "looked {looks} times in {:?} for {what}", start.elapsed());
            std::thread::yield_now();
        }
    }

    /// Watches for a short while that `look` finds nothing. A short one: it can only prove that something happens, and
    /// what it looks for would happen at once in a fabric that gets it wrong.
    fn stays<T>(&self, look: impl FnMut() -> Option<T>) -> Option<T> {
        let mut look = look;
        let start = Instant::now();
        while start.elapsed() < QUIET {
            if let Some(found) = look() {
                return Some(found);
            }
            std::thread::sleep(QUIET / 10);
        }
        None
    }

    /// `count`, scaled by the harness; at least one.
    fn many(&self, count: usize) -> usize {
        // Counts are small: no precision is lost.
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let scaled = (count as f64 * self.scale()) as usize;
        scaled.max(1)
    }
}

impl<H: Harness> Waits for H {}

/// How long a property watches that nothing happens.
pub(crate) const QUIET: Duration = Duration::from_millis(20);

/// Waits for two things at once.
pub(crate) async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut a_done, mut b_done) = (None, None);
    poll_fn(move |cx| {
        if a_done.is_none() {
            a_done = ready(a.as_mut().poll(cx));
        }
        if b_done.is_none() {
            b_done = ready(b.as_mut().poll(cx));
        }
        match (a_done.take(), b_done.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (a_done, b_done) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

/// Waits for two things at once, or for the first of them that fails.
pub(crate) async fn both_well<A, B, E>(
    a: impl Future<Output = Result<A, E>>,
    b: impl Future<Output = Result<B, E>>,
) -> Result<(A, B), E> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut a_done, mut b_done) = (None, None);
    poll_fn(move |cx| {
        if a_done.is_none() {
            a_done = ready(a.as_mut().poll(cx)?);
        }
        if b_done.is_none() {
            b_done = ready(b.as_mut().poll(cx)?);
        }
        match (a_done.take(), b_done.take()) {
            (Some(a), Some(b)) => Poll::Ready(Ok((a, b))),
            (a, b) => {
                (a_done, b_done) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

/// Waiting for a slot: as [`trespass_core::SendSideExt`], but a side that is always ready and never is ends in a panic.
pub(crate) trait SendWait: SendSide {
    /// Waits for a slot and claims `len` bytes with it.
    fn reserve(&mut self, len: usize) -> impl Future<Output = Result<Self::SendBuf, Self::Error>> {
        let mut in_vain = InVain::default();
        poll_fn(move |cx| {
            loop {
                match self.try_reserve(len) {
                    Ok(buf) => return Poll::Ready(Ok(buf)),
                    Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                    Err(TryError::WouldBlock) => std::task::ready!(self.poll_send_ready(cx)),
                }
                in_vain.count("poll_send_ready says ready, and try_reserve says WouldBlock");
            }
        })
    }

    /// Ends the track cleanly.
    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> {
        poll_fn(|cx| self.poll_close(cx))
    }
}

impl<S: SendSide> SendWait for S {}

/// Waiting for a message: as [`trespass_core::RecvSideExt`], but a side that is always ready and never is ends in a panic.
pub(crate) trait RecvWait: RecvSide {
    /// Waits for the next message.
    fn recv(&mut self) -> impl Future<Output = Result<Self::RecvBuf, Self::Error>> {
        let mut in_vain = InVain::default();
        poll_fn(move |cx| {
            loop {
                match self.try_recv() {
                    Ok(buf) => return Poll::Ready(Ok(buf)),
                    Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                    Err(TryError::WouldBlock) => std::task::ready!(self.poll_recv_ready(cx)),
                }
                in_vain.count("poll_recv_ready says ready, and try_recv says WouldBlock");
            }
        })
    }
}

impl<R: RecvSide> RecvWait for R {}

/// Counts how often a side was ready in vain.
#[derive(Default)]
pub(crate) struct InVain(u32);

impl InVain {
    pub(crate) fn count(&mut self, what: &str) {
        self.0 += 1;
        assert!(self.0 < 1000, "{what}, {} times in one wait", self.0);
    }
}

/// What a poll gave, if it gave something.
pub(crate) fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Polls once with a waker that does nothing.
pub(crate) fn poll_once<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    ready(poll(&mut Context::from_waker(Waker::noop())))
}

/// Polls `future` `times` times with a waker that does nothing, then drops it. Whether it was ready.
pub(crate) fn poll_and_drop<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    (0..times).find_map(|_| poll_once(|cx| future.as_mut().poll(cx)))
}

/// A waker that counts how often it was woken.
#[derive(Default)]
pub(crate) struct Counter {
    wakes: Mutex<usize>,
    changed: Condvar,
}

impl Counter {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// Waits until it was woken at least once.
    pub(crate) fn expect_wake<H: Harness>(&self, h: &H, what: impl Display) {
        let (wakes, _) = self
            .changed
            .wait_timeout_while(self.locked(), h.patience(), |wakes| *wakes == 0)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(*wakes > 0, "a wake-up was lost: waited {:?} for the waker to be woken by {what}", h.patience());
    }

    fn locked(&self) -> MutexGuard<'_, usize> {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.locked() += 1;
        self.changed.notify_all();
    }
}

/// A small generator of numbers, for moments and lengths chosen at random: the same ones in every run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).expect("below a usize")
    }
}

/// splitmix64's output function: every bit of the input moves every bit of the output.
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
