//! How an end waits while it measures: polling, or asleep until there is an event; and what it keeps an eye on meanwhile.
//!
//! The loops are written once, over [`Pace`]. Polling looks at the link alone, and each millisecond of looking in vain at the rest: the
//! other connection, signals, the fabric's driver. Asleep it is woken for the rest by a bell of its own, so that a wake-up by
//! the link costs one load more.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use trespass_core::{Drive, InOrder, Lossless, Timer, Track, WakerSlot, block_on};

use super::error::PerfError;
use super::said::{BadFrame, Control, Counts, Said};
use super::stop::{TICK, stopped};

/// How far a run is, and whether it is over: what its loop and the thread that watches it share.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    done: AtomicU64,
    over: AtomicBool,
}

impl Gauge {
    /// So many messages or operations are done.
    #[inline]
    pub(crate) fn note(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The time of the run is over.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Why a loop ends before its own end.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The client has sent all.
    Finished(Counts),
    /// Boxed: loops pass it through at every message, and never see one.
    Failed(Box<PerfError>),
}

impl From<PerfError> for Halt {
    #[cold]
    fn from(error: PerfError) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// What an end keeps an eye on while it works on the link.
pub(crate) struct Watch<'a, T: Track<Delivery: Lossless + InOrder>> {
    control: &'a mut Control<T>,
    gauge: &'a Gauge,
    bell: Arc<Bell>,
    waker: Waker,
    timer: T::Timer,
    alarm: <T::Timer as Timer>::Sleep,
    patience: Duration,
    /// How far the run was when something had happened last, and when that was.
    seen: (u64, Instant),
}

/// Rung by all that is not the link.
struct Bell {
    rung: AtomicBool,
    task: WakerSlot,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<'a, T: Track<Delivery: Lossless + InOrder>> Watch<'a, T> {
    pub(crate) fn new(control: &'a mut Control<T>, timer: T::Timer, gauge: &'a Gauge, patience: Duration) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: WakerSlot::new() });
        let alarm = timer.sleep(TICK);
        let waker = Waker::from(Arc::clone(&bell));
        Self { control, gauge, bell, waker, timer, alarm, patience, seen: (0, Instant::now()) }
    }

    /// Asleep: ready when the run is to end. Looks only where the bell was rung.
    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Halt> {
        self.bell.task.register(cx.waker());
        if !self.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let looked = self.look();
        if looked.is_ready() {
            // Not all was looked at: whoever goes on after this looks again.
            self.bell.rung.store(true, Ordering::Release);
        }
        looked
    }

    /// Ready when the run is to end; else the bell is rung when this is worth another look.
    fn look(&mut self) -> Poll<Halt> {
        if stopped() {
            return Poll::Ready(PerfError::Interrupted.into());
        }
        let mut cx = Context::from_waker(&self.waker);
        if let Poll::Ready(heard) = self.control.poll_hear(&mut cx) {
            return Poll::Ready(match heard {
                Ok(Some(Said::Finish(counts))) => Halt::Finished(counts),
                Ok(Some(Said::No(refusal))) => PerfError::Refused(refusal).into(),
                Ok(Some(_)) => PerfError::Frame(BadFrame::Turn).into(),
                Ok(None) => PerfError::Gone.into(),
                Err(error) => error.into(),
            });
        }
        while Pin::new(&mut self.alarm).poll(&mut cx).is_ready() {
            self.alarm = self.timer.sleep(TICK);
            let (done, since) = self.seen;
            if done != self.gauge.done() {
                self.seen = (self.gauge.done(), Instant::now());
            } else if since.elapsed() >= self.patience {
                return Poll::Ready(PerfError::Silent(self.patience).into());
            }
        }
        Poll::Pending
    }
}

/// How an end waits.
pub(crate) trait Pace {
    /// What `attempt` comes to. It is given the context of a task where it is to be woken, and none where it is asked again.
    async fn until<R>(&mut self, attempt: impl FnMut(Option<&mut Context<'_>>) -> Poll<R>) -> Result<R, Halt>;

    /// The same, for `limit` at most, counted in ticks of a tenth of a second: `None` after that.
    async fn until_within<R>(
        &mut self,
        limit: Duration,
        attempt: impl FnMut(Option<&mut Context<'_>>) -> Poll<R>,
    ) -> Result<Option<R>, Halt>;

    /// Runs what waits like this to its end.
    fn run<D: Drive, F: Future>(driver: &mut D, future: F) -> F::Output;
}

pub(crate) struct Events<'w, 'a, T: Track<Delivery: Lossless + InOrder>>(pub(crate) &'w mut Watch<'a, T>);

impl<T: Track<Delivery: Lossless + InOrder>> Pace for Events<'_, '_, T> {
    #[inline]
    async fn until<R>(&mut self, mut attempt: impl FnMut(Option<&mut Context<'_>>) -> Poll<R>) -> Result<R, Halt> {
        poll_fn(|cx| match attempt(Some(cx)) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.0.poll(cx).map(Err),
        })
        .await
    }

    async fn until_within<R>(
        &mut self,
        limit: Duration,
        mut attempt: impl FnMut(Option<&mut Context<'_>>) -> Poll<R>,
    ) -> Result<Option<R>, Halt> {
        let begun = Instant::now();
        poll_fn(|cx| {
            if let Poll::Ready(output) = attempt(Some(cx)) {
                return Poll::Ready(Ok(Some(output)));
            }
            match self.0.poll(cx) {
                Poll::Ready(halt) => Poll::Ready(Err(halt)),
                Poll::Pending if begun.elapsed() >= limit => Poll::Ready(Ok(None)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn run<D: Drive, F: Future>(driver: &mut D, future: F) -> F::Output {
        block_on(driver, future)
    }
}

/// How often an end that polls in vain looks at the rest.
const GLANCE: Duration = Duration::from_millis(1);

pub(crate) struct Polling<'w, 'a, T: Track<Delivery: Lossless + InOrder>> {
    watch: &'w mut Watch<'a, T>,
    /// In vain, since something came.
    looks: u32,
    glanced: Instant,
}

impl<'w, 'a, T: Track<Delivery: Lossless + InOrder>> Polling<'w, 'a, T> {
    pub(crate) fn new(watch: &'w mut Watch<'a, T>) -> Self {
        Self { watch, looks: 0, glanced: Instant::now() }
    }

    /// Between two looks. Once in a while at the rest, too; the driver has its turn then.
    #[inline]
    async fn idle(&mut self) -> Result<(), Halt> {
        self.looks = self.looks.wrapping_add(1);
        pause(self.looks);
        match self.looks % 64 {
            0 => self.glance().await,
            _ => Ok(()),
        }
    }

    async fn glance(&mut self) -> Result<(), Halt> {
        let now = Instant::now();
        if now - self.glanced < GLANCE {
            return Ok(());
        }
        self.glanced = now;
        let mut turn = false;
        poll_fn(|_| if std::mem::replace(&mut turn, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        match self.watch.look() {
            Poll::Ready(halt) => Err(halt),
            Poll::Pending => Ok(()),
        }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Pace for Polling<'_, '_, T> {
    #[inline]
    async fn until<R>(&mut self, mut attempt: impl FnMut(Option<&mut Context<'_>>) -> Poll<R>) -> Result<R, Halt> {
        loop {
            if let Poll::Ready(output) = attempt(None) {
                self.looks = 0;
                return Ok(output);
            }
            self.idle().await?;
        }
    }

    async fn until_within<R>(
        &mut self,
        limit: Duration,
        mut attempt: impl FnMut(Option<&mut Context<'_>>) -> Poll<R>,
    ) -> Result<Option<R>, Halt> {
        let mut begun = None;
        loop {
            if let Poll::Ready(output) = attempt(None) {
                self.looks = 0;
                return Ok(Some(output));
            }
            self.idle().await?;
            // Most answers come before a clock is looked at.
            if self.looks % 64 == 0 && begun.get_or_insert_with(Instant::now).elapsed() >= limit {
                return Ok(None);
            }
        }
    }

    /// Nobody is woken: the future is asked again and again, and is not ready only where the driver is to have a turn.
    fn run<D: Drive, F: Future>(driver: &mut D, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            driver.drive(Some(Duration::ZERO));
        }
    }
}

/// On one processor the other end needs it; and after some thousand looks in vain others may.
#[inline]
fn pause(looks: u32) {
    static ALONE: OnceLock<bool> = OnceLock::new();
    let alone = *ALONE.get_or_init(|| std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1));
    match alone || looks > 10_000 {
        true => std::thread::yield_now(),
        false => std::hint::spin_loop(),
    }
}
