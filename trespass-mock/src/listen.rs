//! Listeners: a bounded queue of connection requests.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use trespass_core::{Listener, Timer};

use crate::addr::MockAddr;
use crate::connect::{MockIncoming, Request};
use crate::error::MockError;
use crate::fabric::FabricShared;
use crate::sync::{Waiter, lock};
use crate::track::MockTrack;

/// Waits for connection requests. Dropping it closes it.
///
/// It holds as many requests as its fabric's `backlog` says; further ones fail with kind `Busy`. A request whose
/// connector has given up takes no room.
pub struct MockListener {
    shared: Arc<ListenerShared>,
}

impl MockListener {
    pub(crate) fn new(shared: Arc<ListenerShared>) -> Self {
        Self { shared }
    }
}

impl Listener for MockListener {
    type Addr = MockAddr;
    type Error = MockError;
    type Track = MockTrack;
    type Incoming = MockIncoming;

    fn local(&self) -> MockAddr {
        self.shared.addr.clone()
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<MockIncoming, MockError>> {
        self.shared.poll_incoming(cx)
    }

    fn close(&mut self) {
        self.shared.close(&MockError::Closed);
    }
}

impl Drop for MockListener {
    fn drop(&mut self) {
        self.shared.close(&MockError::Closed);
    }
}

impl fmt::Debug for MockListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockListener").field("local", &self.shared.addr).finish_non_exhaustive()
    }
}

/// What a listener, its place in the net, and its fabric share.
pub(crate) struct ListenerShared {
    addr: MockAddr,
    fabric: Arc<FabricShared>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Arc<Request>>,
    /// Why it takes no more.
    closed: Option<MockError>,
    waiter: Waiter,
}

impl ListenerShared {
    pub(crate) fn new(addr: MockAddr, fabric: Arc<FabricShared>) -> Self {
        Self { addr, fabric, state: Mutex::default() }
    }

    pub(crate) fn addr(&self) -> &MockAddr {
        &self.addr
    }

    /// Queues `request`.
    pub(crate) fn enqueue(&self, request: &Arc<Request>) -> Result<(), MockError> {
        let now = self.fabric.timer().now();
        let backlog = self.fabric.config().backlog;
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

    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Result<MockIncoming, MockError>> {
        let now = self.fabric.timer().now();
        let mut state = lock(&self.state);
        while let Some(request) = state.queue.pop_front() {
            if request.waits(now) {
                return Poll::Ready(Ok(MockIncoming::new(request, Arc::clone(&self.fabric))));
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
        self.fabric.unlisten(self);
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

impl fmt::Debug for ListenerShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerShared").field("addr", &self.addr).finish_non_exhaustive()
    }
}
