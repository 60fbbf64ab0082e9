//! Takes subscribers in: a thread that accepts, and one for each of them.

use std::error::Error;
use std::thread::{self, JoinHandle, Scope};
use std::time::Duration;

use futures_executor::block_on;
use trespass::carriers::{self, Accepted, Event, ServerConfig, ServerHandle};
use trespass::core::{Address, InOrder, Lossless, ThreadFabric, Track};

use super::{Feed, Publisher, message_config};

/// Whoever has not gone so long after the publisher's end is cut off. The goodbye has deadlines of its own, which are shorter.
const GRACE: Duration = Duration::from_secs(30);

/// A publisher that listens. Dropping it ends the publisher, and waits until its subscribers are told.
pub(crate) struct Server<F: ThreadFabric> {
    addr: F::Addr,
    publisher: Publisher,
    handle: ServerHandle<F::Addr>,
    accepting: Option<JoinHandle<()>>,
}

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> Server<F> {
    /// Listens at `addr`, and takes in up to `room` subscribers at once.
    pub(crate) fn start(fabric: &F, addr: &F::Addr, publisher: Publisher, room: usize) -> Result<Self, Box<dyn Error>> {
        let limits = ServerConfig::default().with_max_peers(room);
        let server: Door<F> = carriers::Server::new(fabric.listen(addr)?, fabric.timer(), limits, message_config())?;
        let (addr, handle) = (server.local(), server.handle());
        let accepting = {
            let publisher = publisher.clone();
            thread::spawn(move || thread::scope(|scope| block_on(accept::<F>(scope, server, &publisher))))
        };
        Ok(Self { addr, publisher, handle, accepting: Some(accepting) })
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
        self.handle.drain(GRACE);
        if let Some(accepting) = self.accepting.take() {
            // It panics where a thread of it did, which has said so.
            drop(accepting.join());
        }
    }
}

/// The server of any carrier, with this one.
type Door<F> = carriers::Server<<F as trespass::core::Fabric>::Listener, Feed<<F as trespass::core::Fabric>::Track>>;

/// Takes in whoever comes until it is drained, and waits until all have gone.
async fn accept<'scope, F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(
    scope: &'scope Scope<'scope, '_>,
    mut door: Door<F>,
    publisher: &'scope Publisher,
) {
    loop {
        match door.event().await {
            Ok(Some(Event::Accepted(accepted))) => {
                let serving = move || serve(accepted, publisher);
                if let Err(error) = thread::Builder::new().name("feed".into()).spawn_scoped(scope, serving) {
                    // The subscriber went with the closure, and is cut off by that.
                    eprintln!("no thread for a subscriber: {error}");
                }
            }
            Ok(Some(Event::Failed { peer, error })) => eprintln!("{peer}: {error}"),
            Ok(Some(_)) => {}
            Ok(None) => break,
            // The listener has failed: nobody comes any more.
            Err(error) => {
                eprintln!("no more subscribers: {error}");
                break;
            }
        }
    }
    door.drained().await;
}

/// One subscriber, to its end or the publisher's.
fn serve<T: Track<Delivery: Lossless + InOrder>, A: Address>(accepted: Accepted<Feed<T>, A>, publisher: &Publisher) {
    let Accepted { carrier, peer } = accepted;
    if let Some(Err(error)) = block_on(peer.until_cut_off(publisher.serve(carrier))) {
        eprintln!("{}: {error}", peer.identity());
    }
}
