//! Connections in the making: a request that the connector waits on, and that the listener's user answers.
#![allow(private_bounds, reason = "sealed: the sorts of track are those of this crate")]

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use trespass_core::{Incoming, Timer, Track};

use crate::addr::MockAddr;
use crate::clock::MockSleep;
use crate::conn::End;
use crate::error::MockError;
use crate::fabric::{FabricShared, Mortal};
use crate::listen::ListenerShared;
use crate::sim::Answered;
use crate::sync::{Mutex, Waiter, lock};
use crate::track::MockTrack;

/// A sort of track, as a handshake sees it.
pub(crate) trait Joined: Sized + fmt::Debug + Send + 'static {
    /// What an end that connects is made by.
    type Connector: Maker;
    /// What an end that accepts is made by: each listener has it.
    type Acceptor: Maker + Clone;

    /// Whether a listener can take one more.
    fn admit(listener: &ListenerShared<Self>) -> Result<(), MockError>;
    /// The address of `listener` is free again.
    fn unlisten(listener: &ListenerShared<Self>);
    /// Its link breaks, where it has one.
    fn sever(&self) {}
    /// Two tracks that belong together: that of the connector, and that of the acceptor. Called under the request's lock.
    fn join(
        connector: (&Self::Connector, &MockAddr),
        acceptor: (&Self::Acceptor, &MockAddr),
    ) -> Result<[Self; 2], MockError>;
}

/// What makes tracks, on behalf of a fabric.
pub(crate) trait Maker: Send + Sync + 'static {
    /// Whose settings hold, and whose death is theirs.
    fn fabric(&self) -> &Arc<FabricShared>;
}

impl Maker for Arc<FabricShared> {
    fn fabric(&self) -> &Arc<FabricShared> {
        self
    }
}

impl Joined for MockTrack {
    type Connector = Arc<FabricShared>;
    type Acceptor = Arc<FabricShared>;

    fn admit(_: &ListenerShared<Self>) -> Result<(), MockError> {
        Ok(())
    }

    fn unlisten(listener: &ListenerShared<Self>) {
        listener.maker().unlisten(listener);
    }

    fn sever(&self) {
        self.break_link();
    }

    fn join(
        connector: (&Arc<FabricShared>, &MockAddr),
        acceptor: (&Arc<FabricShared>, &MockAddr),
    ) -> Result<[Self; 2], MockError> {
        Ok(End::pair(connector, acceptor).map(|end| Self::new(&end)))
    }
}

/// A connection request, shared by the one who makes it and the one who answers it.
pub(crate) struct Request<T: Joined> {
    from: MockAddr,
    to: MockAddr,
    connector: T::Connector,
    deadline: Duration,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    answer: Answer<T>,
    /// When the connector learns of it, in a simulation.
    late: Option<MockSleep>,
    waiter: Waiter,
}

#[derive(Debug)]
enum Answer<T> {
    /// There is none yet.
    None,
    Yes(T),
    No(MockError),
    /// Nobody asks any more: the connector went away, or has its answer.
    Unasked,
}

impl<T: Joined> Request<T> {
    pub(crate) fn new(from: MockAddr, to: MockAddr, connector: T::Connector) -> Self {
        let fabric = connector.fabric();
        let deadline = fabric.timer().now().saturating_add(fabric.config().handshake_timeout);
        let state = Mutex::new(State { answer: Answer::None, late: None, waiter: Waiter::default() });
        Self { from, to, connector, deadline, state }
    }

    /// Whether an answer is still of use at `now`.
    pub(crate) fn waits(&self, now: Duration) -> bool {
        now < self.deadline && matches!(lock(&self.state).answer, Answer::None)
    }

    /// Answers no, unless there is an answer. No lock may be held.
    pub(crate) fn fail(&self, error: MockError) {
        self.answer(None, || Answer::No(error));
    }

    /// The connector's.
    fn fabric(&self) -> &Arc<FabricShared> {
        self.connector.fabric()
    }

    /// Answers yes, and returns the acceptor's track, and how much later than now it is to have it.
    fn accept(&self, acceptor: &T::Acceptor) -> (Result<T, MockError>, Duration) {
        let fate = self.fabric().trouble().map(|trouble| trouble.handshake()).unwrap_or_default();
        let accepted = self.join(acceptor, &fate);
        if let (Ok(track), true) = (&accepted, fate.broken) {
            track.sever();
        }
        (accepted, fate.acceptor_late)
    }

    fn join(&self, acceptor: &T::Acceptor, fate: &Answered) -> Result<T, MockError> {
        if let Err(error) = acceptor.fabric().alive() {
            self.fail(MockError::Refused { addr: self.to.clone() });
            return Err(error);
        }
        if self.fabric().timer().now() >= self.deadline {
            self.fail(self.timed_out(&self.to));
            return Err(self.timed_out(&self.from));
        }
        let late = match fate {
            Answered { lost: true, .. } => Some(Duration::MAX),
            Answered { connector_late: Duration::ZERO, .. } => None,
            Answered { connector_late, .. } => Some(*connector_late),
        };
        let mut accepted = None;
        self.answer(late, || match T::join((&self.connector, &self.from), (acceptor, &self.to)) {
            Ok([theirs, ours]) => {
                accepted = Some(Ok(ours));
                Answer::Yes(theirs)
            }
            Err(error) => {
                accepted = Some(Err(error.clone()));
                Answer::No(error)
            }
        });
        accepted.unwrap_or_else(|| Err(MockError::Withdrawn { peer: self.from.clone() }))
    }

    /// Gives the answer that `make` makes, unless there is one. It arrives so `late`.
    fn answer(&self, late: Option<Duration>, make: impl FnOnce() -> Answer<T>) {
        let mut state = lock(&self.state);
        if !matches!(state.answer, Answer::None) {
            return;
        }
        state.answer = make();
        state.late = late.map(|late| self.fabric().timer().sleep(late));
        let waker = state.waiter.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the answer, or leaves word whom to tell.
    fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<Result<T, MockError>> {
        let late = lock(&self.state).late.take();
        if let Some(mut late) = late {
            // Without the lock: wakers are foreign code.
            if Pin::new(&mut late).poll(cx).is_pending() {
                lock(&self.state).late = Some(late);
                return Poll::Pending;
            }
        }
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

    /// Whether there is an answer that has not arrived.
    fn is_late(&self) -> bool {
        lock(&self.state).late.is_some()
    }

    /// Nobody asks any more. A track that was the answer ends.
    fn withdraw(&self) {
        let mut state = lock(&self.state);
        let answer = mem::replace(&mut state.answer, Answer::Unasked);
        let late = state.late.take();
        let waker = state.waiter.take();
        drop(state);
        drop((answer, late, waker));
    }

    fn timed_out(&self, peer: &MockAddr) -> MockError {
        MockError::HandshakeTimedOut { peer: peer.clone(), after: self.fabric().config().handshake_timeout }
    }
}

impl<T: Joined> Mortal for Request<T> {
    /// The connector or the acceptor was killed.
    fn kill(&self, whose: &Arc<FabricShared>) {
        match Arc::ptr_eq(whose, self.fabric()) {
            true => self.fail(MockError::Killed),
            false => self.fail(MockError::Refused { addr: self.to.clone() }),
        }
    }
}

impl<T: Joined> fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

/// A connection in the making, on the side that connects. Dropping it withdraws the request.
///
/// Once it was ready, further polls give kind `Closed`.
#[derive(Debug)]
pub struct MockConnecting<T: Joined = MockTrack> {
    stage: Stage<T>,
}

#[derive(Debug)]
enum Stage<T: Joined> {
    Failed(MockError),
    /// The alarm is set when it is waited for: a request that is answered by then needs none.
    Waiting {
        request: Arc<Request<T>>,
        alarm: Option<MockSleep>,
    },
}

impl<T: Joined> MockConnecting<T> {
    /// One that came to nothing at once.
    pub(crate) fn failed(error: MockError) -> Self {
        Self { stage: Stage::Failed(error) }
    }

    pub(crate) fn waiting(request: Arc<Request<T>>) -> Self {
        Self { stage: Stage::Waiting { request, alarm: None } }
    }
}

impl<T: Joined> Future for MockConnecting<T> {
    type Output = Result<T, MockError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, MockError>> {
        let (request, alarm) = match &mut self.stage {
            Stage::Failed(error) => return Poll::Ready(Err(mem::replace(error, MockError::Closed))),
            Stage::Waiting { request, alarm } => (request, alarm),
        };
        if let Poll::Ready(result) = request.poll_answer(cx) {
            return Poll::Ready(result);
        }
        let timer = request.fabric().timer();
        let alarm = alarm.get_or_insert_with(|| timer.sleep(request.deadline.saturating_sub(timer.now())));
        if Pin::new(alarm).poll(cx).is_ready() {
            // An answer that came just now is as good; one that is under way still is not.
            request.fail(request.timed_out(&request.to));
            if request.is_late() {
                request.withdraw();
                return Poll::Ready(Err(request.timed_out(&request.to)));
            }
            return request.poll_answer(cx);
        }
        Poll::Pending
    }
}

impl<T: Joined> Drop for MockConnecting<T> {
    fn drop(&mut self) {
        if let Stage::Waiting { request, .. } = &self.stage {
            request.withdraw();
        }
    }
}

/// A connection request. Dropping it refuses it.
pub struct MockIncoming<T: Joined = MockTrack> {
    request: Arc<Request<T>>,
    acceptor: T::Acceptor,
}

impl<T: Joined> MockIncoming<T> {
    pub(crate) fn new(request: Arc<Request<T>>, acceptor: T::Acceptor) -> Self {
        acceptor.fabric().note(&request);
        Self { request, acceptor }
    }
}

impl<T: Joined + Track<Addr = MockAddr, Error = MockError>> Incoming for MockIncoming<T> {
    type Addr = MockAddr;
    type Error = MockError;
    type Track = T;
    type Accepting = MockAccepting<T>;

    fn peer(&self) -> MockAddr {
        self.request.from.clone()
    }

    /// Done at once. Fails with kind `Disconnected` where the connector is gone, and `TimedOut` where it has given up.
    fn accept(self) -> MockAccepting<T> {
        let (outcome, late) = self.request.accept(&self.acceptor);
        let late = (!late.is_zero()).then(|| self.acceptor.fabric().timer().sleep(late));
        MockAccepting { outcome: Some(outcome), late }
    }

    fn refuse(self) {
        // The drop does it.
    }

    fn busy(self) {
        self.request.fail(MockError::Busy { addr: self.request.to.clone() });
    }
}

impl<T: Joined> Drop for MockIncoming<T> {
    fn drop(&mut self) {
        // No effect on one that was accepted.
        self.request.fail(MockError::Refused { addr: self.request.to.clone() });
    }
}

impl<T: Joined> fmt::Debug for MockIncoming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockIncoming").field("peer", &self.request.from).finish_non_exhaustive()
    }
}

/// A connection in the making, on the side that accepts: ready at the first poll, but in a
/// [simulation](crate::MockSim) where it is [late](crate::MockPlan::established_late). Dropping it ends the connection.
///
/// Once it was ready, further polls give kind `Closed`.
#[derive(Debug)]
pub struct MockAccepting<T = MockTrack> {
    outcome: Option<Result<T, MockError>>,
    late: Option<MockSleep>,
}

// Nothing is pinned in there.
impl<T> Unpin for MockAccepting<T> {}

impl<T> Future for MockAccepting<T> {
    type Output = Result<T, MockError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, MockError>> {
        if self.late.as_mut().is_some_and(|late| Pin::new(late).poll(cx).is_pending()) {
            return Poll::Pending;
        }
        self.late = None;
        Poll::Ready(self.outcome.take().unwrap_or(Err(MockError::Closed)))
    }
}
