//! Connections in the making: a request, its two ends, and the listener where it waits.

use std::collections::VecDeque;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use trespass_core::{ErrorKind, Incoming, Listener, SystemSleep, WakerSlot};

use crate::fabric::Shared;
use crate::{ToyAddr, ToyError, ToyTrack, lock};

/// A request to connect, which both sides look at.
#[derive(Debug)]
pub(crate) struct Request {
    from: ToyAddr,
    to: ToyAddr,
    shared: Arc<Shared>,
    answer: Mutex<Answer>,
    changed: WakerSlot,
}

#[derive(Debug)]
pub(crate) enum Answer {
    NotYet,
    /// The connector's track.
    Yes(ToyTrack),
    No(ToyError),
    /// Nobody waits for an answer any more, or it was taken.
    Gone,
}

impl Request {
    pub(crate) fn new(from: ToyAddr, to: ToyAddr, shared: Arc<Shared>) -> Self {
        Self { from, to, shared, answer: Mutex::new(Answer::NotYet), changed: WakerSlot::new() }
    }

    /// Answers, if an answer is still waited for.
    pub(crate) fn answer(&self, answer: Answer) {
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

    fn is_open(&self) -> bool {
        matches!(*lock(&self.answer), Answer::NotYet)
    }
}

/// A connection in the making.
#[derive(Debug)]
pub struct ToyConnecting {
    request: Arc<Request>,
    deadline: SystemSleep,
}

impl ToyConnecting {
    pub(crate) fn new(request: Arc<Request>, deadline: SystemSleep) -> Self {
        Self { request, deadline }
    }
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

/// The requests that wait at a listener: none any more once it is closed.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Option<VecDeque<Arc<Request>>>>,
    changed: WakerSlot,
    room: usize,
}

impl Queue {
    pub(crate) fn new(room: usize) -> Self {
        Self { waiting: Mutex::new(Some(VecDeque::new())), changed: WakerSlot::new(), room }
    }

    pub(crate) fn push(&self, request: &Arc<Request>) {
        let refused = match &mut *lock(&self.waiting) {
            None => Some(ErrorKind::Refused),
            Some(waiting) if waiting.len() >= self.room => Some(ErrorKind::Busy),
            Some(waiting) => {
                waiting.push_back(Arc::clone(request));
                None
            }
        };
        match refused {
            Some(kind) => request.answer(Answer::No(ToyError(kind))),
            None => self.changed.wake(),
        }
    }
}

/// Waits for requests.
#[derive(Debug)]
pub struct ToyListener {
    addr: ToyAddr,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
}

impl ToyListener {
    pub(crate) fn new(addr: ToyAddr, queue: Arc<Queue>, shared: Arc<Shared>) -> Self {
        Self { addr, queue, shared }
    }
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
            if request.is_open() {
                return Poll::Ready(Ok(ToyIncoming { request }));
            }
        }
        Poll::Pending
    }

    fn close(&mut self) {
        let waiting = lock(&self.queue.waiting).take();
        if let Some(waiting) = waiting {
            self.shared.free(self.addr);
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
    type Accepting = Ready<Result<ToyTrack, ToyError>>;

    fn peer(&self) -> ToyAddr {
        self.request.from
    }

    fn accept(self) -> Self::Accepting {
        let Request { from, to, shared, .. } = &*self.request;
        let [theirs, ours] = ToyTrack::pair(shared.config, shared.timer.clone(), [*from, *to]);
        self.request.answer(Answer::Yes(theirs));
        ready(Ok(ours))
    }

    fn refuse(self) {}

    fn busy(self) {
        self.request.answer(Answer::No(ToyError(ErrorKind::Busy)));
    }
}

impl Drop for ToyIncoming {
    fn drop(&mut self) {
        // No effect after an answer.
        self.request.answer(Answer::No(ToyError(ErrorKind::Refused)));
    }
}
