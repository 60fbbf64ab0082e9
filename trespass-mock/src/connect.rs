//! Connections in the making: a request that the connector waits on, and that the listener's user answers.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use trespass_core::{Incoming, Timer};

use crate::addr::MockAddr;
use crate::clock::MockSleep;
use crate::conn::End;
use crate::error::MockError;
use crate::fabric::FabricShared;
use crate::sync::{Waiter, lock};
use crate::track::MockTrack;

/// A connection request, shared by the one who makes it and the one who answers it.
pub(crate) struct Request {
    from: MockAddr,
    to: MockAddr,
    /// The connector's.
    fabric: Arc<FabricShared>,
    deadline: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    answer: Answer,
    waiter: Waiter,
}

#[derive(Debug)]
enum Answer {
    /// There is none yet.
    None,
    Yes(MockTrack),
    No(MockError),
    /// Nobody asks any more: the connector went away, or has its answer.
    Unasked,
}

impl Request {
    pub(crate) fn new(from: MockAddr, to: MockAddr, fabric: Arc<FabricShared>) -> Self {
        let deadline = fabric.timer().now().saturating_add(fabric.config().handshake_timeout);
        let state = Mutex::new(State { answer: Answer::None, waiter: Waiter::default() });
        Self { from, to, fabric, deadline, state }
    }

    /// Whether an answer is still of use at `now`.
    pub(crate) fn waits(&self, now: Duration) -> bool {
        now < self.deadline && matches!(lock(&self.state).answer, Answer::None)
    }

    /// Answers no, unless there is an answer. No lock may be held.
    pub(crate) fn fail(&self, error: MockError) {
        self.answer(|| Answer::No(error));
    }

    /// The connector or the acceptor was killed. No lock may be held.
    pub(crate) fn kill(&self, whose: &Arc<FabricShared>) {
        match Arc::ptr_eq(whose, &self.fabric) {
            true => self.fail(MockError::Killed),
            false => self.fail(MockError::Refused { addr: self.to.clone() }),
        }
    }

    /// Answers yes, and returns the acceptor's track.
    fn accept(&self, acceptor: &Arc<FabricShared>) -> Result<MockTrack, MockError> {
        if let Err(error) = acceptor.alive() {
            self.fail(MockError::Refused { addr: self.to.clone() });
            return Err(error);
        }
        if self.fabric.timer().now() >= self.deadline {
            self.fail(self.timed_out(&self.to));
            return Err(self.timed_out(&self.from));
        }
        let mut accepted = None;
        self.answer(|| {
            let [theirs, ours] = End::pair((&self.fabric, &self.from), (acceptor, &self.to));
            accepted = Some(MockTrack::new(&ours));
            Answer::Yes(MockTrack::new(&theirs))
        });
        accepted.ok_or_else(|| MockError::Withdrawn { peer: self.from.clone() })
    }

    /// Gives the answer that `make` makes, unless there is one.
    fn answer(&self, make: impl FnOnce() -> Answer) {
        let mut state = lock(&self.state);
        if !matches!(state.answer, Answer::None) {
            return;
        }
        state.answer = make();
        let waker = state.waiter.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the answer, or leaves word whom to tell.
    fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<Result<MockTrack, MockError>> {
        let mut state = lock(&self.state);
        match mem::replace(&mut state.answer, Answer::Unasked) {
            Answer::Yes(track) => Poll::Ready(Ok(track)),
            Answer::No(error) => Poll::Ready(Err(error)),
            Answer::Unasked => Poll::Ready(Err(MockError::Closed)),
            Answer::None => {
                state.answer = Answer::None;
                let old = state.waiter.register(cx.waker());
                drop(state);
                drop(old);
                Poll::Pending
            }
        }
    }

    /// Nobody asks any more. A track that was the answer ends.
    fn withdraw(&self) {
        let mut state = lock(&self.state);
        let answer = mem::replace(&mut state.answer, Answer::Unasked);
        let waker = state.waiter.take();
        drop(state);
        drop((answer, waker));
    }

    fn timed_out(&self, peer: &MockAddr) -> MockError {
        MockError::HandshakeTimedOut { peer: peer.clone(), after: self.fabric.config().handshake_timeout }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

/// A connection in the making, on the side that connects. Dropping it withdraws the request.
///
/// Once it was ready, further polls give kind `Closed`.
#[derive(Debug)]
pub struct MockConnecting {
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Failed(MockError),
    /// The alarm is set when it is waited for: a request that is answered by then needs none.
    Waiting {
        request: Arc<Request>,
        alarm: Option<MockSleep>,
    },
}

impl MockConnecting {
    /// One that came to nothing at once.
    pub(crate) fn failed(error: MockError) -> Self {
        Self { stage: Stage::Failed(error) }
    }

    pub(crate) fn waiting(request: Arc<Request>) -> Self {
        Self { stage: Stage::Waiting { request, alarm: None } }
    }
}

impl Future for MockConnecting {
    type Output = Result<MockTrack, MockError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<MockTrack, MockError>> {
        let (request, alarm) = match &mut self.stage {
            Stage::Failed(error) => return Poll::Ready(Err(mem::replace(error, MockError::Closed))),
            Stage::Waiting { request, alarm } => (request, alarm),
        };
        if let Poll::Ready(result) = request.poll_answer(cx) {
            return Poll::Ready(result);
        }
        let timer = request.fabric.timer();
        let alarm = alarm.get_or_insert_with(|| timer.sleep(request.deadline.saturating_sub(timer.now())));
        if Pin::new(alarm).poll(cx).is_ready() {
            // An answer that came just now is as good.
            request.fail(request.timed_out(&request.to));
            return request.poll_answer(cx);
        }
        Poll::Pending
    }
}

impl Drop for MockConnecting {
    fn drop(&mut self) {
        if let Stage::Waiting { request, .. } = &self.stage {
            request.withdraw();
        }
    }
}

/// A connection request. Dropping it refuses it.
pub struct MockIncoming {
    request: Arc<Request>,
    /// The listener's.
    fabric: Arc<FabricShared>,
}

impl MockIncoming {
    pub(crate) fn new(request: Arc<Request>, fabric: Arc<FabricShared>) -> Self {
        fabric.note(&request);
        Self { request, fabric }
    }
}

impl Incoming for MockIncoming {
    type Addr = MockAddr;
    type Error = MockError;
    type Track = MockTrack;
    type Accepting = MockAccepting;

    fn peer(&self) -> MockAddr {
        self.request.from.clone()
    }

    /// Done at once. Fails with kind `Disconnected` where the connector is gone, and `TimedOut` where it has given up.
    fn accept(self) -> MockAccepting {
        MockAccepting { outcome: Some(self.request.accept(&self.fabric)) }
    }

    fn refuse(self) {
        // The drop does it.
    }
}

impl Drop for MockIncoming {
    fn drop(&mut self) {
        // No effect on one that was accepted.
        self.request.fail(MockError::Refused { addr: self.request.to.clone() });
    }
}

impl fmt::Debug for MockIncoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockIncoming").field("peer", &self.request.from).finish_non_exhaustive()
    }
}

/// A connection in the making, on the side that accepts: ready at the first poll. Dropping it ends the connection.
///
/// Once it was ready, further polls give kind `Closed`.
#[derive(Debug)]
pub struct MockAccepting {
    outcome: Option<Result<MockTrack, MockError>>,
}

impl Future for MockAccepting {
    type Output = Result<MockTrack, MockError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<MockTrack, MockError>> {
        Poll::Ready(self.outcome.take().unwrap_or(Err(MockError::Closed)))
    }
}
