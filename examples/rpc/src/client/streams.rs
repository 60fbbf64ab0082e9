//! Calls with streams, at the client's end.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::state::{Shared, Who};
use crate::core::calls::Ticket;
use crate::method::Method;
use crate::status::CallError;
use crate::{RpcFabric, codec};

/// A call that is under way. The last handle to go cancels it.
pub(super) struct Owned<F: RpcFabric> {
    shared: Arc<Shared<F>>,
    ticket: Ticket,
}

impl<F: RpcFabric> Owned<F> {
    pub(super) fn new(shared: Arc<Shared<F>>, ticket: Ticket) -> Self {
        Self { shared, ticket }
    }

    /// The next reply, or a wait for it.
    fn poll_reply<M: Method>(&self, cx: &mut Context<'_>) -> Poll<Result<Option<M::Reply>, CallError>> {
        let (ticket, mut state) = (self.ticket, self.shared.lock());
        let who = Who::Reader(ticket);
        let polled = state.poll(who, cx, |state| state.calls.reply(ticket));
        let Poll::Ready(reply) = polled else {
            state.calls.await_reply(ticket, cx.waker());
            return Poll::Pending;
        };
        state.calls.forget_reader(ticket);
        state.leave(who);
        // Credits for what was taken.
        state.push();
        let Some(bytes) = reply? else { return Poll::Ready(Ok(None)) };
        let reply = codec::decode(&bytes).map_err(|_| CallError::BadReply);
        state.calls.buffers().give(bytes);
        if reply.is_err() {
            state.calls.cancel(ticket, CallError::BadReply);
        }
        Poll::Ready(reply.map(Some))
    }

    /// Sends `request`, or waits until it may go.
    fn poll_send<M: Method>(&self, request: &M::Request, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        let (ticket, mut state) = (self.ticket, self.shared.lock());
        let who = Who::Writer(ticket);
        let waker = cx.waker().clone();
        let room = ready!(state.poll(who, cx, |state| match state.calls.poll_room(ticket, &waker) {
            Poll::Ready(room) => Some(room),
            Poll::Pending => None,
        }));
        state.calls.forget_writer(ticket);
        state.leave(who);
        room?;
        let buffer = state.calls.buffers().take();
        let bytes = codec::encode(request, buffer).map_err(|_| CallError::BadRequest)?;
        state.calls.request(ticket, bytes)?;
        state.push();
        Poll::Ready(Ok(()))
    }

    fn finish(&self) {
        let mut state = self.shared.lock();
        state.calls.finish(self.ticket);
        state.push();
    }

    /// Nobody waits for replies any more, for now.
    fn forget_reader(&self) {
        let mut state = self.shared.lock();
        state.calls.forget_reader(self.ticket);
        state.leave(Who::Reader(self.ticket));
    }

    fn forget_writer(&self) {
        let mut state = self.shared.lock();
        state.calls.forget_writer(self.ticket);
        state.leave(Who::Writer(self.ticket));
    }

    fn cancel(&self) {
        let mut state = self.shared.lock();
        state.calls.cancel(self.ticket, CallError::Closed);
        state.push();
    }
}

impl<F: RpcFabric> Drop for Owned<F> {
    fn drop(&mut self) {
        self.shared.lock().abandon(self.ticket);
    }
}

/// The replies of a call that has any number of them. Dropping it cancels the call.
pub struct ReplyStream<F: RpcFabric, M: Method> {
    call: Arc<Owned<F>>,
    method: PhantomData<fn() -> M>,
}

impl<F: RpcFabric, M: Method> ReplyStream<F, M> {
    pub(super) fn new(call: Arc<Owned<F>>) -> Self {
        Self { call, method: PhantomData }
    }

    /// Waits for the next reply; `None` after the last, again and again. Dropping the future loses nothing. Until it is called so much is
    /// kept as the window says, and then the service waits.
    ///
    /// # Errors
    /// What ended the call, after all replies that came before; again and again.
    pub fn recv(&mut self) -> Receiving<'_, F, M> {
        Receiving { stream: self }
    }
}

impl<F: RpcFabric, M: Method> Drop for ReplyStream<F, M> {
    fn drop(&mut self) {
        self.call.cancel();
    }
}

/// See [`ReplyStream::recv`].
#[must_use = "nothing is received before it is polled"]
pub struct Receiving<'a, F: RpcFabric, M: Method> {
    stream: &'a mut ReplyStream<F, M>,
}

impl<F: RpcFabric, M: Method> Future for Receiving<'_, F, M> {
    type Output = Result<Option<M::Reply>, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.stream.call.poll_reply::<M>(cx)
    }
}

impl<F: RpcFabric, M: Method> Drop for Receiving<'_, F, M> {
    fn drop(&mut self) {
        self.stream.call.forget_reader();
    }
}

/// The requests of a call that has any number of each. Dropping it before [`finish`](Self::finish) cancels the call.
pub struct RequestSink<F: RpcFabric, M: Method> {
    call: Option<Arc<Owned<F>>>,
    method: PhantomData<fn() -> M>,
}

impl<F: RpcFabric, M: Method> RequestSink<F, M> {
    pub(super) fn new(call: Arc<Owned<F>>) -> Self {
        Self { call: Some(call), method: PhantomData }
    }

    /// Sends a request more: ready once it is taken to be sent, which is when the window has room. Dropping the future before that
    /// sends nothing.
    ///
    /// # Errors
    /// What ended the call; [`CallError::TooLarge`] and [`CallError::BadRequest`] are of this request alone.
    pub fn send<'a>(&'a mut self, request: &'a M::Request) -> SendingRequest<'a, F, M> {
        SendingRequest { call: self.call.as_deref(), request }
    }

    /// Says that no more requests come. Ready at once.
    ///
    /// # Errors
    /// None so far.
    pub async fn finish(mut self) -> Result<(), CallError> {
        if let Some(call) = self.call.take() {
            call.finish();
        }
        Ok(())
    }
}

impl<F: RpcFabric, M: Method> Drop for RequestSink<F, M> {
    fn drop(&mut self) {
        if let Some(call) = &self.call {
            call.cancel();
        }
    }
}

/// A request on its way: see [`RequestSink::send`].
#[must_use = "nothing is sent before it is polled"]
pub struct SendingRequest<'a, F: RpcFabric, M: Method> {
    call: Option<&'a Owned<F>>,
    request: &'a M::Request,
}

impl<F: RpcFabric, M: Method> Future for SendingRequest<'_, F, M> {
    type Output = Result<(), CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.call {
            Some(call) => call.poll_send::<M>(self.request, cx),
            None => Poll::Ready(Err(CallError::Closed)),
        }
    }
}

// Nothing in it is pinned.
impl<F: RpcFabric, M: Method> Unpin for SendingRequest<'_, F, M> {}

impl<F: RpcFabric, M: Method> Drop for SendingRequest<'_, F, M> {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            call.forget_writer();
        }
    }
}

/// A call with any number of requests and one reply. Dropping it before [`finish`](Self::finish) cancels the call.
pub struct Upload<F: RpcFabric, M: Method> {
    requests: RequestSink<F, M>,
    replies: ReplyStream<F, M>,
}

impl<F: RpcFabric, M: Method> Upload<F, M> {
    pub(super) fn new(call: Arc<Owned<F>>) -> Self {
        Self { requests: RequestSink::new(Arc::clone(&call)), replies: ReplyStream::new(call) }
    }

    /// Sends a request more: see [`RequestSink::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send<'a>(&'a mut self, request: &'a M::Request) -> SendingRequest<'a, F, M> {
        self.requests.send(request)
    }

    /// Says that no more requests come, and waits for the reply. Dropping the future cancels the call.
    ///
    /// # Errors
    /// What ended the call.
    pub async fn finish(self) -> Result<M::Reply, CallError> {
        let Self { requests, mut replies } = self;
        requests.finish().await?;
        replies.recv().await?.ok_or(CallError::BadReply)
    }
}

macro_rules! shown {
    ($($name:ident),*) => {$(
        impl<F: RpcFabric, M: Method> fmt::Debug for $name<F, M> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("method", &M::NAME).finish_non_exhaustive()
            }
        }
    )*};
}

shown!(ReplyStream, RequestSink, Upload);
