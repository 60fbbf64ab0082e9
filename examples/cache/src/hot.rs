//! Keys that are read often: a primary puts them where clients read them without it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::store::{Entry, Version};

/// Where entries are put for others to read one-sided: a table in memory that is lent.
pub trait Publish: Send + Sync {
    /// Puts `value` there, or in place of what is there of `key`; says whether there is room. Whoever reads sees the whole of one
    /// or the other.
    fn put(&self, key: &[u8], value: &[u8]) -> bool;
    /// Takes `key` out: whoever begins to read after this does not find it.
    fn remove(&self, key: &[u8]);
}

/// A value as it lies there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Of the write that made it.
    pub version: Version,
    /// From when on it is not to be read any more, by the clock of its node.
    pub expires: Duration,
    /// The value.
    pub value: Bytes,
}

/// Which keys are hot, and where they are put.
pub struct Hot {
    place: Arc<dyn Publish>,
    /// After so many reads a key is hot.
    reads: u32,
    /// So many may be.
    most: usize,
    published: HashSet<Bytes>,
    counts: HashMap<Bytes, u32>,
}

/// So many keys are counted at once. When there are more, all count half: those that were read once are forgotten.
const MOST_COUNTED: usize = 4096;

impl Hot {
    /// Puts keys that were read so many times, and at most so many of them, at `place`.
    pub fn new(place: Arc<dyn Publish>, reads: u32, most: usize) -> Self {
        Self { place, reads, most, published: HashSet::new(), counts: HashMap::new() }
    }

    /// `key` was read, and is `entry`. Whether it is hot.
    pub(crate) fn was_read(&mut self, key: &Bytes, entry: &Entry) -> bool {
        if self.published.contains(key) {
            return true;
        }
        let count = self.counts.entry(key.clone()).or_default();
        *count += 1;
        if *count >= self.reads && self.published.len() < self.most {
            self.counts.remove(key);
            return self.publish(key, entry);
        }
        if self.counts.len() > MOST_COUNTED {
            self.counts.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
        }
        false
    }

    /// `key` is `entry` from now on.
    pub(crate) fn was_written(&mut self, key: &Bytes, entry: &Entry) {
        if self.published.contains(key) {
            self.publish(key, entry);
        }
    }

    /// `key` is not here any more.
    pub(crate) fn retract(&mut self, key: &[u8]) {
        if self.published.remove(key) {
            self.place.remove(key);
        }
    }

    /// Nothing that is lent is to be read any more.
    pub(crate) fn clear(&mut self) {
        for key in self.published.drain() {
            self.place.remove(&key);
        }
        self.counts.clear();
    }

    /// What does not fit, or is deleted, is not there.
    fn publish(&mut self, key: &Bytes, entry: &Entry) -> bool {
        let published = entry.value.as_ref().and_then(|value| {
            let (version, expires) = (entry.version, entry.expires);
            postcard::to_stdvec(&Published { version, expires, value: value.clone() }).ok()
        });
        let fits = published.is_some_and(|bytes| self.place.put(key, &bytes));
        match fits {
            true => drop(self.published.insert(key.clone())),
            false => {
                self.published.remove(key);
                self.place.remove(key);
            }
        }
        fits
    }
}
