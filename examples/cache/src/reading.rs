//! A client's side of one-sided reads: keys that their primary says are hot are read from its memory, without it.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use trespass::core::{InOrder, Lossless, ThreadMemoryFabric, Timer, Track, within};
use trespass_example_table::{Directory, Lookup, Reader, ReaderConfig};

use crate::CacheError;
use crate::calls::TellLent;
use crate::client::{Client, Told};
use crate::hot::Published;
use crate::membership::{Epoch, NodeId};
use crate::source::Source;
use crate::state::Clocks;
use crate::store::Version;
use crate::wire::{Found, Stamp};

/// A client that reads hot keys one-sided.
///
/// What it reads so is as good as what the primary would answer: a node says until when, by its clock, nobody else serves its
/// keys, and takes what it has lent back before it says that somebody may. After that time a client asks again. A node that
/// is stopped cannot take anything back, and need not: its time is up before others serve its keys.
pub struct HotClient<F: ThreadMemoryFabric<Track: Track<Delivery: Lossless + InOrder>>, S> {
    client: Client<F, S>,
    places: Mutex<BTreeMap<NodeId, Place<F>>>,
    one_sided: AtomicU64,
}

/// What is known of one node.
struct Place<F: ThreadMemoryFabric> {
    epoch: Epoch,
    clocks: Clocks,
    /// Until when it may be read, by its clock.
    until: Duration,
    keys: HashSet<Bytes>,
    /// `None` while it is being connected.
    reader: Arc<futures_util::lock::Mutex<Option<Reader<F::Track>>>>,
}

/// So many keys are remembered of a node.
const MOST_KEYS: usize = 1024;

impl<F, S> HotClient<F, S>
where
    F: ThreadMemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
    S: Source<F::Addr>,
{
    /// One that writes, and reads what is not hot, through `client`.
    pub fn new(client: Client<F, S>) -> Self {
        Self { client, places: Mutex::default(), one_sided: AtomicU64::new(0) }
    }

    /// What it writes through.
    pub fn client(&self) -> &Client<F, S> {
        &self.client
    }

    /// How many reads no node has seen.
    pub fn one_sided(&self) -> u64 {
        self.one_sided.load(Ordering::Relaxed)
    }

    /// As [`Client::get`]; one-sided where it may be.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get(&self, key: &[u8]) -> Result<Option<(Version, Bytes)>, CacheError> {
        if let Some(published) = self.peek(key).await {
            self.one_sided.fetch_add(1, Ordering::Relaxed);
            return Ok(Some((published.version, published.value)));
        }
        let (Found { value, hot }, told) = self.client.find(key).await?;
        match hot {
            Some(stamp) => self.note(key, stamp, told),
            None => self.forget(key, told.node),
        }
        Ok(value)
    }

    /// What lies in its primary's memory of `key`, if it may be read there, and does.
    async fn peek(&self, key: &[u8]) -> Option<Published> {
        let (epoch, node) = self.client.primary(key)?;
        let now = self.client.timer().now();
        let (clocks, until, reader) = {
            let places = self.places();
            let place = places.get(&node).filter(|place| place.epoch == epoch && place.keys.contains(key))?;
            (place.clocks, place.until, Arc::clone(&place.reader))
        };
        // By the node's clock, or a little later.
        let then = clocks.to_theirs(now);
        if then >= until {
            return None;
        }
        let mut reader = reader.lock().await;
        if reader.is_none() {
            *reader = self.connect(node).await;
        }
        let found = within(self.client.timer(), until - then, reader.as_mut()?.find(key)).await;
        let published = match found {
            Ok(Ok(Lookup::Found { .. })) => postcard::from_bytes(reader.as_ref()?.value()).ok(),
            Ok(Ok(_)) => None,
            // The track is over, or may be.
            Ok(Err(_)) | Err(_) => {
                *reader = None;
                None
            }
        };
        // It was read before now.
        let in_time = clocks.to_theirs(self.client.timer().now()) < until;
        published.filter(|published: &Published| in_time && published.expires > then)
    }

    async fn connect(&self, node: NodeId) -> Option<Reader<F::Track>> {
        let lent = self.client.ask(node, TellLent, &()).await??;
        let (addr, directory) = (lent.address.parse().ok()?, Directory::decode(&lent.directory).ok()?);
        let fabric = self.client.fabric();
        let connecting = fabric.connect(&addr);
        let track = within(self.client.timer(), self.client.config().attempt, connecting).await.ok()?.ok()?;
        Reader::new(fabric, track, directory, ReaderConfig::default().with_in_flight(1)).ok()
    }

    fn note(&self, key: &[u8], stamp: Stamp, told: Told) {
        let mut places = self.places();
        let clocks = Clocks { mine: told.asked, theirs: stamp.now };
        let place = places.entry(told.node).or_insert_with(|| Place {
            epoch: told.epoch,
            clocks,
            until: stamp.until,
            keys: HashSet::new(),
            reader: Arc::default(),
        });
        if place.epoch != told.epoch || place.keys.len() >= MOST_KEYS {
            place.keys.clear();
        }
        (place.epoch, place.clocks, place.until) = (told.epoch, clocks, stamp.until);
        place.keys.insert(Bytes::copy_from_slice(key));
    }

    fn forget(&self, key: &[u8], node: NodeId) {
        if let Some(place) = self.places().get_mut(&node) {
            place.keys.remove(key);
        }
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<NodeId, Place<F>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
