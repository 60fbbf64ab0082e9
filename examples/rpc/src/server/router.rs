//! Which method runs what: a list of handlers, by type, so that a call needs no table and its future no box.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::CallContext;
use super::streams::{Opened, Replies, Requests};
use crate::codec;
use crate::method::{BidiStreaming, ClientStreaming, Flow, Method, ServerStreaming, Shape, Unary};
use crate::status::{Rejection, Status};

/// A service: which methods there are, and what each does.
///
/// A handler is a closure that makes a future for each call. The future runs in the task of its connection, beside those of all other
/// calls there; what takes the processor for long is better spawned. It is dropped when its call is cancelled, when its deadline passes,
/// or when its connection ends.
///
/// ```
/// use trespass_example_rpc::{Code, Router, Status, methods};
///
/// methods! {
///     /// What is left of the first number.
///     pub Divide = 1, "arith.divide": unary((i64, i64)) -> i64;
/// }
///
/// let service = Router::new().unary(Divide, |(a, b): (i64, i64), _| async move {
///     a.checked_div(b).ok_or(Status::new(Code::InvalidArgument, "no such quotient"))
/// });
/// # let _ = service;
/// ```
#[derive(Debug, Clone, Default)]
pub struct Router<R = ()> {
    routes: R,
}

impl Router {
    /// A service without methods.
    pub fn new() -> Self {
        Self { routes: () }
    }
}

/// A handler before others.
#[derive(Debug, Clone)]
pub struct Route<M, H, R> {
    handler: H,
    rest: R,
    method: PhantomData<fn() -> M>,
}

macro_rules! adders {
    ($($(#[$doc:meta])* $name:ident: $shape:ident, ($($argument:ty),*) -> $output:ty;)*) => {
        impl<R> Router<R> {$(
            $(#[$doc])*
            pub fn $name<M, H, Fut>(self, _: M, handler: H) -> Router<Route<M, H, R>>
            where
                M: Method<Shape = $shape>,
                H: Fn($($argument),*) -> Fut,
                Fut: Future<Output = Result<$output, Status>>,
            {
                Router { routes: Route { handler, rest: self.routes, method: PhantomData } }
            }
        )*}
    };
}

adders! {
    /// A method with one request and one reply.
    unary: Unary, (M::Request, CallContext) -> M::Reply;
    /// A method with one request and any number of replies.
    server_streaming: ServerStreaming, (M::Request, Replies<M::Reply>, CallContext) -> ();
    /// A method with any number of requests and one reply.
    client_streaming: ClientStreaming, (Requests<M::Request>, CallContext) -> M::Reply;
    /// A method with any number of each.
    bidi_streaming: BidiStreaming, (Requests<M::Request>, Replies<M::Reply>, CallContext) -> ();
}

/// What a server runs: a [`Router`]. There is nothing to write.
pub trait Service: sealed::List {}

impl<R: sealed::List> Service for Router<R> {}

/// What only this crate implements and calls.
pub(super) mod sealed {
    use super::*;

    /// A list of handlers.
    pub trait List {
        /// A call that runs.
        type Running: Running;
        /// Which way the method's messages go, if there is such a method.
        fn flow(&self, method: u32) -> Option<Flow>;
        /// Runs a call.
        ///
        /// # Errors
        /// Where the request is none.
        fn start(&self, method: u32, request: &[u8], call: Opened) -> Result<Self::Running, Rejection>;
        /// A number that two methods have.
        fn twice(&self) -> Option<u32>;
    }

    /// A call that runs.
    pub trait Running {
        /// Goes on with it. What it comes to, with the reply in `reply`, as bytes.
        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, reply: &mut Vec<u8>) -> Poll<Finished>;
    }

    /// Makes the future of a call, in the way of its shape.
    pub trait Handler<M, S> {
        /// The future.
        type Running: Running;
        /// Makes it.
        ///
        /// # Errors
        /// Where the request is none.
        fn start(&self, request: &[u8], call: Opened) -> Result<Self::Running, Rejection>;
    }

    /// What a call came to.
    #[derive(Debug)]
    pub enum Finished {
        /// The one reply is encoded.
        Replied,
        /// All replies were sent.
        Ended,
        /// The service said no.
        Failed(Status),
        /// The reply does not encode.
        BadReply,
    }
}

use sealed::{Finished, Handler, List, Running};

impl<R: List> List for Router<R> {
    type Running = R::Running;

    fn flow(&self, method: u32) -> Option<Flow> {
        self.routes.flow(method)
    }

    fn start(&self, method: u32, request: &[u8], call: Opened) -> Result<R::Running, Rejection> {
        self.routes.start(method, request, call)
    }

    fn twice(&self) -> Option<u32> {
        self.routes.twice()
    }
}

impl List for () {
    type Running = Nothing;

    fn flow(&self, _: u32) -> Option<Flow> {
        None
    }

    fn start(&self, _: u32, _: &[u8], _: Opened) -> Result<Nothing, Rejection> {
        Err(Rejection::UnknownMethod)
    }

    fn twice(&self) -> Option<u32> {
        None
    }
}

impl<M: Method, H: Handler<M, M::Shape>, R: List> List for Route<M, H, R> {
    type Running = Either<H::Running, R::Running>;

    fn flow(&self, method: u32) -> Option<Flow> {
        if method == M::ID { Some(<M::Shape as Shape>::FLOW) } else { self.rest.flow(method) }
    }

    fn start(&self, method: u32, request: &[u8], call: Opened) -> Result<Self::Running, Rejection> {
        Ok(match method == M::ID {
            true => Either::This { running: self.handler.start(request, call)? },
            false => Either::Other { running: self.rest.start(method, request, call)? },
        })
    }

    fn twice(&self) -> Option<u32> {
        match self.rest.flow(M::ID) {
            Some(_) => Some(M::ID),
            None => self.rest.twice(),
        }
    }
}

/// No call of an empty list runs.
#[derive(Debug)]
pub enum Nothing {}

impl Running for Nothing {
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut Vec<u8>) -> Poll<Finished> {
        match *self {}
    }
}

pin_project! {
    /// A call of this handler, or of one behind it.
    #[project = EitherProjection]
    pub enum Either<A, B> {
        This { #[pin] running: A },
        Other { #[pin] running: B },
    }
}

impl<A: Running, B: Running> Running for Either<A, B> {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, reply: &mut Vec<u8>) -> Poll<Finished> {
        match self.project() {
            EitherProjection::This { running } => running.poll(cx, reply),
            EitherProjection::Other { running } => running.poll(cx, reply),
        }
    }
}

pin_project! {
    /// A future that gives the one reply.
    pub struct Replying<Fut> {
        #[pin]
        future: Fut,
    }
}

impl<Fut: Future<Output = Result<T, Status>>, T: serde::Serialize> Running for Replying<Fut> {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, reply: &mut Vec<u8>) -> Poll<Finished> {
        self.project().future.poll(cx).map(|output| match output {
            Ok(value) => match codec::encode(&value, std::mem::take(reply)) {
                Ok(bytes) => {
                    *reply = bytes;
                    Finished::Replied
                }
                Err(_) => Finished::BadReply,
            },
            Err(status) => Finished::Failed(status),
        })
    }
}

pin_project! {
    /// A future that sends replies.
    pub struct Streaming<Fut> {
        #[pin]
        future: Fut,
    }
}

impl<Fut: Future<Output = Result<(), Status>>> Running for Streaming<Fut> {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut Vec<u8>) -> Poll<Finished> {
        self.project().future.poll(cx).map(|output| match output {
            Ok(()) => Finished::Ended,
            Err(status) => Finished::Failed(status),
        })
    }
}

fn request<M: Method>(bytes: &[u8]) -> Result<M::Request, Rejection> {
    codec::decode(bytes).map_err(|_| Rejection::BadRequest)
}

impl<M, H, Fut> Handler<M, Unary> for H
where
    M: Method<Shape = Unary>,
    H: Fn(M::Request, CallContext) -> Fut,
    Fut: Future<Output = Result<M::Reply, Status>>,
{
    type Running = Replying<Fut>;

    fn start(&self, bytes: &[u8], call: Opened) -> Result<Self::Running, Rejection> {
        Ok(Replying { future: self(request::<M>(bytes)?, call.context()) })
    }
}

impl<M, H, Fut> Handler<M, ServerStreaming> for H
where
    M: Method<Shape = ServerStreaming>,
    H: Fn(M::Request, Replies<M::Reply>, CallContext) -> Fut,
    Fut: Future<Output = Result<(), Status>>,
{
    type Running = Streaming<Fut>;

    fn start(&self, bytes: &[u8], call: Opened) -> Result<Self::Running, Rejection> {
        Ok(Streaming { future: self(request::<M>(bytes)?, Replies::new(call.clone()), call.context()) })
    }
}

impl<M, H, Fut> Handler<M, ClientStreaming> for H
where
    M: Method<Shape = ClientStreaming>,
    H: Fn(Requests<M::Request>, CallContext) -> Fut,
    Fut: Future<Output = Result<M::Reply, Status>>,
{
    type Running = Replying<Fut>;

    fn start(&self, _: &[u8], call: Opened) -> Result<Self::Running, Rejection> {
        Ok(Replying { future: self(Requests::new(call.clone()), call.context()) })
    }
}

impl<M, H, Fut> Handler<M, BidiStreaming> for H
where
    M: Method<Shape = BidiStreaming>,
    H: Fn(Requests<M::Request>, Replies<M::Reply>, CallContext) -> Fut,
    Fut: Future<Output = Result<(), Status>>,
{
    type Running = Streaming<Fut>;

    fn start(&self, _: &[u8], call: Opened) -> Result<Self::Running, Rejection> {
        let (requests, replies) = (Requests::new(call.clone()), Replies::new(call.clone()));
        Ok(Streaming { future: self(requests, replies, call.context()) })
    }
}
