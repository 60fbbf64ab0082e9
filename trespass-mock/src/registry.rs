//! What a fabric has made and may have to end.

use std::sync::{Arc, Weak};

use crate::sync::{Mutex, lock};

/// Those of a kind that are alive. Keeps nobody alive.
#[derive(Debug)]
pub(crate) struct Registry<T: ?Sized>(Mutex<Vec<Weak<T>>>);

impl<T: ?Sized> Default for Registry<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: ?Sized> Registry<T> {
    /// Adds `item`. Amortised constant time: those that are gone leave when the list would have to grow.
    pub(crate) fn add(&self, item: &Arc<T>) {
        let mut list = lock(&self.0);
        if list.len() == list.capacity() {
            list.retain(|weak| weak.strong_count() > 0);
            // At least half of the list stays free, or the next additions would search it again.
            let spare = list.len() + 8;
            list.reserve(spare);
        }
        list.push(Arc::downgrade(item));
    }

    /// All that live, in the order in which they were added.
    pub(crate) fn live(&self) -> Vec<Arc<T>> {
        lock(&self.0).iter().filter_map(Weak::upgrade).collect()
    }
}
