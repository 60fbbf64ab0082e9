//! The client: channels, and the calls on them.

mod config;
mod state;
mod streams;
mod unary;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::method::{BidiStreaming, ClientStreaming, Method, ServerStreaming, Unary};
use crate::status::CallError;
use crate::{RpcFabric, codec};

pub use config::{CallOptions, ChannelConfig};
pub use streams::{Receiving, ReplyStream, RequestSink, SendingRequest, Upload};
pub use unary::UnaryCall;

use state::Shared;
use streams::Owned;

/// A way to a server: any number of calls at once, from any number of tasks and threads, over one connection that is made when it is
/// first needed, and made again when it is gone. Cheap to clone; the last clone to be dropped ends it.
///
/// ```
/// use std::time::Duration;
/// use trespass::core::{Fabric, wait};
/// use trespass::mock::MockFabric;
/// use trespass_example_rpc::{CallOptions, Channel, ChannelConfig, Router, RpcServer, ServeConfig, methods};
///
/// methods! {
///     /// The sum of two numbers.
///     pub Add = 1, "arith.add": unary((i64, i64)) -> i64;
/// }
///
/// let fabric = MockFabric::new();
/// let listener = fabric.listen(&"arith".parse().unwrap()).unwrap();
/// let service = Router::new().unary(Add, |(a, b): (i64, i64), _| async move { Ok(a + b) });
/// let mut server = RpcServer::new(listener, fabric.timer(), service, ServeConfig::default()).unwrap();
/// let handle = server.handle();
/// let serving = std::thread::spawn(move || wait(server.run()));
///
/// let channel = Channel::new(fabric, "arith".parse().unwrap(), ChannelConfig::default());
/// wait(async {
///     assert_eq!(channel.call(Add, &(1, 2)).await.unwrap(), 3);
///     let soon = CallOptions::within(Duration::from_secs(1));
///     assert_eq!(channel.call_with(Add, &(3, 4), soon).await.unwrap(), 7);
///     channel.close().await;
/// });
/// handle.drain(Duration::from_secs(1));
/// assert!(serving.join().unwrap().unwrap().cut_off.is_empty());
/// ```
///
/// # Who does the work
/// Whoever waits: the channel has no task and no thread of its own. A call sends from its own task and receives there, and whoever waits
/// last looks after the connection for all; when that call ends or is dropped, another that waits takes over. So a future of a call that
/// was polled must be polled again when it is woken, or be dropped. A program that cannot promise that, or wants beats, cancels
/// and goodbyes to go while nobody waits, keeps [`drive`](Self::drive) polled.
///
/// # Connections
/// One at a time. A call that finds none waits for it, until its own deadline. A connection that breaks ends the calls that were sent,
/// with [`CallError::Disconnected`]; those that never were wait for the next. The next is made at once where the last was good, else after
/// a rest that doubles and has some chance in it.
///
/// # Costs
/// For a unary call, beyond what its types' codec allocates: nothing, once memory is warm. Requests and replies are copied once on each
/// side. Deadlines share one alarm.
pub struct Channel<F: RpcFabric> {
    shared: Arc<Shared<F>>,
}

impl<F: RpcFabric> Channel<F> {
    /// A channel to the server at `addr`. Nothing goes out before the first call is polled.
    pub fn new(fabric: F, addr: F::Addr, config: ChannelConfig) -> Self {
        Self { shared: Arc::new(Shared::new(fabric, addr, config)) }
    }

    /// Calls a method with one request and one reply. Dropping the future cancels the call, at the server too.
    ///
    /// # Errors
    /// See [`CallError`]: each call ends once.
    pub fn call<'a, M: Method<Shape = Unary>>(&'a self, method: M, request: &'a M::Request) -> UnaryCall<'a, F, M> {
        self.call_with(method, request, CallOptions::default())
    }

    /// The same with options of its own.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_with<'a, M: Method<Shape = Unary>>(
        &'a self,
        _: M,
        request: &'a M::Request,
        options: CallOptions,
    ) -> UnaryCall<'a, F, M> {
        UnaryCall::new(&self.shared, request, options)
    }

    /// Calls a method with one request and any number of replies. Ready at once: the call is on its way.
    ///
    /// # Errors
    /// Those of calls that do not begin: [`CallError::BadRequest`], [`CallError::Busy`], [`CallError::Closed`].
    pub async fn server_streaming<M: Method<Shape = ServerStreaming>>(
        &self,
        _: M,
        request: &M::Request,
        options: CallOptions,
    ) -> Result<ReplyStream<F, M>, CallError> {
        Ok(ReplyStream::new(self.begin::<M>(Some(request), options)?))
    }

    /// Calls a method with any number of requests and one reply. Ready at once.
    ///
    /// # Errors
    /// As [`server_streaming`](Self::server_streaming).
    pub async fn client_streaming<M: Method<Shape = ClientStreaming>>(
        &self,
        _: M,
        options: CallOptions,
    ) -> Result<Upload<F, M>, CallError> {
        Ok(Upload::new(self.begin::<M>(None, options)?))
    }

    /// Calls a method with any number of requests and of replies. Ready at once.
    ///
    /// # Errors
    /// As [`server_streaming`](Self::server_streaming).
    pub async fn bidi_streaming<M: Method<Shape = BidiStreaming>>(
        &self,
        _: M,
        options: CallOptions,
    ) -> Result<(RequestSink<F, M>, ReplyStream<F, M>), CallError> {
        let call = self.begin::<M>(None, options)?;
        Ok((RequestSink::new(Arc::clone(&call)), ReplyStream::new(call)))
    }

    fn begin<M: Method>(&self, request: Option<&M::Request>, options: CallOptions) -> Result<Arc<Owned<F>>, CallError> {
        let mut state = self.shared.lock();
        let ticket = state.begin::<M>(request, options)?;
        let call = Owned::new(Arc::clone(&self.shared), ticket);
        // What can go goes now: nobody may come to wait for a while.
        state.push();
        Ok(Arc::new(call))
    }

    /// Looks after the connection as long as it is polled, so that calls make progress even where those who made them do not: then it is
    /// the one that is woken, and a reply takes one switch of tasks more. Ends when the channel is closed.
    pub fn drive(&self) -> Driving<F> {
        let number = self.shared.lock().drive();
        Driving { shared: Arc::clone(&self.shared), number }
    }

    /// Ends all calls, says goodbye, and makes no connection any more. It ends within the deadline of the carrier.
    pub fn close(&self) -> impl Future<Output = ()> + use<'_, F> {
        poll_fn(|cx| self.shared.lock().poll_close(cx))
    }
}

impl<F: RpcFabric> Clone for Channel<F> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<F: RpcFabric> fmt::Debug for Channel<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

/// See [`Channel::drive`].
#[must_use = "it drives only while it is polled"]
pub struct Driving<F: RpcFabric> {
    shared: Arc<Shared<F>>,
    number: u32,
}

impl<F: RpcFabric> Future for Driving<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.lock().poll_drive(self.number, cx)
    }
}

impl<F: RpcFabric> Drop for Driving<F> {
    fn drop(&mut self) {
        self.shared.lock().undrive(self.number);
    }
}

impl<F: RpcFabric> state::State<F> {
    /// A call of `M`, with its request where the call has it.
    fn begin<M: Method>(&mut self, request: Option<&M::Request>, options: CallOptions) -> Result<u32, CallError> {
        let buffer = self.calls.buffers().take();
        let request = match request {
            Some(request) => codec::encode(request, buffer).map_err(|_| CallError::BadRequest)?,
            None => buffer,
        };
        self.open(M::ID, <M::Shape as crate::Shape>::FLOW, options, request)
    }
}
