//! The memory of the store: a hash map in shards, so that connections seldom wait for each other; an index of the keys in
//! order; and the shelf, on which clients find what they want by themselves.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use thiserror::Error;

use super::shelf::Shelf;

/// Keys and values, shared by all connections.
pub(crate) struct Map<S> {
    shards: [Shard; SHARDS],
    /// All keys. Changed under the lock of the key's shard, where a key comes or goes.
    order: RwLock<BTreeSet<Arc<[u8]>>>,
    /// Changed under the lock of the key's shard, so that it has what the shard has.
    shelf: S,
    hasher: RandomState,
    /// The bytes of all keys and values.
    used: AtomicUsize,
    capacity: usize,
}

#[derive(Default)]
struct Shard {
    values: RwLock<Values>,
}

type Values = HashMap<Arc<[u8]>, Arc<[u8]>>;

const SHARDS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{needed} bytes do not fit: {used} of {capacity} are taken")]
pub(crate) struct Full {
    needed: usize,
    used: usize,
    capacity: usize,
}

impl<S: Shelf> Map<S> {
    /// An empty one, for at most `capacity` bytes of keys and values.
    pub(crate) fn new(capacity: usize, shelf: S) -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard::default()),
            order: RwLock::default(),
            shelf,
            hasher: RandomState::new(),
            used: AtomicUsize::new(0),
            capacity,
        }
    }

    /// The value is shared, not copied: it stays as it is whatever is put meanwhile.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        let shard = self.shard(key).values.read().unwrap_or_else(PoisonError::into_inner);
        shard.get(key).cloned()
    }

    pub(crate) fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Full> {
        // Both sizes count while one value takes the other's place: they do exist at once.
        self.take(key.len() + value.len())?;
        let (key, value): (Arc<[u8]>, Arc<[u8]>) = (Arc::from(key), Arc::from(value));
        let key_len = key.len();
        let mut shard = self.shard(&key).values.write().unwrap_or_else(PoisonError::into_inner);
        self.shelf.put(&key, &value);
        let old = match shard.get_mut(&key) {
            Some(place) => Some(std::mem::replace(place, value)),
            None => {
                self.order.write().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(&key));
                shard.insert(key, value)
            }
        };
        drop(shard);
        if let Some(old) = old {
            self.give_back(key_len + old.len());
        }
        Ok(())
    }

    /// Whether there was such a key.
    pub(crate) fn delete(&self, key: &[u8]) -> bool {
        let mut shard = self.shard(key).values.write().unwrap_or_else(PoisonError::into_inner);
        let old = shard.remove(key);
        if old.is_some() {
            self.shelf.remove(key);
            self.order.write().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
        drop(shard);
        if let Some(old) = &old {
            self.give_back(key.len() + old.len());
        }
        old.is_some()
    }

    /// Shows `each` up to `most` pairs from `from` on, in the order of their keys, until it has enough. Each value is one that the key
    /// had meanwhile; all together are of no one moment.
    pub(crate) fn scan(&self, from: &[u8], most: usize, mut each: impl FnMut(&[u8], &[u8]) -> bool) {
        let keys: Vec<_> = {
            let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
            order.range::<[u8], _>((Bound::Included(from), Bound::Unbounded)).take(most).cloned().collect()
        };
        for key in keys {
            // It may be gone by now.
            let Some(value) = self.get(&key) else { continue };
            if !each(&key, &value) {
                return;
            }
        }
    }

    pub(crate) fn shelf(&self) -> &S {
        &self.shelf
    }

    fn shard(&self, key: &[u8]) -> &Shard {
        let hash = self.hasher.hash_one(key);
        &self.shards[hash as usize % SHARDS]
    }

    fn take(&self, needed: usize) -> Result<(), Full> {
        let fits = |used: usize| used.checked_add(needed).filter(|sum| *sum <= self.capacity);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(used) => Err(Full { needed, used, capacity: self.capacity }),
        }
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
