//! The executor of a simulation.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use thiserror::Error;

use super::dice::Dice;
use super::explore::replay_line;
use super::plan::{MockFault, MockPlan};
use super::trouble::{Note, Trouble};
use crate::clock::{MockDriver, MockTimer};
use crate::fabric::MockNet;
use crate::sync::{Mutex, lock};

/// How long a run may take by its own clock, unless it is told otherwise.
const LIMIT: Duration = Duration::from_secs(3600);
/// How many polls a run may take, unless it is told otherwise.
const POLLS: u64 = 1_000_000;
/// A poll takes up to so many nanoseconds: so that what is under way may come between any two.
const POLL_NANOS: u64 = 2000;

/// A deterministic simulation: the user's tasks on one thread and on virtual time, in an order made of a seed, with a net
/// in which a [plan](MockPlan) says what goes wrong.
///
/// The same seed, plan and program make the same run, poll for poll: [`MockSimReport::trace`] says whether two runs were
/// one. A minute of timeouts takes milliseconds. A run in which nothing can happen any more is a failure that names the tasks
/// that wait; so is one that takes too long, or too many polls, or a task that panics. Each failure prints its seed, and the
/// line that replays it.
///
/// Not `Send`: one run is one thread's. Tasks must take time, chance and threads from nowhere else, or runs differ.
///
/// ```
/// use std::time::Duration;
/// use trespass_core::{Fabric, Incoming, ListenerExt, RecvSideExt, SendSide, SendSideExt};
/// use trespass_mock::{MockConfig, MockPlan, MockSim};
///
/// let run = |seed| {
///     let mut sim = MockSim::new(seed, MockPlan::default().with_delay(Duration::ZERO..Duration::from_millis(3)));
///     let fabric = sim.net().fabric(MockConfig::default()).unwrap();
///     let mut listener = fabric.listen(&"server".parse().unwrap()).unwrap();
///     sim.spawn("server", async move {
///         let mut track = listener.incoming().await.unwrap().accept().await.unwrap();
///         assert_eq!(&*track.recv().await.unwrap(), b"hello");
///         track.close().await.unwrap();
///     });
///     let client = sim.spawn("client", async move {
///         let mut track = fabric.connect(&"server".parse().unwrap()).await.unwrap();
///         let mut buf = track.reserve(5).await.unwrap();
///         buf.copy_from_slice(b"hello");
///         track.send(buf).unwrap();
///         track.close().await
///     });
///     let report = sim.run().unwrap();
///     (report.trace, client.output().unwrap().is_ok())
/// };
/// assert_eq!(run(1), run(1));
/// assert_ne!(run(1).0, run(2).0);
/// ```
pub struct MockSim {
    seed: u64,
    dice: Dice,
    net: MockNet,
    driver: MockDriver,
    trouble: Arc<Trouble>,
    tasks: Vec<Slot>,
    spawner: MockSpawner,
    runnable: Arc<RunQueue>,
    limit: Duration,
    most_polls: u64,
}

/// A task, until it is over.
struct Slot {
    name: String,
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    signal: Arc<Signal>,
    waker: Waker,
}

/// The tasks that were woken.
#[derive(Default)]
struct RunQueue(Mutex<Vec<usize>>);

struct Signal {
    task: usize,
    queued: AtomicBool,
    queue: Arc<RunQueue>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            lock(&self.queue.0).push(self.task);
        }
    }
}

/// Starts tasks in a simulation, also from within one. Cheap to clone.
#[derive(Clone, Default)]
pub struct MockSpawner {
    new: Rc<RefCell<Vec<New>>>,
}

struct New {
    name: String,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

/// What a task gave.
#[derive(Debug)]
pub struct MockTask<T> {
    output: Rc<RefCell<Option<T>>>,
}

impl<T> MockTask<T> {
    /// What it gave; `None` while it is not over, and once that was taken.
    pub fn output(&self) -> Option<T> {
        self.output.borrow_mut().take()
    }
}

impl MockSpawner {
    /// Starts a task. The name is for failures to print.
    pub fn spawn<F: Future + 'static>(&self, name: impl Into<String>, future: F) -> MockTask<F::Output> {
        let output = Rc::new(RefCell::new(None));
        let place = Rc::clone(&output);
        let future = Box::pin(async move {
            let value = future.await;
            *place.borrow_mut() = Some(value);
        });
        self.new.borrow_mut().push(New { name: name.into(), future });
        MockTask { output }
    }
}

impl fmt::Debug for MockSpawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockSpawner").finish_non_exhaustive()
    }
}

/// A run that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MockSimReport {
    /// All that happened in order: each poll, message and fault, and when. Equal for the same run, and hardly for two
    /// different ones.
    pub trace: u64,
    /// How often a task was polled.
    pub polls: u64,
    /// What the clock says at the end.
    pub elapsed: Duration,
}

/// How a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MockSimEnd {
    /// No task can go on, and no alarm is set.
    #[error("a hang at {at:?}: nothing can happen any more, and these tasks wait: {}", .waiting.join(", "))]
    Hang {
        /// When, by the clock of the run.
        at: Duration,
        /// The names of the tasks.
        waiting: Vec<String>,
    },
    /// It took longer than [`MockSim::with_limit`] allows, by its own clock.
    #[error("{limit:?} have passed, and these tasks wait: {}", .waiting.join(", "))]
    TooLong {
        /// The limit.
        limit: Duration,
        /// The names of the tasks.
        waiting: Vec<String>,
    },
    /// It took more polls than [`MockSim::with_most_polls`] allows: tasks that wake one another without end.
    #[error("{most} polls, and these tasks are not done: {}", .waiting.join(", "))]
    TooManyPolls {
        /// The limit.
        most: u64,
        /// The names of the tasks.
        waiting: Vec<String>,
    },
    /// A task panicked.
    #[error("the task {task} panicked: {message}")]
    Panicked {
        /// Its name.
        task: String,
        /// What it said.
        message: String,
    },
}

/// A run that failed, and all that it takes to see it again.
/// Shown the same for debugging, so that an `unwrap` says it all.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{end}\nseed {seed}, with {plan:#?}\nreplay it: {}", replay_line(*.seed))]
#[non_exhaustive]
pub struct MockSimFailure {
    /// How it failed.
    pub end: MockSimEnd,
    /// Its seed.
    pub seed: u64,
    /// Its plan.
    pub plan: Box<MockPlan>,
}

impl fmt::Debug for MockSimFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl MockSim {
    /// A simulation of `seed`, in which `plan` says what goes wrong.
    pub fn new(seed: u64, plan: MockPlan) -> Self {
        let (timer, driver) = MockTimer::driven();
        let trouble = Trouble::new(seed, plan, timer);
        Self {
            seed,
            dice: Dice::new(seed ^ 0x7461_736b),
            net: MockNet::simulated(&trouble),
            driver,
            trouble,
            tasks: Vec::new(),
            spawner: MockSpawner::default(),
            runnable: Arc::default(),
            limit: LIMIT,
            most_polls: POLLS,
        }
    }

    /// The same, and a run may take so long by its own clock. Default one hour.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The same, and a run may take so many polls. Default a million.
    #[must_use]
    pub fn with_most_polls(self, most: u64) -> Self {
        Self { most_polls: most, ..self }
    }

    /// The net: make the fabrics of it.
    pub fn net(&self) -> &MockNet {
        &self.net
    }

    /// Its clock.
    pub fn timer(&self) -> MockTimer {
        self.trouble.timer().clone()
    }

    /// Starts a task. The name is for failures to print.
    pub fn spawn<F: Future + 'static>(&self, name: impl Into<String>, future: F) -> MockTask<F::Output> {
        self.spawner.spawn(name, future)
    }

    /// What tasks start others with.
    pub fn spawner(&self) -> MockSpawner {
        self.spawner.clone()
    }

    /// Runs all tasks to their ends.
    ///
    /// # Errors
    /// A run that hangs, takes too long or panics, with its seed and plan.
    pub fn run(&mut self) -> Result<MockSimReport, MockSimFailure> {
        let mut polls = 0;
        loop {
            self.take_new();
            self.apply_due();
            match self.pick() {
                Some(_) if polls == self.most_polls => {
                    return self.fail(MockSimEnd::TooManyPolls { most: polls, waiting: self.waiting() });
                }
                Some(task) => {
                    polls += 1;
                    if let Err(message) = self.poll(task) {
                        let task = self.tasks.get(task).map_or_else(String::new, |slot| slot.name.clone());
                        return self.fail(MockSimEnd::Panicked { task, message });
                    }
                    let took = self.dice.below(POLL_NANOS);
                    self.pass(Duration::from_nanos(took));
                }
                None if self.tasks.iter().all(|slot| slot.future.is_none()) && self.spawner.new.borrow().is_empty() => {
                    return Ok(MockSimReport { trace: self.trouble.trace(), polls, elapsed: self.driver.now() });
                }
                None => self.leap()?,
            }
        }
    }

    fn take_new(&mut self) {
        let new = std::mem::take(&mut *self.spawner.new.borrow_mut());
        for New { name, future } in new {
            let task = self.tasks.len();
            let queue = Arc::clone(&self.runnable);
            let signal = Arc::new(Signal { task, queued: AtomicBool::new(false), queue });
            signal.wake_by_ref();
            let waker = Waker::from(Arc::clone(&signal));
            self.tasks.push(Slot { name, future: Some(future), signal, waker });
        }
    }

    /// One of the tasks that were woken, by chance.
    fn pick(&mut self) -> Option<usize> {
        let mut runnable = lock(&self.runnable.0);
        match runnable.len() {
            0 => None,
            len => Some(runnable.swap_remove(self.dice.index(len))),
        }
    }

    /// Polls a task; the message of its panic, where it does.
    fn poll(&mut self, task: usize) -> Result<(), String> {
        let Some(Slot { future, signal, waker, .. }) = self.tasks.get_mut(task) else { return Ok(()) };
        self.trouble.note(Note::Polled(task));
        signal.queued.store(false, Ordering::Release);
        let Some(polled) = future else { return Ok(()) };
        let mut cx = Context::from_waker(waker);
        // A future that panicked is never polled again.
        match catch_unwind(AssertUnwindSafe(|| polled.as_mut().poll(&mut cx))) {
            Ok(Poll::Pending) => Ok(()),
            Ok(Poll::Ready(())) => {
                *future = None;
                Ok(())
            }
            Err(panic) => Err(said(panic.as_ref())),
        }
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let target = self.driver.now().saturating_add(time);
        while self.driver.step(target) {}
    }

    /// Moves the clock to where something happens.
    fn leap(&mut self) -> Result<(), MockSimFailure> {
        let next = [self.driver.next_alarm(), self.trouble.next()].into_iter().flatten().min();
        let Some(next) = next else {
            return self.fail(MockSimEnd::Hang { at: self.driver.now(), waiting: self.waiting() });
        };
        if next > self.limit {
            return self.fail(MockSimEnd::TooLong { limit: self.limit, waiting: self.waiting() });
        }
        self.driver.step(next);
        Ok(())
    }

    /// Does what the plan says that happens now.
    fn apply_due(&self) {
        for fault in self.trouble.take_due() {
            match fault {
                MockFault::Kill { fabric } => {
                    if let Some(shared) = self.trouble.fabric(fabric) {
                        crate::fabric::MockFabric { shared }.kill();
                    }
                }
                MockFault::QueuePairError { fabric } => self.ends(fabric, |end| end.fail_queue_pair()),
                MockFault::BreakLink { fabric } => self.ends(fabric, |end| end.break_link()),
                // Those that last are in force already; those of handshakes have had their turn.
                _ => {}
            }
        }
    }

    fn ends(&self, fabric: usize, then: impl Fn(&crate::conn::End)) {
        let fabric = self.trouble.fabric(fabric);
        for end in fabric.into_iter().flat_map(|fabric| fabric.live_ends()) {
            then(&end);
        }
    }

    /// The names of those that are not done.
    fn waiting(&self) -> Vec<String> {
        self.tasks.iter().filter(|slot| slot.future.is_some()).map(|slot| slot.name.clone()).collect()
    }

    fn fail<T>(&self, end: MockSimEnd) -> Result<T, MockSimFailure> {
        Err(MockSimFailure { end, seed: self.seed, plan: Box::new(self.trouble.plan().clone()) })
    }
}

/// What a panic said.
pub(super) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(no text)").to_owned()
}

impl fmt::Debug for MockSim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.waiting();
        f.debug_struct("MockSim").field("seed", &self.seed).field("waiting", &waiting).finish_non_exhaustive()
    }
}
