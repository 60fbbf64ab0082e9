//! A call with one request and one reply.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::config::CallOptions;
use super::state::{Shared, State, Who};
use crate::core::calls::Ticket;
use crate::method::Method;
use crate::status::CallError;
use crate::{RpcFabric, codec};

/// A call on its way: see [`Channel::call`](super::Channel::call). Nothing is sent before the first poll; dropping it cancels the call.
#[must_use = "nothing is sent before the first poll"]
pub struct UnaryCall<'a, F: RpcFabric, M: Method> {
    shared: &'a Arc<Shared<F>>,
    request: &'a M::Request,
    options: CallOptions,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    New,
    Under(Ticket),
    Over,
}

// Nothing in it is pinned.
impl<F: RpcFabric, M: Method> Unpin for UnaryCall<'_, F, M> {}

impl<'a, F: RpcFabric, M: Method> UnaryCall<'a, F, M> {
    pub(super) fn new(shared: &'a Arc<Shared<F>>, request: &'a M::Request, options: CallOptions) -> Self {
        Self { shared, request, options, stage: Stage::New }
    }

    /// Looks whether it has ended, and arms nothing: for a thread that polls. The first time sends it.
    pub fn try_poll(&mut self) -> Poll<Result<M::Reply, CallError>> {
        let fresh = matches!(self.stage, Stage::New);
        self.advance(|state, ticket| state.try_poll(fresh, |state| state.calls.reply(ticket)))
    }

    fn advance(
        &mut self,
        look: impl FnOnce(&mut State<F>, Ticket) -> Poll<Result<Option<Vec<u8>>, CallError>>,
    ) -> Poll<Result<M::Reply, CallError>> {
        let mut state = self.shared.lock();
        let ticket = match self.stage {
            Stage::Under(ticket) => ticket,
            Stage::Over => return Poll::Ready(Err(CallError::Closed)),
            Stage::New => match state.begin::<M>(Some(self.request), self.options) {
                Ok(ticket) => ticket,
                Err(error) => {
                    self.stage = Stage::Over;
                    return Poll::Ready(Err(error));
                }
            },
        };
        self.stage = Stage::Under(ticket);
        let Poll::Ready(reply) = look(&mut state, ticket) else { return Poll::Pending };
        self.stage = Stage::Over;
        let reply = match reply {
            Ok(Some(bytes)) => {
                let reply = codec::decode(&bytes).map_err(|_| CallError::BadReply);
                state.calls.buffers().give(bytes);
                reply
            }
            // The table knows that there is one reply, or an error.
            Ok(None) => Err(CallError::BadReply),
            Err(error) => Err(error),
        };
        state.calls.release(ticket);
        state.leave(Who::Reader(ticket));
        Poll::Ready(reply)
    }
}

impl<F: RpcFabric, M: Method> Future for UnaryCall<'_, F, M> {
    type Output = Result<M::Reply, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().advance(|state, ticket| {
            let polled = state.poll(Who::Reader(ticket), cx, |state| state.calls.reply(ticket));
            if polled.is_pending() {
                state.calls.await_reply(ticket, cx.waker());
            }
            polled
        })
    }
}

impl<F: RpcFabric, M: Method> Drop for UnaryCall<'_, F, M> {
    fn drop(&mut self) {
        if let Stage::Under(ticket) = self.stage {
            self.shared.lock().abandon(ticket);
        }
    }
}

impl<F: RpcFabric, M: Method> fmt::Debug for UnaryCall<'_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnaryCall").field("method", &M::NAME).field("stage", &self.stage).finish_non_exhaustive()
    }
}
