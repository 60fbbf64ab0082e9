//! The owner's side: puts and removes, under whatever peers read.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use trespass_core::{Access, MemoryFabric, OutOfBounds, Region, SharedRegion, Window};

use crate::entry::{self, Claim, Kind};
use crate::hash::Secret;
use crate::layout::{BUCKET_HEAD, Directory, Layout};

/// A table in memory of its own, to be lent to peers. All of it may be used from any number of threads at once.
///
/// # For users
/// It is bounded: a key whose value is too long, or whose bucket is full, is not in it. The table notes that it exists
/// elsewhere, so that readers know ([`Lookup::Elsewhere`](crate::Lookup)), until [`remove`](Self::remove). So a store of
/// everything keeps all values in a map of its own, and puts and removes here what it puts and removes there, in the same
/// order for each key; a cache forgets what did not fit by a `remove`.
///
/// # Costs
/// A put or remove locks a stripe of the buckets (one of 64), copies the bucket out, makes an entry with its checksum and
/// copies that in. After the first of each stripe it allocates for keys alone that are elsewhere. Readers lock nothing.
pub struct Table<S> {
    shared: S,
    layout: Layout,
    secret: Secret,
    stripes: Box<[Mutex<Stripe>]>,
    versions: AtomicU64,
    entries: AtomicU64,
    elsewhere: AtomicU64,
}

const STRIPES: usize = 64;

/// What there is for every `STRIPES`th bucket.
#[derive(Default)]
struct Stripe {
    /// Keys that exist and are in no entry. Those are counted by the head of their bucket.
    elsewhere: HashSet<Box<[u8]>>,
    elsewhere_bytes: usize,
    /// The bucket in hand.
    bucket: Vec<u8>,
    /// The entry in the making.
    entry: Vec<u8>,
}

/// What the head of a bucket says once the table could not note all keys that are elsewhere: it counts no more.
const UNCOUNTED: u64 = u64::MAX;

/// Why a key is not in the table: it is elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotPlaced {
    /// Of its length.
    #[error("a key and value of {len} bytes: an entry has room for {longest}")]
    TooLong {
        /// Of key and value together.
        len: usize,
        /// The most that fits, with a key of up to 65,535 bytes.
        longest: usize,
    },
    /// All entries of its bucket have other keys, or had when it came: while a key exists it does not move.
    #[error("the key's bucket is full, or was when it was put first")]
    Full,
}

/// Memory that is too short for a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a table of {table} bytes does not fit in {memory}")]
pub struct TooSmall {
    /// How long the table is.
    pub table: usize,
    /// How long the memory is.
    pub memory: usize,
}

/// What is in a table. Of an instant, and of no one instant while others put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TableStats {
    /// Keys that have an entry.
    pub entries: u64,
    /// Keys that exist and have none.
    pub elsewhere: u64,
}

impl<S: SharedRegion> Table<S> {
    /// An empty table in memory of `fabric`'s.
    ///
    /// # Errors
    /// As [`MemoryFabric::alloc`].
    pub fn create<F>(fabric: &F, layout: Layout, secret: Secret) -> Result<Self, F::Error>
    where
        F: MemoryFabric<Region: Region<Shared = S>>,
    {
        Ok(Self::empty(fabric.alloc(layout.bytes())?.share(), layout, secret))
    }

    /// An empty table in the begin of `shared`, in which nobody else writes.
    ///
    /// # Errors
    /// Where it does not fit.
    pub fn over(shared: S, layout: Layout, secret: Secret) -> Result<Self, TooSmall> {
        match layout.bytes() <= shared.len() {
            true => Ok(Self::empty(shared, layout, secret)),
            false => Err(TooSmall { table: layout.bytes(), memory: shared.len() }),
        }
    }

    fn empty(shared: S, layout: Layout, secret: Secret) -> Self {
        let stripes = (0..STRIPES.min(layout.buckets())).map(|_| Mutex::default()).collect();
        let (versions, entries, elsewhere) = Default::default();
        let table = Self { shared, layout, secret, stripes, versions, entries, elsewhere };
        let mut bucket = Vec::with_capacity(layout.bucket_bytes());
        let mut entry = Vec::new();
        for number in 0..layout.buckets() {
            bucket.clear();
            bucket.extend_from_slice(&[0; BUCKET_HEAD]);
            for way in 0..layout.ways() {
                entry::encode(&mut entry, secret, layout.place(number, way), Kind::Free, 0, (b"", b""));
                entry.resize(layout.entry_bytes(), 0);
                bucket.extend_from_slice(&entry);
            }
            inside(table.shared.write_at(layout.bucket_at(number), &bucket));
        }
        table
    }

    /// How it lies in memory.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What is in it.
    pub fn stats(&self) -> TableStats {
        TableStats { entries: self.entries.load(Ordering::Relaxed), elsewhere: self.elsewhere.load(Ordering::Relaxed) }
    }

    /// Gives `key` this value. The version of the write: those of one key grow. When this returns, whoever begins to read
    /// finds the value, or a later one.
    ///
    /// # Errors
    /// Why it is not in the table. What was there of the key before is not either: readers are told that it is elsewhere.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<u64, NotPlaced> {
        let mut hand = self.take_up(key);
        let fits = self.layout.fits(key.len(), value.len());
        let not_placed = || match fits {
            true => NotPlaced::Full,
            false => NotPlaced::TooLong { len: key.len().saturating_add(value.len()), longest: self.layout.longest() },
        };
        match hand.find(key) {
            Some(way) if fits => Ok(hand.write(way, Kind::Value, key, value)),
            Some(way) => {
                // In its place, so that no reader misses both this and what it was.
                hand.write(way, Kind::Elsewhere, key, b"");
                Err(not_placed())
            }
            // What is elsewhere stays there while it exists.
            None => match hand.free().filter(|_| fits && !hand.stripe.elsewhere.contains(key)) {
                Some(way) => Ok(hand.write(way, Kind::Value, key, value)),
                None => {
                    hand.note_elsewhere(key);
                    Err(not_placed())
                }
            },
        }
    }

    /// Takes `key` out. Whether it was there, or noted as elsewhere.
    pub fn remove(&self, key: &[u8]) -> bool {
        let mut hand = self.take_up(key);
        match hand.find(key) {
            Some(way) => {
                hand.write(way, Kind::Free, b"", b"");
                true
            }
            None => hand.forget_elsewhere(key),
        }
    }

    /// The owner's own look: the value is copied into `value`, whose former content goes. The version of its write, if it is in the
    /// table.
    pub fn read(&self, key: &[u8], value: &mut Vec<u8>) -> Option<u64> {
        value.clear();
        let hand = self.take_up(key);
        let claim = hand.find(key).and_then(|way| hand.claim(way)).filter(|claim| claim.kind == Kind::Value)?;
        value.extend_from_slice(claim.value);
        Some(claim.version)
    }

    /// Lends all of it, to be read. For one peer or for many: whoever is told of one window is cut off with it.
    ///
    /// # Errors
    /// As [`SharedRegion::export`].
    pub fn lend(&self) -> Result<Lent<S::Window>, S::Error> {
        let window = self.shared.export(0..self.layout.bytes(), Access::ReadOnly)?;
        Ok(Lent { window, layout: self.layout, secret: self.secret })
    }

    /// The bucket of `key`, which nobody else writes meanwhile.
    fn take_up(&self, key: &[u8]) -> Hand<'_, S> {
        let bucket = self.secret.bucket(key, self.layout.buckets());
        let stripe = &self.stripes[bucket % self.stripes.len()];
        let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
        stripe.bucket.resize(self.layout.bucket_bytes(), 0);
        inside(self.shared.read_at(self.layout.bucket_at(bucket), &mut stripe.bucket));
        Hand { table: self, bucket, stripe }
    }

    /// The bytes that one stripe may take for keys that are elsewhere: all stripes together as many as the table has, and a little.
    fn elsewhere_limit(&self) -> usize {
        self.layout.bytes() / self.stripes.len() + 4096
    }
}

/// The layout lies in the memory, which does not shrink.
fn inside(done: Result<(), OutOfBounds>) {
    done.expect("the table lies in its memory");
}

/// A bucket, taken up to be changed. Its copy is what the memory has: none but the table writes there.
struct Hand<'a, S> {
    table: &'a Table<S>,
    bucket: usize,
    stripe: MutexGuard<'a, Stripe>,
}

impl<S: SharedRegion> Hand<'_, S> {
    fn claim(&self, way: usize) -> Option<Claim<'_>> {
        let layout = &self.table.layout;
        self.stripe.bucket.get(layout.entry_at(way)..).and_then(|rest| Claim::parse(rest.get(..layout.entry_bytes())?))
    }

    fn kind(&self, way: usize) -> Kind {
        self.claim(way).map_or(Kind::Free, |claim| claim.kind)
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        let mut ways = 0..self.table.layout.ways();
        ways.find(|way| self.claim(*way).is_some_and(|claim| claim.kind != Kind::Free && claim.key == key))
    }

    fn free(&self) -> Option<usize> {
        let mut ways = 0..self.table.layout.ways();
        ways.find(|way| self.kind(*way) == Kind::Free)
    }

    /// Writes an entry under its readers. Its version.
    fn write(&mut self, way: usize, kind: Kind, key: &[u8], value: &[u8]) -> u64 {
        let (table, was) = (self.table, self.kind(way));
        let version = table.versions.fetch_add(1, Ordering::Relaxed) + 1;
        let place = table.layout.place(self.bucket, way);
        entry::encode(&mut self.stripe.entry, table.secret, place, kind, version, (key, value));
        let at = table.layout.bucket_at(self.bucket) + table.layout.entry_at(way);
        inside(table.shared.write_at(at, &self.stripe.entry));
        for (kind, add) in [(was, false), (kind, true)] {
            let count = match kind {
                Kind::Free => continue,
                Kind::Value => &table.entries,
                Kind::Elsewhere => &table.elsewhere,
            };
            count_one(count, add);
        }
        version
    }

    /// Notes that a key exists which is in no entry, unless that is noted.
    fn note_elsewhere(&mut self, key: &[u8]) {
        if self.stripe.elsewhere.contains(key) {
            return;
        }
        let bytes = self.stripe.elsewhere_bytes.saturating_add(noted(key));
        if bytes > self.table.elsewhere_limit() {
            // From now on every key that is not found in this bucket may be elsewhere.
            return self.set_head(UNCOUNTED);
        }
        self.stripe.elsewhere.insert(key.into());
        self.stripe.elsewhere_bytes = bytes;
        count_one(&self.table.elsewhere, true);
        self.set_head(self.head().saturating_add(1));
    }

    /// Whether it was noted.
    fn forget_elsewhere(&mut self, key: &[u8]) -> bool {
        let forgotten = self.stripe.elsewhere.remove(key);
        if forgotten {
            self.stripe.elsewhere_bytes -= noted(key);
            count_one(&self.table.elsewhere, false);
            match self.head() {
                UNCOUNTED => {}
                count => self.set_head(count.saturating_sub(1)),
            }
        }
        forgotten
    }

    fn head(&self) -> u64 {
        self.stripe.bucket.first_chunk().map_or(0, |head| u64::from_le_bytes(*head))
    }

    fn set_head(&mut self, count: u64) {
        inside(self.table.shared.write_at(self.table.layout.bucket_at(self.bucket), &count.to_le_bytes()));
    }
}

/// What noting a key takes, about.
fn noted(key: &[u8]) -> usize {
    key.len() + 4 * size_of::<usize>()
}

fn count_one(count: &AtomicU64, add: bool) {
    match add {
        true => count.fetch_add(1, Ordering::Relaxed),
        false => count.fetch_sub(1, Ordering::Relaxed),
    };
}

impl<S> fmt::Debug for Table<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// A table that is lent. Dropping it revokes the window: reads fail with kind `RemoteAccess` from then on, and end the track
/// that they were made on.
#[derive(Debug)]
pub struct Lent<W> {
    window: W,
    layout: Layout,
    secret: Secret,
}

impl<W: Window> Lent<W> {
    /// What a reader is to be told.
    pub fn directory(&self) -> Directory {
        Directory::new(self.layout, self.secret, self.window.remote()).expect("the window is of the whole table")
    }

    /// Takes it back.
    ///
    /// # Errors
    /// As [`Window::revoke`].
    pub fn revoke(self) -> Result<(), W::Error> {
        self.window.revoke()
    }
}
