//! The server: one thread that takes connections in, one per connection, and the map that they share.

use std::error::Error;
use std::thread::{self, JoinHandle, Scope};
use std::time::Duration;

use futures_executor::block_on;
use trespass::carriers::{self, Accepted, CarrierError, Event, MessageCarrier, MessageConfig, ServerHandle};
use trespass::core::{Address, ErrorKind, InOrder, Lossless, ThreadFabric, Track, TransportError};

use super::map::Map;
use super::protocol::{Rejection, Reply, Request};

/// What bounds a server.
#[derive(Debug, Clone)]
pub(crate) struct ServerConfig {
    /// Connections at once, handshakes included. One more is told that the server is busy.
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
    handle: ServerHandle<F::Addr>,
    /// Ends when the listener and every connection have ended.
    accepting: Option<JoinHandle<Result<(), F::Error>>>,
}

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> Server<F> {
    /// Listens at `addr` and serves whoever connects.
    pub(crate) fn start(fabric: &F, addr: &F::Addr, config: ServerConfig) -> Result<Self, Box<dyn Error>> {
        let limits = carriers::ServerConfig::default().with_max_peers(config.max_connections);
        let server: Door<F> = carriers::Server::new(fabric.listen(addr)?, fabric.timer(), limits, config.carrier)?;
        let (addr, handle) = (server.local(), server.handle());
        let map = Map::new(config.capacity);
        let accepting = thread::spawn(move || thread::scope(|scope| block_on(accept::<F>(scope, server, &map))));
        Ok(Self { addr, handle, accepting: Some(accepting) })
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
        self.handle.drain(Duration::ZERO);
        // The listener's own end is nobody's concern any more.
        let _ = self.join();
    }
}

/// What takes connections in, within limits, their handshakes side by side.
type Door<F> =
    carriers::Server<<F as trespass::core::Fabric>::Listener, MessageCarrier<<F as trespass::core::Fabric>::Track>>;

/// Takes connections in until the listener ends, or the server does. Each has a thread of its own.
async fn accept<'scope, F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(
    scope: &'scope Scope<'scope, '_>,
    mut door: Door<F>,
    map: &'scope Map,
) -> Result<(), F::Error> {
    while let Some(event) = door.event().await? {
        match event {
            Event::Accepted(accepted) => {
                let name = format!("kv-{}", accepted.peer.identity().id);
                if let Err(error) = thread::Builder::new().name(name).spawn_scoped(scope, move || serve(accepted, map))
                {
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
fn serve<T: Track<Delivery: Lossless + InOrder>, A: Address>(accepted: Accepted<MessageCarrier<T>, A>, map: &Map) {
    let Accepted { carrier, peer } = accepted;
    // Outside is whether it was cut off, inside how it ended.
    if let Some(Err(error)) = block_on(peer.until_cut_off(converse(carrier, map))) {
        eprintln!("{}: {error}", peer.identity());
    }
}

async fn converse<T: Track<Delivery: Lossless + InOrder>>(
    mut carrier: MessageCarrier<T>,
    map: &Map,
) -> Result<(), CarrierError<T::Error>> {
    let mut reply = Vec::new();
    while let Some(request) = carrier.recv().await? {
        reply.clear();
        answer(map, &request, &mut reply);
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
    carrier.close().await
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
