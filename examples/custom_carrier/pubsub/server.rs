//! Takes subscribers in: a thread that accepts, and one for each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use futures_executor::block_on;
use futures_util::future::{AbortHandle, Abortable};
use trespass::core::{Carrier, InOrder, Incoming, Listener, ListenerExt, Lossless, Role, ThreadFabric, Track};

use super::{Feed, PubSubError, Publisher, message_config};

/// A publisher that listens. Dropping it ends the publisher, and waits until its subscribers are told.
pub(crate) struct Server<F: ThreadFabric> {
    addr: F::Addr,
    publisher: Publisher,
    acceptor: AbortHandle,
    accepting: Option<JoinHandle<()>>,
}

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> Server<F> {
    /// Listens at `addr`, and takes in up to `room` subscribers at once.
    pub(crate) fn start(fabric: &F, addr: &F::Addr, publisher: Publisher, room: usize) -> Result<Self, F::Error> {
        let listener = fabric.listen(addr)?;
        let addr = listener.local();
        let (acceptor, registration) = AbortHandle::new_pair();
        let accepting = {
            let publisher = publisher.clone();
            thread::spawn(move || {
                // It is aborted, or the listener has failed: in either case nobody comes any more.
                let threads = block_on(accept::<F>(listener, publisher, room, registration));
                threads.into_iter().for_each(|thread| drop(thread.join()));
            })
        };
        Ok(Self { addr, publisher, acceptor, accepting: Some(accepting) })
    }
}

impl<F: ThreadFabric> Server<F> {
    /// Where it listens.
    pub(crate) fn addr(&self) -> &F::Addr {
        &self.addr
    }
}

impl<F: ThreadFabric> Drop for Server<F> {
    fn drop(&mut self) {
        self.publisher.end();
        self.acceptor.abort();
        if let Some(accepting) = self.accepting.take() {
            // It panics where a thread of it did, which has said so.
            drop(accepting.join());
        }
    }
}

/// Takes in whoever comes until it is aborted. The threads that still serve.
async fn accept<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(
    mut listener: F::Listener,
    publisher: Publisher,
    room: usize,
    registration: futures_util::future::AbortRegistration,
) -> Vec<JoinHandle<()>> {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let taken = Arc::new(AtomicUsize::new(0));
    let accepting = Abortable::new(
        async {
            while let Ok(incoming) = listener.incoming().await {
                threads.retain(|thread| !thread.is_finished());
                if taken.load(Ordering::Relaxed) >= room {
                    incoming.refuse();
                    continue;
                }
                let (publisher, place) = (publisher.clone(), Place::take(&taken));
                let serving = move || {
                    let peer = incoming.peer();
                    // The handshake is in the thread too: a peer that says nothing keeps nobody waiting.
                    if let Err(error) = block_on(serve(incoming, &publisher)) {
                        eprintln!("subscriber {peer}: {error}");
                    }
                    drop(place);
                };
                match thread::Builder::new().name("feed".into()).spawn(serving) {
                    Ok(thread) => threads.push(thread),
                    // The request went with the closure, and was refused by that.
                    Err(error) => eprintln!("no thread for a subscriber: {error}"),
                }
            }
        },
        registration,
    );
    // Aborted, or not: it is over.
    let _ = accepting.await;
    threads
}

async fn serve<I: Incoming<Track: Track<Delivery: Lossless + InOrder>>>(
    incoming: I,
    publisher: &Publisher,
) -> Result<(), PubSubError<I::Error>>
where
    I::Track: Track<Error = I::Error>,
{
    let track =
        incoming.accept().await.map_err(|error| PubSubError::Below(trespass::carriers::CarrierError::Track(error)))?;
    let feed = Feed::open(track, Role::Acceptor, message_config()).await?;
    publisher.serve(feed).await
}

/// One of the places of a server.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>) -> Self {
        taken.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(taken))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
