//! Serving: each peer to a closure.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use trespass_core::{Carrier, Listener};

use super::tasks::Tasks;
use super::{Accepted, Drained, Server};

impl<L: Listener, C: Carrier<Track = L::Track>> Server<L, C> {
    /// Gives each peer to `handler`, and runs the future that it makes, until a drain that [`handle`](Self::handle) began is over.
    ///
    /// The futures run in place: all in the task that polls this one, up to `max_peers` of them. For peers in tasks or threads of their
    /// own the handler spawns one, which takes the carrier and the [`Peer`](super::Peer) along, and gives a future that
    /// is ready: see [`Peer::until_cut_off`](super::Peer::until_cut_off).
    ///
    /// Dropping this future drops the handlers' futures, and so their peers. A handler that panics does so here.
    ///
    /// # Errors
    /// What ended the listener, once the handlers' futures are done.
    pub async fn serve<H, F>(&mut self, mut handler: H) -> Result<Drained<L::Addr>, L::Error>
    where
        H: FnMut(Accepted<C, L::Addr>) -> F,
        F: Future<Output = ()>,
    {
        let mut handlers = Tasks::new(self.config.max_peers);
        poll_fn(|cx| self.poll_serve(cx, &mut handler, &mut handlers)).await
    }

    fn poll_serve<H, F>(
        &mut self,
        cx: &mut Context<'_>,
        handler: &mut H,
        handlers: &mut Tasks<Pin<Box<F>>>,
    ) -> Poll<Result<Drained<L::Addr>, L::Error>>
    where
        H: FnMut(Accepted<C, L::Addr>) -> F,
        F: Future<Output = ()>,
    {
        loop {
            // Those that end make room.
            while handlers.poll_next(cx).is_ready() {}
            match ready!(self.poll_accept_beside(cx, handlers.len())) {
                // There is room: handlers and handshakes together are never more than `max_peers`.
                Ok(Some(accepted)) => drop(handlers.insert(Box::pin(handler(accepted)))),
                Ok(None) => return self.poll_drained_with(cx, handlers.is_empty()).map(Ok),
                Err(error) if handlers.is_empty() => return Poll::Ready(Err(error)),
                Err(_) => return Poll::Pending,
            }
        }
    }
}
