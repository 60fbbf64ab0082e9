//! What a node has in memory: bounded by weight, versioned, with times to live by whatever clock it is told.

use std::time::Duration;

use bytes::Bytes;
use quick_cache::unsync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use serde::{Deserialize, Serialize};

use crate::membership::Epoch;

/// Which of two writes of a key is newer. In an epoch a key has one primary, which numbers its writes, and its starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// In which epoch it was written.
    pub epoch: Epoch,
    /// By which start of the key's primary. It does not know what the one before has written and deleted.
    pub start: u64,
    /// Which of its writes.
    pub number: u64,
}

/// The newest that is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Of the write that made it.
    pub version: Version,
    /// From when on it is not read any more, by the clock of the node that has it.
    pub expires: Duration,
    /// `None` where it was deleted. That is kept only while a node may still be told of older writes.
    pub value: Option<Bytes>,
}

/// What became of an entry that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It is there now, or was already; these keys had to make room.
    Done {
        /// In the order in which they went.
        evicted: Vec<Bytes>,
    },
    /// There is a newer one.
    Older,
    /// There is no room, and nothing may be evicted.
    Full,
}

/// Whether others may have to go for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The least used go.
    Evict,
    /// None goes.
    Keep,
}

/// What an entry takes besides its key and value: itself, its place in the table and in the order, two headers of the allocator.
const OVERHEAD: u64 = 160;

#[derive(Debug, Clone, Copy)]
struct ByWeight;

impl Weighter<Bytes, Entry> for ByWeight {
    fn weight(&self, key: &Bytes, entry: &Entry) -> u64 {
        weight(key, entry)
    }
}

fn weight(key: &Bytes, entry: &Entry) -> u64 {
    OVERHEAD + key.len() as u64 + entry.value.as_ref().map_or(0, |value| value.len() as u64)
}

/// Notes which keys had to go.
#[derive(Debug, Clone, Copy)]
struct Evictions;

impl Lifecycle<Bytes, Entry> for Evictions {
    type RequestState = Vec<Bytes>;

    fn on_evict(&self, evicted: &mut Vec<Bytes>, key: Bytes, _: Entry) {
        evicted.push(key);
    }
}

/// The entries of a node. It has no lock and no clock of its own.
pub struct Store {
    cache: Cache<Bytes, Entry, ByWeight, quick_cache::DefaultHashBuilder, Evictions>,
    evictions: u64,
}

impl Store {
    /// An empty one for so many bytes, with all that entries take.
    pub fn new(capacity: u64) -> Self {
        let items = usize::try_from(capacity / (4 * OVERHEAD)).unwrap_or(usize::MAX).clamp(16, 1 << 20);
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(items).weight_capacity(capacity);
        // Both settings that it asks for are there.
        let options = options.build().unwrap_or_else(|_| unreachable!("both capacities are set"));
        let cache = Cache::with_options(options, ByWeight, quick_cache::DefaultHashBuilder::default(), Evictions);
        Self { cache, evictions: 0 }
    }

    /// The value of `key`, unless its time is up.
    pub fn read(&self, key: &[u8], now: Duration) -> Option<&Entry> {
        self.cache.get(key).filter(|entry| entry.value.is_some() && entry.expires > now)
    }

    /// All that is known of `key`, read or not.
    pub fn entry(&self, key: &[u8]) -> Option<&Entry> {
        self.cache.peek(key)
    }

    /// Takes `entry` in, unless there is a newer one.
    pub fn apply(&mut self, key: Bytes, entry: Entry, room: Room) -> Applied {
        let known = self.cache.peek(&key);
        match known.map(|known| known.version.cmp(&entry.version)) {
            Some(std::cmp::Ordering::Greater) => return Applied::Older,
            Some(std::cmp::Ordering::Equal) => return Applied::Done { evicted: Vec::new() },
            _ => {}
        }
        let before = known.map_or(0, |known| weight(&key, known));
        let after = self.cache.weight() - before + weight(&key, &entry);
        if room == Room::Keep && after > self.cache.capacity() {
            return Applied::Full;
        }
        let mut evicted = Vec::new();
        self.cache.insert_with_lifecycle(key.clone(), entry, &mut evicted);
        // What was there of the same key before counts as evicted, too.
        evicted.retain(|went| *went != key);
        if self.cache.peek(&key).is_none() {
            evicted.push(key);
        }
        self.evictions += evicted.len() as u64;
        Applied::Done { evicted }
    }

    /// Forgets `key`.
    pub fn remove(&mut self, key: &[u8]) {
        self.cache.remove(key);
    }

    /// Forgets all that `keep` does not want.
    pub fn retain(&mut self, keep: impl Fn(&Bytes, &Entry) -> bool) {
        self.cache.retain(|key, entry| keep(key, entry));
    }

    /// The keys that `wanted` wants, in order. They share the memory of the entries.
    pub fn keys(&self, wanted: impl Fn(&Bytes) -> bool) -> Vec<Bytes> {
        let mut keys: Vec<Bytes> = self.cache.iter().map(|(key, _)| key).filter(|key| wanted(key)).cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// How many entries there are, with those that are not read any more.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What they take, in bytes.
    pub fn weight(&self) -> u64 {
        self.cache.weight()
    }

    /// How many had to go for others, so far.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// One more had to go: it was not let in.
    pub fn count_eviction(&mut self) {
        self.evictions += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(10);

    fn version(epoch: u64, number: u64) -> Version {
        Version { epoch: Epoch(epoch), start: 1, number }
    }

    fn entry(version: Version, value: &'static str) -> Entry {
        Entry { version, expires: NOW + Duration::from_secs(1), value: Some(value.into()) }
    }

    fn put(store: &mut Store, key: &'static str, entry: Entry) -> Applied {
        store.apply(key.into(), entry, Room::Evict)
    }

    const DONE: Applied = Applied::Done { evicted: Vec::new() };

    #[test]
    fn an_older_write_never_replaces_a_newer_one() {
        let mut store = Store::new(1 << 20);
        assert_eq!(put(&mut store, "key", entry(version(2, 1), "new")), DONE);
        assert_eq!(put(&mut store, "key", entry(version(1, 9), "old")), Applied::Older);
        assert_eq!(put(&mut store, "key", entry(version(2, 1), "new")), DONE, "the same again does no harm");
        assert_eq!(store.read(b"key", NOW).expect("it is there").value.as_deref(), Some(&b"new"[..]));
        let deleted = Entry { value: None, ..entry(version(2, 2), "") };
        assert_eq!(put(&mut store, "key", deleted), DONE);
        assert_eq!(put(&mut store, "key", entry(version(2, 1), "new")), Applied::Older, "nor what was deleted");
        assert_eq!(store.read(b"key", NOW), None);
    }

    #[test]
    fn nothing_is_read_when_its_time_is_up() {
        let mut store = Store::new(1 << 20);
        put(&mut store, "key", entry(version(1, 1), "value"));
        let expires = NOW + Duration::from_secs(1);
        assert!(store.read(b"key", expires - Duration::from_nanos(1)).is_some());
        assert_eq!(store.read(b"key", expires), None);
        assert!(store.entry(b"key").is_some(), "its version is still known");
    }

    #[test]
    fn memory_is_bounded_by_weight() {
        let mut store = Store::new(64 << 10);
        let mut evicted = 0;
        for number in 0..1000 {
            let value = Some(vec![0; 1000].into());
            let entry = Entry { version: version(1, number), expires: Duration::MAX, value };
            match store.apply(number.to_string().into(), entry, Room::Evict) {
                Applied::Done { evicted: went } => evicted += went.len(),
                other => panic!("{other:?}"),
            }
            assert!(store.weight() <= 64 << 10);
        }
        assert_eq!((evicted + store.len(), store.evictions()), (1000, evicted as u64));
        assert!(store.len() > 50, "{}: there is room for more", store.len());
        let entry = Entry { version: version(2, 0), expires: Duration::MAX, value: Some(vec![0; 2000].into()) };
        assert_eq!(store.apply("more".into(), entry, Room::Keep), Applied::Full, "where nothing may go");
    }

    #[test]
    fn a_key_that_is_written_again_takes_no_more_than_its_new_value() {
        let mut store = Store::new(64 << 10);
        for number in 0..100 {
            let entry =
                Entry { version: version(1, number), expires: Duration::MAX, value: Some(vec![0; 60_000].into()) };
            assert_eq!(store.apply("key".into(), entry, Room::Keep), DONE);
        }
    }
}
