//! Where clients find values by themselves: nowhere, or in a table that is lent to them.

use std::future::{Ready, ready};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_executor::block_on;
use trespass::carriers::{self, Accepted, ServerHandle};
use trespass::core::{Carrier, Fabric, RecvSideExt, Region, Role, SharedRegion, ThreadMemoryFabric, Track};
use trespass_example_table::{Directory, Layout, Lent, Secret, Table, TableStats};

use super::effort::THREADS;

/// What a server puts values on, beside its map. Calls for one key come one after the other.
pub(crate) trait Shelf: Send + Sync + 'static {
    fn put(&self, key: &[u8], value: &[u8]);
    fn remove(&self, key: &[u8]);
    /// What a client has to know, where there is anything to be read: the directory, and where tracks are taken in.
    fn place(&self) -> Option<(Directory, String)>;
}

/// None: all goes by message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NoShelf;

impl Shelf for NoShelf {
    fn put(&self, _: &[u8], _: &[u8]) {}
    fn remove(&self, _: &[u8]) {}
    fn place(&self) -> Option<(Directory, String)> {
        None
    }
}

/// One that there may be.
impl<S: Shelf> Shelf for Option<S> {
    fn put(&self, key: &[u8], value: &[u8]) {
        if let Some(shelf) = self {
            shelf.put(key, value);
        }
    }

    fn remove(&self, key: &[u8]) {
        if let Some(shelf) = self {
            shelf.remove(key);
        }
    }

    fn place(&self) -> Option<(Directory, String)> {
        self.as_ref().and_then(Shelf::place)
    }
}

type SharedOf<F> = <<F as trespass::core::MemoryFabric>::Region as Region>::Shared;
type WindowOf<F> = <SharedOf<F> as SharedRegion>::Window;

/// A table that is lent to whoever connects to its own address, and read there. Nothing is done for a reader but to keep its
/// track: dropping this cuts all of them off.
pub(crate) struct Lender<F: ThreadMemoryFabric> {
    table: Table<SharedOf<F>>,
    /// One for all readers; none while nothing is lent.
    lent: Mutex<Option<Lent<WindowOf<F>>>>,
    addr: F::Addr,
    handle: ServerHandle<F::Addr>,
    keeping: Option<JoinHandle<Result<(), F::Error>>>,
}

/// What is the matter where a table cannot be lent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LendError<E: std::error::Error> {
    #[error("the table cannot be lent: {0}")]
    Fabric(E),
    #[error(transparent)]
    Limits(#[from] carriers::ServerFault),
    #[error("no thread to keep readers: {0}")]
    Thread(#[from] io::Error),
}

impl<F: ThreadMemoryFabric> Lender<F> {
    /// An empty table, lent, whose readers come to `addr`: `most` of them at once.
    pub(crate) fn start(
        fabric: &F,
        addr: &F::Addr,
        layout: Layout,
        most: usize,
    ) -> Result<Arc<Self>, LendError<F::Error>> {
        let table = Table::create(fabric, layout, Secret::random()).map_err(LendError::Fabric)?;
        let lent = table.lend().map_err(LendError::Fabric)?;
        let listener = fabric.listen(addr).map_err(LendError::Fabric)?;
        let limits = carriers::ServerConfig::default().with_max_peers(most);
        let mut door: Door<F> = carriers::Server::new(listener, fabric.timer(), limits, ())?;
        let (addr, handle) = (door.local(), door.handle());
        let keeping = thread::Builder::new().name(format!("{THREADS}lend")).spawn(move || {
            let keep = |accepted: Accepted<Kept<F::Track>, F::Addr>| async move {
                let Accepted { carrier: Kept(mut track), peer } = accepted;
                // Nothing is said on it. What a reader says all the same is dropped, until it goes or has to.
                peer.until_cut_off(async { while track.recv().await.is_ok() {} }).await;
            };
            block_on(door.serve(keep)).map(drop)
        })?;
        let lent = Mutex::new(Some(lent));
        Ok(Arc::new(Self { table, lent, addr, handle, keeping: Some(keeping) }))
    }

    /// Takes the table back: reads fail from now on, and readers ask by message.
    pub(crate) fn withdraw(&self) -> Result<(), F::Error> {
        let lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner).take();
        lent.map_or(Ok(()), Lent::revoke)
    }

    /// Lends it again, to whoever asks anew.
    pub(crate) fn lend(&self) -> Result<(), F::Error> {
        let lent = self.table.lend()?;
        *self.lent.lock().unwrap_or_else(PoisonError::into_inner) = Some(lent);
        Ok(())
    }

    pub(crate) fn stats(&self) -> TableStats {
        self.table.stats()
    }
}

impl<F: ThreadMemoryFabric> Shelf for Arc<Lender<F>> {
    fn put(&self, key: &[u8], value: &[u8]) {
        // What is not placed is told of as such: the map has it.
        let _ = self.table.put(key, value);
    }

    fn remove(&self, key: &[u8]) {
        self.table.remove(key);
    }

    fn place(&self) -> Option<(Directory, String)> {
        let lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        lent.as_ref().map(|lent| (lent.directory(), self.addr.to_string()))
    }
}

impl<F: ThreadMemoryFabric> Drop for Lender<F> {
    fn drop(&mut self) {
        self.handle.drain(Duration::ZERO);
        // The listener's own end is nobody's concern any more.
        if let Some(Err(panic)) = self.keeping.take().map(JoinHandle::join) {
            if !thread::panicking() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

type Door<F> = carriers::Server<<F as Fabric>::Listener, Kept<<F as Fabric>::Track>>;

/// A track that is kept and not spoken on: the simplest carrier there is, so that a server has limits to how many.
struct Kept<T>(T);

impl<T: Track> Carrier for Kept<T> {
    type Track = T;
    type Config = ();
    type Error = T::Error;
    type Opening = Ready<Result<Self, T::Error>>;

    fn open(track: T, _: Role, (): ()) -> Self::Opening {
        ready(Ok(Self(track)))
    }

    fn most_memory((): &()) -> usize {
        0
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.0.poll_close(cx)
    }
}
