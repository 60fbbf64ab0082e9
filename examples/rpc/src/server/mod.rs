//! The server: a service for all who come.

mod config;
mod connection;
mod router;
mod streams;
mod tasks;

use std::fmt;
use std::sync::Arc;

use trespass::carriers::{Accepted, Drained, MessageCarrier, Server, ServerHandle, ServerStats};
use trespass::core::{Endpoint, InOrder, Listener, Lossless, Track};

pub use config::{ServeConfig, ServeFault};
pub use connection::serve_connection;
pub use router::{Route, Router, Service};
pub use streams::{CallContext, NextRequest, Replies, Requests, SendingReply};

/// Serves a [`Router`] to all who come to a listener of any fabric.
///
/// It runs where it is polled: it needs no runtime and spawns nothing. [`run`](Self::run) has all connections and their handlers in one
/// task; or [`accept`](Self::accept) and [`serve_connection`] in tasks or threads of one's own. See
/// [`Channel`](crate::Channel) for both ends.
///
/// # Draining
/// By [`handle`](Self::handle): nobody comes in any more; clients are told to go, and new calls of theirs are rejected with
/// [`Rejection::Draining`](crate::Rejection::Draining), which says that they did not run; those under way go on until the limit.
///
/// # Costs
/// For a call: nothing is allocated beyond what its handler and the codec allocate, once the index that the client chose was used before.
/// The frames of all replies that are ready go in as few messages as hold them, by one doorbell.
pub struct RpcServer<L: Listener<Track: Track<Delivery: Lossless + InOrder>>, S> {
    server: Server<L, MessageCarrier<L::Track>>,
    service: Arc<S>,
    config: ServeConfig,
}

impl<L: Listener<Track: Track<Delivery: Lossless + InOrder>>, S: Service> RpcServer<L, S> {
    /// A server on `listener`, whose fabric's clock is `timer`. Nothing is accepted before it is polled.
    ///
    /// # Errors
    /// A setting that will not do, or two methods of one number.
    pub fn new(
        listener: L,
        timer: <L::Track as Endpoint>::Timer,
        service: S,
        config: ServeConfig,
    ) -> Result<Self, ServeFault> {
        config.hello()?;
        if let Some(number) = service.twice() {
            return Err(ServeFault::TwoMethods(number));
        }
        let server = Server::new(listener, timer, config.server.clone(), config.carrier.clone())?;
        Ok(Self { server, service: Arc::new(service), config })
    }

    /// Where it listens.
    pub fn local(&self) -> L::Addr {
        self.server.local()
    }

    /// What drains it from elsewhere.
    pub fn handle(&self) -> ServerHandle<L::Addr> {
        self.server.handle()
    }

    /// Who came so far, and who is there.
    pub fn stats(&self) -> ServerStats {
        self.server.stats()
    }

    /// What it runs, and how: for [`serve_connection`].
    pub fn service(&self) -> (Arc<S>, ServeConfig) {
        (Arc::clone(&self.service), self.config.clone())
    }

    /// Waits for the next client; `None` once the server drains: then [`drained`](Self::drained) says when all have gone.
    ///
    /// # Errors
    /// What ended the listener.
    pub async fn accept(&mut self) -> Result<Option<Accepted<MessageCarrier<L::Track>, L::Addr>>, L::Error> {
        self.server.accept().await
    }

    /// Waits until a drain is over: see [`Server::drained`].
    pub async fn drained(&mut self) -> Drained<L::Addr> {
        self.server.drained().await
    }

    /// Serves until a drain is over. Dropping the future drops all connections.
    ///
    /// # Errors
    /// What ended the listener, once all clients have gone.
    pub async fn run(&mut self) -> Result<Drained<L::Addr>, L::Error> {
        let (service, config) = self.service();
        self.server.serve(|accepted| serve_connection(accepted, Arc::clone(&service), config.clone())).await
    }
}

impl<L: Listener<Track: Track<Delivery: Lossless + InOrder>>, S> fmt::Debug for RpcServer<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcServer").field("server", &self.server).field("config", &self.config).finish_non_exhaustive()
    }
}
