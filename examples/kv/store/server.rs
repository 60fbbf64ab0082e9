//! The server: one thread that accepts, one per connection, and the map that they share.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Scope};

use futures_executor::block_on;
use futures_util::future::{AbortHandle, AbortRegistration, Abortable};
use trespass::carriers::{MessageCarrier, MessageConfig};
use trespass::core::{
    ErrorKind, InOrder, Incoming, Listener, ListenerExt, Lossless, Role, ThreadFabric, Track, TransportError,
};

use super::map::Map;
use super::protocol::{Rejection, Reply, Request};

/// What bounds a server.
#[derive(Debug, Clone)]
pub(crate) struct ServerConfig {
    /// Connections at once, handshakes included. One more is refused.
    pub(crate) max_connections: usize,
    /// Bytes of keys and values in all. A put that does not fit is rejected.
    pub(crate) capacity: usize,
    pub(crate) carrier: MessageConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { max_connections: 256, capacity: 4 << 30, carrier: MessageConfig::default() }
    }
}

/// A server at work. Dropping it cuts every connection off, as a crash would.
pub(crate) struct Server<F: ThreadFabric> {
    addr: F::Addr,
    shared: Arc<Shared>,
    /// Ends when the listener and every connection have ended.
    accepting: Option<JoinHandle<Result<(), F::Error>>>,
}

struct Shared {
    config: ServerConfig,
    map: Map,
    connections: Mutex<Connections>,
}

struct Connections {
    open: HashMap<u64, AbortHandle>,
    next_id: u64,
    stopped: bool,
    acceptor: AbortHandle,
}

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> Server<F> {
    /// Listens at `addr` and serves whoever connects.
    pub(crate) fn start(fabric: &F, addr: &F::Addr, config: ServerConfig) -> Result<Self, F::Error> {
        let listener = fabric.listen(addr)?;
        let addr = listener.local();
        let (acceptor, registration) = AbortHandle::new_pair();
        let connections = Connections { open: HashMap::new(), next_id: 0, stopped: false, acceptor };
        let map = Map::new(config.capacity);
        let shared = Arc::new(Shared { config, map, connections: Mutex::new(connections) });
        let accepting = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                thread::scope(|scope| block_on(Abortable::new(accept::<F>(scope, listener, &shared), registration)))
                    .unwrap_or(Ok(()))
            })
        };
        Ok(Self { addr, shared, accepting: Some(accepting) })
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> &F::Addr {
        &self.addr
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
        self.shared.connections().stop();
        // The listener's own end is nobody's concern any more.
        let _ = self.join();
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for one more connection, if there is any.
    fn admit(&self) -> Option<(u64, AbortRegistration)> {
        let mut connections = self.connections();
        if connections.stopped || connections.open.len() >= self.config.max_connections {
            return None;
        }
        let id = connections.next_id;
        connections.next_id += 1;
        let (handle, registration) = AbortHandle::new_pair();
        connections.open.insert(id, handle);
        Some((id, registration))
    }

    fn leave(&self, id: u64) {
        self.connections().open.remove(&id);
    }
}

impl Connections {
    fn stop(&mut self) {
        self.stopped = true;
        self.acceptor.abort();
        self.open.values().for_each(AbortHandle::abort);
    }
}

/// Takes connections in until the listener ends. A request is answered in a thread of its own, from its handshake on:
/// a slow peer keeps nobody else waiting.
async fn accept<'scope, F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(
    scope: &'scope Scope<'scope, '_>,
    mut listener: F::Listener,
    shared: &'scope Shared,
) -> Result<(), F::Error> {
    loop {
        let incoming = listener.incoming().await?;
        let Some((id, registration)) = shared.admit() else {
            incoming.refuse();
            continue;
        };
        let peer = incoming.peer();
        let connection = move || {
            // Outside is whether it was aborted, inside how it ended.
            if let Ok(Err(error)) = block_on(Abortable::new(converse(incoming, shared), registration)) {
                eprintln!("connection from {peer}: {error}");
            }
            shared.leave(id);
        };
        if let Err(error) = thread::Builder::new().name(format!("kv-{id}")).spawn_scoped(scope, connection) {
            // The request went with the closure, and was refused by that.
            eprintln!("no thread for a connection: {error}");
            shared.leave(id);
        }
    }
}

/// One connection, from the request to be accepted to its end.
async fn converse<I: Incoming<Track: Track<Delivery: Lossless + InOrder>>>(
    incoming: I,
    shared: &Shared,
) -> Result<(), Box<dyn Error>> {
    let track = incoming.accept().await?;
    let mut carrier = MessageCarrier::open(track, Role::Acceptor, shared.config.carrier.clone()).await?;
    let mut reply = Vec::new();
    while let Some(request) = carrier.recv().await? {
        reply.clear();
        answer(&shared.map, &request, &mut reply);
        // Its memory is the device's: given back before the wait for room to answer.
        drop(request);
        match carrier.send(&reply).await {
            Err(error) if error.kind() == ErrorKind::Oversize => {
                reply.clear();
                Reply::Rejected(Rejection::TooLong, &error.to_string()).encode(&mut reply);
                carrier.send(&reply).await?;
            }
            outcome => outcome?,
        }
        if reply.capacity() > KEPT_REPLY {
            reply = Vec::new();
        }
    }
    carrier.close().await?;
    Ok(())
}

/// How much memory a connection keeps for its replies while it waits for requests.
const KEPT_REPLY: usize = 1 << 20;

fn answer(map: &Map, message: &[u8], reply: &mut Vec<u8>) {
    match Request::parse(message) {
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
        Err(malformed) => Reply::Rejected(Rejection::Malformed, &malformed.to_string()).encode(reply),
    }
}
