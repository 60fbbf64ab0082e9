//! A node's side of one-sided reads: a table in memory that is lent, and the tracks of those who read it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, Stream};
use thiserror::Error;
use trespass::core::{
    Incoming, Listener, MemoryFabric, RecvSideExt, Region, SharedRegion, ThreadMemoryFabric, TransportError,
};
use trespass_example_table::{BadLayout, Layout, Lent, Secret, Table};

use crate::hot::{Hot, Publish};
use crate::wire;

/// How much is lent.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct HotConfig {
    /// After so many reads a key is hot. Default 16.
    pub reads: u32,
    /// So many keys may be. Default 256.
    pub keys: usize,
    /// So long key and value may be together; what is longer is never hot. Default 4 KiB.
    pub longest: usize,
    /// What tells where in the table keys are, in a simulation. Default `None`: chance, so that no client can choose keys that are
    /// in each other's way.
    pub seed: Option<u64>,
}

impl Default for HotConfig {
    fn default() -> Self {
        Self { reads: 16, keys: 256, longest: 4 << 10, seed: None }
    }
}

/// Why there is no table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LendingError {
    /// A setting is out of range.
    #[error(transparent)]
    Layout(#[from] BadLayout),
    /// There is no memory, or the address cannot be listened at.
    #[error("{0}")]
    Fabric(String),
}

type Shared<F> = <<F as MemoryFabric>::Region as Region>::Shared;

/// A table of a node's hot keys.
pub struct HotTable<F: ThreadMemoryFabric> {
    table: Arc<Table<Shared<F>>>,
    lent: Lent<<Shared<F> as SharedRegion>::Window>,
    listener: F::Listener,
    config: HotConfig,
}

/// So many clients may read at once. Others ask by message.
const MOST_READERS: usize = 256;
/// Entries of one bucket, which one read takes.
const WAYS: usize = 4;

impl<F: ThreadMemoryFabric> HotTable<F> {
    /// Makes a table, and listens at `addr` for the tracks of readers.
    ///
    /// # Errors
    /// See [`LendingError`].
    pub fn open(fabric: &F, addr: &F::Addr, config: HotConfig) -> Result<Self, LendingError> {
        let failed = |error: F::Error| LendingError::Fabric(error.to_string());
        // Half full, so that few keys find their bucket full.
        let buckets = (2 * config.keys / WAYS).max(1).next_power_of_two();
        let entry = config.longest.saturating_add(128).next_multiple_of(8);
        let layout = Layout::new(buckets, WAYS, entry)?;
        let secret = config.seed.map_or_else(Secret::random, Secret::from_seed);
        let table = Table::create(fabric, layout, secret).map_err(failed)?;
        let lent = table.lend().map_err(failed)?;
        let listener = fabric.listen(addr).map_err(failed)?;
        Ok(Self { table: Arc::new(table), lent, listener, config })
    }

    /// What a node is told of it: see [`Node::lending`](crate::Node::lending).
    pub fn hot(&self) -> (Hot, wire::Lent) {
        let hot = Hot::new(Arc::new(Place(Arc::clone(&self.table))), self.config.reads, self.config.keys);
        let directory = Bytes::copy_from_slice(&self.lent.directory().encode());
        (hot, wire::Lent { address: self.listener.local().to_string(), directory })
    }

    /// Takes readers in, until the listener ends: says why it did. To be run beside the node; when it is dropped nobody reads
    /// any more.
    pub async fn run(mut self) -> String {
        let mut readers = FuturesUnordered::new();
        poll_fn(|cx| {
            loop {
                while let Poll::Ready(Some(())) = Pin::new(&mut readers).poll_next(cx) {}
                match self.listener.poll_incoming(cx) {
                    Poll::Ready(Ok(incoming)) if readers.len() < MOST_READERS => readers.push(keep::<F>(incoming)),
                    Poll::Ready(Ok(incoming)) => incoming.busy(),
                    Poll::Ready(Err(error)) => return Poll::Ready(format!("{}: {error}", error.kind())),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
}

/// Keeps a reader's track until it ends. Nothing is said over it: its device reads.
async fn keep<F: ThreadMemoryFabric>(incoming: <F::Listener as Listener>::Incoming) {
    if let Ok(mut track) = incoming.accept().await {
        while track.recv().await.is_ok() {}
    }
}

struct Place<S>(Arc<Table<S>>);

impl<S: SharedRegion + Send + Sync> Publish for Place<S> {
    fn put(&self, key: &[u8], value: &[u8]) -> bool {
        self.0.put(key, value).is_ok()
    }

    fn remove(&self, key: &[u8]) {
        self.0.remove(key);
    }
}
