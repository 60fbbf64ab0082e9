//! Listeners: a bounded queue of connection requests.
#![allow(private_bounds, reason = "sealed: the sorts of track are those of this crate")]

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use trespass_core::{Listener, Timer, Track};

use crate::addr::MockAddr;
use crate::connect::{Joined, Maker, MockIncoming, Request};
use crate::error::MockError;
use crate::fabric::{FabricShared, Mortal};
use crate::sync::{Mutex, Waiter, lock};
use crate::track::MockTrack;

/// Waits for connection requests. Dropping it closes it.
///
/// It holds as many requests as its fabric's `backlog` says; further ones fail with kind `Busy`. A request whose
/// connector has given up takes no room.
pub struct MockListener<T: Joined = MockTrack> {
    shared: Arc<ListenerShared<T>>,
}

impl<T: Joined> MockListener<T> {
    pub(crate) fn new(shared: Arc<ListenerShared<T>>) -> Self {
        Self { shared }
    }
}

impl<T: Joined + Track<Addr = MockAddr, Error = MockError>> Listener for MockListener<T> {
    type Addr = MockAddr;
    type Error = MockError;
    type Track = T;
    type Incoming = MockIncoming<T>;

    fn local(&self) -> MockAddr {
        self.shared.addr.clone()
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<MockIncoming<T>, MockError>> {
        self.shared.poll_incoming(cx)
    }

    fn close(&mut self) {
        self.shared.close(&MockError::Closed);
    }
}

impl<T: Joined> Drop for MockListener<T> {
    fn drop(&mut self) {
        self.shared.close(&MockError::Closed);
    }
}

impl<T: Joined> fmt::Debug for MockListener<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockListener").field("local", &self.shared.addr).finish_non_exhaustive()
    }
}

/// What a listener, its place in the net, and its fabric share.
pub(crate) struct ListenerShared<T: Joined> {
    addr: MockAddr,
    maker: T::Acceptor,
    state: Mutex<State<T>>,
}

struct State<T: Joined> {
    queue: VecDeque<Arc<Request<T>>>,
    /// Why it takes no more.
    closed: Option<MockError>,
    waiter: Waiter,
}

impl<T: Joined> ListenerShared<T> {
    pub(crate) fn new(addr: MockAddr, maker: T::Acceptor) -> Self {
        let state = State { queue: VecDeque::new(), closed: None, waiter: Waiter::default() };
        Self { addr, maker, state: Mutex::new(state) }
    }

    /// What its tracks are made by.
    pub(crate) fn maker(&self) -> &T::Acceptor {
        &self.maker
    }

    fn fabric(&self) -> &Arc<FabricShared> {
        self.maker.fabric()
    }

    pub(crate) fn addr(&self) -> &MockAddr {
        &self.addr
    }

    /// Queues `request`.
    pub(crate) fn enqueue(&self, request: &Arc<Request<T>>) -> Result<(), MockError> {
        T::admit(self)?;
        let now = self.fabric().timer().now();
        let backlog = self.fabric().config().backlog;
        let mut stale = VecDeque::new();
        let mut state = lock(&self.state);
        if state.closed.is_some() {
            return Err(MockError::Refused { addr: self.addr.clone() });
        }
        if state.queue.len() >= backlog {
            let (live, gone) = state.queue.drain(..).partition(|request| request.waits(now));
            (state.queue, stale) = (live, gone);
        }
        if state.queue.len() >= backlog {
            drop(state);
            return Err(MockError::BacklogFull { addr: self.addr.clone(), backlog });
        }
        state.queue.push_back(Arc::clone(request));
        let waker = state.waiter.take();
        drop(state);
        drop(stale);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Result<MockIncoming<T>, MockError>> {
        let now = self.fabric().timer().now();
        let mut state = lock(&self.state);
        while let Some(request) = state.queue.pop_front() {
            if request.waits(now) {
                return Poll::Ready(Ok(MockIncoming::new(request, self.maker.clone())));
            }
        }
        if let Some(error) = &state.closed {
            return Poll::Ready(Err(error.clone()));
        }
        let old = state.waiter.register(cx.waker());
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Takes no more, for `why`, and refuses what is queued. The first cause stays.
    pub(crate) fn close(&self, why: &MockError) {
        // First, so that the address is free by the time that anybody is told.
        T::unlisten(self);
        let mut state = lock(&self.state);
        state.closed.get_or_insert_with(|| why.clone());
        let queue = std::mem::take(&mut state.queue);
        let waker = state.waiter.take();
        drop(state);
        for request in queue {
            request.fail(MockError::Refused { addr: self.addr.clone() });
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T: Joined> Mortal for ListenerShared<T> {
    fn kill(&self, _: &Arc<FabricShared>) {
        self.close(&MockError::Killed);
    }
}

impl<T: Joined> fmt::Debug for ListenerShared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerShared").field("addr", &self.addr).finish_non_exhaustive()
    }
}
