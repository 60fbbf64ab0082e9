//! A fabric as a user might write it, with nothing but the public traits: two ends of each track in one process, joined
//! by a `Mutex`.
//!
//! This file is the fabric and its connections; tracks and buffers are next door.
#![allow(unreachable_pub, reason = "written as a crate of its own would be")]

pub mod track;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use trespass_core::{
    ErrorKind, Fabric, Incoming, Limits, Listener, SystemSleep, SystemTimer, Timer, TransportError, WakerSlot,
};

use track::ToyTrack;

/// How a toy fabric is set up.
#[derive(Debug, Clone, Copy)]
pub struct ToyConfig {
    /// The limits of every track.
    pub limits: Limits,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a close may take.
    pub close: Duration,
    /// How many requests wait at a listener.
    pub backlog: usize,
}

impl Default for ToyConfig {
    fn default() -> Self {
        Self {
            limits: Limits::new(4096, 8, 8),
            handshake: Duration::from_secs(10),
            close: Duration::from_secs(10),
            backlog: 64,
        }
    }
}

/// What goes wrong here: the kind says it all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToyError(pub ErrorKind);

impl fmt::Display for ToyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "toy fabric: {}", self.0)
    }
}

impl std::error::Error for ToyError {}

impl TransportError for ToyError {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

/// A place in a toy fabric: `toy:7`. Number zero lets the fabric choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ToyAddr(pub u32);

impl fmt::Display for ToyAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "toy:{}", self.0)
    }
}

impl FromStr for ToyAddr {
    type Err = ToyError;

    fn from_str(text: &str) -> Result<Self, ToyError> {
        let number = text.strip_prefix("toy:").and_then(|number| number.parse().ok());
        number.map(Self).ok_or(ToyError(ErrorKind::Config))
    }
}

/// A fabric in one process. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Toy {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: ToyConfig,
    timer: SystemTimer,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    listeners: HashMap<ToyAddr, Arc<Queue>>,
    last: u32,
}

/// The requests that wait at a listener.
#[derive(Debug, Default)]
struct Queue {
    /// `None` once it is closed.
    waiting: Mutex<Option<VecDeque<Arc<Request>>>>,
    changed: WakerSlot,
}

impl Toy {
    pub fn new(config: ToyConfig) -> Self {
        Self { shared: Arc::new(Shared { config, timer: SystemTimer::new(), places: Mutex::default() }) }
    }
}

impl Places {
    /// A number that was not used before.
    fn choose(&mut self) -> ToyAddr {
        self.last += 1;
        ToyAddr(1_000_000 + self.last)
    }
}

impl Fabric for Toy {
    type Addr = ToyAddr;
    type Error = ToyError;
    type Timer = SystemTimer;
    type Track = ToyTrack;
    type Listener = ToyListener;
    type Connecting = ToyConnecting;

    fn listen(&self, addr: &ToyAddr) -> Result<ToyListener, ToyError> {
        let mut places = lock(&self.shared.places);
        let addr = if addr.0 == 0 { places.choose() } else { *addr };
        if places.listeners.contains_key(&addr) {
            return Err(ToyError(ErrorKind::Busy));
        }
        let queue = Arc::new(Queue { waiting: Mutex::new(Some(VecDeque::new())), changed: WakerSlot::new() });
        places.listeners.insert(addr, Arc::clone(&queue));
        Ok(ToyListener { addr, queue, shared: Arc::clone(&self.shared) })
    }

    fn connect(&self, addr: &ToyAddr) -> ToyConnecting {
        let (from, queue) = {
            let mut places = lock(&self.shared.places);
            (places.choose(), places.listeners.get(addr).cloned())
        };
        let answer = match queue {
            None => Answer::No(ToyError(ErrorKind::Refused)),
            Some(_) => Answer::NotYet,
        };
        let request = Arc::new(Request {
            from,
            to: *addr,
            shared: Arc::clone(&self.shared),
            answer: Mutex::new(answer),
            changed: WakerSlot::new(),
        });
        if let Some(queue) = queue {
            queue.push(&request, self.shared.config.backlog);
        }
        let deadline = self.shared.timer.sleep(self.shared.config.handshake);
        ToyConnecting { request, deadline }
    }

    fn timer(&self) -> SystemTimer {
        self.shared.timer.clone()
    }
}

impl Queue {
    fn push(&self, request: &Arc<Request>, room: usize) {
        match &mut *lock(&self.waiting) {
            None => request.answer(Answer::No(ToyError(ErrorKind::Refused))),
            Some(waiting) if waiting.len() >= room => request.answer(Answer::No(ToyError(ErrorKind::Busy))),
            Some(waiting) => waiting.push_back(Arc::clone(request)),
        }
        self.changed.wake();
    }
}

/// A request to connect, which both sides look at.
#[derive(Debug)]
struct Request {
    from: ToyAddr,
    to: ToyAddr,
    shared: Arc<Shared>,
    answer: Mutex<Answer>,
    changed: WakerSlot,
}

#[derive(Debug)]
enum Answer {
    NotYet,
    /// The connector's track.
    Yes(ToyTrack),
    No(ToyError),
    /// Nobody waits for an answer any more, or it was taken.
    Gone,
}

impl Request {
    /// Answers, if an answer is still waited for.
    fn answer(&self, answer: Answer) {
        let unwanted = {
            let mut current = lock(&self.answer);
            match *current {
                Answer::NotYet => std::mem::replace(&mut *current, answer),
                _ => answer,
            }
        };
        // A track that nobody waits for ends, without the lock.
        drop(unwanted);
        self.changed.wake();
    }
}

/// A connection in the making.
#[derive(Debug)]
pub struct ToyConnecting {
    request: Arc<Request>,
    deadline: SystemSleep,
}

impl Future for ToyConnecting {
    type Output = Result<ToyTrack, ToyError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.request.changed.register(cx.waker());
        let timed_out = Pin::new(&mut self.deadline).poll(cx).is_ready();
        let mut answer = lock(&self.request.answer);
        match std::mem::replace(&mut *answer, Answer::Gone) {
            Answer::NotYet if !timed_out => {
                *answer = Answer::NotYet;
                Poll::Pending
            }
            Answer::Yes(track) => Poll::Ready(Ok(track)),
            Answer::No(error) => Poll::Ready(Err(error)),
            Answer::NotYet | Answer::Gone => Poll::Ready(Err(ToyError(ErrorKind::TimedOut))),
        }
    }
}

impl Drop for ToyConnecting {
    fn drop(&mut self) {
        let answer = std::mem::replace(&mut *lock(&self.request.answer), Answer::Gone);
        drop(answer);
    }
}

/// Waits for requests.
#[derive(Debug)]
pub struct ToyListener {
    addr: ToyAddr,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
}

impl Listener for ToyListener {
    type Addr = ToyAddr;
    type Error = ToyError;
    type Track = ToyTrack;
    type Incoming = ToyIncoming;

    fn local(&self) -> ToyAddr {
        self.addr
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<ToyIncoming, ToyError>> {
        self.queue.changed.register(cx.waker());
        let Some(waiting) = &mut *lock(&self.queue.waiting) else {
            return Poll::Ready(Err(ToyError(ErrorKind::Closed)));
        };
        while let Some(request) = waiting.pop_front() {
            // Whoever has given up meanwhile is not worth a look.
            if matches!(*lock(&request.answer), Answer::NotYet) {
                return Poll::Ready(Ok(ToyIncoming { request }));
            }
        }
        Poll::Pending
    }

    fn close(&mut self) {
        let waiting = lock(&self.queue.waiting).take();
        if let Some(waiting) = waiting {
            lock(&self.shared.places).listeners.remove(&self.addr);
            waiting.into_iter().for_each(|request| request.answer(Answer::No(ToyError(ErrorKind::Refused))));
        }
    }
}

impl Drop for ToyListener {
    fn drop(&mut self) {
        self.close();
    }
}

/// A request that was taken. Dropping it refuses it.
#[derive(Debug)]
pub struct ToyIncoming {
    request: Arc<Request>,
}

impl Incoming for ToyIncoming {
    type Addr = ToyAddr;
    type Error = ToyError;
    type Track = ToyTrack;
    type Accepting = std::future::Ready<Result<ToyTrack, ToyError>>;

    fn peer(&self) -> ToyAddr {
        self.request.from
    }

    fn accept(self) -> Self::Accepting {
        let Request { from, to, shared, .. } = &*self.request;
        let (theirs, ours) = ToyTrack::pair(shared, *from, *to);
        self.request.answer(Answer::Yes(theirs));
        std::future::ready(Ok(ours))
    }

    fn refuse(self) {}

    fn busy(self) {
        self.request.answer(Answer::No(ToyError(ErrorKind::Busy)));
    }
}

impl Drop for ToyIncoming {
    fn drop(&mut self) {
        // No effect after an accept.
        self.request.answer(Answer::No(ToyError(ErrorKind::Refused)));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
