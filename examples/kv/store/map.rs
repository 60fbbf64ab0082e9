//! The memory of the store: a hash map in shards, so that connections seldom wait for each other.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use thiserror::Error;

/// Keys and values, shared by all connections.
pub(crate) struct Map {
    shards: [Shard; SHARDS],
    hasher: RandomState,
    /// The bytes of all keys and values.
    used: AtomicUsize,
    capacity: usize,
}

#[derive(Default)]
struct Shard {
    values: RwLock<HashMap<Vec<u8>, Arc<[u8]>>>,
}

const SHARDS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{needed} bytes do not fit: {used} of {capacity} are taken")]
pub(crate) struct Full {
    needed: usize,
    used: usize,
    capacity: usize,
}

impl Map {
    /// An empty one, for at most `capacity` bytes of keys and values.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard::default()),
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
        let (key, value) = (key.to_vec(), Arc::from(value));
        let mut shard = self.shard(&key).values.write().unwrap_or_else(PoisonError::into_inner);
        let key_len = key.len();
        let old = shard.insert(key, value);
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
        drop(shard);
        if let Some(old) = &old {
            self.give_back(key.len() + old.len());
        }
        old.is_some()
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
