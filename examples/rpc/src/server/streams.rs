//! Calls at the server's end: what a handler is given.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::core::served::{Over, Served};
use crate::core::wire::CallId;
use crate::hub::Hub;
use crate::status::{Code, Status};

/// What a connection and the handlers of its calls share.
#[derive(Debug)]
pub(super) struct Shared {
    served: Mutex<Served>,
    /// What time it was when the connection last polled a handler, in nanoseconds.
    now: AtomicU64,
    /// The connection has its turn: it looks again before it sleeps, so nobody has to wake it.
    turn: AtomicBool,
    hub: Arc<Hub>,
}

impl Shared {
    pub(super) fn new(served: Served, hub: Arc<Hub>) -> Self {
        Self { served: Mutex::new(served), now: AtomicU64::new(0), turn: AtomicBool::new(false), hub }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What time it is, for the handlers.
    pub(super) fn set_now(&self, now: Duration) {
        self.now.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn begin_turn(&self) {
        self.turn.store(true, Ordering::SeqCst);
    }

    /// From here on whoever has something to send wakes the connection; so it looks once more.
    pub(super) fn end_turn(&self) {
        self.turn.store(false, Ordering::SeqCst);
    }

    fn wake(&self) {
        if !self.turn.load(Ordering::SeqCst) {
            self.hub.task.wake();
        }
    }
}

/// A call that was opened.
#[derive(Debug, Clone)]
pub struct Opened {
    pub(super) id: CallId,
    pub(super) deadline: Option<Duration>,
    pub(super) shared: Arc<Shared>,
}

impl Opened {
    pub(super) fn context(self) -> CallContext {
        CallContext { call: self }
    }
}

/// What a handler knows of its call beside the request.
#[derive(Debug, Clone)]
pub struct CallContext {
    call: Opened,
}

impl CallContext {
    /// How much time the caller still has for this; `None` where it waits for ever. As of when the connection last polled a handler,
    /// which is now for one that runs in place. Give it to calls of your own.
    pub fn remaining(&self) -> Option<Duration> {
        let now = Duration::from_nanos(self.call.shared.now.load(Ordering::Relaxed));
        self.call.deadline.map(|deadline| deadline.saturating_sub(now))
    }

    /// Whether the call is over, so that nobody waits for its reply: for work that was spawned. A handler that runs in place is dropped
    /// then.
    pub fn is_over(&self) -> bool {
        !self.call.shared.lock().is_open(self.call.id)
    }
}

fn over(Over: Over) -> Status {
    Status::new(Code::Cancelled, "the call is over")
}

/// The requests of a call that has any number of them.
pub struct Requests<T> {
    call: Opened,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Requests<T> {
    pub(super) fn new(call: Opened) -> Self {
        Self { call, item: PhantomData }
    }

    /// Waits for the next request; `None` after the last, again and again. Dropping the future loses nothing. Until it is called so much
    /// is kept as the window says, and then the client waits.
    ///
    /// # Errors
    /// Code `InvalidArgument` where a request is none, `Cancelled` once the call is over, for handlers that were spawned.
    pub fn recv(&mut self) -> NextRequest<'_, T> {
        NextRequest { requests: self }
    }
}

/// See [`Requests::recv`].
#[must_use = "nothing is received before it is polled"]
#[derive(Debug)]
pub struct NextRequest<'a, T> {
    requests: &'a mut Requests<T>,
}

impl<T: DeserializeOwned> Future for NextRequest<'_, T> {
    type Output = Result<Option<T>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = &self.requests.call;
        let mut served = call.shared.lock();
        let polled = ready!(served.poll_request(call.id, cx.waker())).map_err(over);
        let Some(bytes) = polled? else { return Poll::Ready(Ok(None)) };
        let request = codec::decode(&bytes);
        served.buffers().give(bytes);
        drop(served);
        // Credits for what was taken.
        call.shared.wake();
        Poll::Ready(request.map(Some).map_err(|_| Status::new(Code::InvalidArgument, "a request that is none")))
    }
}

/// The replies of a call that has any number of them.
pub struct Replies<T> {
    call: Opened,
    item: PhantomData<fn(T)>,
}

impl<T: Serialize> Replies<T> {
    pub(super) fn new(call: Opened) -> Self {
        Self { call, item: PhantomData }
    }

    /// Sends a reply more: ready once it is taken to be sent, which is when the window has room and the one before is gone. Dropping the
    /// future before that sends nothing.
    ///
    /// # Errors
    /// Code `Internal` where the reply does not encode, or is longer than the client takes; `Cancelled` once the call is over, for
    /// handlers that were spawned.
    pub fn send<'a>(&'a mut self, reply: &'a T) -> SendingReply<'a, T> {
        SendingReply { replies: self, reply }
    }
}

/// See [`Replies::send`].
#[must_use = "nothing is sent before it is polled"]
#[derive(Debug)]
pub struct SendingReply<'a, T> {
    replies: &'a mut Replies<T>,
    reply: &'a T,
}

impl<T: Serialize> Future for SendingReply<'_, T> {
    type Output = Result<(), Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = &self.replies.call;
        let mut served = call.shared.lock();
        ready!(served.poll_room(call.id, cx.waker())).map_err(over)?;
        let buffer = served.buffers().take();
        let bytes = codec::encode(self.reply, buffer)
            .map_err(|_| Status::new(Code::Internal, "a reply that does not encode"))?;
        if bytes.len() > served.max_reply() {
            return Poll::Ready(Err(Status::new(Code::Internal, "a reply that is longer than the client takes")));
        }
        served.reply(call.id, bytes).map_err(over)?;
        drop(served);
        call.shared.wake();
        Poll::Ready(Ok(()))
    }
}

macro_rules! shown {
    ($($name:ident),*) => {$(
        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("call", &self.call.id).finish_non_exhaustive()
            }
        }
    )*};
}

shown!(Requests, Replies);
