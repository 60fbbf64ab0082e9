//! The server: one thread that takes connections in, one per connection, and the map that they share.

use std::error::Error;
use std::sync::Arc;
use std::thread::{self, JoinHandle, Scope};
use std::time::Duration;

use futures_executor::block_on;
use trespass::carriers::{self, Accepted, CarrierError, Event, MessageCarrier, MessageConfig, ServerHandle};
use trespass::core::{Address, ErrorKind, InOrder, Lossless, ThreadFabric, Track, TransportError, TryError};

use super::effort::{Counters, THREADS};
use super::map::Map;
use super::protocol::{Effort, Pairs, Rejection, Reply, Request};
use super::shelf::{NoShelf, Shelf};

/// What bounds a server.
#[derive(Debug, Clone)]
pub(crate) struct ServerConfig {
    /// Connections at once, handshakes included. One more is told that the server is busy.
    pub(crate) max_connections: usize,
    /// Bytes of keys and values in all. A put that does not fit is rejected.
    pub(crate) capacity: usize,
    pub(crate) carrier: MessageConfig,
    /// Whether it has the process to itself, so that all of its processor time is the server's.
    pub(crate) alone: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { max_connections: 256, capacity: 4 << 30, carrier: MessageConfig::default(), alone: false }
    }
}

/// A server at work. Dropping it cuts every connection off, as a crash would.
pub(crate) struct Server<F: ThreadFabric> {
    addr: F::Addr,
    handle: ServerHandle<F::Addr>,
    counters: Arc<Counters>,
    /// Ends when the listener and every connection have ended.
    accepting: Option<JoinHandle<Result<(), F::Error>>>,
}

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> Server<F> {
    /// Listens at `addr` and serves whoever connects, by messages alone.
    pub(crate) fn start(fabric: &F, addr: &F::Addr, config: ServerConfig) -> Result<Self, Box<dyn Error>> {
        Self::start_with(fabric, addr, config, NoShelf)
    }

    /// The same, with values on `shelf` besides.
    pub(crate) fn start_with(
        fabric: &F,
        addr: &F::Addr,
        config: ServerConfig,
        shelf: impl Shelf,
    ) -> Result<Self, Box<dyn Error>> {
        let limits = carriers::ServerConfig::default().with_max_peers(config.max_connections);
        let server: Door<F> = carriers::Server::new(fabric.listen(addr)?, fabric.timer(), limits, config.carrier)?;
        let (addr, handle) = (server.local(), server.handle());
        let counters = Arc::new(Counters::new(config.alone));
        let store = Store { map: Map::new(config.capacity, shelf), counters: Arc::clone(&counters) };
        let accept = move || thread::scope(|scope| block_on(accept::<F, _>(scope, server, &store)));
        let accepting = thread::Builder::new().name(format!("{THREADS}accept")).spawn(accept)?;
        Ok(Self { addr, handle, counters, accepting: Some(accepting) })
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> &F::Addr {
        &self.addr
    }

    /// How busy it was so far.
    pub(crate) fn effort(&self) -> Effort {
        self.counters.effort()
    }
}

impl<F: ThreadFabric> Server<F> {
    /// Waits for as long as it serves.
    ///
    /// # Errors
    /// What ended the listener.
    pub(crate) fn wait(mut self) -> Result<(), F::Error> {
        self.join()
    }

    fn join(&mut self) -> Result<(), F::Error> {
        match self.accepting.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(panic)) if !thread::panicking() => std::panic::resume_unwind(panic),
            Some(Err(_)) | None => Ok(()),
        }
    }
}

impl<F: ThreadFabric> Drop for Server<F> {
    fn drop(&mut self) {
        self.handle.drain(Duration::ZERO);
        // The listener's own end is nobody's concern any more.
        let _ = self.join();
    }
}

/// What takes connections in, within limits, their handshakes side by side.
type Door<F> =
    carriers::Server<<F as trespass::core::Fabric>::Listener, MessageCarrier<<F as trespass::core::Fabric>::Track>>;

/// What the connections share.
struct Store<S> {
    map: Map<S>,
    counters: Arc<Counters>,
}

/// Takes connections in until the listener ends, or the server does. Each has a thread of its own.
async fn accept<'scope, F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>, S: Shelf>(
    scope: &'scope Scope<'scope, '_>,
    mut door: Door<F>,
    store: &'scope Store<S>,
) -> Result<(), F::Error> {
    while let Some(event) = door.event().await? {
        match event {
            Event::Accepted(accepted) => {
                let name = format!("{THREADS}{}", accepted.peer.identity().id);
                let thread = thread::Builder::new().name(name);
                if let Err(error) = thread.spawn_scoped(scope, move || serve(accepted, store)) {
                    // The peer went with the closure, and is cut off by that.
                    eprintln!("no thread for a connection: {error}");
                }
            }
            Event::Failed { peer, error } => eprintln!("{peer}: {error}"),
            _ => {}
        }
    }
    door.drained().await;
    Ok(())
}

/// One connection, to its end or the server's.
fn serve<T, A, S>(accepted: Accepted<MessageCarrier<T>, A>, store: &Store<S>)
where
    T: Track<Delivery: Lossless + InOrder>,
    A: Address,
    S: Shelf,
{
    let Accepted { carrier, peer } = accepted;
    // Outside is whether it was cut off, inside how it ended.
    if let Some(Err(error)) = block_on(peer.until_cut_off(store.converse(carrier))) {
        eprintln!("{}: {error}", peer.identity());
    }
}

/// How much memory a connection keeps for its replies while it waits for requests.
const KEPT_REPLY: usize = 1 << 20;

/// How long the pairs of one reply may be, but for the last of them.
const LONG_REPLY: usize = 1 << 20;

/// The most pairs in a reply.
const MOST_PAIRS: u32 = 4096;

impl<S: Shelf> Store<S> {
    async fn converse<T>(&self, mut carrier: MessageCarrier<T>) -> Result<(), CarrierError<T::Error>>
    where
        T: Track<Delivery: Lossless + InOrder>,
    {
        let mut reply = Vec::new();
        loop {
            let request = match carrier.try_recv() {
                Err(TryError::WouldBlock) => {
                    // Answers that were asked for together share a doorbell.
                    carrier.flush()?;
                    carrier.recv().await?
                }
                Err(TryError::Failed(error)) => return Err(error),
                Ok(request) => request,
            };
            let Some(request) = request else { break };
            reply.clear();
            self.answer(&request, &mut reply);
            // Its memory is the device's: given back before the wait for room to answer.
            drop(request);
            send(&mut carrier, &mut reply).await?;
            if reply.capacity() > KEPT_REPLY {
                reply = Vec::new();
            }
        }
        carrier.close().await
    }

    fn answer(&self, message: &[u8], reply: &mut Vec<u8>) {
        let request = Request::parse(message);
        if !matches!(request, Ok(Request::Effort)) {
            self.counters.count_message();
        }
        let map = &self.map;
        match request {
            Ok(Request::Get { key }) => match map.get(key.bytes()) {
                Some(value) => Reply::Value(&value).encode(reply),
                None => Reply::Missing.encode(reply),
            },
            Ok(Request::Put { key, value }) => match map.put(key.bytes(), value) {
                Ok(()) => Reply::Done.encode(reply),
                Err(full) => Reply::Rejected(Rejection::Full, &full.to_string()).encode(reply),
            },
            Ok(Request::Delete { key }) => match map.delete(key.bytes()) {
                true => Reply::Done.encode(reply),
                false => Reply::Missing.encode(reply),
            },
            Ok(Request::Scan { from, most }) => {
                Pairs::begin(reply);
                map.scan(from.bytes(), most.min(MOST_PAIRS) as usize, |key, value| {
                    Pairs::push(reply, key, value);
                    reply.len() < LONG_REPLY
                });
            }
            Ok(Request::Table) => match map.shelf().place() {
                Some((directory, addr)) => Reply::Table(directory, &addr).encode(reply),
                None => Reply::Missing.encode(reply),
            },
            Ok(Request::Effort) => Reply::Busy(self.counters.effort()).encode(reply),
            Err(malformed) => Reply::Rejected(Rejection::Malformed, &malformed.to_string()).encode(reply),
        }
    }
}

/// Queues the reply, or sends it where it is long or has to wait. One that no message can take is a rejection instead.
async fn send<T: Track<Delivery: Lossless + InOrder>>(
    carrier: &mut MessageCarrier<T>,
    reply: &mut Vec<u8>,
) -> Result<(), CarrierError<T::Error>> {
    if reply.len() <= carrier.eager_limit() {
        match carrier.try_send(reply) {
            Err(TryError::WouldBlock) => {}
            Err(TryError::Failed(error)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
    match carrier.send(reply).await {
        Err(error) if error.kind() == ErrorKind::Oversize => {
            reply.clear();
            Reply::Rejected(Rejection::TooLong, &error.to_string()).encode(reply);
            carrier.send(reply).await
        }
        outcome => outcome,
    }
}
