//! Executors, and what is done on each of them: the same client and server, which name neither executor nor fabric.

pub(crate) mod cases;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_executor::{LocalPool, LocalSpawner};
use futures_util::task::LocalSpawnExt;
use trespass_core::WakerSlot;

pub(crate) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Something that runs futures.
pub(crate) trait Runtime {
    /// Runs one to its end, and what was spawned meanwhile.
    fn block_on(&self, job: Job);
    /// How others are started, from within a job.
    fn spawner(&self) -> Spawner;
}

/// Starts jobs.
pub(crate) type Spawner = Arc<dyn Fn(Job) + Send + Sync>;

/// Tokio, with threads or with one.
pub(crate) struct Tokio(pub(crate) tokio::runtime::Runtime);

impl Tokio {
    pub(crate) fn many_threads() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Self(builder.worker_threads(3).enable_time().build().expect("a runtime"))
    }

    pub(crate) fn one_thread() -> Self {
        Self(tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"))
    }
}

impl Runtime for Tokio {
    fn block_on(&self, job: Job) {
        self.0.block_on(job);
    }

    fn spawner(&self) -> Spawner {
        let handle = self.0.handle().clone();
        Arc::new(move |job| drop(handle.spawn(job)))
    }
}

/// Smol's global executor.
pub(crate) struct Smol;

impl Runtime for Smol {
    fn block_on(&self, job: Job) {
        smol::block_on(job);
    }

    fn spawner(&self) -> Spawner {
        Arc::new(|job| smol::spawn(job).detach())
    }
}

/// The pool of futures-executor: all on one thread.
pub(crate) struct Local;

thread_local! {
    static SPAWNER: std::cell::RefCell<Option<LocalSpawner>> = const { std::cell::RefCell::new(None) };
}

impl Runtime for Local {
    fn block_on(&self, job: Job) {
        let mut pool = LocalPool::new();
        SPAWNER.set(Some(pool.spawner()));
        pool.run_until(job);
    }

    fn spawner(&self) -> Spawner {
        Arc::new(|job| {
            let spawner = SPAWNER.with_borrow(|spawner| spawner.clone().expect("spawned within the pool"));
            spawner.spawn_local(job).expect("spawned");
        })
    }
}

/// A thread for each, that sleeps while it waits.
pub(crate) struct Threads;

impl Runtime for Threads {
    fn block_on(&self, job: Job) {
        trespass_core::wait(job);
    }

    fn spawner(&self) -> Spawner {
        Arc::new(|job| drop(std::thread::spawn(|| trespass_core::wait(job))))
    }
}

/// A thread for each, that polls all the time: no wake-up is ever heeded.
pub(crate) struct Busy;

fn poll_busily(job: Job) {
    let mut job = pin!(job);
    while job.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        std::thread::yield_now();
    }
}

impl Runtime for Busy {
    fn block_on(&self, job: Job) {
        poll_busily(job);
    }

    fn spawner(&self) -> Spawner {
        Arc::new(|job| drop(std::thread::spawn(|| poll_busily(job))))
    }
}

/// Runs what `job` makes on `runtime`, in a thread of its own.
///
/// # Panics
/// When it panics, and when it has not ended in time: a wake-up that is lost ends here.
pub(crate) fn run<R, J>(runtime: impl FnOnce() -> R + Send + 'static, job: impl FnOnce(Spawner) -> J + Send + 'static)
where
    R: Runtime,
    J: Future<Output = ()> + Send + 'static,
{
    let (done, ended) = std::sync::mpsc::channel();
    let running = std::thread::spawn(move || {
        let runtime = runtime();
        let job = job(runtime.spawner());
        runtime.block_on(Box::pin(job));
        let _ = done.send(());
    });
    let limit = Duration::from_secs(60).mul_f64(trespass_conformance::time_scale());
    if let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(limit) {
        panic!("not done within {limit:?}: it waits for something that does not come");
    }
    if let Err(panicked) = running.join() {
        std::panic::resume_unwind(panicked);
    }
}

/// What a spawned job gives, for whoever waits.
pub(crate) struct Task<T>(Arc<Outcome<T>>);

struct Outcome<T> {
    state: Mutex<(bool, Option<T>)>,
    waiting: WakerSlot,
}

/// Says that the job is over, also where it panics.
struct Over<T>(Arc<Outcome<T>>);

impl<T> Drop for Over<T> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).0 = true;
        self.0.waiting.wake();
    }
}

pub(crate) fn spawn<T, J>(spawner: &Spawner, job: J) -> Task<T>
where
    T: Send + 'static,
    J: Future<Output = T> + Send + 'static,
{
    let outcome = Arc::new(Outcome { state: Mutex::new((false, None)), waiting: WakerSlot::new() });
    let over = Over(Arc::clone(&outcome));
    spawner(Box::pin(async move {
        let result = job.await;
        over.0.state.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(result);
    }));
    Task(outcome)
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.0.waiting.register(cx.waker());
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (state.0, state.1.take()) {
            (false, result) => {
                state.1 = result;
                Poll::Pending
            }
            (true, result) => Poll::Ready(result.expect("a job panicked")),
        }
    }
}

/// Each case on each executor. `$fabrics` gives two fabrics, that of the server first, and an address to listen at.
macro_rules! on_every_runtime {
    ($fabrics:path) => {
        crate::runtimes::on_every_runtime!($fabrics, ping_pong many_tasks served_in_place served_in_tasks split_halves timeouts cancelled);
    };
    ($fabrics:path, $($case:ident)*) => {
        $(
            mod $case {
                use crate::runtimes::{Busy, Local, Smol, Threads, Tokio, cases::$case, run};

                #[test]
                fn on_tokio() {
                    if crate::is_skipped() {
                        return;
                    }
                    run(Tokio::many_threads, |spawner| $case($fabrics(), spawner));
                }

                #[test]
                fn on_tokio_of_one_thread() {
                    if crate::is_skipped() {
                        return;
                    }
                    run(Tokio::one_thread, |spawner| $case($fabrics(), spawner));
                }

                #[test]
                fn on_smol() {
                    if crate::is_skipped() {
                        return;
                    }
                    run(|| Smol, |spawner| $case($fabrics(), spawner));
                }

                #[test]
                fn on_futures_executor() {
                    if crate::is_skipped() {
                        return;
                    }
                    run(|| Local, |spawner| $case($fabrics(), spawner));
                }

                #[test]
                fn on_plain_threads() {
                    if crate::is_skipped() {
                        return;
                    }
                    run(|| Threads, |spawner| $case($fabrics(), spawner));
                }

                #[test]
                fn on_threads_that_poll_busily() {
                    if crate::is_skipped() {
                        return;
                    }
                    run(|| Busy, |spawner| $case($fabrics(), spawner));
                }
            }
        )*
    };
}
pub(crate) use on_every_runtime;
